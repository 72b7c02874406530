//! What is asked of each result.

use serde::{Deserialize, Serialize};

use super::Finding;
use crate::plan::Mode;
use crate::stats::number;

/// What each result has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Thresholds {
    /// Packets per second that arrive, at least.
    pub min_pps: f64,
    /// Gigabits of frames per second that arrive, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_gbps: Option<f64>,
    /// The part that may be lost, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_loss: Option<f64>,
}

impl Default for Thresholds {
    /// Something has to arrive.
    fn default() -> Self {
        Self { min_pps: 1.0, min_gbps: None, max_loss: None }
    }
}

/// Why a result is not good enough.
pub type Judgement = Option<String>;

impl Thresholds {
    /// Whether a result is good enough.
    #[must_use]
    pub fn judge(&self, finding: &Finding) -> Judgement {
        // Of one frame under way nothing can be expected but that it comes back.
        let (min_pps, min_gbps) = match finding.mode {
            Mode::Latency => (self.min_pps.min(1.0), None),
            _ => (self.min_pps, self.min_gbps),
        };
        let mut reasons = Vec::new();
        if finding.received_pps.median < min_pps {
            let (pps, least) = (number(finding.received_pps.median), number(min_pps));
            reasons.push(format!("{pps} packets per second arrived, fewer than {least}"));
        }
        if let Some(least) = min_gbps.filter(|least| finding.received_gbps < *least) {
            reasons.push(format!("{:.3} Gbit/s arrived, less than {least}", finding.received_gbps));
        }
        if let Some(most) = self.max_loss.filter(|most| finding.loss > *most) {
            let (loss, most) = (100.0 * finding.loss, 100.0 * most);
            reasons.push(format!("{loss:.3} % was lost, more than {most} %"));
        }
        if reasons.is_empty() {
            return None;
        }
        let note = finding.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        Some(format!("{}: {}{note}", finding.title(), reasons.join(", ")))
    }

    /// Of all results those that are not good enough, in words.
    #[must_use]
    pub fn judge_all(&self, findings: &[Finding]) -> Judgement {
        let bad: Vec<String> = findings.iter().filter_map(|finding| self.judge(finding)).collect();
        (!bad.is_empty()).then(|| bad.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::finding;
    use super::*;

    #[test]
    fn each_result_has_to_reach_each_threshold() {
        let usual = Thresholds::default();
        let fast = finding(Mode::Forth, 64, &[1_234_567.0]);
        let mut dead = finding(Mode::Back, 64, &[0.0]);
        dead.note = Some("the reason".to_owned());
        assert_eq!(usual.judge_all(std::slice::from_ref(&fast)), None);
        let reason = usual.judge_all(&[fast.clone(), dead]).unwrap();
        assert!(reason.starts_with("dpdk back 64 B "), "{reason}");
        assert!(reason.ends_with(": 0 packets per second arrived, fewer than 1 (the reason)"), "{reason}");
        let strict = Thresholds { min_pps: 2e6, min_gbps: Some(1.0), max_loss: Some(0.0) };
        let slow = finding(Mode::Forth, 64, &[1_000_000.0]);
        let reason = strict.judge(&slow).unwrap();
        for words in ["fewer than 2 000 000", "0.512 Gbit/s arrived, less than 1", "was lost, more than 0 %"]
        {
            assert!(reason.contains(words), "{words} is not in {reason}");
        }
    }

    #[test]
    fn a_frame_that_goes_to_and_fro_has_only_to_arrive() {
        let strict = Thresholds { min_pps: 2e6, min_gbps: Some(1.0), max_loss: None };
        assert_eq!(strict.judge(&finding(Mode::Latency, 64, &[900.0])), None);
        assert!(strict.judge(&finding(Mode::Latency, 64, &[0.0])).is_some());
    }
}
