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

use self::arguments::{Arguments, FCS};
use self::child::{Child, Ending, Patience};
use self::telemetry::{LinkStatus, PortInfo, PortStats, SOCKET, Telemetry, TelemetryError};
use crate::devices::Target;
use crate::interrupt::{Interrupt, Stopped};
use crate::station::{About, Answer, Order, Role, Station, StationError};

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
        device: String,
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
        device: String,
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
        device: String,
        /// What that probably means.
        hint: Option<&'static str>,
        /// Its last lines.
        output: Vec<String>,
    },
    /// It does not take a command.
    #[error("testpmd on {device} refused {command:?}: {why}")]
    Refused {
        /// Its port.
        device: String,
        /// What it was told.
        command: String,
        /// What it said.
        why: String,
    },
    /// It does not get on with a command.
    #[error("testpmd on {device} has not finished {command:?} after {} s", ANSWER.as_secs())]
    Stuck {
        /// Its port.
        device: String,
        /// What it was told.
        command: String,
    },
    /// Telemetry gave no figure.
    #[error("no figures of {device}")]
    Telemetry {
        /// Its port.
        device: String,
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
    target: Target,
    queues: u16,
    ready_limit: Duration,
    speed: Option<u64>,
    file_prefix: String,
    child: Child,
    telemetry: Option<Telemetry>,
    // After the child, so that it is removed when that has ended.
    folder: tempfile::TempDir,
}

impl Testpmd {
    /// Starts it. It is of use once it has answered [`Order::Ready`], for which it has `ready_limit`. `speed` is what the kernel
    /// knows of an interface.
    pub fn start(
        program: &Path,
        arguments: &Arguments,
        ready_limit: Duration,
        speed: Option<u64>,
        patience: Patience,
    ) -> Result<Self, TestpmdError> {
        let folder = tempfile::Builder::new().prefix("fairlead-").tempdir().map_err(TestpmdError::Folder)?;
        // DPDK takes the first as it is (systemd's convention), else root gets /var/run and everybody else the second.
        let path = folder.path().to_owned();
        let environment = [("RUNTIME_DIRECTORY", path.clone()), ("XDG_RUNTIME_DIR", path)];
        let child = Child::spawn(program, arguments.line(), &environment, patience)
            .map_err(|source| TestpmdError::Spawn { program: program.to_owned(), source })?;
        let (target, file_prefix) = (arguments.target.clone(), arguments.file_prefix.clone());
        let queues = arguments.tuning.queues.max(1);
        Ok(Self { target, queues, ready_limit, speed, file_prefix, child, telemetry: None, folder })
    }

    /// Waits for the prompt and the telemetry socket, and makes sure that the device is its port 0.
    fn wait_ready(&mut self, interrupt: &Interrupt) -> Result<PortInfo, TestpmdError> {
        let limit = self.ready_limit;
        let end = Instant::now() + limit;
        while !self.child.console().is_ready() {
            self.check_alive()?;
            if Instant::now() >= end {
                let (device, (hint, output)) = (self.label(), self.said());
                return Err(TestpmdError::NotReady { device, limit, hint, output });
            }
            interrupt.pause(TICK)?;
        }
        let telemetry =
            Telemetry::connect(&self.socket(), ANSWER, interrupt).map_err(|e| self.no_figures(e))?;
        let ports: Vec<u16> = telemetry.get("/ethdev/list", interrupt).map_err(|e| self.no_figures(e))?;
        self.telemetry = Some(telemetry);
        let name = self.target.dpdk_name();
        let info: Option<PortInfo> =
            if ports.contains(&0) { Some(self.get("/ethdev/info,0", interrupt)?) } else { None };
        info.filter(|info| info.name == name).ok_or_else(|| {
            let (device, (hint, output)) = (self.label(), self.said());
            TestpmdError::NoPort { device, hint, output }
        })
    }

    /// Begins what a role is.
    fn begin(&mut self, role: &Role, interrupt: &Interrupt) -> Result<(), TestpmdError> {
        if let Role::Send { to } | Role::Forward { to, .. } | Role::Inject { to, .. } = role {
            self.command(&format!("set eth-peer 0 {to}"), interrupt)?;
        }
        let (engine, start) = match role {
            Role::Receive => ("rxonly", "start".to_owned()),
            Role::Send { .. } => ("txonly", "start".to_owned()),
            Role::Forward { engine, .. } => (engine.as_str(), "start".to_owned()),
            Role::Inject { engine, bursts, .. } => (engine.as_str(), format!("start tx_first {bursts}")),
        };
        self.command(&format!("set fwd {engine}"), interrupt)?;
        self.command(&start, interrupt)
    }

    /// Limits every queue. `Err` inside: what testpmd says about why it cannot.
    fn pace(&mut self, mbps: u32, interrupt: &Interrupt) -> Result<Result<(), String>, TestpmdError> {
        let each = mbps.div_ceil(u32::from(self.queues));
        for queue in 0..self.queues {
            let reply = self.ask(&format!("set port 0 queue {queue} rate {each}"), interrupt)?;
            if let Some(why) = console::refused_rate(&reply) {
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    }

    /// Gives a command that testpmd takes or refuses.
    fn command(&mut self, command: &str, interrupt: &Interrupt) -> Result<(), TestpmdError> {
        let reply = self.ask(command, interrupt)?;
        match console::refusal(&reply) {
            None => Ok(()),
            Some(why) => Err(TestpmdError::Refused {
                device: self.label(),
                command: command.to_owned(),
                why: why.to_owned(),
            }),
        }
    }

    /// Gives a command and returns what testpmd says to it.
    fn ask(&mut self, command: &str, interrupt: &Interrupt) -> Result<String, TestpmdError> {
        let mark = self.child.console().mark();
        if self.child.write_line(command).is_err() {
            // Nobody reads its input: it is ending.
            interrupt.pause(TICK)?;
        }
        let end = Instant::now() + ANSWER;
        loop {
            if let Some(reply) = self.child.console().reply(mark) {
                return Ok(reply);
            }
            self.check_alive()?;
            if Instant::now() >= end {
                return Err(TestpmdError::Stuck { device: self.label(), command: command.to_owned() });
            }
            interrupt.pause(TICK)?;
        }
    }

    fn label(&self) -> String {
        self.target.to_string()
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
                died.unwrap_or(TestpmdError::Telemetry { device: self.label(), source })
            }
        }
    }

    fn check_alive(&mut self) -> Result<(), TestpmdError> {
        let Some(status) = self.child.status() else { return Ok(()) };
        self.child.drain();
        let (device, (hint, output)) = (self.label(), self.said());
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

impl Station for Testpmd {
    fn device(&self) -> String {
        self.label()
    }

    fn obey(&mut self, order: &Order, interrupt: &Interrupt) -> Result<Answer, StationError> {
        match order {
            Order::Ready => {
                let info = self.wait_ready(interrupt)?;
                let version = self.telemetry.as_ref().map(Telemetry::version).unwrap_or_default();
                return Ok(Answer::About(About {
                    device: self.label(),
                    mac: info.mac_addr,
                    dpdk_version: version.to_owned(),
                    speed: self.speed,
                }));
            }
            Order::Link => {
                let mut link: LinkStatus = self.get("/ethdev/link_status,0", interrupt)?;
                // Of packet sockets DPDK says 10 Gbit/s, whatever is below.
                if matches!(self.target, Target::Interface(_)) {
                    link.speed = self.speed;
                }
                return Ok(Answer::Link(link));
            }
            Order::Counters => {
                return Ok(Answer::Counters(self.get::<PortStats>("/ethdev/stats,0", interrupt)?));
            }
            Order::Hint => {
                let hint = hints::hint(&self.child.console().text());
                return Ok(Answer::Hint(hint.map(str::to_owned)));
            }
            Order::Pace(mbps) => {
                if let Err(why) = self.pace(*mbps, interrupt)? {
                    return Ok(Answer::NotPaced(why));
                }
            }
            Order::FrameSize(size) => {
                self.command(&format!("set txpkts {}", size.saturating_sub(FCS)), interrupt)?;
            }
            Order::Burst(burst) => self.command(&format!("set burst {burst}"), interrupt)?,
            Order::Start(role) => self.begin(role, interrupt)?,
            Order::Halt => self.command("stop", interrupt)?,
            Order::Bye => {}
        }
        Ok(Answer::Done)
    }

    fn stop(&mut self) -> Ending {
        self.child.stop()
    }
}
