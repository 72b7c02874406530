//! The check itself.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fairlead_dpdk_tests::compare;
use fairlead_dpdk_tests::interrupt::Interrupt;
use fairlead_dpdk_tests::plan::{Mode, PathKind, Plan};
use fairlead_dpdk_tests::preflight::{self, Facts, Needs};
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::{FORMAT, Measurements, Outcome, Report, table};
use fairlead_dpdk_tests::run::{self, RunError, Surroundings};
use fairlead_dpdk_tests::settings::Settings;
use fairlead_dpdk_tests::station::remote::Remote;
use fairlead_dpdk_tests::station::{About, StationError};
use fairlead_dpdk_tests::testpmd::child::Patience;
use fairlead_resource_config::error_text;

use super::options::CheckOptions;
use super::ports::{Ports, look, port_settings};
use super::{Failure, machine, sensible};

/// Beside traffic, for everything: starting, links, stopping.
const BESIDE_TRAFFIC: f64 = 120.0;

/// How long all of it may take.
pub(crate) fn time_limit(options: &CheckOptions) -> Duration {
    let seconds = options.timeout.unwrap_or_else(|| {
        let paths = if options.ports.interfaces.is_empty() { 1.0 } else { 2.0 };
        BESIDE_TRAFFIC * paths + 2.0 * paths * options.plan().seconds()
    });
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Checks, and says what came of it. The report's files are written as things go.
pub(crate) fn check(options: &CheckOptions, interrupt: &Interrupt, progress: &mut Progress) -> Report {
    let begin = Instant::now();
    let mut report = Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        outcome: Outcome::Unfinished,
        reason: Some("the check was still going on when this was written".to_owned()),
        started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        seconds: 0.0,
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        machine: machine(None),
        preflight: Vec::new(),
        settings: None,
        measurements: Measurements::default(),
        thresholds: options.thresholds.thresholds(),
        ratios: Vec::new(),
        afterwards: Vec::new(),
    };
    let result = fill(options, begin, interrupt, progress, &mut report);
    (report.outcome, report.reason) = match result {
        Ok(()) => (Outcome::Ok, None),
        Err((outcome, reason)) => (outcome, Some(reason)),
    };
    report.seconds = begin.elapsed().as_secs_f64();
    say(&report, options.preflight_only, progress);
    report
}

fn say(report: &Report, preflight_only: bool, progress: &mut Progress) {
    for check in &report.afterwards {
        progress.say(check);
    }
    let table = table(&report.measurements.results);
    if !table.is_empty() {
        progress.print(format_args!("\n{table}\n"));
    }
    if !report.ratios.is_empty() {
        progress.print(format_args!("{}\n", compare::table(&report.ratios)));
    }
    match &report.reason {
        None if preflight_only => progress.say("ok: all is there"),
        None => progress.say("ok: everything was measured, and is good enough"),
        Some(reason) => progress.say(format_args!("{}: {reason}", report.outcome.title())),
    }
}

fn fill(
    options: &CheckOptions,
    begin: Instant,
    interrupt: &Interrupt,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    let outputs = options.outputs.outputs();
    // A file that cannot be written is told before anything is measured for it.
    outputs.save(report).map_err(|why| (Outcome::Usage, why))?;
    let plan = options.plan();
    let ports = choose(options, &plan)?;
    let programs = ports.paths().iter().map(|(_, count)| *count).max().unwrap_or(0);
    let needs = Needs {
        programs,
        tuning: plan.tuning,
        frame_size: plan.frame_sizes.iter().copied().max().unwrap_or(64),
    };
    sensible(&needs)?;
    let facts = ports.facts(&options.ports);
    report.machine = machine(Some(&facts));
    look(&facts, &needs, progress, &mut report.preflight)?;
    if options.preflight_only {
        return Ok(());
    }
    let testpmd = facts.testpmd.clone().map_err(|why| (Outcome::PreflightFailed, why))?;
    let settings = Settings {
        testpmd,
        ports: port_settings(&facts, &ports, &needs),
        peer: options.peer.clone(),
        iova_mode: preflight::iova_mode(&facts),
        plan,
        start_limit: options.ports.start_limit,
        link_limit: options.link_limit,
    };
    report.settings = Some(settings.clone());
    let result = measure(options, &settings, &ports, &facts, begin, interrupt, progress, report);
    report.afterwards = preflight::released(&facts.devices);
    report.ratios = compare::paths(&report.measurements.results);
    result.map_err(|error| outcome_of(&error))?;
    match report.thresholds.judge_all(&report.measurements.results) {
        None => Ok(()),
        Some(reason) => Err((Outcome::TooSlow, reason)),
    }
}

fn choose(options: &CheckOptions, plan: &Plan) -> Result<Ports, Failure> {
    let (wanted, most) = if options.peer.is_some() { (1, 1) } else { plan.ports() };
    let ports = Ports::choose(&options.ports, wanted, most)?;
    if options.peer.is_some() && ports.paths().len() > 1 {
        return Err((
            Outcome::Usage,
            "--peer has one port: give --interface, or a device, not both".to_owned(),
        ));
    }
    Ok(ports)
}

#[expect(clippy::too_many_arguments, reason = "everything that a check has found so far")]
fn measure(
    options: &CheckOptions,
    settings: &Settings,
    ports: &Ports,
    facts: &Facts,
    begin: Instant,
    interrupt: &Interrupt,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), RunError> {
    let outputs = options.outputs.outputs();
    let mut so_far = report.clone();
    let mut saved = |found: &Measurements| {
        so_far.measurements.clone_from(found);
        so_far.seconds = begin.elapsed().as_secs_f64();
        // What cannot be written now cannot be at the end, where it is told.
        let _ = outputs.save(&so_far);
    };
    saved(&report.measurements);
    let inspect = |abouts: &[About]| preflight::inspect(abouts, &facts.expected);
    for (path, _) in ports.paths() {
        start_line(settings, path, progress);
        let mut stations =
            settings.launch(path, Patience::default()).map_err(|error| RunError::Station(error.into()))?;
        if let Some(peer) = &options.peer {
            let limit = Duration::try_from_secs_f64(options.peer_limit).unwrap_or_default();
            let remote = Remote::connect(peer, limit, interrupt).map_err(StationError::from)?;
            stations.push(Box::new(remote));
        }
        let mut around = Surroundings {
            interrupt,
            progress,
            inspect: &inspect,
            saved: &mut saved,
            link_limit: Duration::try_from_secs_f64(settings.link_limit).unwrap_or_default(),
        };
        // A third port is of use in one mode only; for the others it rests.
        let plan = &settings.plan;
        run::run(path, &mut stations, plan, &mut around, &mut report.measurements)?;
    }
    Ok(())
}

fn start_line(settings: &Settings, path: PathKind, progress: &mut Progress) {
    let ports = settings.ports.iter().filter(|port| port.path == path);
    let names: Vec<&str> = ports.map(|port| port.device.as_str()).collect();
    let peer = settings.peer.as_ref().map(|peer| format!(", and a peer at {peer}")).unwrap_or_default();
    let third =
        if settings.plan.modes.contains(&Mode::Mac) && names.len() > 2 { ", the last for mac" } else { "" };
    progress.say(format_args!(
        "starting {} on {} ({} path{third}){peer}",
        settings.testpmd.display(),
        names.join(" and "),
        path.as_str()
    ));
}

fn outcome_of(error: &RunError) -> Failure {
    let outcome = match error {
        RunError::Unfit(_) => Outcome::PreflightFailed,
        error if error.stopped().is_some() => Outcome::Stopped,
        _ => Outcome::RunFailed,
    };
    (outcome, error_text(error))
}
