//! What the kernel announces by itself: devices (uevents) and network links.
//!
//! A [`Monitor`] hears of what happens from the moment it is opened; what was before has to be read elsewhere, after
//! opening it. Both kinds come over netlink multicast, which drops messages when nobody reads them fast enough: that is
//! an event too ([`Event::Lost`]), never an error.

mod link;
mod socket;
mod uevent;

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use self::socket::EventSocket;

pub use self::link::LinkEvent;
pub use self::uevent::Uevent;

/// Something that the kernel announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// About a device.
    Device(Uevent),
    /// About a network link of the namespace that the monitor was opened in.
    Link(LinkEvent),
    /// Announcements were lost: anything may have happened, so everything is to be read again.
    Lost,
}

/// Why [`Monitor::next`] returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The kernel announced something.
    Event(Event),
    /// The bell was rung.
    Bell,
    /// The time is up.
    Nothing,
}

/// Where announcements come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Device events, `NETLINK_KOBJECT_UEVENT`.
    Devices,
    /// Link events, the link group of `NETLINK_ROUTE`.
    Links,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Devices => "the kernel's device events",
            Self::Links => "the kernel's network link events",
        })
    }
}

/// Why announcements cannot be heard.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The kernel gave no socket.
    #[error("cannot listen to {from}")]
    Open {
        /// What was to be heard.
        from: Source,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket is of no use any more.
    #[error("{from} can no longer be heard")]
    Receive {
        /// What was being heard.
        from: Source,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No bell could be made.
    #[error("cannot make an event descriptor to be woken up by")]
    Bell(#[source] io::Error),
    /// Waiting itself failed.
    #[error("cannot wait for events of the kernel")]
    Wait(#[source] io::Error),
}

/// Wakes up whoever waits in a [`Monitor`]. Copies ring the same bell.
#[derive(Debug, Clone)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    /// A new one.
    ///
    /// # Errors
    /// The system is out of file descriptors.
    pub fn new() -> Result<Self, MonitorError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let made = EventFd::from_flags(flags).map_err(|errno| MonitorError::Bell(errno.into()))?;
        Ok(Self(Arc::new(made)))
    }

    /// Rings it: the next wait, or the one that is going on, ends with [`Heard::Bell`].
    pub fn ring(&self) {
        // Refused only when it has been rung more often than it can count: then it is ringing anyway.
        let _ = self.0.write(1);
    }

    /// Whether it was rung since the last time.
    fn take(&self) -> bool {
        self.0.read().is_ok()
    }
}

/// Hears what the kernel announces in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Monitor {
    sockets: Vec<EventSocket>,
    /// The socket to look at first, so that a stream of events on one does not hide the other.
    turn: usize,
    bell: Bell,
}

impl Monitor {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel gives no netlink socket, as in a sandbox that forbids them.
    pub fn open(bell: Bell) -> Result<Self, MonitorError> {
        let open = |from| EventSocket::open(from).map_err(|source| MonitorError::Open { from, source });
        Ok(Self { sockets: vec![open(Source::Devices)?, open(Source::Links)?], turn: 0, bell })
    }

    /// As [`Monitor::open`], for links alone.
    ///
    /// # Errors
    /// As there.
    pub fn of_links(bell: Bell) -> Result<Self, MonitorError> {
        let from = Source::Links;
        let socket = EventSocket::open(from).map_err(|source| MonitorError::Open { from, source })?;
        Ok(Self { sockets: vec![socket], turn: 0, bell })
    }

    /// Hears nothing but the bell.
    #[must_use]
    pub fn deaf(bell: Bell) -> Self {
        Self { sockets: Vec::new(), turn: 0, bell }
    }

    /// Waits for the next event, the bell, or the end of a time; without one, for ever.
    ///
    /// # Errors
    /// A socket failed. It will not recover: open another monitor, after a while, and read everything again.
    pub fn next(&mut self, until: Option<Instant>) -> Result<Heard, MonitorError> {
        loop {
            if self.bell.take() {
                return Ok(Heard::Bell);
            }
            if let Some(event) = self.receive()? {
                return Ok(Heard::Event(event));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Heard::Nothing);
            }
            self.wait(left)?;
        }
    }

    /// What is waiting in one of the sockets.
    fn receive(&mut self) -> Result<Option<Event>, MonitorError> {
        let count = self.sockets.len();
        for place in 0..count {
            let turn = (self.turn + place) % count;
            let Some(socket) = self.sockets.get_mut(turn) else { continue };
            let from = socket.from();
            let event = socket.receive().map_err(|source| MonitorError::Receive { from, source })?;
            if event.is_some() {
                self.turn = turn + 1;
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn wait(&self, left: Option<Duration>) -> Result<(), MonitorError> {
        let mut waiting: Vec<PollFd<'_>> = vec![PollFd::new(self.bell.0.as_fd(), PollFlags::POLLIN)];
        waiting.extend(self.sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut waiting, timeout(left)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(MonitorError::Wait(errno.into())),
        }
        // A lost message is reported as POLLERR, and reading takes that away. What reading cannot take away would
        // make this a busy loop.
        let broken = PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let is_broken = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| events.intersects(broken));
        let mut sockets = self.sockets.iter().zip(waiting.iter().skip(1));
        match sockets.find(|(_, fd)| is_broken(fd)) {
            Some((socket, _)) => {
                Err(MonitorError::Receive { from: socket.from(), source: Errno::EPIPE.into() })
            }
            None => Ok(()),
        }
    }
}

/// Whole milliseconds, rounded up: rounded down, the last one would be spent polling.
fn timeout(left: Option<Duration>) -> PollTimeout {
    let Some(left) = left else { return PollTimeout::NONE };
    let milliseconds = left.as_micros().div_ceil(1000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_and_capped() {
        let milliseconds = |left| timeout(Some(left)).as_millis();
        assert_eq!(milliseconds(Duration::ZERO), Some(0));
        assert_eq!(milliseconds(Duration::from_micros(1)), Some(1));
        assert_eq!(milliseconds(Duration::from_millis(20)), Some(20));
        assert_eq!(milliseconds(Duration::from_secs(1 << 40)), PollTimeout::MAX.as_millis());
        assert_eq!(timeout(None), PollTimeout::NONE);
    }

    #[test]
    fn a_bell_rung_before_or_during_a_wait_ends_it_once() {
        let bell = Bell::new().unwrap();
        let mut monitor = Monitor::deaf(bell.clone());
        bell.ring();
        bell.ring();
        assert_eq!(monitor.next(None).unwrap(), Heard::Bell);
        assert_eq!(monitor.next(Some(Instant::now())).unwrap(), Heard::Nothing);
        let ringing = std::thread::spawn(move || bell.ring());
        assert_eq!(monitor.next(None).unwrap(), Heard::Bell);
        ringing.join().unwrap();
    }
}
