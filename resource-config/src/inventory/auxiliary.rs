//! Devices on the auxiliary bus that can be handed out on their own: scalable functions.
//!
//! Drivers also make auxiliary devices for their own parts (`mlx5_core.eth.0`, `mlx5_core.rdma.0`, `ice.roce.0`). These
//! come and go with the function that they are a part of, belong to whoever has it, and are no devices of the inventory.

use std::collections::{BTreeMap, BTreeSet};

use super::attributes::Attributes;
use super::node::Node;
use super::stack::Edges;
use super::{AuxDevice, netdev, rdma};
use crate::pci::PciAddress;

/// Where auxiliary devices are listed.
const DEVICES: &str = "bus/auxiliary/devices";

/// Whether a name is that of a scalable function: `driver.sf.number`.
pub(super) fn is_one(name: &str) -> bool {
    kind(name) == Some("sf")
}

/// The middle of three parts, the last being a number.
fn kind(name: &str) -> Option<&str> {
    let (driver, rest) = name.split_once('.')?;
    let (kind, number) = rest.split_once('.')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (!driver.is_empty() && !kind.is_empty() && is_number).then_some(kind)
}

/// The scalable functions on the auxiliary bus and those in functions' folders (`below`), with what is stacked on their
/// network devices. Those without a PCI function above them are noted and passed over.
pub(super) fn read_all(
    node: &Node<'_>,
    below: BTreeMap<String, PciAddress>,
    edges: &mut Edges,
    notes: &mut Vec<String>,
) -> Vec<AuxDevice> {
    let mut parents = below;
    let bus = node.root.open(DEVICES);
    let names = bus.as_ref().map(|bus| bus.names(is_one)).unwrap_or_else(|_| Ok(Vec::new()));
    let names = names.unwrap_or_else(|error| {
        notes.push(format!("auxiliary devices are unknown: {DEVICES}: {error}"));
        Vec::new()
    });
    let listed: BTreeSet<String> = names.into_iter().collect();
    for name in &listed {
        if parents.contains_key(name) {
            continue;
        }
        let target = bus.as_ref().ok().and_then(|bus| bus.link(name).ok()).unwrap_or_default();
        // The nearest PCI function above it.
        match target.rsplit('/').find_map(|part| part.parse().ok()) {
            Some(parent) => drop(parents.insert(name.clone(), parent)),
            None => notes.push(format!("{name} passed over: no PCI function above it is known")),
        }
    }
    parents.into_iter().map(|(name, parent)| read(node, name, parent, edges)).collect()
}

fn read(node: &Node<'_>, name: String, parent: PciAddress, edges: &mut Edges) -> AuxDevice {
    let mut device = AuxDevice {
        kind: kind(&name).unwrap_or_default().to_owned(),
        sfnum: None,
        parent,
        driver: None,
        netdevs: Vec::new(),
        rdma: Vec::new(),
        vdpa: Vec::new(),
        notes: Vec::new(),
        name,
    };
    let on_bus = node.root.open(&format!("{DEVICES}/{}", device.name));
    let opened = on_bus.or_else(|_| node.devices.open(&format!("{parent}/{}", device.name)));
    let listed = opened.and_then(|folder| {
        let names = folder.names(|name| is_wanted(node, name))?;
        Ok((folder, names))
    });
    let (folder, names) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            device.notes.push(format!("its folder: {error}"));
            return device;
        }
    };
    let mut notes = Vec::new();
    let mut attributes = Attributes::new(&folder, &names, "", &mut notes);
    device.sfnum = attributes.required("sfnum");
    device.driver = attributes.link("driver");
    device.rdma = rdma::read_all(node, &mut attributes);
    device.vdpa = node.vdpa.read_all(&node.root, &device.name, &attributes);
    device.netdevs = netdev::read_all(node, &mut attributes, true, edges);
    device.notes = notes;
    device
}

fn is_wanted(node: &Node<'_>, name: &str) -> bool {
    matches!(
        name,
        "driver" | "infiniband" | "infiniband_cm" | "infiniband_mad" | "infiniband_verbs" | "net" | "sfnum"
    ) || node.vdpa.is_one(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scalable_functions_are_devices() {
        assert!(is_one("mlx5_core.sf.4"));
        for name in
            ["mlx5_core.eth.0", "mlx5_core.sf", "mlx5_core.sf.x", ".sf.1", "a.b.sf.1", "0000:01:00.0", ""]
        {
            assert!(!is_one(name), "{name}");
        }
    }
}
