//! Records: what was done for an attachment, written before it is done, so that it can be undone from the record alone.
//!
//! One file for each attachment, `<container ID>-<interface>.json` (with `@<plugin>` before the ending for one that a plugin
//! made by itself), replaced by write-and-rename. The record is synced to
//! disk before an executed plugin gets to hold state for the attachment; what in-process IPAM plugins may come to hold is noted for
//! all attachments of an ADD at once ([`Intents`]), and what the kernel alone holds is void after a crash of the node anyway.

mod devices;
mod intents;
mod sandboxes;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use fairlead_kernel::NetnsId;
use serde::{Deserialize, Serialize};

use crate::{
    agent_protocol::PodRef,
    config::Fields,
    disk::{failed, names, remove},
    drivers::Work,
    protocol::{
        error::{CniError, code},
        result::CniResult,
    },
    say::say,
};

pub use intents::{Holding, Intents};

/// Version of the record's layout. This one and the previous are read.
pub const SCHEMA: u32 = 2;

/// Name of the subfolder of the state folder.
const FOLDER: &str = "attachments";

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// An ADD is, or was, at work on it.
    Adding,
    /// It is complete.
    Attached,
    /// A DEL, or the rollback of an ADD, is at work on it, or was and failed.
    Removing,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Adding => "adding",
            Self::Attached => "attached",
            Self::Removing => "removing",
        })
    }
}

/// An attachment: one network for one interface of one sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Layout of this file.
    pub schema: u32,
    /// Boot in which the kernel's part was made.
    pub boot_id: String,
    /// Name of the network that the runtime called us for.
    pub runtime_network: String,
    /// Sandbox.
    pub container_id: String,
    /// Interface inside the sandbox.
    pub interface: String,
    /// Network as users know it: `namespace/name` of its definition, or the name in the primary's configuration.
    pub network: String,
    /// Place in the order of ADD; the primary is 0.
    pub order: usize,
    /// The pod.
    pub pod: PodRef,
    /// Path of the network namespace at ADD.
    pub netns_path: PathBuf,
    /// The namespace itself: a path may be used again.
    pub netns: NetnsId,
    /// `CNI_ARGS` of the plugins.
    pub args: String,
    /// `CNI_PATH` of the plugins.
    pub path: String,
    /// Version that the plugins run with.
    pub cni_version: String,
    /// The plugin that made it by itself, under its upstream name; none for what the meta plugin made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<String>,
    /// How far it is.
    pub phase: Phase,
    /// What was done, in order. Steps that were undone are gone from here.
    pub steps: Vec<Step>,
    /// Result of the last step that ended well.
    pub result: Option<CniResult>,
    /// Device-information file that was made for it, or that its plugins may have made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_info: Option<PathBuf>,
}

/// One plugin's work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The plugin's type.
    pub kind: String,
    /// Its configuration as it ran, without `prevResult`.
    pub config: Fields,
    /// Who did it, and what was there before.
    pub work: Work,
    /// Who holds addresses for it, if anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<IpamHolder>,
}

/// Who holds addresses for a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IpamHolder {
    /// The plugin with this file was executed (all that layout 1 knew).
    Executed(PathBuf),
    /// A plugin in process.
    BuiltIn {
        /// Which one.
        #[serde(rename = "builtIn")]
        kind: crate::ipam::Kind,
    },
}

/// Which record: there is one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Sandbox.
    pub container_id: String,
    /// Interface inside the sandbox.
    pub interface: String,
    /// The plugin that made it by itself.
    pub alone: Option<String>,
}

impl Record {
    /// Which record it is.
    pub fn key(&self) -> Key {
        Key {
            container_id: self.container_id.clone(),
            interface: self.interface.clone(),
            alone: self.alone.clone(),
        }
    }

    /// Devices that the attachment holds.
    pub fn devices(&self) -> impl Iterator<Item = String> {
        self.steps.iter().filter_map(|step| step.work.device())
    }
}

/// The folder of records, and what leads to them.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    devices: PathBuf,
    sandboxes: PathBuf,
    intents: PathBuf,
}

impl Store {
    /// The records under a state folder. Nothing is made until the first record is written.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join(FOLDER),
            devices: state_dir.join("devices"),
            sandboxes: state_dir.join("sandboxes"),
            intents: state_dir.join("intents"),
        }
    }

    fn file(&self, key: &Key) -> PathBuf {
        let alone = key.alone.as_ref().map(|kind| format!("@{kind}")).unwrap_or_default();
        self.dir.join(format!("{}-{}{alone}.json", key.container_id, key.interface))
    }

    /// Writes a record in place of its older self. With `durable` it is on disk when this returns.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn save(&self, record: &Record, durable: bool) -> Result<(), CniError> {
        let file = self.file(&record.key());
        self.note_sandbox(record)?;
        serde_json::to_vec(record)
            .map_err(io::Error::from)
            .and_then(|bytes| write_file(&file, &bytes, durable))
            .map_err(|error| failed("write", &file, &error))
    }

    /// Removes a record: what it describes is undone.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn remove(&self, record: &Record) -> Result<(), CniError> {
        remove(&self.file(&record.key()))
    }

    /// The record as it is on disk now, if it still is.
    ///
    /// # Errors
    /// Code 5 when it cannot be read.
    pub fn again(&self, record: &Record) -> Result<Option<Record>, CniError> {
        self.get(&record.key())
    }

    /// A record, if there is one.
    ///
    /// # Errors
    /// Code 5 when it cannot be read, 6 when it is broken.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, CniError> {
        let file = self.file(key);
        if file.exists() { read(&file).map(Some) } else { Ok(None) }
    }

    /// Every readable record of the node, in no particular order.
    ///
    /// # Errors
    /// Code 5 when the folder cannot be read. A file that is no record is passed over: see [`Store::of_sandbox`].
    pub fn all(&self) -> Result<Vec<Record>, CniError> {
        Ok(self.files("", ".json")?.iter().filter_map(|file| read(file).ok()).collect())
    }

    /// Files that were no records and were set aside.
    ///
    /// # Errors
    /// Code 5 when the folder cannot be read.
    pub fn broken(&self) -> Result<Vec<PathBuf>, CniError> {
        self.files("", ".broken")
    }

    /// Why files that are in the place of records are none.
    ///
    /// # Errors
    /// Code 5 when the folder cannot be read.
    pub fn unreadable(&self) -> Result<Vec<CniError>, CniError> {
        Ok(self.files("", ".json")?.iter().filter_map(|file| read(file).err()).collect())
    }

    fn has(&self, key: &Key) -> bool {
        self.file(key).exists()
    }

    /// As [`Store::get`], for who has locked the attachment: what a killed call left of a record is removed, and a file that is
    /// no record is set aside, and said.
    ///
    /// # Errors
    /// Code 5 when it cannot be read.
    pub fn take(&self, key: &Key) -> Result<Option<Record>, CniError> {
        remove(&temporary(&self.file(key)))?;
        match self.get(key) {
            Err(error) if error.code == code::DECODING => set_aside(&self.file(key), &error).map(|()| None),
            other => other,
        }
    }

    /// The records of what the meta plugin made in a sandbox, in the order of ADD; see [`Store::all_of_sandbox`].
    ///
    /// # Errors
    /// As there.
    pub fn of_sandbox(&self, container_id: &str) -> Result<Vec<Record>, CniError> {
        let mut records = self.all_of_sandbox(container_id)?;
        records.retain(|record| record.alone.is_none());
        Ok(records)
    }

    /// All records of a sandbox in the order of ADD. A file of it that is no record is set aside under the name
    /// `<file>.broken`, and said on standard error: it must not keep a pod from being deleted.
    ///
    /// # Errors
    /// Code 5 when the folder or a file cannot be read.
    pub fn all_of_sandbox(&self, container_id: &str) -> Result<Vec<Record>, CniError> {
        // What a call left that was killed while writing; the sandbox is locked, so nobody is writing now.
        for file in self.files(&format!(".{container_id}-"), ".tmp")? {
            fs::remove_file(&file).map_err(|error| failed("remove", &file, &error))?;
        }
        let mut records = Vec::new();
        for file in self.files(&format!("{container_id}-"), ".json")? {
            match read(&file) {
                Ok(record) if record.container_id == container_id => records.push(record),
                Ok(_) => {}
                Err(error) if error.code == code::DECODING => set_aside(&file, &error)?,
                Err(error) => return Err(error),
            }
        }
        records.sort_by_key(|record| record.order);
        Ok(records)
    }

    /// Paths of the files whose name starts and ends so.
    fn files(&self, start: &str, end: &str) -> Result<Vec<PathBuf>, CniError> {
        let mut names = names(&self.dir)?;
        names.retain(|name| name.starts_with(start) && name.ends_with(end));
        Ok(names.into_iter().map(|name| self.dir.join(name)).collect())
    }
}

/// Where a file is written before it is put in its place.
fn temporary(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{}.tmp", name.trim_end_matches(".json")))
}

/// Puts a file in place of its older self. With `durable` it is on disk when this returns.
fn write_file(file: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let temporary = temporary(file);
    let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    out.write_all(bytes)?;
    if durable {
        out.sync_data()?;
    }
    fs::rename(&temporary, file)?;
    if durable {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<Record, CniError> {
    let bytes = fs::read(file).map_err(|error| failed("read", file, &error))?;
    let broken = |text: String| CniError::new(code::DECODING, format!("record {}: {text}", file.display()));
    let layout: Layout = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if layout.schema > SCHEMA {
        // Written by a newer build: it is good, only not ours to read.
        let text = format!(
            "record {} has layout {}, this build reads {SCHEMA}: upgrade it",
            file.display(),
            layout.schema
        );
        return Err(CniError::new(code::OTHER, text));
    }
    serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))
}

/// What is read of a record before the rest, which a newer layout may have changed.
#[derive(Deserialize)]
struct Layout {
    schema: u32,
}

fn set_aside(file: &Path, error: &CniError) -> Result<(), CniError> {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".broken");
    say(format_args!("{error}; kept as {}", Path::new(&aside).display()));
    fs::rename(file, &aside).map_err(|error| failed("rename", file, &error))
}

/// A record for tests, of boot `b`.
#[cfg(test)]
pub(crate) fn sample(container: &str, interface: &str, order: usize) -> Record {
    Record {
        schema: SCHEMA,
        boot_id: "b".into(),
        runtime_network: "fairlead".into(),
        container_id: container.into(),
        interface: interface.into(),
        network: "default/a".into(),
        order,
        pod: PodRef { namespace: "default".into(), name: "p".into(), uid: "u".into() },
        netns_path: "/run/netns/a".into(),
        netns: NetnsId { dev: 4, inode: 5, cookie: Some(6) },
        args: "A=b".into(),
        path: "/opt/cni/bin".into(),
        cni_version: "1.0.0".into(),
        alone: None,
        phase: Phase::Adding,
        steps: vec![Step {
            kind: "bridge".into(),
            config: Fields(serde_json::from_str(r#"{"Odd":[1],"type":"bridge"}"#).unwrap()),
            work: Work::Executed { binary: "/opt/cni/bin/bridge".into() },
            ipam: None,
        }],
        result: Some(CniResult::default()),
        device_info: None,
    }
}

#[cfg(test)]
mod tests;
