//! Which sandboxes may be dead, without reading every record.
//!
//! `<state>/sandboxes/<container ID>` is a symbolic link that leads nowhere; its text says where the sandbox's network
//! namespace was, and which one it was. It is made before the sandbox's first record and goes after the last. Once in every
//! boot, and so after an older build has worked here, these notes and those of devices are made up for from the records.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use fairlead_kernel::NetnsId;

use super::{Record, SCHEMA, Store, write_file};
use crate::{
    disk::{failed, names, remove},
    protocol::error::CniError,
};

/// The file that tells in which boot every record was noted; it is there only while there are records. No container ID starts
/// with a dot.
const COMPLETE: &str = ".complete";

impl Store {
    /// Notes the sandbox of a record, before the record is written.
    pub(super) fn note_sandbox(&self, record: &Record) -> Result<(), CniError> {
        self.note(&record.container_id, &text(&record.boot_id, record.netns, &record.netns_path))
    }

    /// Notes a sandbox.
    pub(super) fn note(&self, container_id: &str, text: &str) -> Result<(), CniError> {
        let file = self.sandboxes.join(container_id);
        let text = PathBuf::from(text);
        let place = || {
            loop {
                if fs::read_link(&file).ok().as_ref() == Some(&text) {
                    return Ok(());
                }
                fs::create_dir_all(&self.sandboxes)?;
                match fs::remove_file(&file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                match symlink(&text, &file) {
                    // Another call makes up for notes right now.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    other => return other,
                }
            }
        };
        place().map_err(|error| failed("make", &file, &error))
    }

    /// Forgets a sandbox, if it has no records any more.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn forget_sandbox(&self, container_id: &str) -> Result<(), CniError> {
        if !self.files(&format!("{container_id}-"), ".json")?.is_empty() {
            return Ok(());
        }
        remove(&self.sandboxes.join(container_id))?;
        let Ok(entries) = fs::read_dir(&self.sandboxes) else { return Ok(()) };
        let left: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        // Besides [`COMPLETE`] there is what a call left that was killed while it wrote that. Should another sandbox come right
        // now, everything is only noted once more.
        if left.iter().all(|name| name.as_encoded_bytes().starts_with(b".")) {
            left.iter().try_for_each(|name| remove(&self.sandboxes.join(name)))?;
        }
        Ok(())
    }

    /// Container IDs of the sandboxes whose namespace is not where it was. Their records tell for certain.
    ///
    /// # Errors
    /// Code 5 when the folder cannot be read.
    pub fn perhaps_dead(&self, boot_id: &str) -> Result<BTreeSet<String>, CniError> {
        self.complete(boot_id)?;
        let is_dead = |name: &String| {
            let text = fs::read_link(self.sandboxes.join(name));
            text.is_ok_and(|text| !is_there(&text.to_string_lossy(), boot_id))
        };
        Ok(names(&self.sandboxes)?.into_iter().filter(is_dead).collect())
    }

    /// Container IDs of noted sandboxes that have no record: a call was killed before it wrote one. And of those that only something
    /// was intended for: a build that knows of no intents has deleted them.
    ///
    /// # Errors
    /// Code 5 when a folder cannot be read.
    pub fn noted_in_vain(&self) -> Result<Vec<String>, CniError> {
        let noted = fs::read_dir(&self.sandboxes).into_iter().flatten().flatten();
        let mut names: BTreeSet<String> =
            noted.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.extend(self.intended()?);
        let mut vain = Vec::new();
        for name in names {
            if name != COMPLETE && self.files(&format!("{name}-"), ".json")?.is_empty() {
                vain.push(name);
            }
        }
        Ok(vain)
    }

    /// Makes up for notes that are missing.
    pub(super) fn complete(&self, boot_id: &str) -> Result<(), CniError> {
        let file = self.sandboxes.join(COMPLETE);
        let text = format!("{boot_id} {SCHEMA}\n");
        if fs::read_to_string(&file).ok().as_ref() == Some(&text) {
            return Ok(());
        }
        let records = self.all()?;
        for record in &records {
            self.note_sandbox(record)?;
            let devices: Vec<String> = record.devices().collect();
            for device in &devices {
                self.note_device(device, record).map_err(|error| failed("make", &self.devices, &error))?;
            }
            // A DEL may have ended since the record was read.
            if !self.has(&record.key()) {
                self.release_devices(&devices, &record.key())?;
                self.forget_sandbox(&record.container_id)?;
            }
        }
        let mut intended = self.intended()?;
        intended.retain(|id| fs::symlink_metadata(self.sandboxes.join(id)).is_err());
        for id in &intended {
            // Of another boot, or it were noted still.
            self.note(id, LOST)?;
        }
        if records.is_empty() && intended.is_empty() {
            return Ok(());
        }
        match write_file(&file, text.as_bytes(), false) {
            // Another call has put the same text in its place, or has just removed all of it with the last sandbox: then
            // everything is noted once more.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("write", &file, &error)),
            _ => Ok(()),
        }
    }
}

/// What is noted of a sandbox whose note and records a crash of the node took: it is of no boot that could be this one.
const LOST: &str = "-";

/// What is noted of a sandbox.
pub(super) fn text(boot_id: &str, netns: NetnsId, path: &Path) -> String {
    format!("{boot_id} {} {} {}", netns.dev, netns.inode, path.display())
}

/// Whether the noted namespace is still at its path, as far as a look at the path tells. What cannot be looked at may be.
fn is_there(note: &str, boot_id: &str) -> bool {
    let mut parts = note.splitn(4, ' ');
    let (boot, dev, inode, path) = (parts.next(), parts.next(), parts.next(), parts.next());
    let Some(path) = path.filter(|_| boot == Some(boot_id)) else { return false };
    match fs::metadata(Path::new(path)) {
        Ok(file) => {
            dev == Some(file.dev().to_string().as_str()) && inode == Some(file.ino().to_string().as_str())
        }
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
