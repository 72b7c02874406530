//! Reading folders, attributes and links of a sysfs tree: a real one, one in memory, or a real one while noting what is read.

mod directory;
mod format;
#[cfg(test)]
mod materialise;
mod memory;
mod recorder;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

pub use self::format::TreeError;
pub(crate) use self::memory::Tree;
pub(crate) use self::recorder::Recorder;

/// The most that an attribute may hold, in bytes; sysfs itself allows 4,096.
const LARGEST_ATTRIBUTE: usize = 64 * 1024;

/// An open folder. Names given to it may be paths below it, with `/` between their parts.
#[derive(Debug)]
pub(crate) enum Folder {
    /// Of a file system.
    Directory(OwnedFd),
    /// Of a file system, with what is read noted under its path.
    Recorded { directory: OwnedFd, path: String, recorder: Arc<Recorder> },
    /// Of a tree in memory, by its path there.
    Memory { tree: Arc<Tree>, path: String },
}

impl Folder {
    /// A folder of the file system.
    pub(crate) fn directory(path: &Path) -> io::Result<Self> {
        directory::open_root(path).map(Self::Directory)
    }

    /// The root of a tree in memory.
    pub(crate) fn memory(tree: &Arc<Tree>) -> Self {
        Self::Memory { tree: Arc::clone(tree), path: String::new() }
    }

    /// A folder of the file system whose use is noted.
    pub(crate) fn recorded(path: &Path, recorder: &Arc<Recorder>) -> io::Result<Self> {
        let directory = directory::open_root(path)?;
        Ok(Self::Recorded { directory, path: String::new(), recorder: Arc::clone(recorder) })
    }

    /// A folder below this one; links are followed.
    pub(crate) fn open(&self, name: &str) -> io::Result<Self> {
        match self {
            Self::Directory(directory) => directory::open(directory, name).map(Self::Directory),
            Self::Recorded { directory, path, recorder } => {
                let path = joined(path, name);
                let opened = directory::open(directory, name);
                recorder.opened(&path, &opened);
                Ok(Self::Recorded { directory: opened?, path, recorder: Arc::clone(recorder) })
            }
            Self::Memory { tree, path } => {
                let path = joined(path, name);
                tree.folder(&path)?;
                Ok(Self::Memory { tree: Arc::clone(tree), path })
            }
        }
    }

    /// The sorted names in this folder that are asked for. What is not UTF-8 in them is replaced.
    pub(crate) fn names(&self, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        let mut names = match self {
            Self::Directory(directory) => directory::names(directory, wanted)?,
            Self::Recorded { directory, path, recorder } => {
                let names = directory::names(directory, wanted);
                recorder.listed(path, &names);
                names?
            }
            Self::Memory { tree, path } => {
                tree.folder(path)?.iter().filter(|name| wanted(name)).cloned().collect()
            }
        };
        names.sort_unstable();
        Ok(names)
    }

    /// What an attribute holds, without white space around it. What is not UTF-8 is replaced.
    pub(crate) fn text(&self, name: &str) -> io::Result<String> {
        match self {
            Self::Directory(directory) => directory::text(directory, name, LARGEST_ATTRIBUTE),
            Self::Recorded { directory, path, recorder } => {
                let text = directory::text(directory, name, LARGEST_ATTRIBUTE);
                recorder.read(&joined(path, name), &text);
                text
            }
            Self::Memory { tree, path } => tree.file(&joined(path, name)),
        }
    }

    /// Where a symbolic link points, as it is written there.
    pub(crate) fn link(&self, name: &str) -> io::Result<String> {
        match self {
            Self::Directory(directory) => directory::link(directory, name),
            Self::Recorded { directory, path, recorder } => {
                let target = directory::link(directory, name);
                recorder.followed(&joined(path, name), &target);
                target
            }
            Self::Memory { tree, path } => tree.link(&joined(path, name)),
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

#[cfg(test)]
mod tests;
