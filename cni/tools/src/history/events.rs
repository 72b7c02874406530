//! The log as the executable writes it.

use std::{io, path::Path};

use fairlead_cni::history::{FILES, FOLDER};
use serde::Deserialize;

use crate::root::Root;

/// A line of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    /// Milliseconds since 1970.
    pub(super) at: u64,
    /// `ADD`, `DEL` or `UNDO`.
    pub(super) what: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) container: String,
    /// None for an ADD that failed as a whole.
    pub(super) network: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) devices: Vec<String>,
    pub(super) addresses: Vec<String>,
    pub(super) error: Option<String>,
    /// How long it took, in milliseconds.
    pub(super) ms: u64,
}

/// All of it, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) all: Vec<Event>,
    pub(super) unreadable: usize,
}

/// Reads both files.
///
/// # Errors
/// When one is there and cannot be read.
pub(super) fn read(root: &Root, state_dir: &Path) -> Result<Events, String> {
    let mut events = Events::default();
    for file in FILES.iter().rev() {
        let path = state_dir.join(FOLDER).join(file);
        match root.read(&path) {
            Ok(text) => events.take(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("read {}: {error}", path.display())),
        }
    }
    // Calls that ended at the same time may have written the other way round.
    events.all.sort_by_key(|event| event.at);
    Ok(events)
}

impl Events {
    fn take(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(event) => self.all.push(event),
                Err(_) => self.unreadable += 1,
            }
        }
    }
}
