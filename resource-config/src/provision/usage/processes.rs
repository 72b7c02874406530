//! Processes that have a device open through VFIO, UIO or vhost-vdpa.
//!
//! Best effort: the open files of processes in other PID namespaces are seen only from the host's.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Usage;
use crate::inventory::{Function, Inventory};
use crate::pci::PciAddress;
use crate::provision::files;

/// Adds every process that has a device's node open.
pub(super) fn open_nodes(proc: &Path, dev: &Path, inventory: &Inventory, usage: &mut Usage) {
    let nodes = Nodes::of(inventory, dev);
    if nodes.by_path.is_empty() {
        return;
    }
    let pids = files::names(proc).unwrap_or_default();
    for pid in pids.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        let folder = proc.join(pid);
        let Ok(files) = fs::read_dir(folder.join("fd")) else { continue };
        for file in files.flatten() {
            let Some(addresses) = nodes.find(&file.path()) else { continue };
            let program = files::attribute(&folder, "comm").unwrap_or_default();
            for address in addresses {
                usage.add(*address, format!("process {pid} ({program}) has it open"), false);
            }
        }
    }
}

/// The device nodes of the inventory, by path and by device number.
struct Nodes {
    by_path: BTreeMap<String, Vec<PciAddress>>,
    by_number: BTreeMap<u64, Vec<PciAddress>>,
}

impl Nodes {
    fn of(inventory: &Inventory, dev: &Path) -> Self {
        let mut nodes = Self { by_path: BTreeMap::new(), by_number: BTreeMap::new() };
        for function in &inventory.functions {
            for name in names(inventory, function) {
                nodes.by_path.entry(format!("/dev/{name}")).or_default().push(function.address);
                // A container has the node under another name now and then (noiommu); its number is the same.
                if let Ok(metadata) = fs::metadata(dev.join(&name))
                    && metadata.rdev() != 0
                {
                    nodes.by_number.entry(metadata.rdev()).or_default().push(function.address);
                }
            }
        }
        nodes
    }

    fn find(&self, file: &Path) -> Option<&[PciAddress]> {
        let target = fs::read_link(file).ok()?;
        if !target.parent().and_then(Path::file_name).is_some_and(is_folder_of_nodes) {
            return None;
        }
        if let Some(found) = self.by_path.get(target.to_str()?) {
            return Some(found);
        }
        // Following the link in proc asks for the open file; it does not open anything.
        Some(self.by_number.get(&fs::metadata(file).ok()?.rdev())?)
    }
}

/// `/dev`, `/dev/vfio`, `/dev/vfio/devices`.
fn is_folder_of_nodes(name: &OsStr) -> bool {
    ["dev", "vfio", "devices"].iter().any(|folder| name == *folder)
}

/// The nodes below `/dev` that give a function away when they are open.
fn names(inventory: &Inventory, function: &Function) -> Vec<String> {
    let mut names = Vec::new();
    if function.is_vfio()
        && let Some(group) = function.iommu_group.and_then(|number| inventory.iommu_groups.get(&number))
    {
        names.push(group.node_name());
    }
    names.extend(function.vfio_cdev.as_ref().map(|name| format!("vfio/devices/{name}")));
    names.extend(function.uio.clone());
    names.extend(function.vdpa.iter().filter_map(|vdpa| vdpa.char_device.clone()));
    names
}
