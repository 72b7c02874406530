//! Locks: one for each PF that is being provisioned. What is half made must not be offered as new.
//!
//! A lock is an advisory lock on an open file. The file goes when provisioning ends, well or not; one that nobody has locked was
//! left by a call that was killed, and its PF is half made until the next call or the next boot (the folder is below `/run`).

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

use serde::{Deserialize, Serialize};

use super::error::ProvisionError;
use crate::pci::PciAddress;
use crate::provision::files;

/// What is in a lock's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Journal {
    /// For people: who provisions.
    holder: String,
    /// What `sriov_drivers_autoprobe` was before it was changed.
    autoprobe: Option<bool>,
}

/// A PF that nobody else provisions while this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    pf: PciAddress,
}

impl Lock {
    /// Locks a PF. What a killed call left in the journal stays until [`Lock::note_autoprobe`].
    pub(super) fn take(run_dir: &Path, pf: PciAddress) -> Result<Self, ProvisionError> {
        let path = path(run_dir, pf);
        let failed = |source| ProvisionError::Lock { pf, path: path.clone(), source };
        fs::create_dir_all(run_dir).map_err(failed)?;
        loop {
            let mut file = open(&path, true).map_err(failed)?;
            match file.try_lock() {
                Ok(()) if !is_at(&file, &path) => continue,
                Ok(()) => {
                    let autoprobe = read(&mut file).autoprobe;
                    let mut lock = Self { file, path: path.clone(), pf };
                    lock.write(autoprobe).map_err(failed)?;
                    return Ok(lock);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(ProvisionError::Locked { pf, holder: read(&mut file).holder, path });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// Keeps what automatic probing was, for the call after one that is killed.
    pub(super) fn note_autoprobe(&mut self, on: Option<bool>) -> Result<(), ProvisionError> {
        let written = self.write(on);
        written.map_err(|source| ProvisionError::Lock { pf: self.pf, path: self.path.clone(), source })
    }

    fn write(&mut self, autoprobe: Option<bool>) -> io::Result<()> {
        let journal = Journal { holder: format!("process {}", process::id()), autoprobe };
        let text = serde_json::to_vec(&journal)?;
        self.file.rewind()?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len().try_into().unwrap_or(u64::MAX))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still held: whoever opened it in between notices that it is not at its path any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// What automatic probing was before a killed call changed it.
pub(super) fn autoprobe_before(run_dir: &Path, pf: PciAddress) -> Option<bool> {
    read(&mut open(&path(run_dir, pf), false).ok()?).autoprobe
}

/// The PFs that are being provisioned now, or were when a call was killed: what they have that is new is not to be offered.
#[must_use]
pub fn in_progress(run_dir: &Path) -> BTreeSet<PciAddress> {
    let names = files::names(run_dir).unwrap_or_default();
    names.iter().filter_map(|name| name.strip_suffix(".lock")?.parse().ok()).collect()
}

fn path(run_dir: &Path, pf: PciAddress) -> PathBuf {
    run_dir.join(format!("{pf}.lock"))
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    File::options().read(true).write(true).create(create).truncate(false).open(path)
}

/// The journal; a torn one says nothing.
fn read(file: &mut File) -> Journal {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let journal = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    journal.unwrap_or_else(|| Journal { holder: "another process".to_owned(), autoprobe: None })
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pf() -> PciAddress {
        "0000:01:00.0".parse().unwrap()
    }

    #[test]
    fn a_second_caller_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        assert!(in_progress(&run).is_empty());
        let lock = Lock::take(&run, pf()).unwrap();
        assert_eq!(in_progress(&run), BTreeSet::from([pf()]));
        let error = Lock::take(&run, pf()).unwrap_err().to_string();
        let holder = format!("PF 0000:01:00.0 is being provisioned by process {}", process::id());
        assert!(error.starts_with(&holder), "{error}");
        drop(lock);
        assert!(in_progress(&run).is_empty());
        drop(Lock::take(&run, pf()).unwrap());
    }

    #[test]
    fn what_a_killed_call_left_counts_as_in_progress_and_hands_its_journal_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = Lock::take(dir.path(), pf()).unwrap();
        lock.note_autoprobe(Some(true)).unwrap();
        // As when the process dies: unlocked, but there.
        lock.file.unlock().unwrap();
        std::mem::forget(lock);
        assert_eq!(in_progress(dir.path()), BTreeSet::from([pf()]));
        assert_eq!(autoprobe_before(dir.path(), pf()), Some(true));
        let lock = Lock::take(dir.path(), pf()).unwrap();
        assert_eq!(autoprobe_before(dir.path(), pf()), Some(true));
        drop(lock);
        assert_eq!(autoprobe_before(dir.path(), pf()), None);
    }

    #[test]
    fn a_torn_journal_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0000:01:00.0.lock"), "{\"hol").unwrap();
        assert_eq!(autoprobe_before(dir.path(), pf()), None);
        drop(Lock::take(dir.path(), pf()).unwrap());
    }
}
