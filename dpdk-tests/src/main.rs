//! `fairlead-dpdk-check`: the command line.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use clap::error::ErrorKind;
use fairlead_dpdk_tests::devices::{self, DevicesError};
use fairlead_dpdk_tests::interrupt::Interrupt;
use fairlead_dpdk_tests::preflight::{self, Facts, Roots, Verdict};
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::{Measurements, Outcome, Report};
use fairlead_dpdk_tests::run::{self, Settings};
use fairlead_dpdk_tests::testpmd::child::Patience;
use fairlead_resource_config::{PciAddress, error_text};

/// Says whether the DPDK path of this pod works, and how fast it is: runs DPDK's testpmd on two of the pod's devices, from
/// the first to the second and back, and prints packets per second.
///
/// The devices are those that the device plugin named in the environment (PCIDEVICE_*). Before anything runs, everything that
/// DPDK needs is looked at, and what is missing is told with its remedy.
#[derive(Debug, Parser)]
#[command(
    name = "fairlead-dpdk-check",
    version,
    after_help = "Exit codes: 0 traffic passes both ways; 1 the run failed or was stopped; 2 wrong options; \
                  3 something that the run needs is missing; 4 too slow.\n\n\
                  The container needs: two devices of the device plugin, hugepages-2Mi of 64Mi or more, two processors, the \
                  capability IPC_LOCK, /sys, testpmd with the PMD of the device."
)]
struct Options {
    /// The resource whose devices are used, like intel.com/sriov_dpdk; needed when the pod has several
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// Use this device instead of those of the environment; give it twice
    #[arg(long = "device", value_name = "ADDRESS", conflicts_with = "resource")]
    devices: Vec<PciAddress>,
    /// The testpmd to run [default: dpdk-testpmd, or testpmd, on PATH]
    #[arg(long, value_name = "PATH")]
    testpmd: Option<PathBuf>,
    /// Length of the frames in bytes, with the checksum
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1518))]
    frame_size: u16,
    /// Seconds of traffic per direction that do not count
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warm_up: f64,
    /// Seconds of traffic per direction that count
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = positive_seconds)]
    window: f64,
    /// Seconds that testpmd has to get ready
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = seconds)]
    start_limit: f64,
    /// Seconds that the links have to come up
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    link_limit: f64,
    /// Seconds for everything; then it ends with code 1
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = positive_seconds)]
    timeout: f64,
    /// Packets per second that have to arrive in each direction
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_pps: u32,
    /// Write the report as JSON to this file; - is standard output, which then has nothing else
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("not from 0 to 86400".to_owned()) }
}

fn positive_seconds(text: &str) -> Result<f64, String> {
    seconds(text).and_then(|seconds| if seconds > 0.0 { Ok(seconds) } else { Err("not above 0".to_owned()) })
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            let helped = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return exit(if helped { Outcome::Ok } else { Outcome::Usage });
        }
    };
    let limit = Duration::try_from_secs_f64(options.timeout).unwrap_or_default();
    let interrupt = match Interrupt::on_signals(limit) {
        Ok(interrupt) => interrupt,
        Err(error) => {
            let _ = writeln!(io::stderr(), "fairlead-dpdk-check: cannot watch for signals: {error}");
            return exit(Outcome::RunFailed);
        }
    };
    let to_stdout = options.json.as_deref() == Some(Path::new("-"));
    let mut progress = if to_stdout { Progress::new(io::stderr()) } else { Progress::new(io::stdout()) };
    let report = check(&options, &interrupt, &mut progress);
    let mut outcome = report.outcome;
    if let Some(path) = &options.json
        && let Err(error) = write(&report, path)
    {
        progress.print(format_args!("cannot write the report to {}: {error}", path.display()));
        outcome = if outcome == Outcome::Ok { Outcome::RunFailed } else { outcome };
    }
    exit(outcome)
}

fn exit(outcome: Outcome) -> ExitCode {
    ExitCode::from(outcome.code())
}

fn write(report: &Report, path: &Path) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    if path == Path::new("-") { io::stdout().write_all(text.as_bytes()) } else { fs::write(path, text) }
}

fn check(options: &Options, interrupt: &Interrupt, progress: &mut Progress) -> Report {
    let begin = Instant::now();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        outcome: Outcome::Ok,
        reason: None,
        started,
        seconds: 0.0,
        preflight: Vec::new(),
        settings: None,
        measurements: Measurements::default(),
    };
    if let Err((outcome, reason)) = fill(options, interrupt, progress, &mut report) {
        report.outcome = outcome;
        report.reason = Some(reason);
    }
    report.seconds = begin.elapsed().as_secs_f64();
    let table = report.measurements.table();
    if !table.is_empty() {
        progress.print(format_args!("\n{table}\n"));
    }
    match &report.reason {
        None => progress.say("ok: traffic passes in both directions"),
        Some(reason) => progress.say(format_args!("{}: {reason}", title(report.outcome))),
    }
    report
}

fn title(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::RunFailed => "failed",
        Outcome::Usage => "wrong options",
        Outcome::PreflightFailed => "not ready for DPDK",
        Outcome::TooSlow => "too slow",
    }
}

/// What ends a check early: how, and why.
type Failure = (Outcome, String);

fn fill(
    options: &Options,
    interrupt: &Interrupt,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    let devices = named_devices(options).map_err(|error| {
        let outcome = if error.is_usage() { Outcome::Usage } else { Outcome::PreflightFailed };
        (outcome, error_text(&error))
    })?;
    let facts = Facts::gather(&Roots::default(), devices, options.testpmd.as_deref());
    report.preflight = preflight::checks(&facts);
    for check in &report.preflight {
        progress.say(check);
    }
    let failed = report.preflight.iter().filter(|check| check.verdict == Verdict::Fail).count();
    let plan = preflight::plan(&facts).filter(|_| failed == 0).ok_or_else(|| {
        (Outcome::PreflightFailed, format!("{failed} of {} checks failed", report.preflight.len()))
    })?;
    let settings = report.settings.insert(Settings {
        testpmd: plan.testpmd,
        devices,
        cores: plan.cores,
        iova_mode: plan.iova_mode,
        frame_size: options.frame_size,
        warm_up: options.warm_up,
        window: options.window,
        start_limit: options.start_limit,
        link_limit: options.link_limit,
    });
    run::run(settings, Patience::default(), interrupt, progress, &mut report.measurements)
        .map_err(|error| (Outcome::RunFailed, error_text(&error)))?;
    match report.measurements.too_slow(f64::from(options.min_pps)) {
        None => Ok(()),
        Some(reason) => Err((Outcome::TooSlow, reason)),
    }
}

fn named_devices(options: &Options) -> Result<[PciAddress; 2], DevicesError> {
    if !options.devices.is_empty() {
        return devices::pair(&options.devices);
    }
    // Not all variables need be UTF-8; the device plugin's are.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    devices::pair(&devices::from_environment(variables, options.resource.as_deref())?)
}
