//! The highest rate that is carried without more than the acceptable loss, as in RFC 2544 section 26.1: by halving.

use serde::{Deserialize, Serialize};

/// One trial of a search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What the sender was limited to.
    pub mbps: u32,
    /// What was lost, from 0 to 1.
    pub loss: f64,
    /// Whether that was acceptable.
    pub passed: bool,
}

/// A search and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The acceptable loss, from 0 to 1.
    pub acceptable_loss: f64,
    /// Seconds of each trial.
    pub trial: f64,
    /// The highest rate that passed; `None` when none did.
    pub mbps: Option<u32>,
    /// Every trial.
    pub steps: Vec<Step>,
}

/// A search that goes on.
#[derive(Debug)]
pub struct Search {
    passed: u32,
    failed: Option<u32>,
    top: u32,
    record: Record,
}

impl Search {
    /// Begins at `top` Mbit/s.
    #[must_use]
    pub fn new(top: u32, acceptable_loss: f64, trial: f64) -> Self {
        let record = Record { acceptable_loss, trial, mbps: None, steps: Vec::new() };
        Self { passed: 0, failed: None, top: top.max(1), record }
    }

    /// The rate to try next; `None` when the search is over: within one per cent of the top, or one Mbit/s.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        let Some(failed) = self.failed else { return (self.passed < self.top).then_some(self.top) };
        let near = (self.top / 100).max(1);
        (failed - self.passed > near).then_some(self.passed + (failed - self.passed) / 2)
    }

    /// Takes in what came of a trial. Nothing received is no success whatever the acceptable loss.
    pub fn tried(&mut self, mbps: u32, loss: f64, received: u64) {
        let passed = loss <= self.record.acceptable_loss && received > 0;
        self.record.steps.push(Step { mbps, loss, passed });
        if passed {
            self.passed = self.passed.max(mbps);
            self.record.mbps = Some(self.passed);
        } else {
            self.failed = Some(self.failed.map_or(mbps, |failed| failed.min(mbps)));
        }
    }

    /// What came of it.
    #[must_use]
    pub fn into_record(self) -> Record {
        self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(top: u32, carries: u32, acceptable: f64) -> Record {
        let mut search = Search::new(top, acceptable, 1.0);
        while let Some(mbps) = search.next() {
            let lost = mbps.saturating_sub(carries);
            search.tried(mbps, f64::from(lost) / f64::from(mbps), 1);
        }
        search.into_record()
    }

    #[test]
    fn the_highest_rate_without_loss_is_found_within_a_per_cent() {
        for carries in [1, 99, 3_333, 9_999] {
            let found = search(10_000, carries, 0.0);
            let off = found.mbps.map_or(carries, |mbps| carries.abs_diff(mbps));
            assert!(off <= 100, "{carries}: {found:?}");
            assert!(found.mbps.is_none_or(|mbps| mbps <= carries));
            assert!(found.steps.len() <= 9, "{found:?}");
        }
    }

    #[test]
    fn a_link_that_carries_everything_takes_one_trial() {
        let found = search(1000, 1000, 0.0);
        assert_eq!((found.mbps, found.steps.len()), (Some(1000), 1));
    }

    #[test]
    fn loss_may_be_acceptable() {
        assert!(search(1000, 500, 0.1).mbps.unwrap() > 540);
    }

    #[test]
    fn a_path_that_carries_nothing_ends_the_search_too() {
        let found = search(1000, 0, 0.5);
        assert_eq!(found.mbps, None);
        let mut silent = Search::new(100, 1.0, 1.0);
        while let Some(mbps) = silent.next() {
            silent.tried(mbps, 0.0, 0);
        }
        assert_eq!(silent.into_record().mbps, None);
    }
}
