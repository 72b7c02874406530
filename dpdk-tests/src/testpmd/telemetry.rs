//! DPDK's telemetry: a question and a JSON answer each way over a unix socket of packets. Format: DPDK's Telemetry guide,
//! checked against DPDK 24.11.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fairlead_kernel::Mac;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::interrupt::{Interrupt, Stopped};

/// The socket's name in DPDK's run-time folder.
pub const SOCKET: &str = "dpdk_telemetry.v2";
/// DPDK says 16384 in its greeting; a truncated answer would not parse.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Why telemetry gave no figure.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The socket cannot be reached.
    #[error("cannot connect to DPDK's telemetry at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("DPDK's telemetry broke off at {question}")]
    Broken {
        /// What was asked.
        question: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("DPDK's telemetry did not answer {question} within {} s", limit.as_secs())]
    Silent {
        /// What was asked.
        question: String,
        /// How long was waited.
        limit: Duration,
    },
    /// An answer that cannot be used.
    #[error("DPDK's telemetry answered {question} with {answer:?}: {why}")]
    Answer {
        /// What was asked.
        question: String,
        /// What came, shortened.
        answer: String,
        /// What is wrong with it.
        why: String,
    },
    /// The check ends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What DPDK says on connecting.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Greeting {
    /// `DPDK 24.11.8`.
    pub version: String,
}

/// Of `/ethdev/info`: what is needed of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PortInfo {
    /// The device's name, for PCI its address.
    pub name: String,
    /// The port's own address. There since DPDK 22.03.
    pub mac_addr: Mac,
}

/// Of `/ethdev/link_status`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct LinkStatus {
    /// `UP` or `DOWN`.
    pub status: String,
    /// In Mbit/s; absent while the link is down.
    #[serde(default)]
    pub speed: Option<u64>,
}

impl LinkStatus {
    /// Whether traffic can pass.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.status.eq_ignore_ascii_case("up")
    }
}

/// Of `/ethdev/stats`: counters since the port was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct PortStats {
    /// Received packets.
    pub ipackets: u64,
    /// Sent packets.
    pub opackets: u64,
    /// Received bytes.
    pub ibytes: u64,
    /// Sent bytes.
    pub obytes: u64,
    /// Dropped by the device because its receive queue was full.
    pub imissed: u64,
    /// Received with an error.
    pub ierrors: u64,
    /// Failed to send.
    pub oerrors: u64,
    /// Dropped because there was no buffer.
    pub rx_nombuf: u64,
}

/// A connection.
#[derive(Debug)]
pub struct Telemetry {
    socket: OwnedFd,
    greeting: Greeting,
    limit: Duration,
}

impl Telemetry {
    /// Connects; every answer, the greeting included, must come within `limit`.
    pub fn connect(path: &Path, limit: Duration, interrupt: &Interrupt) -> Result<Self, TelemetryError> {
        let failed = |errno: Errno| TelemetryError::Connect { path: path.to_owned(), source: errno.into() };
        let socket =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path).map_err(failed)?).map_err(failed)?;
        let question = "the connection";
        let greeting = receive(&socket, question, limit, interrupt)?;
        let greeting =
            serde_json::from_str(&greeting).map_err(|error| unusable(question, &greeting, &error))?;
        Ok(Self { socket, greeting, limit })
    }

    /// The version of DPDK, `DPDK 24.11.8`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.greeting.version
    }

    /// Asks; the answer has to be fetched with [`Telemetry::answer`] before the next question.
    pub fn ask(&self, question: &str) -> Result<(), TelemetryError> {
        let broken =
            |errno: Errno| TelemetryError::Broken { question: question.to_owned(), source: errno.into() };
        send(self.socket.as_raw_fd(), question.as_bytes(), MsgFlags::MSG_NOSIGNAL).map_err(broken)?;
        Ok(())
    }

    /// The answer to `question`.
    pub fn answer<T: DeserializeOwned>(
        &self,
        question: &str,
        interrupt: &Interrupt,
    ) -> Result<T, TelemetryError> {
        parse(question, &receive(&self.socket, question, self.limit, interrupt)?)
    }

    /// Question and answer.
    pub fn get<T: DeserializeOwned>(
        &self,
        question: &str,
        interrupt: &Interrupt,
    ) -> Result<T, TelemetryError> {
        self.ask(question)?;
        self.answer(question, interrupt)
    }
}

/// One packet. Sent and received with the plain calls of the kernel, as std has no sockets of this type.
fn receive(
    socket: &OwnedFd,
    question: &str,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<String, TelemetryError> {
    let question = || question.to_owned();
    if !interrupt.readable(socket.as_fd(), limit)? {
        return Err(TelemetryError::Silent { question: question(), limit });
    }
    let mut buffer = vec![0; LARGEST_ANSWER];
    let broken = |source: io::Error| TelemetryError::Broken { question: question(), source };
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)
        .map_err(|errno| broken(errno.into()))?;
    if length == 0 {
        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
    }
    buffer.truncate(length);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// What an answer holds: the value below the command's name. DPDK answers `null` to a command that it does not know and for
/// a port that is not there.
fn parse<T: DeserializeOwned>(question: &str, answer: &str) -> Result<T, TelemetryError> {
    let mut value: Value =
        serde_json::from_str(answer).map_err(|error| unusable(question, answer, &error))?;
    let command = question.split(',').next().unwrap_or(question);
    match value.get_mut(command).map(Value::take) {
        None => Err(unusable(question, answer, &format!("there is no {command} in it"))),
        Some(Value::Null) => Err(unusable(question, answer, &"no such command or port in this DPDK")),
        Some(value) => serde_json::from_value(value).map_err(|error| unusable(question, answer, &error)),
    }
}

fn unusable(question: &str, answer: &str, why: &dyn std::fmt::Display) -> TelemetryError {
    TelemetryError::Answer {
        question: question.to_owned(),
        answer: answer.chars().take(200).collect(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_dpdk_24_11_are_read() {
        let info: PortInfo = parse(
            "/ethdev/info,0",
            r#"{"/ethdev/info":{"name":"0000:01:10.0","state":1,"nb_rx_queues":1,"port_id":0,"mtu":1500,
               "mac_addr":"DA:9C:C8:9E:1C:8B","promiscuous":1,"dev_started":1,"rxq_state":[1],"numa_node":-1}}"#,
        )
        .unwrap();
        assert_eq!(
            (info.name.as_str(), info.mac_addr.to_string().as_str()),
            ("0000:01:10.0", "da:9c:c8:9e:1c:8b")
        );

        let up = r#"{"/ethdev/link_status":{"status":"UP","speed":1000,"duplex":"full-duplex"}}"#;
        let link: LinkStatus = parse("/ethdev/link_status,0", up).unwrap();
        assert!(link.is_up() && link.speed == Some(1000));
        let down = r#"{"/ethdev/link_status":{"status":"DOWN"}}"#;
        assert!(!parse::<LinkStatus>("/ethdev/link_status,0", down).unwrap().is_up());

        let stats: PortStats = parse(
            "/ethdev/stats,0",
            r#"{"/ethdev/stats":{"ipackets":86725,"opackets":1,"ibytes":5897300,"obytes":68,"imissed":2,"ierrors":3,
               "oerrors":4,"rx_nombuf":5,"q_ipackets":[0,0]}}"#,
        )
        .unwrap();
        assert_eq!((stats.ipackets, stats.ibytes, stats.rx_nombuf), (86725, 5_897_300, 5));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let cases = [
            (r#"{"/ethdev/stats":null}"#, "no such command or port"),
            (r#"{"/ethdev/other":{}}"#, "there is no /ethdev/stats"),
            (r#"{"/ethdev/stats":{"ipackets":1}}"#, "opackets"),
            (r#"{"/ethdev/st"#, "EOF"),
            ("[]", "there is no"),
        ];
        for (answer, why) in cases {
            let error = parse::<PortStats>("/ethdev/stats,0", answer).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("/ethdev/stats,0"), "{error}");
        }
    }

    #[test]
    fn no_socket_is_a_failed_connection() {
        let folder = tempfile::tempdir().unwrap();
        let (source, _keep) = io::pipe().unwrap();
        let interrupt = Interrupt::on_readable(source, Duration::from_secs(60));
        let error =
            Telemetry::connect(&folder.path().join(SOCKET), Duration::from_secs(1), &interrupt).unwrap_err();
        assert!(matches!(error, TelemetryError::Connect { .. }), "{error}");
    }
}
