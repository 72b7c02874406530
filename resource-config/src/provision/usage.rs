//! Who uses the devices of a node: pods by kubelet's word and by attachment records, processes, and the host itself.
//!
//! Each source is read as far as it can be: a file of another layout is passed over with a note. Nothing is opened that belongs
//! to a device, since opening a VFIO group keeps its rightful user out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::inventory::{Function, Inventory, Kind};
use crate::pci::PciAddress;
use crate::pools::use_by_host;
use crate::provision::files;

use super::port::is_for_user_space;

mod on_disk;
mod processes;

/// Where to look for users of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSources {
    /// kubelet's root, with `device-plugins/kubelet_internal_checkpoint` below.
    pub kubelet_root: PathBuf,
    /// Folder of the attachment records.
    pub attachments: PathBuf,
    /// The proc file system, for open files and the boot's number.
    pub proc: PathBuf,
    /// The host's device nodes.
    pub dev: PathBuf,
}

/// Who uses which device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    users: BTreeMap<PciAddress, Vec<User>>,
    /// What could not be read, for people.
    pub notes: Vec<String>,
}

/// Somebody who uses a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// For people: `kubelet gave it to container c of pod ...`.
    pub text: String,
    /// An attachment of a pod, which set the device up in its own way and will put back what there was.
    pub is_attachment: bool,
}

impl Usage {
    /// The users of a device.
    #[must_use]
    pub fn of(&self, address: &PciAddress) -> &[User] {
        self.users.get(address).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, address: PciAddress, text: String, is_attachment: bool) {
        self.users.entry(address).or_default().push(User { text, is_attachment });
    }

    /// Reads all sources, and adds what the inventory itself tells.
    #[must_use]
    pub fn read(sources: &UsageSources, inventory: &Inventory) -> Self {
        let mut usage = Self::default();
        on_disk::checkpoint(&sources.kubelet_root, &mut usage);
        on_disk::attachments(&sources.attachments, &boot_id(&sources.proc), &mut usage);
        processes::open_nodes(&sources.proc, &sources.dev, inventory, &mut usage);
        usage.add_inventory(inventory);
        usage
    }

    /// What the inventory alone tells.
    #[must_use]
    pub fn of_inventory(inventory: &Inventory) -> Self {
        let mut usage = Self::default();
        usage.add_inventory(inventory);
        usage
    }

    fn add_inventory(&mut self, inventory: &Inventory) {
        for function in &inventory.functions {
            for text in by_inventory(inventory, function) {
                self.add(function.address, text, false);
            }
        }
    }
}

fn boot_id(proc: &Path) -> Option<String> {
    files::attribute(&proc.join("sys/kernel/random"), "boot_id")
}

/// What tells by itself that a VF is used. PFs have rules of their own.
fn by_inventory(inventory: &Inventory, function: &Function) -> Vec<String> {
    if function.as_vf().is_none() {
        return Vec::new();
    }
    let mut found = Vec::new();
    found.extend(use_by_host(inventory, &function.netdevs));
    if let Some(driver) = function.driver.as_deref()
        && function.kind == Some(Kind::Network)
        && !is_for_user_space(driver)
        && function.netdevs.is_empty()
        && function.vdpa.is_empty()
    {
        found.push(format!(
            "{driver} has it and its network device is not in the host's network namespace: it is in a pod's"
        ));
    }
    found
}

#[cfg(test)]
mod tests;
