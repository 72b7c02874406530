//! `fairlead install` and `fairlead uninstall`: the program, its aliases and our configuration in the folders of a node.
//!
//! Whatever is placed is written beside its place and renamed into it, the program before the configuration that names it.
//! The configuration names no primary network: the first that is neither ours nor Multus' is read at each ADD. Only
//! `uninstall` removes it: a node whose installer has stopped must not start pods without their networks.

mod conflist;
mod files;
mod options;
mod pace;
mod preview;
mod programs;
mod remove;
mod section;
mod watch;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use self::{conflist::Conflist, files::failed, programs::Programs};
pub use self::{
    conflist::is_configuration,
    options::{Job, USAGE},
    preview::{Preview, preview},
    programs::{PLUGINS, REPLACED},
    section::{is_ours, section},
};
use crate::{
    cli::Answer,
    protocol::error::{CniError, code},
    say::say,
};

/// Our configuration, which runtimes take before all others.
pub const FILE: &str = "00-fairlead.conflist";
/// In the folder of programs: held by whoever installs or uninstalls. Not the folder of configurations itself, which other
/// programs lock (nerdctl).
const LOCK: &str = ".fairlead.lock";
/// How long one waits for another that installs: an installer that is being replaced ends in less.
const LOCK_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks for a primary network.
const PAUSE: Duration = Duration::from_millis(200);

/// Where things are on the node, and where this process sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Folders {
    /// Where the node's root is for this process.
    root: PathBuf,
    /// Folder of programs, as the node sees it.
    bin: PathBuf,
    /// Folder of configurations, as the node sees it.
    conf: PathBuf,
}

impl Folders {
    /// Where this process sees a path of the node.
    fn here(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Keeps others from installing or uninstalling meanwhile.
    fn lock(&self, limit: Duration) -> Result<File, CniError> {
        let path = self.here(&self.bin).join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| failed("open", &path, &error))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if start.elapsed() < limit => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let text = format!(
                        "{} is held: another fairlead installs or watches here; stop it first, it would undo what this call does",
                        path.display()
                    );
                    return Err(CniError::new(code::TRY_AGAIN, text));
                }
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path, &error)),
            }
        }
    }
}

/// `fairlead install`.
#[derive(Debug, PartialEq, Eq)]
struct Install {
    folders: Folders,
    /// The file that is placed.
    program: PathBuf,
    /// The operator's tools, which are placed beside it where there are any.
    tools: Option<PathBuf>,
    aliases: Vec<String>,
    /// Plugins of others that make place for an alias.
    replace: Vec<String>,
    section: section::Source,
    /// How long a primary network is waited for.
    wait: Duration,
    watch: bool,
}

/// What one look at the node brought.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    /// What was put right.
    changes: Vec<String>,
    /// What the operator may want to know.
    notes: Vec<String>,
    /// What is not as it should be.
    problems: Vec<String>,
    /// Whether only a primary network is missing.
    waits: bool,
}

impl Look {
    fn problem(&mut self, error: &CniError) {
        self.problems.push(error.to_string());
    }
}

/// The node, as it is to be.
struct Node<'a> {
    programs: Programs<'a>,
    conflist: Conflist<'a>,
}

impl<'a> Node<'a> {
    fn new(install: &'a Install) -> Result<Self, CniError> {
        Ok(Self { programs: Programs::new(install)?, conflist: Conflist::new(install) })
    }

    /// Puts right what is not as it should be.
    fn settle(&mut self) -> Look {
        let mut look = Look::default();
        let settled = self.programs.settle(&mut look).and_then(|()| self.conflist.settle(&mut look));
        if let Err(error) = settled {
            look.problem(&error);
        }
        look
    }
}

impl Install {
    fn run(&self) -> Result<Answer, CniError> {
        for folder in [&self.folders.bin, &self.folders.conf] {
            let folder = self.folders.here(folder);
            std::fs::create_dir_all(&folder).map_err(|error| failed("make", &folder, &error))?;
        }
        let _lock = self.folders.lock(LOCK_LIMIT)?;
        let mut node = Node::new(self)?;
        if self.watch {
            return watch::watch(self, &mut node);
        }
        let start = Instant::now();
        let mut lines = Vec::new();
        let mut told = false;
        loop {
            let look = node.settle();
            lines.extend(look.changes);
            if look.waits && start.elapsed() < self.wait {
                if !told {
                    let problems = look.problems.join("; ");
                    say(format_args!("{problems}: waiting for at most {} s", self.wait.as_secs()));
                    told = true;
                }
                thread::sleep(PAUSE);
                continue;
            }
            if lines.is_empty() && look.problems.is_empty() {
                lines.push("everything is in place already".into());
            }
            lines.extend(look.notes);
            let well = look.problems.is_empty();
            lines.extend(look.problems.into_iter().map(|problem| format!("PROBLEM: {problem}")));
            return Ok(Answer { text: lines.join("\n"), well });
        }
    }
}

#[cfg(test)]
mod tests;
