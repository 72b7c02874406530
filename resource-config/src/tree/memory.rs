//! A tree in memory: what a recorder noted, or what a file says.

use std::collections::BTreeMap;
use std::io;

/// The number of an error of the system (`errno`), and why something could not be read.
pub(super) type Errno = i32;

/// Linux `ENOENT`.
pub(super) const MISSING: Errno = 2;

/// What was read of a tree, by path. What is in none of the maps is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Contents of attributes.
    pub(super) files: BTreeMap<String, Result<String, Errno>>,
    /// Targets of links.
    pub(super) links: BTreeMap<String, Result<String, Errno>>,
    /// Names in folders.
    pub(super) folders: BTreeMap<String, Result<Vec<String>, Errno>>,
    /// What netlink knows, as JSON.
    pub(crate) netlink: Option<String>,
}

impl Tree {
    pub(super) fn file(&self, path: &str) -> io::Result<String> {
        found(self.files.get(path)).cloned()
    }

    pub(super) fn link(&self, path: &str) -> io::Result<String> {
        found(self.links.get(path)).cloned()
    }

    /// The names in a folder. A folder that was not listed, but of which something was read, has none.
    pub(super) fn folder(&self, path: &str) -> io::Result<&[String]> {
        match self.folders.get(path) {
            None if has_below(&self.files, path) || has_below(&self.links, path) => Ok(&[]),
            entry => found(entry).map(Vec::as_slice),
        }
    }
}

fn has_below<T>(entries: &BTreeMap<String, T>, path: &str) -> bool {
    let first = format!("{path}/");
    entries.range(first.clone()..).next().is_some_and(|(found, _)| found.starts_with(&first))
}

fn found<T>(entry: Option<&Result<T, Errno>>) -> io::Result<&T> {
    match entry {
        Some(Ok(value)) => Ok(value),
        Some(Err(errno)) => Err(io::Error::from_raw_os_error(*errno)),
        None => Err(io::Error::from_raw_os_error(MISSING)),
    }
}
