//! Reports once more, in another form.

use std::io::Read;
use std::path::Path;

use fairlead_dpdk_tests::compare;
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::{Outcome, Report, extract, table};

use super::options::RenderOptions;

/// Writes what is asked for; without anything, prints the table.
pub(crate) fn render(options: &RenderOptions, progress: &mut Progress) -> Outcome {
    let report = match read(&options.report) {
        Ok(report) => report,
        Err(why) => {
            progress.print(format_args!("fairlead-dpdk-check: {}: {why}", options.report.display()));
            return Outcome::RunFailed;
        }
    };
    let outputs = options.outputs.outputs();
    if outputs.json.is_none() && outputs.html.is_none() && outputs.junit.is_none() {
        for check in report.checks().chain(&report.afterwards) {
            progress.print(check);
        }
        progress.print(format_args!("\n{}", table(&report.measurements.results)));
        if !report.ratios.is_empty() {
            progress.print(format_args!("\n{}", compare::table(&report.ratios)));
        }
        let reason = report.reason.as_deref().unwrap_or("everything was measured, and is good enough");
        progress.print(format_args!("\n{}: {reason}", report.outcome.title()));
    }
    match outputs.finish(&report) {
        Ok(()) => Outcome::Ok,
        Err(why) => {
            progress.print(format_args!("fairlead-dpdk-check: {why}"));
            Outcome::RunFailed
        }
    }
}

fn read(path: &Path) -> Result<Report, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|content| bytes = content)
    };
    read.map_err(|error| error.to_string())?;
    extract(&String::from_utf8_lossy(&bytes))
}
