//! Whole runs against a made-up testpmd: this test program itself, started again through a script.
#![allow(clippy::unwrap_used, reason = "these are tests, their helpers too")]

mod fake;

use std::fs;
use std::io::{PipeReader, Write, pipe};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fairlead_dpdk_tests::cores::Cores;
use fairlead_dpdk_tests::interrupt::{Interrupt, Stopped};
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::Measurements;
use fairlead_dpdk_tests::run::{RunError, Settings, run};
use fairlead_dpdk_tests::testpmd::TestpmdError;
use fairlead_dpdk_tests::testpmd::arguments::IovaMode;
use fairlead_dpdk_tests::testpmd::child::Patience;

const LONG: Duration = Duration::from_secs(120);
const PATIENT: Patience = Patience { quit: LONG, term: LONG };
const IMPATIENT: Patience = Patience { quit: Duration::from_millis(100), term: Duration::from_millis(100) };

struct Stage {
    folder: tempfile::TempDir,
    settings: Settings,
    found: Measurements,
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
            devices: ["0000:01:10.0", "0000:01:10.2"].map(|text| text.parse().unwrap()),
            cores: [Cores { main: 1, forwarding: 0 }, Cores { main: 0, forwarding: 1 }],
            iova_mode: IovaMode::Va,
            frame_size: 64,
            warm_up: 0.0,
            window: 0.02,
            start_limit: LONG.as_secs_f64(),
            link_limit: 0.0,
        };
        Self { folder, settings, found: Measurements::default() }
    }

    fn run(&mut self, patience: Patience, interrupt: &Interrupt) -> Result<(), RunError> {
        let mut progress = Progress::new(std::io::sink());
        let result = run(&self.settings, patience, interrupt, &mut progress, &mut self.found);
        self.assert_nothing_is_left();
        result
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
    stage.run_undisturbed().unwrap();
    let found = &stage.found;
    assert_eq!(found.dpdk_version.as_deref(), Some("DPDK 24.11.8"));
    let macs: Vec<String> = found.ports.iter().map(|port| port.mac.to_string()).collect();
    assert_eq!(macs, ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]);
    let [forth, back] = found.directions.as_slice() else { panic!("{found:?}") };
    assert_eq!([forth.from, forth.to], stage.settings.devices);
    assert_eq!((back.from, back.to), (forth.to, forth.from));
    for direction in [forth, back] {
        // The made-up ones send 2000 packets per look at the counters, and receive 1000.
        assert_eq!(direction.totals.loss, 0.5);
        assert!(direction.totals.sent >= 4000 && direction.samples.len() >= 2);
        assert!(direction.rates.received_pps > 0.0);
        assert_eq!(direction.rates.sent_bps, direction.rates.sent_pps * 512.0);
    }
    assert_eq!(found.too_slow(1.0), None);
    assert!(found.too_slow(1e12).is_some());
}

#[test]
fn a_crash_is_told_with_the_last_words_and_their_meaning() {
    let error = Stage::new("crash").run_undisturbed().unwrap_err();
    assert!(matches!(&error, RunError::Testpmd(TestpmdError::Died { .. })), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("signal: 6") && text.contains("EAL: error 12"), "{text}");
    assert!(text.contains("IPC_LOCK"), "{text}");
}

#[test]
fn a_crash_between_commands_is_told_as_one() {
    let error = Stage::new("vanish").run_undisturbed().unwrap_err();
    assert!(matches!(&error, RunError::Testpmd(TestpmdError::Died { .. })), "{error:?}");
}

#[test]
fn a_hang_is_ended_by_a_signal_to_us_and_what_was_found_is_kept() {
    let mut stage = Stage::new("hang");
    let source = when_there_is(stage.folder.path().join("hanging"));
    let error = stage.run(IMPATIENT, &Interrupt::on_readable(source, LONG)).unwrap_err();
    let stopped = matches!(
        error,
        RunError::Stopped(Stopped::Signal) | RunError::Testpmd(TestpmdError::Stopped(Stopped::Signal))
    );
    assert!(stopped, "{error:?}");
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
    assert!(matches!(&error, RunError::Testpmd(TestpmdError::NotReady { .. })), "{error:?}");

    let error = Stage::new("portless").run_undisturbed().unwrap_err();
    assert!(matches!(&error, RunError::Testpmd(TestpmdError::NoPort { .. })), "{error:?}");
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
