//! Waiting for a device that is not ready yet: some drivers (i40e, ice, iavf) reset a VF when the PF changes it, refuse what is
//! asked of it meanwhile, and carry out an address change in the background.
//!
//! What is waited for is the kernel's announcement that the link has changed. Not every driver makes one, so the device is
//! looked at again after a short time anyway.

use std::time::{Duration, Instant};

use fairlead_kernel::{
    Errno, NetlinkError,
    monitor::{Bell, Heard, Monitor},
};

/// As long as upstream's plugin tries: twenty times 100 ms.
const LIMIT: Duration = Duration::from_secs(2);
/// The longest time without a look at the device.
const PAUSE: Duration = Duration::from_millis(100);

/// Tells when a device may have become ready.
pub(super) trait Patience {
    /// Returns when it is worth another look; `false` when the time is up.
    fn wait(&mut self) -> bool;
}

/// The kernel's announcements, listened to from the first wait on: most drivers need none.
#[derive(Default)]
pub(super) struct Announcements {
    listening: Option<(Option<Monitor>, Instant)>,
}

impl Patience for Announcements {
    fn wait(&mut self) -> bool {
        let Some((monitor, limit)) = &mut self.listening else {
            let monitor = Bell::new().and_then(Monitor::open).ok();
            self.listening = Some((monitor, Instant::now() + LIMIT));
            // What happened before the monitor was opened is seen by a look now.
            return true;
        };
        let now = Instant::now();
        let until = (now + PAUSE).min(*limit);
        let heard = monitor.as_mut().map(|monitor| monitor.next(Some(until)));
        if !matches!(heard, Some(Ok(Heard::Event(_) | Heard::Nothing))) {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        now < *limit
    }
}

/// How a device stands to what was asked of it.
pub(super) enum Readiness {
    /// It is done.
    Done,
    /// It is not done yet.
    NotYet,
}

/// Attempts something until it is done, as long as the device is merely busy.
///
/// # Errors
/// What the kernel refused for good, or what it said last when the time was up; `None` when it never refused, and yet it is
/// not done.
pub(super) fn persist(
    patience: &mut dyn Patience,
    mut attempt: impl FnMut() -> Result<Readiness, NetlinkError>,
) -> Result<(), Option<NetlinkError>> {
    loop {
        let refusal = match attempt() {
            Ok(Readiness::Done) => return Ok(()),
            Ok(Readiness::NotYet) => None,
            Err(error) if is_busy(&error) => Some(error),
            Err(error) => return Err(Some(error)),
        };
        if !patience.wait() {
            return Err(refusal);
        }
    }
}

/// Whether the device is in the middle of something: `EBUSY` of ice, iavf and mlx5, `EAGAIN` of i40e.
pub(super) fn is_busy(error: &NetlinkError) -> bool {
    matches!(error.errno(), Some(Errno::EBUSY | Errno::EAGAIN))
}

/// Patience of tests: so many looks, at once.
#[cfg(test)]
pub(super) struct Looks(pub(super) u32);

#[cfg(test)]
impl Patience for Looks {
    fn wait(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}
