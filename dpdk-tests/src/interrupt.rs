//! What ends a wait early: a signal, or the time limit of the whole check.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The longest single poll; only bounds the conversion to the kernel's milliseconds.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// Why a wait ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Somebody asked the check to end.
    #[error("interrupted by a signal")]
    Signal,
    /// It has taken too long.
    #[error("the time limit of {} s is reached", .0.as_secs_f64())]
    TimeLimit(Duration),
}

/// Watches for the end while waiting.
pub struct Interrupt {
    source: Box<dyn AsFd>,
    limit: Duration,
    deadline: Instant,
}

impl Interrupt {
    /// Watches SIGINT, SIGTERM and SIGHUP, which from now on do nothing else in this thread and those that it starts.
    pub fn on_signals(limit: Duration) -> io::Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block()?;
        let source = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
        Ok(Self::on_readable(source, limit))
    }

    /// Takes it as a signal when `source` has something to read.
    pub fn on_readable(source: impl AsFd + 'static, limit: Duration) -> Self {
        Self { source: Box::new(source), limit, deadline: Instant::now() + limit }
    }

    /// Whether to go on.
    pub fn check(&self) -> Result<(), Stopped> {
        self.pause(Duration::ZERO)
    }

    /// Waits for this long.
    pub fn pause(&self, time: Duration) -> Result<(), Stopped> {
        self.wait(None, time).map(|_| ())
    }

    /// Waits at most this long until there is something to read (or the other side is gone); says whether there is.
    pub fn readable(&self, fd: BorrowedFd<'_>, time: Duration) -> Result<bool, Stopped> {
        self.wait(Some(fd), time)
    }

    fn wait(&self, fd: Option<BorrowedFd<'_>>, time: Duration) -> Result<bool, Stopped> {
        let end = Instant::now() + time;
        loop {
            let left = end.min(self.deadline).saturating_duration_since(Instant::now());
            let mut fds = vec![PollFd::new(self.source.as_fd(), PollFlags::POLLIN)];
            fds.extend(fd.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            // Rounded up, so that the rest of a millisecond is not spent polling.
            let timeout = PollTimeout::try_from((left + Duration::from_micros(999)).min(LONGEST_POLL))
                .unwrap_or(PollTimeout::ZERO);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                // Nothing can be watched any more: better to end than to go on for ever.
                Err(_) => return Err(Stopped::Signal),
            }
            let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
            if ready.next() == Some(true) {
                return Err(Stopped::Signal);
            }
            if ready.next() == Some(true) {
                return Ok(true);
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Err(Stopped::TimeLimit(self.limit));
            }
            if now >= end {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_signal_ends_a_wait() {
        let (reader, mut writer) = pipe().unwrap();
        let interrupt = Interrupt::on_readable(reader, LONG);
        assert_eq!(interrupt.check(), Ok(()));
        assert_eq!(interrupt.pause(Duration::from_millis(1)), Ok(()));
        writer.write_all(b"x").unwrap();
        assert_eq!(interrupt.pause(LONG), Err(Stopped::Signal));
    }

    #[test]
    fn the_time_limit_ends_a_wait() {
        let (reader, _writer) = pipe().unwrap();
        let limit = Duration::from_millis(5);
        let interrupt = Interrupt::on_readable(reader, limit);
        assert_eq!(interrupt.pause(LONG), Err(Stopped::TimeLimit(limit)));
        assert_eq!(interrupt.check(), Err(Stopped::TimeLimit(limit)));
    }

    #[test]
    fn something_to_read_is_told_from_nothing() {
        let (source, _keep) = pipe().unwrap();
        let interrupt = Interrupt::on_readable(source, LONG);
        let (reader, mut writer) = pipe().unwrap();
        assert_eq!(interrupt.readable(reader.as_fd(), Duration::from_millis(1)), Ok(false));
        writer.write_all(b"x").unwrap();
        assert_eq!(interrupt.readable(reader.as_fd(), LONG), Ok(true));
    }
}
