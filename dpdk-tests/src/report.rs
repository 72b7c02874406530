//! What comes out: the same for people (a table) and for programs (JSON).

use std::fmt::Write as _;

use fairlead_kernel::Mac;
use fairlead_resource_config::PciAddress;
use serde::Serialize;

use crate::preflight::Check;
use crate::rates::{Rates, Sample, Totals};
use crate::run::Settings;
use crate::testpmd::telemetry::LinkStatus;

/// How the check ended; each has an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Traffic passes in both directions, fast enough.
    Ok,
    /// The run could not be made, or was stopped.
    RunFailed,
    /// Wrong options.
    Usage,
    /// Something is missing that the run needs.
    PreflightFailed,
    /// Fewer packets per second arrived than asked for.
    TooSlow,
}

impl Outcome {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::RunFailed => 1,
            Self::Usage => 2,
            Self::PreflightFailed => 3,
            Self::TooSlow => 4,
        }
    }
}

/// One port as the run found it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its PCI address.
    pub device: PciAddress,
    /// Its MAC address, as DPDK sees it.
    pub mac: Mac,
    /// Its link, once it was up.
    pub link: Option<LinkStatus>,
}

/// One direction, measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Direction {
    /// Who sends.
    pub from: PciAddress,
    /// Who receives.
    pub to: PciAddress,
    /// In the window after the warm-up.
    pub rates: Rates,
    /// Warm-up included.
    pub totals: Totals,
    /// Why nothing came through, when nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What the rates are made from.
    pub samples: Vec<Sample>,
}

/// What a run has found so far; filled as it goes, so that a run that is cut short still reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurements {
    /// `DPDK 24.11.8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpdk_version: Option<String>,
    /// The ports.
    pub ports: Vec<Port>,
    /// The directions.
    pub directions: Vec<Direction>,
}

/// Everything.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// How long all of it took.
    pub seconds: f64,
    /// What was looked at before.
    pub preflight: Vec<Check>,
    /// What was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// What it found.
    #[serde(flatten)]
    pub measurements: Measurements,
}

impl Measurements {
    /// The directions in which fewer than `minimum` packets per second arrived.
    #[must_use]
    pub fn too_slow(&self, minimum: f64) -> Option<String> {
        let slow: Vec<String> = self
            .directions
            .iter()
            .filter(|direction| direction.rates.received_pps < minimum)
            .map(|direction| {
                let Direction { from, to, rates, note, .. } = direction;
                let (pps, minimum) = (number(rates.received_pps), number(minimum));
                let note = note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
                format!("from {from} to {to} {pps} packets per second arrived, fewer than {minimum}{note}")
            })
            .collect();
        (!slow.is_empty()).then(|| slow.join("; "))
    }

    /// A table for people; empty before anything was measured.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = String::new();
        if self.directions.is_empty() {
            return table;
        }
        let row = |cells: [&str; 6]| {
            let [from, to, sent, received, megabits, loss] = cells;
            format!("  {from:<13}{to:<13}{sent:>13}{received:>14}{megabits:>10}{loss:>9}")
        };
        let _ = write!(table, "{}", row(["from", "to", "sent/s", "received/s", "Mbit/s", "loss"]));
        for Direction { from, to, rates, totals, .. } in &self.directions {
            let _ = write!(
                table,
                "\n{}",
                row([
                    &from.to_string(),
                    &to.to_string(),
                    &number(rates.sent_pps),
                    &number(rates.received_pps),
                    &format!("{:.1}", rates.received_bps / 1e6),
                    &format!("{:.1} %", totals.loss * 100.0),
                ])
            );
        }
        table
    }
}

/// A whole number with spaces between thousands.
#[must_use]
pub fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::Counters;

    fn measured(received_pps: [f64; 2]) -> Measurements {
        let [a, b]: [PciAddress; 2] = ["0000:01:10.0", "0000:01:10.2"].map(|text| text.parse().unwrap());
        let direction = |from, to, received_pps| Direction {
            from,
            to,
            rates: Rates {
                seconds: 3.0,
                sent_pps: 1_234_567.4,
                received_pps,
                sent_bps: 1e9,
                received_bps: 1.25e7,
            },
            totals: Totals::new(&Counters::default(), &Counters::default()),
            note: (received_pps == 0.0).then(|| "the reason".to_owned()),
            samples: Vec::new(),
        };
        let directions = vec![direction(a, b, received_pps[0]), direction(b, a, received_pps[1])];
        Measurements { dpdk_version: None, ports: Vec::new(), directions }
    }

    #[test]
    fn every_outcome_has_its_own_code() {
        let codes =
            [Outcome::Ok, Outcome::RunFailed, Outcome::Usage, Outcome::PreflightFailed, Outcome::TooSlow]
                .map(Outcome::code);
        assert_eq!(codes, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn each_direction_has_to_be_fast_enough() {
        assert_eq!(measured([1.0, 1.0]).too_slow(1.0), None);
        let reason = measured([20_000.0, 0.0]).too_slow(1.0).unwrap();
        assert!(reason.starts_with("from 0000:01:10.2 to 0000:01:10.0 0 packets"), "{reason}");
        assert!(reason.ends_with("fewer than 1 (the reason)"), "{reason}");
        assert!(!reason.contains(';'));
    }

    #[test]
    fn the_table_has_a_line_per_direction() {
        assert_eq!(Measurements::default().table(), "");
        let table = measured([20_123.4, 999.6]).table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>(),
            ["0000:01:10.0 0000:01:10.2", "1 234 567", "20 123", "12.5", "0.0 %"]
        );
        assert!(lines[2].contains(" 1 000 "));
    }
}
