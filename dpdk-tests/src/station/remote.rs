//! A port in another pod: one JSON line each way for each order, over TCP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Answer, Order, Station, StationError};
use crate::interrupt::{Interrupt, Stopped};
use crate::testpmd::child::Ending;

/// How long an answer may take: longer than what the other side allows its testpmd.
const ANSWER: Duration = Duration::from_secs(90);
/// How long one attempt to connect may take, and how long after a failed one the next begins.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a line may get: no order or answer has a tenth of that.
const LONGEST_LINE: usize = 256 * 1024;

/// Why the peer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Its name.
    #[error("cannot find the address of the peer {peer}; give HOST:PORT")]
    Name {
        /// As it was given.
        peer: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody answers.
    #[error(
        "no peer answers at {peer} for {} s: does `fairlead-dpdk-check peer` run there, and pass its preflight?", limit.as_secs()
    )]
    Connect {
        /// As it was given.
        peer: String,
        /// How long was tried.
        limit: Duration,
        /// What the last attempt met.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the peer {peer} broke")]
    Broken {
        /// Where it is.
        peer: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No answer.
    #[error("the peer {peer} has not answered {order} for {} s", ANSWER.as_secs())]
    Silent {
        /// Where it is.
        peer: String,
        /// What it was told.
        order: String,
    },
    /// Something that no peer says.
    #[error("{peer} does not talk as a peer does: {line:?}; are both of one version?")]
    Garbled {
        /// Where it is.
        peer: String,
        /// What it said, shortened.
        line: String,
    },
    /// It could not do it.
    #[error("the peer {peer}: {message}")]
    Failed {
        /// Where it is.
        peer: String,
        /// What it said.
        message: String,
    },
    /// The check ends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// One line at a time over a connection.
pub(super) struct Lines {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        // Nothing here is long; a peer that reads nothing must not hold us.
        stream.set_write_timeout(Some(ATTEMPT))?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub(super) fn write(&mut self, what: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(what)? + "\n";
        self.stream.write_all(line.as_bytes())
    }

    /// The next line; `None` when none came in time. The end of the connection is an error.
    pub(super) fn read(
        &mut self,
        limit: Duration,
        interrupt: &Interrupt,
    ) -> Result<io::Result<Option<String>>, Stopped> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            if let Some(length) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=length).collect();
                return Ok(Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned())));
            }
            if self.read.len() > LONGEST_LINE {
                return Ok(Err(io::Error::new(ErrorKind::InvalidData, "a line without end")));
            }
            if !interrupt.readable(self.stream.as_fd(), end.saturating_duration_since(Instant::now()))? {
                return Ok(Ok(None));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Err(ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.read.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

/// What a line holds.
pub(super) fn parse<T: DeserializeOwned>(line: &str) -> Option<T> {
    serde_json::from_str(line).ok()
}

/// A port in another pod.
pub struct Remote {
    peer: String,
    device: Option<String>,
    lines: Lines,
}

impl Remote {
    /// Connects, and tries again for as long as `limit`: the other pod may start later.
    pub fn connect(peer: &str, limit: Duration, interrupt: &Interrupt) -> Result<Self, PeerError> {
        let named = |source| PeerError::Name { peer: peer.to_owned(), source };
        let addresses: Vec<SocketAddr> = peer.to_socket_addrs().map_err(named)?.collect();
        let end = Instant::now() + limit;
        loop {
            interrupt.check()?;
            let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
            for address in &addresses {
                match TcpStream::connect_timeout(address, ATTEMPT).and_then(Lines::new) {
                    Ok(lines) => return Ok(Self { peer: peer.to_owned(), device: None, lines }),
                    Err(error) => last = error,
                }
            }
            if Instant::now() >= end {
                return Err(PeerError::Connect { peer: peer.to_owned(), limit, source: last });
            }
            interrupt.pause(ATTEMPT.min(end.saturating_duration_since(Instant::now())))?;
        }
    }

    fn ask(&mut self, order: &Order, interrupt: &Interrupt) -> Result<Answer, PeerError> {
        let peer = || self.peer.clone();
        let broken = |source| PeerError::Broken { peer: peer(), source };
        self.lines.write(order).map_err(broken)?;
        let line = self.lines.read(ANSWER, interrupt)?.map_err(broken)?;
        let line = line.ok_or_else(|| PeerError::Silent { peer: peer(), order: format!("{order:?}") })?;
        match parse(&line) {
            Some(Answer::Failed(message)) => Err(PeerError::Failed { peer: peer(), message }),
            Some(answer) => Ok(answer),
            None => Err(PeerError::Garbled { peer: peer(), line: line.chars().take(200).collect() }),
        }
    }
}

impl Station for Remote {
    fn device(&self) -> String {
        self.device.as_ref().map_or_else(|| format!("peer {}", self.peer), |device| format!("peer:{device}"))
    }

    fn obey(&mut self, order: &Order, interrupt: &Interrupt) -> Result<Answer, StationError> {
        let mut answer = self.ask(order, interrupt)?;
        if let Answer::About(about) = &mut answer {
            self.device = Some(about.device.clone());
            about.device = self.device();
        }
        Ok(answer)
    }

    /// The peer ends its testpmd by itself when it hears this, or nothing more.
    fn stop(&mut self) -> Ending {
        let _ = self.lines.write(&Order::Bye);
        Ending::Quit
    }
}
