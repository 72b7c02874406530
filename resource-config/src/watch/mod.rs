//! A stream of inventories: the node as it is, and again whenever it is different.
//!
//! The kernel's announcements say when to look, a scan says what is there. Nothing is concluded from an announcement itself,
//! so one that is missed costs time, at most until the next periodic rescan, and never correctness.
//!
//! Followed are devices of the buses that the inventory shows, and links. Addresses and routes of the host, and a change of an
//! embedded switch's mode that makes no link, are seen at the rescan.
//!
//! What comes in bursts (all VFs of a port being made) is looked at once: after the kernel has been quiet for a moment, and
//! again if it was not quiet while being looked at, or if what was seen is half made.

mod changes;
mod ears;
mod pace;
mod relevance;
mod settled;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::Duration;

use fairlead_kernel::give_back_memory;
use fairlead_kernel::monitor::{Bell, Event, Heard};
use thiserror::Error;

use self::ears::{Ears, Kernel};
use self::pace::{Pace, Seen, Verdict};
use self::relevance::Relevance;
use crate::inventory::{Inventory, InventoryError, Scanner};
use crate::{PciAddress, error_text};

pub use fairlead_kernel::monitor::MonitorError;

pub use self::changes::{Change, ChangeKind, changes};

/// When a [`Watcher`] looks at the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long nothing must have been announced.
    pub quiet: Duration,
    /// How long to wait for that at most, from the first announcement on.
    pub limit: Duration,
    /// Time between looks when nothing is announced.
    pub rescan: Duration,
}

impl Default for Timing {
    /// Quick enough for a change to be seen within 200 ms, and a rescan every 5 s.
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(50),
            limit: Duration::from_secs(2),
            rescan: Duration::from_secs(5),
        }
    }
}

/// What keeps a [`Watcher`] from seeing the node. It goes on trying.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The node cannot be read now.
    #[error("the devices of this node cannot be read; trying again")]
    Scan(#[from] InventoryError),
    /// Announcements cannot be heard now.
    #[error("changes are seen at the periodic rescan only, until the kernel's events can be heard again")]
    Events(#[from] MonitorError),
}

/// What a watcher looks with: a scanner, or a made-up one in tests.
trait Eyes: Send {
    fn scan(&mut self) -> Result<Inventory, InventoryError>;

    /// Waits while the kernel makes or removes VFs, so that the look that follows is not in vain.
    fn let_finish(&mut self, last: &Inventory);
}

impl Eyes for Scanner {
    fn scan(&mut self) -> Result<Inventory, InventoryError> {
        self.scan()
    }

    fn let_finish(&mut self, last: &Inventory) {
        self.wait_for_vfs(last);
    }
}

/// Stops a [`Watcher`], from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(Bell);

impl Stopper {
    /// Ends the stream: a wait at once, a scan as soon as it is through.
    pub fn stop(&self) {
        self.0.ring();
    }
}

/// The inventories of a node: the first one at once, then one for every difference. Blocks between them, and ends only when
/// it is stopped.
///
/// An error is reported when it appears, not each time that it lasts.
pub struct Watcher {
    eyes: Box<dyn Eyes>,
    ears: Box<dyn Ears>,
    pace: Pace,
    relevance: Relevance,
    stopper: Stopper,
    stopped: bool,
    /// What was given out last.
    last: Option<Arc<Inventory>>,
    /// Which devices were half made in it.
    half_made: BTreeSet<PciAddress>,
    /// Why the node cannot be read, while that lasts.
    failing: Option<String>,
    /// Why nothing can be heard, while that lasts.
    deaf: Option<String>,
    /// The same, until it is reported.
    unheard: Option<MonitorError>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pace, stopped, failing, .. } = self;
        f.debug_struct("Watcher")
            .field("pace", pace)
            .field("stopped", stopped)
            .field("failing", failing)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// Follows what the scanner reads: a running system by what the kernel announces in the network namespace of the
    /// thread that takes inventories from this, a directory by looking again at every rescan interval.
    ///
    /// # Errors
    /// The system is out of file descriptors. Events that cannot be heard are no error here: the stream reports them.
    pub fn new(scanner: Scanner, timing: Timing) -> Result<Self, MonitorError> {
        let bell = Bell::new()?;
        let ears =
            if scanner.is_live() { Kernel::listening(bell.clone()) } else { Kernel::deaf(bell.clone()) };
        Ok(Self::over(Box::new(scanner), Box::new(ears), bell, timing))
    }

    fn over(eyes: Box<dyn Eyes>, ears: Box<dyn Ears>, bell: Bell, timing: Timing) -> Self {
        Self {
            pace: Pace::new(timing, ears.now()),
            eyes,
            ears,
            relevance: Relevance::default(),
            stopper: Stopper(bell),
            stopped: false,
            last: None,
            half_made: BTreeSet::new(),
            failing: None,
            deaf: None,
            unheard: None,
        }
    }

    /// What ends this stream.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Looks at the node.
    fn look(&mut self) -> Option<Result<Arc<Inventory>, WatchError>> {
        if let Some(last) = &self.last {
            self.eyes.let_finish(last);
        }
        // What was announced until now is about to be seen; what is announced from now on may be missed.
        self.catch_up();
        let scanned = self.eyes.scan();
        let overtaken = self.catch_up();
        if self.stopped {
            return None;
        }
        let item = self.judge(scanned, overtaken);
        // A look takes several times the memory that is kept of it, if any is.
        give_back_memory();
        item
    }

    /// What is made of a look.
    fn judge(
        &mut self,
        scanned: Result<Inventory, InventoryError>,
        overtaken: bool,
    ) -> Option<Result<Arc<Inventory>, WatchError>> {
        let now = self.ears.now();
        match scanned {
            Ok(inventory) => {
                self.failing = None;
                let half_made = settled::half_made(&inventory);
                let seen = if !half_made.is_subset(&self.half_made) {
                    Seen::HalfMade
                } else if overtaken {
                    Seen::Overtaken
                } else {
                    Seen::AtRest
                };
                let verdict = self.pace.scanned(now, seen);
                // At the beginning anything is better than nothing.
                (verdict == Verdict::Publish || self.last.is_none()).then_some(())?;
                self.half_made = half_made;
                self.publish(inventory).map(Ok)
            }
            Err(error) => {
                self.pace.failed(now);
                let text = Some(error_text(&error));
                let is_news = self.failing != text;
                self.failing = text;
                is_news.then_some(Err(WatchError::Scan(error)))
            }
        }
    }

    fn publish(&mut self, inventory: Inventory) -> Option<Arc<Inventory>> {
        if self.last.as_ref().is_some_and(|last| !settled::differs(last, &inventory)) {
            return None;
        }
        let inventory = Arc::new(inventory);
        self.last = Some(inventory.clone());
        Some(inventory)
    }

    /// Hears what was announced already; whether any of it matters.
    fn catch_up(&mut self) -> bool {
        let mut overtaken = false;
        while let Some(event) = self.hear(true) {
            overtaken |= self.relevance.matters(&event);
        }
        overtaken
    }

    /// Waits until it is time to look, or something is announced.
    fn listen(&mut self) {
        if let Some(event) = self.hear(false)
            && self.relevance.matters(&event)
        {
            self.pace.event(self.ears.now());
        }
    }

    /// The next announcement, one that is waiting already or (else) one that comes before it is time to look.
    fn hear(&mut self, only_waiting: bool) -> Option<Event> {
        let until = if only_waiting { self.ears.now() } else { self.pace.due() };
        match self.ears.next(until) {
            Ok(Heard::Event(event)) => {
                self.deaf = None;
                return Some(event);
            }
            Ok(Heard::Bell) => self.stopped = true,
            Ok(Heard::Nothing) => {}
            Err(error) => {
                let text = Some(error_text(&error));
                if self.deaf != text {
                    self.deaf = text;
                    self.unheard = Some(error);
                }
            }
        }
        None
    }
}

impl Iterator for Watcher {
    type Item = Result<Arc<Inventory>, WatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.stopped {
            if let Some(error) = self.unheard.take() {
                return Some(Err(WatchError::Events(error)));
            }
            if self.pace.due() > self.ears.now() {
                self.listen();
            } else if let Some(item) = self.look() {
                return Some(item);
            }
        }
        None
    }
}

impl FusedIterator for Watcher {}
