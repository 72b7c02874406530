//! The program in the node's folder of plugins, and the upstream names under which it can be called.
//!
//! There are two copies, `fairlead` and `.fairlead-plugins`, and every alias is a link to the second. An installer of
//! upstream's that copies its plugin over an alias writes through the link: it then breaks a plugin that is called by
//! itself until the watch repairs it, and not the program that every pod needs. The operator's tools are a program of their
//! own, under a hidden name: runtimes take every other one for a plugin.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::{
    Folders, Install, Look,
    files::{failed, names, put, put_link, remove},
};
use crate::{cli::tools, meta::config::TYPE, protocol::error::CniError};

/// The copy that aliases lead to.
pub const PLUGINS: &str = ".fairlead-plugins";
/// Folder, beside the aliases, of the plugins that made place for one. What we do not do ourselves is still done by them.
pub const REPLACED: &str = ".fairlead-replaced";

/// What is at an alias' place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// Our link.
    Ours,
    /// Somebody's plugin, or anything else.
    Taken,
}

pub(super) fn place(path: &Path) -> Result<Place, CniError> {
    match fs::symlink_metadata(path) {
        Ok(_) if fs::read_link(path).is_ok_and(|target| target == Path::new(PLUGINS)) => Ok(Place::Ours),
        Ok(_) => Ok(Place::Taken),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Free),
        Err(error) => Err(failed("look at", path, &error)),
    }
}

/// What tells that a file was not touched since it was compared.
type Identity = (u64, u64, u64, i64, i64);

fn identity(path: &Path) -> Option<Identity> {
    let found =
        fs::symlink_metadata(path).ok().filter(|found| found.is_file() && found.mode() & 0o111 != 0)?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

/// The programs of a node, as they are to be.
pub(super) struct Programs<'a> {
    install: &'a Install,
    dir: PathBuf,
    /// The copies that were good when they were last read.
    good: [Option<Identity>; 3],
    /// Whether this process has placed everything before.
    placed: bool,
}

impl<'a> Programs<'a> {
    pub(super) fn new(install: &'a Install) -> Result<Self, CniError> {
        // Before anything is touched.
        fs::metadata(&install.program).map_err(|error| failed("read", &install.program, &error))?;
        let dir = install.folders.here(&install.folders.bin);
        Ok(Self { install, dir, good: [None; 3], placed: false })
    }

    /// Places what is missing or otherwise than it should be.
    pub(super) fn settle(&mut self, look: &mut Look) -> Result<(), CniError> {
        let mut program = None;
        for (copy, name) in [TYPE, PLUGINS].into_iter().enumerate() {
            let needed = copy == 0 || !self.install.aliases.is_empty();
            if needed && !self.is_good(copy, name) {
                let bytes = match &program {
                    Some(bytes) => bytes,
                    None => program.insert(read(&self.install.program)?),
                };
                self.settle_copy(copy, name, bytes, look)?;
            }
        }
        if let Some(tools) = self.install.tools.as_ref().filter(|_| !self.is_good(2, tools::HIDDEN)) {
            drop(program);
            // They may have been the ones that were removed.
            if tools.exists() {
                self.settle_copy(2, tools::HIDDEN, &read(tools)?, look)?;
            }
        }
        let mut left = Vec::new();
        for name in &self.install.aliases {
            let path = self.dir.join(name);
            match place(&path)? {
                Place::Ours => {}
                Place::Free => {
                    put_link(&path, Path::new(PLUGINS))?;
                    look.changes.push(self.line(name, "made"));
                }
                Place::Taken if self.install.replace.contains(name) => {
                    keep(&self.dir, name)?;
                    put_link(&path, Path::new(PLUGINS))?;
                    let what = format!("took the place of a plugin, which is kept in {REPLACED}");
                    look.changes.push(self.line(name, &what));
                }
                Place::Taken => left.push(name.as_str()),
            }
        }
        if !left.is_empty() {
            look.notes.push(format!(
                "plugins that were in {} before are left: {} (--replace LIST has some, or all, make place)",
                self.install.folders.bin.display(),
                left.join(", ")
            ));
        }
        self.placed = true;
        Ok(())
    }

    /// Whether a copy is as it was left.
    fn is_good(&self, copy: usize, name: &str) -> bool {
        self.good[copy].is_some() && identity(&self.dir.join(name)) == self.good[copy]
    }

    fn settle_copy(
        &mut self,
        copy: usize,
        name: &str,
        bytes: &[u8],
        look: &mut Look,
    ) -> Result<(), CniError> {
        let changed = self.copy(name, bytes)?;
        self.good[copy] = identity(&self.dir.join(name));
        look.changes.extend(changed);
        Ok(())
    }

    /// Makes a file a copy of the program; what was done.
    fn copy(&self, name: &str, program: &[u8]) -> Result<Option<String>, CniError> {
        let path = self.dir.join(name);
        let what = match fs::read(&path) {
            Ok(bytes) if bytes == program => match is_program(&path) {
                true => return Ok(None),
                false => "could not be executed: placed again",
            },
            Ok(_) if self.placed => "was changed by somebody: placed again",
            Ok(_) => "replaced by this version",
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.placed => {
                "was removed by somebody: placed again"
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => "placed",
            Err(error) => return Err(failed("read", &path, &error)),
        };
        put(&path, program, 0o755)?;
        Ok(Some(self.line(name, what)))
    }

    fn line(&self, name: &str, what: &str) -> String {
        let again = if self.placed && what == "made" { "was removed by somebody: made again" } else { what };
        format!("{}: {again}", self.install.folders.bin.join(name).display())
    }
}

fn read(program: &Path) -> Result<Vec<u8>, CniError> {
    fs::read(program).map_err(|error| failed("read", program, &error))
}

fn is_program(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Keeps a plugin that makes place. It stays where it is until the alias is renamed over it: the node is never without.
fn keep(dir: &Path, name: &str) -> Result<(), CniError> {
    let (path, kept) = (dir.join(name), dir.join(REPLACED).join(name));
    fs::create_dir_all(dir.join(REPLACED)).map_err(|error| failed("make", &dir.join(REPLACED), &error))?;
    // One from an earlier time: that which is in use is the one to come back.
    remove(&kept)?;
    let done = match fs::read_link(&path) {
        // One folder further down.
        Ok(target) => symlink(Path::new("..").join(target), &kept),
        Err(_) => fs::hard_link(&path, &kept),
    };
    done.map_err(|error| failed("keep", &path, &error))
}

/// Removes programs and aliases that are ours, and puts the plugins back that made place for them. What was done.
pub(super) fn remove_all(folders: &Folders) -> Result<Vec<String>, CniError> {
    let (dir, mut done) = (folders.here(&folders.bin), Vec::new());
    let mut line =
        |name: &str, what: &str| done.push(format!("{}: {what}", folders.bin.join(name).display()));
    for name in names(&dir.join(REPLACED))? {
        let (path, kept) = (dir.join(&name), dir.join(REPLACED).join(&name));
        match place(&path)? {
            // Somebody has installed it anew.
            Place::Taken => drop(remove(&kept)?),
            Place::Free | Place::Ours => {
                put_back(&kept, &path)?;
                line(&name, "the plugin that was here before is back");
            }
        }
    }
    match fs::remove_dir(dir.join(REPLACED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &dir.join(REPLACED), &error));
        }
        _ => {}
    }
    for name in names(&dir)? {
        if place(&dir.join(&name))? == Place::Ours && remove(&dir.join(&name))? {
            line(&name, "removed");
        }
    }
    for name in [tools::HIDDEN, PLUGINS, TYPE] {
        if remove(&dir.join(name))? {
            line(name, "removed");
        }
    }
    Ok(done)
}

fn put_back(kept: &Path, path: &Path) -> Result<(), CniError> {
    match fs::read_link(kept) {
        Ok(target) => {
            put_link(path, target.strip_prefix("..").unwrap_or(&target))?;
            remove(kept).map(drop)
        }
        Err(_) => fs::rename(kept, path).map_err(|error| failed("put back", path, &error)),
    }
}
