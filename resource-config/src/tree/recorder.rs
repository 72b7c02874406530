//! Notes what is read of a tree.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::memory::{Errno, MISSING, Tree};

/// Linux `EIO`, for errors that have no number.
const GENERAL_FAILURE: Errno = 5;

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    tree: Mutex<Tree>,
}

impl Recorder {
    /// What was read until now.
    pub(crate) fn tree(&self) -> Tree {
        self.locked().clone()
    }

    pub(super) fn opened<T>(&self, path: &str, opened: &io::Result<T>) {
        if let Some(outcome) = outcome(opened, |_| Vec::new()) {
            self.locked().folders.entry(path.to_owned()).or_insert(outcome);
        }
    }

    pub(super) fn listed(&self, path: &str, names: &io::Result<Vec<String>>) {
        if let Some(outcome) = outcome(names, |names| {
            let mut names = names.clone();
            names.sort_unstable();
            names
        }) {
            self.locked().folders.insert(path.to_owned(), outcome);
        }
    }

    pub(super) fn read(&self, path: &str, text: &io::Result<String>) {
        if let Some(outcome) = outcome(text, Clone::clone) {
            self.locked().files.insert(path.to_owned(), outcome);
        }
    }

    pub(super) fn followed(&self, path: &str, target: &io::Result<String>) {
        if let Some(outcome) = outcome(target, Clone::clone) {
            self.locked().links.insert(path.to_owned(), outcome);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to note; `None` for what is missing, which needs no note.
fn outcome<T, N>(result: &io::Result<T>, note: impl Fn(&T) -> N) -> Option<Result<N, Errno>> {
    match result {
        Ok(value) => Some(Ok(note(value))),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(GENERAL_FAILURE);
            (errno != MISSING).then_some(Err(errno))
        }
    }
}
