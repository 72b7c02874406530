//! Who has a device, without reading every record.
//!
//! `<state>/devices/<device>` is a symbolic link that leads nowhere; its text names the attachment that claimed the device.
//! It is made under the device's lock, before that attachment's record tells of the device, and goes when the device is free
//! again. A call that is killed in between leaves a note of a record that does not hold the device: then nobody does, since
//! whoever claims a device has undone its former owner. It is not synced to disk: what it may miss after a crash of the node
//! is of a former boot, whose sandboxes are swept as dead.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Key, Record, Store};
use crate::{
    disk::{failed, names},
    protocol::error::{CniError, code},
};

impl Store {
    fn device_note(&self, device: &str) -> PathBuf {
        self.devices.join(device)
    }

    /// Notes that an attachment is about to have a device. The caller holds the device's lock and has made sure that nobody
    /// else has it.
    ///
    /// # Errors
    /// Code 5, naming the note.
    pub fn claim_device(&self, device: &str, record: &Record) -> Result<(), CniError> {
        let file = self.device_note(device);
        let place = || {
            remove(&file)?;
            self.note_device(device, record)
        };
        place().map_err(|error| failed("make", &file, &error))
    }

    /// As [`Store::claim_device`], unless there is a note.
    pub(super) fn note_device(&self, device: &str, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.devices)?;
        match symlink(text_of(&record.key()), self.device_note(device)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Removes the notes of an attachment's devices, which are free again. The caller holds their locks.
    ///
    /// # Errors
    /// Code 5, naming the note.
    pub fn release_devices(&self, devices: &[String], key: &Key) -> Result<(), CniError> {
        for file in devices.iter().map(|device| self.device_note(device)) {
            if owner(&file).as_ref() == Some(key) {
                remove(&file).map_err(|error| failed("remove", &file, &error))?;
            }
        }
        Ok(())
    }

    /// The record of the attachment that has a device.
    ///
    /// # Errors
    /// Code 5 when a record cannot be read.
    pub fn owner_of_device(&self, device: &str, boot_id: &str) -> Result<Option<Record>, CniError> {
        self.complete(boot_id)?;
        let Some(key) = owner(&self.device_note(device)) else { return Ok(None) };
        match self.get(&key) {
            Ok(record) => Ok(record.filter(|record| record.devices().any(|held| held == device))),
            // Set aside by the DEL of its sandbox; it tells nothing.
            Err(error) if error.code == code::DECODING => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The devices that are noted as an attachment's that has no record: a call was killed before it wrote one.
    ///
    /// # Errors
    /// Code 5 when the folder cannot be read.
    pub fn claimed_in_vain(&self) -> Result<Vec<(String, Key)>, CniError> {
        let mut vain = Vec::new();
        for device in names(&self.devices)? {
            if let Some(key) = owner(&self.devices.join(&device)).filter(|key| !self.has(key)) {
                vain.push((device, key));
            }
        }
        Ok(vain)
    }
}

/// None of the three parts holds a blank.
fn text_of(key: &Key) -> String {
    format!("{} {} {}", key.container_id, key.interface, key.alone.as_deref().unwrap_or("-"))
}

fn owner(note: &Path) -> Option<Key> {
    let text = fs::read_link(note).ok()?;
    let mut parts = text.to_str()?.split(' ').map(str::to_owned);
    let (container_id, interface, alone) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Key { container_id, interface, alone: Some(alone).filter(|kind| kind != "-") })
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
