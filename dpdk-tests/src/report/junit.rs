//! The report as CI systems show it: each preflight check and each result is a test case.

use std::fmt::Write as _;

use super::html::escape;
use super::{Outcome, Report};
use crate::preflight::Verdict;

struct Case {
    class: &'static str,
    name: String,
    seconds: f64,
    failure: Option<String>,
    output: String,
}

/// The XML document.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut cases: Vec<Case> = report
        .checks()
        .map(|check| Case {
            class: "preflight",
            name: check.what.clone(),
            seconds: 0.0,
            failure: (check.verdict == Verdict::Fail).then(|| check.to_string()),
            output: check.to_string(),
        })
        .collect();
    cases.extend(report.measurements.results.iter().map(|finding| Case {
        class: "throughput",
        name: finding.title(),
        seconds: finding.trials.iter().map(|trial| trial.rates.seconds).sum(),
        failure: report.thresholds.judge(finding),
        output: finding.line(),
    }));
    // What is neither a check nor a result: that there are none, or too few.
    if matches!(report.outcome, Outcome::RunFailed | Outcome::Usage | Outcome::Stopped | Outcome::Unfinished)
        || (report.outcome == Outcome::PreflightFailed && cases.iter().all(|case| case.failure.is_none()))
    {
        let reason = report.reason.clone().unwrap_or_else(|| report.outcome.title().to_owned());
        let output = reason.clone();
        cases.push(Case { class: "run", name: "run".into(), seconds: 0.0, failure: Some(reason), output });
    }
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n\
         <testsuite name=\"fairlead-dpdk-check\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\">\n",
        cases.len(),
        report.seconds
    );
    for case in &cases {
        let _ = writeln!(
            xml,
            "<testcase classname=\"fairlead-dpdk-check.{}\" name=\"{}\" time=\"{:.3}\">",
            case.class,
            escape(&case.name),
            case.seconds
        );
        if let Some(failure) = &case.failure {
            let _ = writeln!(xml, "<failure message=\"{}\"/>", escape(failure));
        }
        let _ = writeln!(xml, "<system-out>{}</system-out>\n</testcase>", escape(&case.output));
    }
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, report};
    use super::*;
    use crate::plan::Mode;

    #[test]
    fn checks_and_results_are_cases_and_a_slow_one_fails() {
        let report = report(vec![finding(Mode::Forth, 64, &[20_000.0]), finding(Mode::Back, 64, &[0.0])]);
        let xml = junit(&report);
        assert!(xml.contains("tests=\"3\" failures=\"1\""), "{xml}");
        assert!(xml.contains("name=\"huge pages &lt;2Mi&gt;\""), "{xml}");
        assert_eq!(xml.matches("<failure").count(), 1);
    }

    #[test]
    fn a_run_that_did_not_come_to_results_fails_too() {
        let mut report = report(Vec::new());
        report.outcome = Outcome::Stopped;
        report.reason = Some("interrupted by a signal".into());
        let xml = junit(&report);
        assert!(
            xml.contains("failures=\"1\"") && xml.contains("message=\"interrupted by a signal\""),
            "{xml}"
        );
    }
}
