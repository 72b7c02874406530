//! One set of results against another: one path against the other, or a pod against its host.

use serde::{Deserialize, Serialize};

use crate::plan::{Mode, PathKind};
use crate::report::Finding;
use crate::stats::{Summary, number};

/// How two sets of results compare in one mode, for one frame size and direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ratio {
    /// The way to measure.
    pub mode: Mode,
    /// Length of the frames.
    pub frame_size: u16,
    /// Where one mode has several flows: which.
    pub flow: usize,
    /// Whose results these are.
    pub of: String,
    /// What they are compared with.
    pub to: String,
    /// Packets per second of the one.
    pub of_pps: Summary,
    /// Packets per second of the other.
    pub to_pps: Summary,
    /// The one's median by the other's.
    pub ratio: f64,
}

/// What tells results of the same kind apart: mode, size, and which of the flows of that mode and size.
type Key = (Mode, u16, usize);

/// The values of each kind of result, in the order in which the kinds come first.
fn values<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<(Key, Vec<f64>)> {
    let mut kinds: Vec<(Key, Vec<f64>)> = Vec::new();
    let mut flows: Vec<(Mode, u16, usize)> = Vec::new();
    for finding in findings {
        let flow = match flows
            .iter_mut()
            .find(|(mode, size, _)| (*mode, *size) == (finding.mode, finding.frame_size))
        {
            Some((_, _, count)) => {
                *count += 1;
                *count
            }
            None => {
                flows.push((finding.mode, finding.frame_size, 0));
                0
            }
        };
        let key = (finding.mode, finding.frame_size, flow);
        let rates = finding.trials.iter().map(|trial| trial.rates.received_pps);
        kinds.push((key, rates.collect()));
    }
    kinds
}

/// Compares kind by kind what both have. Each is given as several runs, whose trials count together.
#[must_use]
pub fn ratios(of: (&str, &[&[Finding]]), to: (&str, &[&[Finding]])) -> Vec<Ratio> {
    let joined = |runs: &[&[Finding]]| {
        let mut all: Vec<(Key, Vec<f64>)> = Vec::new();
        for (key, rates) in runs.iter().flat_map(|run| values(run.iter())) {
            match all.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => known.extend(rates),
                None => all.push((key, rates)),
            }
        }
        all
    };
    let (left, right) = (joined(of.1), joined(to.1));
    left.into_iter()
        .filter_map(|(key, rates)| {
            let (_, others) = right.iter().find(|(other, _)| *other == key)?;
            let (of_pps, to_pps) = (Summary::of(rates)?, Summary::of(others.iter().copied())?);
            let (mode, frame_size, flow) = key;
            let ratio = if to_pps.median > 0.0 { of_pps.median / to_pps.median } else { 0.0 };
            Some(Ratio { mode, frame_size, flow, of: of.0.into(), to: to.0.into(), of_pps, to_pps, ratio })
        })
        .collect()
}

/// DPDK's path against the kernel's.
#[must_use]
pub fn paths(findings: &[Finding]) -> Vec<Ratio> {
    let of = |path: PathKind| -> Vec<Finding> {
        findings.iter().filter(|finding| finding.path == path).cloned().collect()
    };
    let (dpdk, kernel) = (of(PathKind::Dpdk), of(PathKind::Kernel));
    ratios((PathKind::Dpdk.as_str(), &[&dpdk]), (PathKind::Kernel.as_str(), &[&kernel]))
}

/// For a terminal; empty without any.
#[must_use]
pub fn table(ratios: &[Ratio]) -> String {
    let line = |ratio: &Ratio| {
        let (of, to) = (number(ratio.of_pps.median), number(ratio.to_pps.median));
        let (mode, size, flow) = (ratio.mode.as_str(), ratio.frame_size, ratio.flow + 1);
        format!(
            "  {mode:<8} {size:>5} B  flow {flow}: {} {of} packets/s, {} {to}, ratio {:.3} (spread {:.0} % and {:.0} %)",
            ratio.of,
            ratio.to,
            ratio.ratio,
            100.0 * ratio.of_pps.spread,
            100.0 * ratio.to_pps.spread
        )
    };
    ratios.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::finding;

    #[test]
    fn equal_kinds_are_compared_and_runs_count_together() {
        let pod = [
            finding(Mode::Forth, 64, &[90.0]),
            finding(Mode::Both, 64, &[10.0]),
            finding(Mode::Both, 64, &[20.0]),
        ];
        let again = [finding(Mode::Forth, 64, &[110.0])];
        let host = [
            finding(Mode::Forth, 64, &[200.0]),
            finding(Mode::Back, 64, &[1.0]),
            finding(Mode::Both, 64, &[5.0]),
        ];
        let found = ratios(("pod", &[&pod, &again]), ("host", &[&host]));
        let seen: Vec<_> =
            found.iter().map(|r| (r.mode, r.flow, r.of_pps.median, r.to_pps.median, r.ratio)).collect();
        assert_eq!(seen, [(Mode::Forth, 0, 100.0, 200.0, 0.5), (Mode::Both, 0, 10.0, 5.0, 2.0)]);
        assert!(
            table(&found).starts_with("  forth       64 B  flow 1: pod 100 packets/s, host 200, ratio 0.500")
        );
    }

    #[test]
    fn nothing_by_nothing_is_no_ratio_that_pleases() {
        let dead = [finding(Mode::Forth, 64, &[0.0])];
        assert_eq!(ratios(("a", &[&dead]), ("b", &[&dead]))[0].ratio, 0.0);
    }

    #[test]
    fn paths_are_told_apart() {
        let mut kernel = finding(Mode::Forth, 64, &[50.0]);
        kernel.path = PathKind::Kernel;
        let found = paths(&[finding(Mode::Forth, 64, &[100.0]), kernel]);
        assert_eq!((found[0].of.as_str(), found[0].to.as_str(), found[0].ratio), ("dpdk", "kernel", 2.0));
        assert!(paths(&[finding(Mode::Forth, 64, &[100.0])]).is_empty());
    }
}
