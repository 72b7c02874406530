//! What comes out: one structure, written for people (a table, an HTML page) and for programs (JSON, JUnit).

mod finding;
mod html;
mod junit;
mod output;
mod plot;
mod table;
mod threshold;

use fairlead_kernel::Mac;
use serde::{Deserialize, Serialize};

pub use self::finding::{Finding, Offered};
pub use self::html::html;
pub use self::junit::junit;
pub use self::output::{Outputs, extract, log_line};
pub use self::table::table;
pub use self::threshold::{Judgement, Thresholds};
use crate::compare::Ratio;
use crate::plan::PathKind;
use crate::preflight::Check;
use crate::settings::Settings;
use crate::testpmd::telemetry::LinkStatus;

/// Of the report's form. Fields may be added to it; when one changes its meaning, this grows.
pub const FORMAT: u32 = 1;

/// How the check ended; each has an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything was measured, and is good enough.
    Ok,
    /// The run could not be made.
    RunFailed,
    /// Wrong options.
    Usage,
    /// Something is missing that the run needs.
    PreflightFailed,
    /// Too slow, or too much was lost.
    TooSlow,
    /// A signal or the time limit ended it.
    Stopped,
    /// It goes on; what a report says whose check was killed.
    Unfinished,
}

impl Report {
    /// Everything that was looked at before traffic began.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.preflight.iter().chain(&self.measurements.port_checks)
    }
}

impl Outcome {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::RunFailed | Self::Unfinished => 1,
            Self::Usage => 2,
            Self::PreflightFailed => 3,
            Self::TooSlow => 4,
            Self::Stopped => 5,
        }
    }

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RunFailed => "failed",
            Self::Usage => "wrong options",
            Self::PreflightFailed => "not ready for DPDK",
            Self::TooSlow => "too slow",
            Self::Stopped => "stopped",
            Self::Unfinished => "not finished",
        }
    }
}

/// One port as the run found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// How frames get to it.
    pub path: PathKind,
    /// Its PCI address, or interface; with `peer:` in front when it is in another pod.
    pub device: String,
    /// Its MAC address, as DPDK sees it.
    pub mac: Mac,
    /// Its link, once that was looked at.
    pub link: Option<LinkStatus>,
}

/// What a run has found so far; filled as it goes, so that a run that is cut short still reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurements {
    /// `DPDK 24.11.8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpdk_version: Option<String>,
    /// The ports.
    pub ports: Vec<Port>,
    /// What was looked at once DPDK had them.
    #[serde(default)]
    pub port_checks: Vec<Check>,
    /// The results, in the order in which they were found.
    pub results: Vec<Finding>,
}

/// Where it ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// Name of the host, in a pod that of the pod.
    pub host: String,
    /// The kernel.
    pub kernel: String,
    /// The processors' model.
    pub processor: String,
    /// Which of them can be used.
    pub usable: String,
    /// Whether this looks like a pod.
    pub pod: bool,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// See [`FORMAT`].
    pub format: u32,
    /// Version of this program.
    pub version: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// How long all of it took.
    pub seconds: f64,
    /// The command line.
    pub command: Vec<String>,
    /// Where it ran.
    pub machine: Machine,
    /// What was looked at before anything was started.
    pub preflight: Vec<Check>,
    /// What was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// What it found.
    #[serde(flatten)]
    pub measurements: Measurements,
    /// What was asked for.
    pub thresholds: Thresholds,
    /// One path against another, or a pod against its host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ratios: Vec<Ratio>,
    /// What was looked at when all was over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub afterwards: Vec<Check>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::Mode;
    use crate::preflight::Verdict;
    use crate::rates::{Counters, Rates, Totals, Trial};

    pub(crate) fn port(device: &str) -> Port {
        let mac = "02:00:00:00:00:0a".parse().unwrap();
        let link = LinkStatus { status: "UP".into(), speed: Some(1000) };
        Port { path: PathKind::Dpdk, device: device.into(), mac, link: Some(link) }
    }

    pub(crate) fn trial(sent_pps: f64, received_pps: f64) -> Trial {
        let rates = Rates { seconds: 3.0, sent_pps, received_pps, sent_bps: 1e9, received_bps: 1.25e7 };
        let mut totals = Totals::new(&Counters::default(), &Counters::default());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small test figures")]
        {
            (totals.sent, totals.received) = (sent_pps as u64, received_pps as u64);
        }
        Trial { rates, totals, samples: Vec::new() }
    }

    pub(crate) fn finding(mode: Mode, frame_size: u16, received: &[f64]) -> Finding {
        let trials = received.iter().map(|received| trial(1_234_567.4, *received)).collect();
        let (a, b) = (port("0000:01:10.0"), port("0000:01:10.2"));
        let mut finding = Finding::new(PathKind::Dpdk, mode, frame_size, &a, &b, Offered::Saturated, trials);
        finding.line_rate_pps = Some(crate::plan::line_rate(1000, frame_size));
        finding
    }

    pub(crate) fn report(results: Vec<Finding>) -> Report {
        Report {
            format: FORMAT,
            version: "0.1.0".into(),
            outcome: Outcome::Ok,
            reason: None,
            started: 1_800_000_000,
            seconds: 12.5,
            command: vec!["fairlead-dpdk-check".into()],
            machine: Machine::default(),
            preflight: vec![Check {
                what: "huge pages <2Mi>".into(),
                verdict: Verdict::Warn,
                found: "few & far between".into(),
                remedy: Some("more".into()),
            }],
            settings: None,
            measurements: Measurements {
                dpdk_version: Some("DPDK 24.11.8".into()),
                ports: vec![port("0000:01:10.0"), port("0000:01:10.2")],
                port_checks: Vec::new(),
                results,
            },
            thresholds: Thresholds::default(),
            ratios: Vec::new(),
            afterwards: Vec::new(),
        }
    }

    #[test]
    fn every_outcome_has_its_own_code() {
        let codes = [
            Outcome::Ok,
            Outcome::RunFailed,
            Outcome::Usage,
            Outcome::PreflightFailed,
            Outcome::TooSlow,
            Outcome::Stopped,
        ]
        .map(Outcome::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        // Figures that JSON carries to the last bit.
        let mut finding = finding(Mode::Forth, 64, &[0.0, 0.0]);
        finding.line_rate_pps = Some(1e6);
        let report = report(vec![finding]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
