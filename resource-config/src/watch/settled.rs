//! What a look at the node is compared by.

use std::collections::BTreeSet;

use crate::PciAddress;
use crate::inventory::{Function, Inventory, Role};

/// Devices that the kernel seems to be making or removing: a PF and its VFs that do not agree on each other, and functions
/// without the attributes that every function has.
pub(super) fn half_made(inventory: &Inventory) -> BTreeSet<PciAddress> {
    let is_half_made = |function: &&Function| {
        let lacks = function.vendor.is_none() || function.device.is_none() || function.kind.is_none();
        lacks
            || match &function.role {
                Role::Pf(pf) => {
                    let has = u32::try_from(pf.vfs.len()).unwrap_or(u32::MAX);
                    let is_there = |vf: &PciAddress| inventory.function(vf).is_some();
                    pf.num_vfs.is_some_and(|told| told != has) || !pf.vfs.values().all(is_there)
                }
                Role::Vf(vf) => vf.index.is_none(),
                Role::Plain => false,
            }
    };
    inventory.functions.iter().filter(is_half_made).map(|function| function.address).collect()
}

/// Whether two inventories are different in what is said of devices. Addresses and default routes on links that have nothing
/// to do with a device come and go with pods.
pub(super) fn differs(before: &Inventory, now: &Inventory) -> bool {
    let Inventory {
        functions,
        iommu_groups,
        aux_devices,
        default_route_netdevs: _,
        addressed_netdevs: _,
        notes,
    } = before;
    functions != &now.functions
        || iommu_groups != &now.iommu_groups
        || aux_devices != &now.aux_devices
        || notes != &now.notes
        || host_traffic(before) != host_traffic(now)
}

/// The network devices of devices, and those stacked on them, that carry addresses or default routes of the host.
pub(super) fn host_traffic(inventory: &Inventory) -> BTreeSet<String> {
    let of_functions = inventory.functions.iter().flat_map(|function| &function.netdevs);
    let netdevs = of_functions.chain(inventory.aux_devices.iter().flat_map(|device| &device.netdevs));
    let names: BTreeSet<&String> =
        netdevs.flat_map(|netdev| netdev.uppers.iter().chain([&netdev.name])).collect();
    let mut traffic = BTreeSet::new();
    for name in names {
        if inventory.default_route_netdevs.contains(name) {
            traffic.insert(format!("default route over {name}"));
        }
        for address in inventory.addressed_netdevs.get(name).into_iter().flatten() {
            traffic.insert(format!("{address} on {name}"));
        }
    }
    traffic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Scanner;
    use crate::test_support::SysfsTree;

    fn scanned(tree: &SysfsTree) -> Inventory {
        Scanner::sysfs(tree.root().path()).scan().unwrap()
    }

    fn half_made_in(tree: &SysfsTree) -> Vec<String> {
        half_made(&scanned(tree)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_at_rest_has_nothing_half_made() {
        assert_eq!(half_made_in(&SysfsTree::igb(7)), [""; 0]);
    }

    #[test]
    fn pfs_and_vfs_that_do_not_agree_are_half_made() {
        let tree = SysfsTree::igb(2);
        tree.set("0000:01:00.0", "sriov_numvfs", "3");
        assert_eq!(half_made_in(&tree), ["0000:01:00.0"]);
        // What is seen in the middle of making VFs: they are there, and the number is not yet.
        tree.set("0000:01:00.0", "sriov_numvfs", "0");
        assert!(!half_made_in(&tree).is_empty());
        tree.set("0000:01:00.0", "sriov_numvfs", "2");
        tree.remove("0000:01:10.2");
        assert_eq!(half_made_in(&tree), ["0000:01:00.0"]);
    }

    #[test]
    fn a_function_that_went_while_being_read_is_half_made() {
        let tree = SysfsTree::igb(1);
        tree.unset("0000:01:10.0", "vendor");
        assert_eq!(half_made_in(&tree), ["0000:01:10.0"]);
    }

    #[test]
    fn what_carries_no_device_makes_no_difference() {
        let tree = SysfsTree::igb(1);
        let before = scanned(&tree);
        let mut now = before.clone();
        now.addressed_netdevs.insert("cni0".to_owned(), vec!["10.244.0.1/24".parse().unwrap()]);
        now.default_route_netdevs.insert("tun0".to_owned());
        assert!(!differs(&before, &now));
        now.addressed_netdevs.insert("ens1f0v0".to_owned(), vec!["10.1.0.1/24".parse().unwrap()]);
        assert!(differs(&before, &now));
    }
}
