//! testpmd with one port: started, told what to do over its console, asked over DPDK's telemetry, and ended.
//!
//! One program per port, as testpmd knows only one forwarding mode for all of its ports: a port that only sends and one that
//! only receives need two. A peer in another pod is then no different from one in this.

pub mod arguments;
pub mod child;
pub mod console;
pub mod hints;
pub mod telemetry;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use fairlead_kernel::Mac;
use fairlead_resource_config::PciAddress;

use self::arguments::Arguments;
use self::child::{Child, Ending, Patience};
use self::telemetry::{LinkStatus, PortInfo, PortStats, SOCKET, Telemetry, TelemetryError};
use crate::interrupt::{Interrupt, Stopped};

/// How often output and sockets are looked at while waiting.
const TICK: Duration = Duration::from_millis(50);
/// How long an answer of telemetry or the end of a command may take: with two busy processors under software emulation both
/// have been seen to take seconds.
const ANSWER: Duration = Duration::from_secs(20);
/// How many lines of testpmd's output go into an error.
const TAIL: usize = 12;

/// Why testpmd did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum TestpmdError {
    /// No folder for its run-time files.
    #[error("cannot make a folder for testpmd's run-time files; set TMPDIR to one that can be written to")]
    Folder(#[source] io::Error),
    /// It did not start at all.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It ended by itself.
    #[error("testpmd on {device} ended by itself ({status}){}", explained(hint, output))]
    Died {
        /// Its port.
        device: PciAddress,
        /// How it ended.
        status: ExitStatus,
        /// What that probably means.
        hint: Option<&'static str>,
        /// Its last lines.
        output: Vec<String>,
    },
    /// It did not get ready.
    #[error("testpmd on {device} was not ready after {} s{}", limit.as_secs(), explained(hint, output))]
    NotReady {
        /// Its port.
        device: PciAddress,
        /// How long was waited.
        limit: Duration,
        /// What that probably means.
        hint: Option<&'static str>,
        /// Its last lines.
        output: Vec<String>,
    },
    /// It runs, without the device.
    #[error("testpmd does not use {device}{}", explained(hint, output))]
    NoPort {
        /// The port that it should have.
        device: PciAddress,
        /// What that probably means.
        hint: Option<&'static str>,
        /// Its last lines.
        output: Vec<String>,
    },
    /// It does not take a command.
    #[error("testpmd on {device} refused {command:?}: {why}")]
    Refused {
        /// Its port.
        device: PciAddress,
        /// What it was told.
        command: String,
        /// What it said.
        why: String,
    },
    /// It does not get on with a command.
    #[error("testpmd on {device} has not finished {command:?} after {} s", ANSWER.as_secs())]
    Stuck {
        /// Its port.
        device: PciAddress,
        /// What it was told.
        command: String,
    },
    /// Telemetry gave no figure.
    #[error("no figures of {device}")]
    Telemetry {
        /// Its port.
        device: PciAddress,
        /// Why.
        #[source]
        source: TelemetryError,
    },
    /// The check ends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

fn explained(hint: &Option<&'static str>, output: &[String]) -> String {
    let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
    let output: String = output.iter().map(|line| format!("\n    {line}")).collect();
    format!("{hint}{}{output}", if output.is_empty() { "" } else { "\n  its last lines:" })
}

/// A testpmd that runs. Dropping it ends it and removes its run-time files.
#[derive(Debug)]
pub struct Testpmd {
    device: PciAddress,
    file_prefix: String,
    child: Child,
    telemetry: Option<Telemetry>,
    // After the child, so that it is removed when that has ended.
    folder: tempfile::TempDir,
}

impl Testpmd {
    /// Starts it; it is of use once [`Testpmd::wait_ready`] has returned.
    pub fn start(program: &Path, arguments: &Arguments, patience: Patience) -> Result<Self, TestpmdError> {
        let folder = tempfile::Builder::new().prefix("fairlead-").tempdir().map_err(TestpmdError::Folder)?;
        // DPDK takes the first as it is (systemd's convention), else root gets /var/run and everybody else the second.
        let path = folder.path().to_owned();
        let environment = [("RUNTIME_DIRECTORY", path.clone()), ("XDG_RUNTIME_DIR", path)];
        let child = Child::spawn(program, arguments.line(), &environment, patience)
            .map_err(|source| TestpmdError::Spawn { program: program.to_owned(), source })?;
        let file_prefix = arguments.file_prefix.clone();
        Ok(Self { device: arguments.device, file_prefix, child, telemetry: None, folder })
    }

    /// Waits for the prompt and the telemetry socket, and makes sure that the device is its port 0.
    pub fn wait_ready(&mut self, limit: Duration, interrupt: &Interrupt) -> Result<PortInfo, TestpmdError> {
        let end = Instant::now() + limit;
        while !self.child.console().is_ready() {
            self.check_alive()?;
            if Instant::now() >= end {
                let (device, (hint, output)) = (self.device, self.said());
                return Err(TestpmdError::NotReady { device, limit, hint, output });
            }
            interrupt.pause(TICK)?;
        }
        let telemetry =
            Telemetry::connect(&self.socket(), ANSWER, interrupt).map_err(|e| self.no_figures(e))?;
        let ports: Vec<u16> = telemetry.get("/ethdev/list", interrupt).map_err(|e| self.no_figures(e))?;
        self.telemetry = Some(telemetry);
        let device = self.device.to_string();
        let info: Option<PortInfo> =
            if ports.contains(&0) { Some(self.get("/ethdev/info,0", interrupt)?) } else { None };
        info.filter(|info| info.name == device).ok_or_else(|| {
            let (device, (hint, output)) = (self.device, self.said());
            TestpmdError::NoPort { device, hint, output }
        })
    }

    /// The version of DPDK; known once it is ready.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.telemetry.as_ref().map(Telemetry::version)
    }

    /// The port's link.
    pub fn link(&mut self, interrupt: &Interrupt) -> Result<LinkStatus, TestpmdError> {
        self.get("/ethdev/link_status,0", interrupt)
    }

    /// The port's counters.
    pub fn stats(&mut self, interrupt: &Interrupt) -> Result<PortStats, TestpmdError> {
        self.get("/ethdev/stats,0", interrupt)
    }

    /// Begins to receive, and to drop what comes.
    pub fn receive(&mut self, interrupt: &Interrupt) -> Result<(), TestpmdError> {
        self.command("set fwd rxonly", interrupt)?;
        self.command("start", interrupt)
    }

    /// Begins to send to `peer` as fast as it can.
    pub fn send_to(&mut self, peer: &Mac, interrupt: &Interrupt) -> Result<(), TestpmdError> {
        self.command(&format!("set eth-peer 0 {peer}"), interrupt)?;
        self.command("set fwd txonly", interrupt)?;
        self.command("start", interrupt)
    }

    /// Ends receiving or sending.
    pub fn halt(&mut self, interrupt: &Interrupt) -> Result<(), TestpmdError> {
        self.command("stop", interrupt)
    }

    /// Ends the program.
    pub fn stop(&mut self) -> Ending {
        self.child.stop()
    }

    /// What its output so far hints at.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        hints::hint(&self.child.console().text())
    }

    fn command(&mut self, command: &str, interrupt: &Interrupt) -> Result<(), TestpmdError> {
        let mark = self.child.console().mark();
        if self.child.write_line(command).is_err() {
            // Nobody reads its input: it is ending.
            interrupt.pause(TICK)?;
        }
        let end = Instant::now() + ANSWER;
        loop {
            let reply = self.child.console().reply(mark);
            let (device, command) = (self.device, || command.to_owned());
            if let Some(reply) = reply {
                return match console::refusal(&reply) {
                    None => Ok(()),
                    Some(why) => {
                        Err(TestpmdError::Refused { device, command: command(), why: why.to_owned() })
                    }
                };
            }
            self.check_alive()?;
            if Instant::now() >= end {
                return Err(TestpmdError::Stuck { device, command: command() });
            }
            interrupt.pause(TICK)?;
        }
    }

    fn get<T: serde::de::DeserializeOwned>(
        &mut self,
        question: &str,
        interrupt: &Interrupt,
    ) -> Result<T, TestpmdError> {
        let telemetry = self
            .telemetry
            .as_ref()
            .ok_or(TelemetryError::Silent { question: question.to_owned(), limit: Duration::ZERO });
        let answer = telemetry.and_then(|telemetry| telemetry.get(question, interrupt));
        answer.map_err(|source| self.no_figures(source))
    }

    /// A broken connection usually means that the program is gone, which says more.
    fn no_figures(&mut self, source: TelemetryError) -> TestpmdError {
        match source {
            TelemetryError::Stopped(stopped) => TestpmdError::Stopped(stopped),
            source => {
                if matches!(source, TelemetryError::Broken { .. } | TelemetryError::Connect { .. }) {
                    std::thread::sleep(TICK);
                }
                let died = self.check_alive().err();
                died.unwrap_or(TestpmdError::Telemetry { device: self.device, source })
            }
        }
    }

    fn check_alive(&mut self) -> Result<(), TestpmdError> {
        let Some(status) = self.child.status() else { return Ok(()) };
        self.child.drain();
        let (device, (hint, output)) = (self.device, self.said());
        Err(TestpmdError::Died { device, status, hint, output })
    }

    fn said(&self) -> (Option<&'static str>, Vec<String>) {
        let console = self.child.console();
        (hints::hint(&console.text()), console.tail(TAIL))
    }

    /// Where telemetry listens. DPDK that does not know `RUNTIME_DIRECTORY` puts root's files below `/var/run`.
    fn socket(&self) -> PathBuf {
        let below = |folder: &Path| folder.join("dpdk").join(&self.file_prefix).join(SOCKET);
        let own = below(self.folder.path());
        let roots = below(Path::new("/var/run"));
        if !own.exists() && roots.exists() { roots } else { own }
    }
}
