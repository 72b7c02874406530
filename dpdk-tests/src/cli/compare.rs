//! A pod against its host: the same plan on the same devices, inside and outside, in turns.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fairlead_dpdk_tests::compare::{self, Ratio};
use fairlead_dpdk_tests::interrupt::{Interrupt, Stopped};
use fairlead_dpdk_tests::plan::PathKind;
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::{FORMAT, Finding, Outcome, Report, extract};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;

use super::Failure;
use super::options::CompareOptions;

/// How often the end of a run is looked for.
const TICK: Duration = Duration::from_millis(200);
/// How long a run has to end its testpmds and report after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Comparison {
    format: u32,
    version: &'static str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    ratios: Vec<Ratio>,
    inside: Vec<Report>,
    outside: Vec<Report>,
}

/// Compares, and says what came of it.
pub(crate) fn compare(options: &CompareOptions, interrupt: &Interrupt, progress: &mut Progress) -> Outcome {
    let mut comparison = Comparison {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        outcome: Outcome::Ok,
        reason: None,
        ratios: Vec::new(),
        inside: Vec::new(),
        outside: Vec::new(),
    };
    let result =
        fill(options, interrupt, progress, &mut comparison).and_then(|()| judge(options, &comparison.ratios));
    if let Err((outcome, reason)) = result {
        comparison.outcome = outcome;
        comparison.reason = Some(reason);
    }
    if let Some(path) = &options.json
        && let Err(error) = write(&comparison, path)
    {
        progress.print(format_args!("cannot write {}: {error}", path.display()));
        comparison.outcome = Outcome::RunFailed;
    }
    if !comparison.ratios.is_empty() {
        progress.print(format_args!("\n{}\n", compare::table(&comparison.ratios)));
    }
    match &comparison.reason {
        None => progress.say(format_args!("ok: {} runs inside and outside", comparison.inside.len())),
        Some(reason) => progress.say(format_args!("{}: {reason}", comparison.outcome.title())),
    }
    comparison.outcome
}

fn write(comparison: &Comparison, path: &Path) -> io::Result<()> {
    let text = serde_json::to_string_pretty(comparison)? + "\n";
    if path == Path::new("-") {
        io::Write::write_all(&mut io::stdout(), text.as_bytes())
    } else {
        std::fs::write(path, text)
    }
}

fn judge(options: &CompareOptions, ratios: &[Ratio]) -> Result<(), Failure> {
    if ratios.is_empty() {
        return Err((Outcome::RunFailed, "the runs have no result in common".to_owned()));
    }
    let Some(least) = options.min_ratio else { return Ok(()) };
    let slow: Vec<String> = ratios
        .iter()
        .filter(|ratio| 100.0 * ratio.ratio < least)
        .map(|ratio| format!("{} {} B: {:.1} %", ratio.mode.as_str(), ratio.frame_size, 100.0 * ratio.ratio))
        .collect();
    if slow.is_empty() {
        return Ok(());
    }
    Err((Outcome::TooSlow, format!("the pod reaches less than {least} % of the host: {}", slow.join(", "))))
}

fn fill(
    options: &CompareOptions,
    interrupt: &Interrupt,
    progress: &mut Progress,
    comparison: &mut Comparison,
) -> Result<(), Failure> {
    let mut inside: Vec<OsString> = options.inside.split_whitespace().map(Into::into).collect();
    if inside.is_empty() {
        return Err((Outcome::Usage, "--inside has no command".to_owned()));
    }
    inside.push(options.program.clone().into());
    let myself = std::env::current_exe().map_err(|error| (Outcome::RunFailed, error.to_string()))?;
    let runs = usize::from(options.runs);
    let mut outside: Option<Vec<OsString>> = None;
    for number in 1..=runs {
        let report = run_once("inside", number, runs, &inside, &options.plan, interrupt, progress)?;
        // The pod's devices are free as long as nobody in it has them open.
        let command = outside.get_or_insert_with(|| outside_command(myself.clone().into(), &report));
        comparison.inside.push(report);
        let report = run_once("outside", number, runs, command, &options.plan, interrupt, progress)?;
        comparison.outside.push(report);
        let findings = |reports: &'_ [Report]| -> Vec<Vec<Finding>> {
            reports.iter().map(|report| report.measurements.results.clone()).collect()
        };
        let (pod, host) = (findings(&comparison.inside), findings(&comparison.outside));
        let pod: Vec<&[Finding]> = pod.iter().map(Vec::as_slice).collect();
        let host: Vec<&[Finding]> = host.iter().map(Vec::as_slice).collect();
        comparison.ratios = compare::ratios(("pod", &pod), ("host", &host));
    }
    Ok(())
}

/// The same ports by name: outside there are no variables of a device plugin.
fn outside_command(myself: OsString, report: &Report) -> Vec<OsString> {
    let mut command = vec![myself];
    for port in report.settings.iter().flat_map(|settings| &settings.ports) {
        let option = match port.path {
            PathKind::Dpdk => "--device",
            PathKind::Kernel => "--interface",
        };
        command.extend([option.into(), port.device.clone().into()]);
    }
    command
}

fn run_once(
    side: &str,
    number: usize,
    runs: usize,
    command: &[OsString],
    plan: &[String],
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Report, Failure> {
    progress.say(format_args!("run {number} of {runs}, {side}"));
    let failed = |why: String| (Outcome::RunFailed, format!("{side}: {why}"));
    let Some((program, arguments)) = command.split_first() else {
        return Err(failed("no command".to_owned()));
    };
    let (mut out, mut err) = (temporary().map_err(failed)?, temporary().map_err(failed)?);
    let copy = |file: &File| file.try_clone().map_err(|error| failed(error.to_string()));
    let mut child = Command::new(program)
        .args(arguments)
        .args(plan)
        .args(["--json", "-"])
        .stdin(Stdio::null())
        .stdout(copy(&out)?)
        .stderr(copy(&err)?)
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("cannot run {}: {error}", program.to_string_lossy())))?;
    if let Err(stopped) = wait(&mut child, interrupt) {
        end(&mut child);
        return Err((Outcome::Stopped, stopped.to_string()));
    }
    let report = extract(&content(&mut out)).map_err(|why| {
        let said = content(&mut err);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        failed(format!("{why}; it said: {last}"))
    })?;
    if report.outcome != Outcome::Ok {
        let reason = report.reason.clone().unwrap_or_default();
        return Err((report.outcome, format!("{side}: {}: {reason}", report.outcome.title())));
    }
    for finding in &report.measurements.results {
        progress.say(finding.line());
    }
    Ok(report)
}

fn temporary() -> Result<File, String> {
    tempfile::tempfile().map_err(|error| format!("no temporary file (TMPDIR): {error}"))
}

fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes).map(drop));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child, interrupt: &Interrupt) -> Result<(), Stopped> {
    while matches!(child.try_wait(), Ok(None)) {
        interrupt.pause(TICK)?;
    }
    Ok(())
}

/// Lets a run end in order.
fn end(child: &mut Child) {
    let signal = |child: &Child, signal: Signal| {
        if let Ok(id) = i32::try_from(child.id()) {
            // Not yet reaped, so the number is still its own.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    };
    signal(child, Signal::SIGTERM);
    let limit = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= limit {
            signal(child, Signal::SIGKILL);
            let _ = child.wait();
            return;
        }
        std::thread::sleep(TICK);
    }
}
