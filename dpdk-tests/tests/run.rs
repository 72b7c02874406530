//! Whole runs against a made-up testpmd: this test program itself, started again through a script.
#![allow(clippy::unwrap_used, reason = "these are tests, their helpers too")]

mod fake;

use std::cell::RefCell;
use std::fs;
use std::io::{PipeReader, Write, pipe};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fairlead_dpdk_tests::cores::Cores;
use fairlead_dpdk_tests::interrupt::{Interrupt, Stopped};
use fairlead_dpdk_tests::plan::{Mode, PathKind, Plan};
use fairlead_dpdk_tests::preflight::Check;
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::{Measurements, Offered};
use fairlead_dpdk_tests::run::{RunError, Surroundings, run};
use fairlead_dpdk_tests::settings::{PortSettings, Settings};
use fairlead_dpdk_tests::station::remote::{PeerError, Remote};
use fairlead_dpdk_tests::station::serve::{ServeError, serve};
use fairlead_dpdk_tests::station::{About, Station, StationError};
use fairlead_dpdk_tests::testpmd::TestpmdError;
use fairlead_dpdk_tests::testpmd::arguments::{IovaMode, Tuning};
use fairlead_dpdk_tests::testpmd::child::Patience;

const LONG: Duration = Duration::from_secs(120);
const PATIENT: Patience = Patience { quit: LONG, term: LONG };
const IMPATIENT: Patience = Patience { quit: Duration::from_millis(100), term: Duration::from_millis(100) };

struct Stage {
    folder: tempfile::TempDir,
    settings: Settings,
    found: Measurements,
    /// How many results there were at each call to save them.
    saved: Vec<usize>,
    checks: Vec<Check>,
}

fn port(path: PathKind, device: &str, main: u32, forwarding: u32) -> PortSettings {
    let cores = Cores { main, forwarding: vec![forwarding] };
    PortSettings { path, device: device.to_owned(), driver: None, cores, speed: None }
}

fn testpmd_error(error: &RunError) -> Option<&TestpmdError> {
    if let RunError::Station(StationError::Testpmd(error)) = error { Some(error) } else { None }
}

impl Stage {
    /// A run whose testpmds behave as `behaviour` says.
    fn new(behaviour: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("testpmd");
        let this = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nexport FAKE_ARGUMENTS=\"$*\" FAKE_BEHAVIOUR={behaviour} FAKE_FOLDER='{}'\n\
             exec '{}' --exact fake::testpmd --ignored --nocapture\n",
            folder.path().display(),
            this.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let settings = Settings {
            testpmd: program,
            ports: vec![
                port(PathKind::Dpdk, "0000:01:10.0", 1, 0),
                port(PathKind::Dpdk, "0000:01:10.2", 0, 1),
            ],
            peer: None,
            iova_mode: IovaMode::Va,
            plan: Plan {
                modes: vec![Mode::Forth, Mode::Back],
                frame_sizes: vec![64],
                repeats: 1,
                warm_up: 0.0,
                window: 0.02,
                rate_mbps: None,
                search_loss: 0.0,
                tuning: Tuning::default(),
            },
            start_limit: LONG.as_secs_f64(),
            link_limit: 0.0,
        };
        Self { folder, settings, found: Measurements::default(), saved: Vec::new(), checks: Vec::new() }
    }

    fn modes(behaviour: &str, modes: &[Mode]) -> Self {
        let mut stage = Self::new(behaviour);
        stage.settings.plan.modes = modes.to_vec();
        stage
    }

    fn run(&mut self, patience: Patience, interrupt: &Interrupt) -> Result<(), RunError> {
        let path = self.settings.ports[0].path;
        let result = self
            .settings
            .launch(path, patience)
            .map_err(|error| RunError::Station(error.into()))
            .and_then(|mut stations| self.run_with(&mut stations, interrupt));
        self.assert_nothing_is_left();
        result
    }

    fn run_with(&mut self, stations: &mut [Box<dyn Station>], interrupt: &Interrupt) -> Result<(), RunError> {
        let mut progress = Progress::new(std::io::sink());
        let (saved, checks) = (RefCell::new(&mut self.saved), self.checks.clone());
        let mut around = Surroundings {
            interrupt,
            progress: &mut progress,
            inspect: &|abouts: &[About]| {
                assert!(!abouts.is_empty());
                checks.clone()
            },
            saved: &mut |found| saved.borrow_mut().push(found.results.len()),
            link_limit: Duration::ZERO,
        };
        let path = self.settings.ports[0].path;
        run(path, stations, &self.settings.plan, &mut around, &mut self.found)
    }

    fn run_undisturbed(&mut self) -> Result<(), RunError> {
        let (source, _keep) = pipe().unwrap();
        self.run(PATIENT, &Interrupt::on_readable(source, LONG))
    }

    /// Each made-up testpmd leaves its process number and its run-time folder in files.
    fn assert_nothing_is_left(&self) {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        for side in ["a", "b"] {
            let (id, folder) = (read(&format!("pid-{side}")), read(&format!("folder-{side}")));
            assert!(id.is_empty() || !is_fake(&id, self.folder.path()), "process {id} is left");
            assert!(folder.is_empty() || !Path::new(&folder).exists(), "{folder} is left");
        }
    }
}

/// Whether that process is one of this stage's (and its number not somebody else's by now).
fn is_fake(id: &str, folder: &Path) -> bool {
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    String::from_utf8_lossy(&environment).contains(&format!("FAKE_FOLDER={}", folder.display()))
}

/// Becomes readable when the file appears.
fn when_there_is(file: PathBuf) -> PipeReader {
    let (reader, mut writer) = pipe().unwrap();
    thread::spawn(move || {
        while !file.exists() {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = writer.write_all(b"x");
    });
    reader
}

#[test]
fn both_directions_are_measured() {
    let mut stage = Stage::new("well");
    stage.settings.plan.repeats = 3;
    stage.run_undisturbed().unwrap();
    let found = &stage.found;
    assert_eq!(found.dpdk_version.as_deref(), Some("DPDK 24.11.8"));
    let macs: Vec<String> = found.ports.iter().map(|port| port.mac.to_string()).collect();
    assert_eq!(macs, ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]);
    let [forth, back] = found.results.as_slice() else { panic!("{found:?}") };
    assert_eq!([forth.from.as_str(), forth.to.as_str()], ["0000:01:10.0", "0000:01:10.2"]);
    assert_eq!((&back.from, &back.to), (&forth.to, &forth.from));
    for finding in [forth, back] {
        // The made-up ones send 2000 packets per look at the counters, and receive 1000.
        assert_eq!(finding.loss, 0.5);
        assert_eq!(finding.trials.len(), 3);
        for trial in &finding.trials {
            assert!(trial.totals.sent >= 4000 && trial.samples.len() >= 2);
            assert_eq!(trial.rates.sent_bps, trial.rates.sent_pps * 512.0);
        }
        assert!(finding.received_pps.median > 0.0 && finding.note.is_none());
        assert_eq!(finding.line_rate_pps.unwrap().round(), 1_488_095.0);
    }
    // A report is written when the ports are known and after each result, so that one is there whatever comes next.
    assert_eq!(stage.saved, [0, 1, 2]);
}

#[test]
fn every_mode_and_size_gives_its_results() {
    let modes = [Mode::Both, Mode::Io, Mode::Mac, Mode::Macswap, Mode::Latency];
    let mut stage = Stage::modes("well", &modes);
    stage.settings.plan.frame_sizes = vec![64, 1518];
    stage.run_undisturbed().unwrap();
    let seen: Vec<(Mode, u16)> =
        stage.found.results.iter().map(|finding| (finding.mode, finding.frame_size)).collect();
    let sizes = |mode| [(mode, 64), (mode, 1518)];
    let both = [(Mode::Both, 64), (Mode::Both, 64), (Mode::Both, 1518), (Mode::Both, 1518)];
    let others = modes[1..].iter().flat_map(|mode| sizes(*mode));
    assert_eq!(seen, both.into_iter().chain(others).collect::<Vec<_>>());
    for finding in &stage.found.results {
        assert!(finding.received_pps.median > 0.0, "{finding:?}");
        match finding.mode {
            Mode::Both => assert_eq!(finding.offered, Offered::Circulating { frames: 256 }),
            Mode::Latency => {
                assert_eq!(finding.offered, Offered::Circulating { frames: 1 });
                let trip = finding.round_trip_us.unwrap();
                assert!((trip.median * finding.received_pps.median - 1e6).abs() < 1.0);
                // The made-up forwarder receives more than is sent to it.
                assert!(finding.note.as_ref().unwrap().contains("somebody else"), "{finding:?}");
            }
            // Of 2000 that were sent 500 were sent on.
            _ => assert_eq!(finding.loss, 0.75),
        }
    }
}

#[test]
fn a_device_that_cannot_be_paced_gives_saturated_throughput_and_says_so() {
    let mut stage = Stage::modes("well", &[Mode::Search, Mode::Forth]);
    stage.settings.plan.rate_mbps = Some(100);
    stage.run_undisturbed().unwrap();
    for finding in &stage.found.results {
        assert_eq!(finding.offered, Offered::Saturated);
        assert_eq!((finding.search.is_none(), finding.loss), (true, 0.5));
        let note = finding.note.as_ref().unwrap();
        assert!(note.contains("no rate limit") && note.contains("saturated"), "{note}");
    }
}

#[test]
fn a_device_that_can_be_paced_is_searched_and_sent_at_a_rate() {
    let mut stage = Stage::modes("paced", &[Mode::Search, Mode::Forth]);
    stage.settings.plan.rate_mbps = Some(700);
    stage.run_undisturbed().unwrap();
    let [found, fixed] = stage.found.results.as_slice() else { panic!("{:?}", stage.found) };
    // The made-up link carries 500 Mbit/s, and the search stops within 10.
    let record = found.search.as_ref().unwrap();
    let mbps = record.mbps.unwrap();
    assert!((490..=500).contains(&mbps), "{record:?}");
    assert_eq!((found.offered, found.loss), (Offered::Paced { mbps }, 0.0));
    assert!(record.steps.len() > 3 && record.steps.iter().all(|step| step.passed == (step.mbps <= 500)));
    assert_eq!(fixed.offered, Offered::Paced { mbps: 700 });
    assert!((fixed.loss - 2.0 / 7.0).abs() < 1e-9, "{}", fixed.loss);
}

#[test]
fn interfaces_of_the_kernel_are_measured_by_packet_sockets() {
    let mut stage = Stage::new("well");
    stage.settings.ports = vec![port(PathKind::Kernel, "net1", 1, 0), port(PathKind::Kernel, "net2", 0, 1)];
    stage.settings.ports[0].speed = Some(25_000);
    stage.settings.ports[1].speed = Some(10_000);
    stage.run_undisturbed().unwrap();
    let finding = &stage.found.results[0];
    assert_eq!(
        (finding.path, finding.from.as_str(), finding.to.as_str()),
        (PathKind::Kernel, "net1", "net2")
    );
    // Not what DPDK says of every packet socket, but the slower of what the kernel says of the interfaces.
    assert_eq!(finding.line_rate_pps.unwrap().round(), 14_880_952.0);
}

#[test]
fn a_port_that_is_not_as_it_should_be_ends_the_run_before_traffic() {
    let mut stage = Stage::new("well");
    stage.checks = vec![Check::fail("MAC of x", "another", "set it")];
    let error = stage.run_undisturbed().unwrap_err();
    assert!(matches!(&error, RunError::Unfit(why) if why == "MAC of x: another"), "{error:?}");
    assert!(stage.found.results.is_empty());
    assert_eq!(stage.found.port_checks, stage.checks);
}

/// Serves port B of `stage` on a thread, as another pod would, and returns where.
fn peer_of(stage: &Stage) -> (String, thread::JoinHandle<Result<(), ServeError>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut settings = stage.settings.clone();
    settings.ports.remove(0);
    let script = fs::read_to_string(&settings.testpmd).unwrap();
    let program = stage.folder.path().join("peer-testpmd");
    fs::write(&program, script.replace("export ", "export FAKE_SIDE=b ")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    settings.testpmd = program;
    let handle = thread::spawn(move || {
        let (source, _keep) = pipe().unwrap();
        let interrupt = Interrupt::on_readable(source, LONG);
        let mut stations = settings.launch(PathKind::Dpdk, PATIENT).unwrap();
        let mut progress = Progress::new(std::io::sink());
        let served = serve(&listener, stations[0].as_mut(), LONG, &interrupt, &mut progress);
        stations[0].stop();
        served
    });
    (address, handle)
}

/// Runs `stage` with its port B in another pod: what became of it here and there.
fn run_with_peer(stage: &mut Stage) -> (Result<(), RunError>, Result<(), ServeError>) {
    let (address, peer) = peer_of(stage);
    let (source, _keep) = pipe().unwrap();
    let interrupt = Interrupt::on_readable(source, LONG);
    stage.settings.ports.truncate(1);
    let mut stations = stage.settings.launch(PathKind::Dpdk, PATIENT).unwrap();
    stations.push(Box::new(Remote::connect(&address, LONG, &interrupt).unwrap()));
    let here = stage.run_with(&mut stations, &interrupt);
    let there = peer.join().unwrap();
    drop(stations);
    stage.assert_nothing_is_left();
    (here, there)
}

#[test]
fn a_port_in_another_pod_is_measured_like_one_in_this() {
    let mut stage = Stage::modes("well", &[Mode::Forth, Mode::Back, Mode::Macswap]);
    let (here, there) = run_with_peer(&mut stage);
    here.unwrap();
    there.unwrap();
    let results = &stage.found.results;
    assert_eq!(results.len(), 3);
    assert_eq!((results[0].from.as_str(), results[0].to.as_str()), ("0000:01:10.0", "peer:0000:01:10.2"));
    assert_eq!((results[1].from.as_str(), results[0].loss), ("peer:0000:01:10.2", 0.5));
    assert_eq!(results[2].loss, 0.75);
}

#[test]
fn what_fails_at_the_peer_is_told_here_and_there() {
    let (here, there) = run_with_peer(&mut Stage::new("refuse"));
    let error = here.unwrap_err();
    assert!(matches!(&error, RunError::Station(StationError::Peer(PeerError::Failed { .. }))), "{error:?}");
    assert!(error.to_string().contains("refused \"set fwd rxonly\""), "{error}");
    assert!(matches!(there, Err(ServeError::Station(_))));
}

#[test]
fn no_peer_is_told() {
    let (source, _keep) = pipe().unwrap();
    let interrupt = Interrupt::on_readable(source, LONG);
    // Nobody listens on a port that was given back.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
    let error = Remote::connect(&address, Duration::ZERO, &interrupt).err().unwrap();
    assert!(error.to_string().contains(&address) && error.to_string().contains("preflight"), "{error}");
    let error = Remote::connect("no port in this", Duration::ZERO, &interrupt).err().unwrap();
    assert!(error.to_string().contains("HOST:PORT"), "{error}");
}

#[test]
fn a_crash_is_told_with_the_last_words_and_their_meaning() {
    let error = Stage::new("crash").run_undisturbed().unwrap_err();
    assert!(matches!(testpmd_error(&error), Some(TestpmdError::Died { .. })), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("signal: 6") && text.contains("EAL: error 12"), "{text}");
    assert!(text.contains("IPC_LOCK"), "{text}");
}

#[test]
fn a_crash_between_commands_is_told_as_one() {
    let error = Stage::new("vanish").run_undisturbed().unwrap_err();
    assert!(matches!(testpmd_error(&error), Some(TestpmdError::Died { .. })), "{error:?}");
}

#[test]
fn a_hang_is_ended_by_a_signal_to_us_and_what_was_found_is_kept() {
    let mut stage = Stage::new("hang");
    let source = when_there_is(stage.folder.path().join("hanging"));
    let error = stage.run(IMPATIENT, &Interrupt::on_readable(source, LONG)).unwrap_err();
    assert_eq!(error.stopped(), Some(Stopped::Signal), "{error:?}");
    assert_eq!(stage.found.ports.len(), 2);
}

#[test]
fn the_time_limit_ends_a_hang() {
    let (source, _keep) = pipe().unwrap();
    let limit = Duration::from_millis(300);
    let error = Stage::new("hang").run(IMPATIENT, &Interrupt::on_readable(source, limit)).unwrap_err();
    assert_eq!(error.to_string(), "the time limit of 0.3 s is reached");
}

#[test]
fn no_prompt_and_no_port_are_told_apart() {
    let mut stage = Stage::new("mute");
    stage.settings.start_limit = 0.05;
    let (source, _keep) = pipe().unwrap();
    let error = stage.run(IMPATIENT, &Interrupt::on_readable(source, LONG)).unwrap_err();
    assert!(matches!(testpmd_error(&error), Some(TestpmdError::NotReady { .. })), "{error:?}");

    let error = Stage::new("portless").run_undisturbed().unwrap_err();
    assert!(matches!(testpmd_error(&error), Some(TestpmdError::NoPort { .. })), "{error:?}");
    assert!(error.to_string().contains("PMD"), "{error}");
}

#[test]
fn a_link_that_stays_down_and_a_refused_command_are_told() {
    let error = Stage::new("linkless").run_undisturbed().unwrap_err();
    assert!(matches!(&error, RunError::NoLink { .. }), "{error:?}");
    assert!(error.to_string().contains("ip link set PF up"));

    let error = Stage::new("refuse").run_undisturbed().unwrap_err();
    assert_eq!(error.to_string(), "testpmd on 0000:01:10.2 refused \"set fwd rxonly\": Bad arguments");
}

#[test]
fn a_program_that_cannot_run_is_told() {
    let mut stage = Stage::new("well");
    stage.settings.testpmd = stage.folder.path().join("missing");
    let error = stage.run_undisturbed().unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}
