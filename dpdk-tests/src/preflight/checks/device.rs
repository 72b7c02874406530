//! Devices: driver, IOMMU group, nodes.

use std::collections::BTreeMap;

use crate::preflight::{Check, DeviceFacts, Facts, NodeState};

const ACCESS: &str = "run as root, or let the runtime give device nodes to the pod's user \
                      (device_ownership_from_security_context), and allow the device in the container's cgroup";

pub(super) fn device(facts: &DeviceFacts) -> Check {
    let name = &facts.address.to_string();
    let Some(function) = &facts.function else {
        return if facts.exists {
            Check::fail(name, "is not a network device", "name network devices with --device")
        } else {
            let remedy = "restart the pod: its devices have changed since it began (VFs created anew?)";
            Check::fail(name, "there is no such PCI device", remedy)
        };
    };
    if facts.is_bifurcated() {
        return bifurcated(facts);
    }
    let driver = function.driver.as_deref();
    if !function.is_vfio() {
        let found = driver
            .map_or_else(|| "has no driver".to_owned(), |driver| format!("driver {driver}, not vfio-pci"));
        let remedy = "bind it to vfio-pci on the node (driver_override, then unbind and drivers_probe), or request the \
                      resource whose devices are; its interface can be used with --interface";
        return Check::fail(name, found, remedy);
    }
    let Some(group) = &facts.group else {
        let remedy = "turn the IOMMU on (firmware, and intel_iommu=on), or vfio's enable_unsafe_noiommu_mode";
        return Check::fail(name, "has no IOMMU group", remedy);
    };
    if let Some(blocker) = group.blocker() {
        let driver = blocker.driver.as_deref().unwrap_or_default();
        let found = format!("its IOMMU group {} has {} on {driver} too", group.number, blocker.name);
        return Check::fail(name, found, "bind every device of the group to vfio-pci, or to nothing");
    }
    let node = facts.node.display();
    match &facts.node_state {
        NodeState::Opens { viable: true } => {
            let (driver, number) = (driver.unwrap_or_default(), group.number);
            let mode = if group.noiommu { ", without an IOMMU" } else { "" };
            Check::ok(name, format!("driver {driver}, IOMMU group {number} is viable{mode}, {node} opens"))
        }
        NodeState::Opens { viable: false } => Check::fail(
            name,
            format!("the kernel says that IOMMU group {} is not viable", group.number),
            "bind every device of the group to vfio-pci, or to nothing",
        ),
        NodeState::Missing => Check::fail(
            name,
            format!("{node} is missing here"),
            "give the container the device: request it as a resource of the device plugin (privileged is not needed)",
        ),
        NodeState::InUse => Check::fail(
            name,
            format!("{node} is in use by another program"),
            "stop the other DPDK program, in this pod or a left-over one on the node",
        ),
        NodeState::Bad(why) => Check::fail(name, why.clone(), ACCESS),
    }
}

/// One that stays on its kernel driver: its netdev has to be in the pod, and an uverbs node.
fn bifurcated(facts: &DeviceFacts) -> Check {
    let name = facts.address.to_string();
    let driver = facts.driver().unwrap_or_default();
    let netdev = facts.function.iter().flat_map(|function| &function.netdevs).next();
    let Some(netdev) = netdev else {
        return Check::fail(
            name,
            format!("stays on {driver}, and its network device is not in this network namespace"),
            "attach a network of the device's resource to the pod (annotation k8s.v1.cni.cncf.io/networks)",
        );
    };
    match &facts.node_state {
        NodeState::Opens { .. } => Check::ok(
            name,
            format!("stays on {driver}, has {} here, {} opens", netdev.name, facts.node.display()),
        ),
        NodeState::Missing | NodeState::InUse => Check::fail(
            name,
            format!("stays on {driver}, and has no uverbs node in /dev/infiniband here"),
            "let its pool have \"isRdma\": true, with which the device plugin gives the node",
        ),
        NodeState::Bad(why) => Check::fail(name, why.clone(), ACCESS),
    }
}

/// A group can be opened once, and each port has its own testpmd.
pub(super) fn shared_groups(devices: &[DeviceFacts]) -> Vec<Check> {
    let mut groups: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for device in devices.iter().filter(|device| !device.is_bifurcated()) {
        if let Some(group) = &device.group {
            groups.entry(group.number).or_default().push(device.address.to_string());
        }
    }
    let shared = groups.into_iter().filter(|(_, members)| members.len() > 1);
    shared
        .map(|(number, members)| {
            let found =
                format!("{} share IOMMU group {number}, which opens only once", members.join(" and "));
            Check::fail("IOMMU groups", found, "take VFs of ports with ACS, which have groups of their own")
        })
        .collect()
}

pub(super) fn container_node(facts: &Facts) -> Option<Check> {
    if facts.devices.iter().all(DeviceFacts::is_bifurcated) {
        return None;
    }
    let node = facts.vfio.display().to_string();
    Some(match &facts.vfio_state {
        NodeState::Opens { .. } => Check::ok(node, "opens, and speaks the version of VFIO that DPDK does"),
        NodeState::Missing => Check::fail(
            node,
            "is missing here",
            "give the container the device; the device plugin does with any vfio device",
        ),
        NodeState::InUse => Check::fail(node, "is in use", "see which program has it open"),
        NodeState::Bad(why) => Check::fail(node, why.clone(), ACCESS),
    })
}

/// Devices that the pod has by its resources but of which network-status has no attachment: nobody set their VLAN and address.
pub(super) fn attached(facts: &Facts) -> Vec<Check> {
    if facts.attachments.is_empty() {
        return Vec::new();
    }
    let attachment = |device: &&DeviceFacts| {
        facts.attachments.iter().find(|attachment| attachment.pci_address == Some(device.address))
    };
    facts
        .devices
        .iter()
        .map(|device| {
            let what = format!("network of {}", device.address);
            match attachment(&device) {
                Some(attachment) => {
                    Check::ok(what, format!("{} as {}", attachment.network, attachment.interface))
                }
                None => Check::warn(
                    what,
                    "network-status has no attachment with this device: nobody has set its VLAN and address",
                    "name a network of its resource in the annotation k8s.v1.cni.cncf.io/networks, once for each device",
                ),
            }
        })
        .collect()
}
