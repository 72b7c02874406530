//! `fairlead install --watch`: what others undo is put right as soon as the kernel tells.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        signal::{SigSet, Signal},
        signalfd::SignalFd,
    },
};

use super::{Folders, Install, Look, Node, pace::Pace};
use crate::{
    cli::Answer,
    protocol::error::{CniError, code},
    say::say,
};

/// A look for what the kernel may not have told, as after a folder was mounted over.
const ROUND: Duration = Duration::from_secs(30);
/// The same where the kernel tells nothing.
const BLIND_ROUND: Duration = Duration::from_secs(1);

/// Watches until it is told to stop. Everything stays in its place then.
pub(super) fn watch(install: &Install, node: &mut Node<'_>) -> Result<Answer, CniError> {
    let stop = stop_signals()?;
    let changes = Changes::new();
    let start = Instant::now();
    let (mut pace, mut told) = (Pace::default(), Told::default());
    loop {
        changes.follow(&install.folders);
        let look = node.settle();
        let now = start.elapsed();
        let pause = pace.after(!look.changes.is_empty(), now);
        told.tell(&look, now, install.wait);
        if pace.is_slow() && !look.changes.is_empty() {
            say(format_args!("somebody keeps undoing this: the next look is in {} s", pause.as_secs()));
        }
        if !pause.is_zero() && wait(&[&stop], pause)? {
            break;
        }
        if changes.wait(&stop, told.silence(start.elapsed(), install.wait))? {
            break;
        }
    }
    let text = format!("stopped watching; everything in {} stays", install.folders.conf.display());
    Ok(Answer { text, well: true })
}

/// As a container's first process one has no default for these.
fn stop_signals() -> Result<SignalFd, CniError> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals
        .thread_block()
        .and_then(|()| SignalFd::new(&signals))
        .map_err(|errno| failed("wait for signals", errno))
}

fn failed(what: &str, errno: Errno) -> CniError {
    CniError::new(code::IO, format!("{what}: {errno}"))
}

/// Waits for any of these; whether there is one.
fn wait(files: &[&dyn AsFd], limit: Duration) -> Result<bool, CniError> {
    let mut waited: Vec<PollFd<'_>> =
        files.iter().map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut waited, timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(failed("wait for changes", errno)),
    }
}

/// What the kernel tells of both folders.
struct Changes {
    events: Option<Inotify>,
}

impl Changes {
    fn new() -> Self {
        let events = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        if let Err(errno) = events {
            say(format_args!(
                "the kernel tells of no changes ({errno}; is fs.inotify.max_user_instances used up?): looking every {} s",
                BLIND_ROUND.as_secs()
            ));
        }
        Self { events: events.ok() }
    }

    /// Follows both folders. One that is followed already is not followed twice, one that was made anew is.
    fn follow(&self, folders: &Folders) {
        let Some(events) = &self.events else { return };
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        for folder in [&folders.conf, &folders.bin] {
            // One that is missing is made, or told of, by the look that follows, and followed after the next round.
            let _ = events.add_watch(&folders.here(folder), flags);
        }
    }

    /// Waits for a change, or for the next round, at most for `limit`; whether it is time to stop.
    fn wait(&self, stop: &SignalFd, limit: Duration) -> Result<bool, CniError> {
        match &self.events {
            Some(events) => wait(&[stop, events], ROUND.min(limit))?,
            None => wait(&[stop], BLIND_ROUND.min(limit))?,
        };
        // How often does not matter, a look sees all.
        while self.events.as_ref().is_some_and(|events| events.read_events().is_ok()) {}
        wait(&[stop], Duration::ZERO)
    }
}

/// What was said, so that it is said once.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    waiting: Option<Duration>,
}

impl Told {
    fn tell(&mut self, look: &Look, now: Duration, wait: Duration) {
        look.changes.iter().for_each(say);
        let lines: Vec<String> = look.problems.iter().chain(&look.notes).cloned().collect();
        lines.iter().filter(|line| !self.lines.contains(line)).for_each(say);
        self.lines = lines;
        let since = *self.waiting.get_or_insert(now);
        if !look.waits {
            self.waiting = None;
        } else if now.saturating_sub(since) >= wait {
            say(format_args!("still no primary network after {} s", wait.as_secs()));
            self.waiting = Some(now);
        }
    }

    /// How long there is nothing to be said, whatever happens.
    fn silence(&self, now: Duration, wait: Duration) -> Duration {
        // Not so short that it would keep the node busy.
        self.waiting.map_or(ROUND, |since| (since + wait).saturating_sub(now).max(BLIND_ROUND))
    }
}
