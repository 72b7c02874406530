//! Where announcements come from.

use std::time::{Duration, Instant};

use fairlead_kernel::monitor::{Bell, Event, Heard, Monitor, MonitorError};

/// How long until sockets that failed are opened again.
const REOPEN: Duration = Duration::from_secs(2);

/// What a watcher hears, and its clock: the kernel's, or a made-up one in tests.
pub(super) trait Ears: Send {
    fn now(&self) -> Instant;

    /// The next thing that is heard before `until`. After an error there is nothing to hear for a while.
    fn next(&mut self, until: Instant) -> Result<Heard, MonitorError>;
}

/// The running kernel.
pub(super) struct Kernel {
    /// What is heard now; before the first call, and after an error, nothing.
    monitor: Monitor,
    bell: Bell,
    /// When to begin, or try again, to listen.
    open_at: Option<Instant>,
}

impl Kernel {
    /// Opened at the first call, so that the stream can report what goes wrong.
    pub(super) fn listening(bell: Bell) -> Self {
        Self { open_at: Some(Instant::now()), ..Self::deaf(bell) }
    }

    /// Only ever hears the bell.
    pub(super) fn deaf(bell: Bell) -> Self {
        Self { monitor: Monitor::deaf(bell.clone()), bell, open_at: None }
    }
}

impl Ears for Kernel {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn next(&mut self, until: Instant) -> Result<Heard, MonitorError> {
        let heard = match self.open_at {
            Some(time) if time <= Instant::now() => Monitor::open(self.bell.clone()).map(|monitor| {
                self.monitor = monitor;
                self.open_at = None;
                // What was announced before is not known.
                Heard::Event(Event::Lost)
            }),
            Some(time) => self.monitor.next(Some(until.min(time))),
            None => self.monitor.next(Some(until)),
        };
        if heard.is_err() {
            self.monitor = Monitor::deaf(self.bell.clone());
            self.open_at = Some(Instant::now() + REOPEN);
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_the_first_listening_counts_as_lost() {
        let bell = Bell::new().unwrap();
        let mut ears = Kernel::listening(bell.clone());
        assert_eq!(ears.next(Instant::now()).unwrap(), Heard::Event(Event::Lost));
        bell.ring();
        let limit = Instant::now() + Duration::from_secs(60);
        // The machine may announce something meanwhile; the bell comes through all the same.
        while ears.next(limit).unwrap() != Heard::Bell {}
    }

    #[test]
    fn the_deaf_hear_the_bell_only() {
        let bell = Bell::new().unwrap();
        let mut ears = Kernel::deaf(bell.clone());
        assert_eq!(ears.next(Instant::now()).unwrap(), Heard::Nothing);
        bell.ring();
        assert_eq!(ears.next(Instant::now() + Duration::from_secs(60)).unwrap(), Heard::Bell);
    }
}
