//! One result: a mode, a frame size, and a flow between two ports.

use serde::{Deserialize, Serialize};

use super::Port;
use crate::plan::{Mode, PathKind};
use crate::rates::Trial;
use crate::search;
use crate::stats::{Summary, number};

/// What the sender was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Offered {
    /// As much as it can.
    Saturated,
    /// At most so much.
    Paced {
        /// In Mbit/s.
        mbps: u32,
    },
    /// What comes in, so that nothing is lost.
    Circulating {
        /// Frames that are under way.
        frames: u32,
    },
}

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How frames get to the ports.
    pub path: PathKind,
    /// The way to measure.
    pub mode: Mode,
    /// Length of the frames, with the checksum.
    pub frame_size: u16,
    /// Who sends.
    pub from: String,
    /// Who receives, or sends on.
    pub to: String,
    /// What the sender was asked for.
    pub offered: Offered,
    /// Packets per second that left.
    pub sent_pps: Summary,
    /// Packets per second that arrived (with `io`, `macswap`, and `mac` without a third port: that were sent on).
    pub received_pps: Summary,
    /// Gigabits of frames per second that arrived, from the median.
    pub received_gbps: f64,
    /// Packets per second that the slower link carries at most; `None` where no link tells its speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_rate_pps: Option<f64>,
    /// The part of all frames of all trials that did not arrive, warm-up included.
    pub loss: f64,
    /// Microseconds to the other port and back, in the mode that measures that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<Summary>,
    /// How the rate was found, in the mode that searches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<search::Record>,
    /// What has to be known about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What it is made from.
    pub trials: Vec<Trial>,
}

impl Finding {
    /// From trials.
    #[must_use]
    pub fn new(
        path: PathKind,
        mode: Mode,
        frame_size: u16,
        from: &Port,
        to: &Port,
        offered: Offered,
        trials: Vec<Trial>,
    ) -> Self {
        const NOTHING: Summary = Summary { median: 0.0, min: 0.0, max: 0.0, spread: 0.0 };
        let summary = |of: fn(&Trial) -> f64| Summary::of(trials.iter().map(of)).unwrap_or(NOTHING);
        let sent_pps = summary(|trial| trial.rates.sent_pps);
        let received_pps = summary(|trial| trial.rates.received_pps);
        Self {
            path,
            mode,
            frame_size,
            from: from.device.clone(),
            to: to.device.clone(),
            offered,
            sent_pps,
            received_pps,
            received_gbps: gbps(received_pps.median, frame_size),
            line_rate_pps: None,
            loss: loss(&trials),
            round_trip_us: None,
            search: None,
            note: None,
            trials,
        }
    }

    /// The part of line rate that arrived.
    #[must_use]
    pub fn line_share(&self) -> Option<f64> {
        self.line_rate_pps.filter(|line| *line > 0.0).map(|line| self.received_pps.median / line)
    }

    /// What it is a result of, for people.
    #[must_use]
    pub fn title(&self) -> String {
        format!(
            "{} {} {} B {} -> {}",
            self.path.as_str(),
            self.mode.as_str(),
            self.frame_size,
            self.from,
            self.to
        )
    }

    /// The result in one line.
    #[must_use]
    pub fn line(&self) -> String {
        if let Some(trip) = &self.round_trip_us {
            return format!("{}: {:.1} µs there and back", self.title(), trip.median);
        }
        let (pps, loss) = (number(self.received_pps.median), 100.0 * self.loss);
        format!("{}: {pps} packets/s, {:.3} Gbit/s, loss {loss:.2} %", self.title(), self.received_gbps)
    }
}

/// Gigabits per second, of whole frames with their checksum.
pub(super) fn gbps(pps: f64, frame_size: u16) -> f64 {
    pps * 8.0 * f64::from(frame_size) / 1e9
}

fn loss(trials: &[Trial]) -> f64 {
    let sum = |of: fn(&Trial) -> u64| -> u64 { trials.iter().map(of).sum() };
    crate::rates::loss(sum(|trial| trial.totals.sent), sum(|trial| trial.totals.received))
}

#[cfg(test)]
mod tests {
    use super::super::tests::finding;
    use super::*;

    #[test]
    fn several_trials_give_a_median_a_spread_and_one_loss() {
        let finding = finding(Mode::Forth, 64, &[100_000.0, 300_000.0, 200_000.0]);
        assert_eq!((finding.received_pps.median, finding.received_pps.spread), (200_000.0, 1.0));
        assert_eq!(finding.received_gbps, 0.1024);
        assert!((finding.loss - (1.0 - 600_000.0 / 3_703_701.0)).abs() < 1e-9);
        assert!((finding.line_share().unwrap() - 0.1344).abs() < 1e-4);
        assert_eq!(
            finding.line(),
            "dpdk forth 64 B 0000:01:10.0 -> 0000:01:10.2: 200 000 packets/s, 0.102 Gbit/s, loss 83.80 %"
        );
    }

    #[test]
    fn no_trials_give_zero() {
        let nothing = finding(Mode::Forth, 64, &[]);
        assert_eq!((nothing.received_pps.median, nothing.loss), (0.0, 0.0));
    }
}
