//! What in-process IPAM plugins may come to hold for a sandbox, on disk before they hold any of it.
//!
//! A record need not be on disk before the kernel makes something, whose work is void after a crash of the node, but addresses
//! outlive that. So that not every attachment of a pod waits for the disk, they are noted all at once, in
//! `<state>/intents/<container ID>`, and read only when the node was booted since: before that the records tell.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
};

use fairlead_kernel::NetnsId;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::{
    config::Fields,
    disk::{failed, names, remove},
    ipam::Kind,
    protocol::error::CniError,
};

/// What one ADD is about to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intents {
    /// The boot of that ADD.
    pub boot_id: String,
    /// In no particular order.
    pub holdings: Vec<Holding>,
}

/// What an IPAM plugin is about to give an interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holding {
    /// Interface inside the sandbox.
    pub interface: String,
    /// The plugin.
    pub kind: Kind,
    /// Its step's configuration.
    pub config: Fields,
}

impl Store {
    /// Notes the sandbox and what is about to be held for it; both are on disk when this returns.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn intend(
        &self,
        container_id: &str,
        netns: (NetnsId, &std::path::Path),
        intents: &Intents,
    ) -> Result<(), CniError> {
        self.note(container_id, &super::sandboxes::text(&intents.boot_id, netns.0, netns.1))?;
        let file = self.intents.join(container_id);
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.intents)?;
            // One that is torn by a crash was not on disk yet, so nobody held anything: nothing is written beside it.
            let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&file)?;
            out.write_all(&serde_json::to_vec(intents)?)?;
            out.sync_data()?;
            File::open(&self.intents)?.sync_all()
        };
        write().map_err(|error: io::Error| failed("write", &file, &error))
    }

    /// What was intended for a sandbox; nothing where that never came to be on disk.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn intents(&self, container_id: &str) -> Result<Option<Intents>, CniError> {
        let file = self.intents.join(container_id);
        match fs::read(&file) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &file, &error)),
        }
    }

    /// Forgets what was intended: nobody holds any of it.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn forget_intents(&self, container_id: &str) -> Result<(), CniError> {
        remove(&self.intents.join(container_id))
    }

    /// Container IDs of all sandboxes that something was intended for.
    pub(super) fn intended(&self) -> Result<Vec<String>, CniError> {
        names(&self.intents)
    }
}
