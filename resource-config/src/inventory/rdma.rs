//! RDMA devices.

use std::collections::BTreeMap;

use super::RdmaDevice;
use super::attributes::Attributes;
use super::node::Node;
use crate::tree::Folder;

/// Classes of character devices that tell in `ibdev` to which RDMA device they belong.
const CLASSES: [&str; 3] = ["infiniband_verbs", "infiniband_mad", "infiniband_cm"];

/// The character device that all RDMA devices share.
const SHARED: &str = "infiniband/rdma_cm";

/// Character devices below `/dev`, by the name of their RDMA device.
pub(super) struct CharDevices {
    by_device: BTreeMap<String, Vec<String>>,
    has_shared: bool,
}

impl CharDevices {
    pub(super) fn read(root: &Folder) -> Self {
        let mut by_device: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for class in CLASSES {
            let Ok(folder) = root.open(&format!("class/{class}")) else { continue };
            for name in folder.names(|_| true).unwrap_or_default() {
                // `abi_version` is no device; its `ibdev` cannot be read.
                if let Ok(device) = folder.text(&format!("{name}/ibdev")) {
                    by_device.entry(device).or_default().push(format!("infiniband/{name}"));
                }
            }
        }
        // Where the class is not shown at all, that the device is missing from it says nothing.
        let misc = root.open("class/misc").and_then(|folder| folder.names(|name| name == "rdma_cm"));
        Self { by_device, has_shared: misc.map_or(true, |names| !names.is_empty()) }
    }

    fn of(&self, device: &str) -> Option<&Vec<String>> {
        self.by_device.get(device)
    }
}

/// The RDMA devices in a device's folder.
pub(super) fn read_all(node: &Node<'_>, attributes: &mut Attributes<'_>) -> Vec<RdmaDevice> {
    let names = attributes.names_in("infiniband", |_| true);
    let alone = names.len() == 1;
    names.into_iter().map(|name| read(node, attributes, name, alone)).collect()
}

fn read(node: &Node<'_>, attributes: &mut Attributes<'_>, name: String, alone: bool) -> RdmaDevice {
    let pkey = attributes.folder.text(&format!("infiniband/{name}/ports/1/pkeys/0")).ok();
    let mut char_devices = node.rdma().of(&name).cloned().unwrap_or_default();
    if char_devices.is_empty() && alone {
        char_devices = own_char_devices(attributes);
    }
    if node.rdma().has_shared && !char_devices.is_empty() {
        char_devices.push(SHARED.to_owned());
    }
    char_devices.sort();
    RdmaDevice { name, pkey: pkey.filter(|pkey| !pkey.is_empty()), char_devices }
}

/// The device's folder has its character devices by class, too, but not which RDMA device each belongs to.
fn own_char_devices(attributes: &mut Attributes<'_>) -> Vec<String> {
    let of_class = |class| attributes.names_in(class, |_| true);
    CLASSES.into_iter().flat_map(of_class).map(|name| format!("infiniband/{name}")).collect()
}
