mod nodes;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::pci::PciId;
use crate::test_support::SysfsTree;

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn scanned(tree: &SysfsTree) -> Inventory {
    scan(&tree.root(), Some(&tree.proc())).unwrap()
}

fn function(tree: &SysfsTree, text: &str) -> Function {
    scanned(tree).function(&address(text)).unwrap().clone()
}

#[test]
fn a_port_with_vfs_is_read_completely() {
    let tree = SysfsTree::igb(2);
    tree.bind_vfio("0000:01:10.2");
    let inventory = scanned(&tree);
    assert_eq!(inventory.notes, Vec::<String>::new());
    assert!(inventory.functions.iter().all(|function| function.notes.is_empty()), "{inventory:?}");

    let pf = inventory.function(&address("0000:01:00.0")).unwrap();
    assert_eq!(pf.driver.as_deref(), Some("igb"));
    assert_eq!(pf.kind, Some(Kind::Network));
    assert_eq!((pf.vendor, pf.device), (Some(PciId(0x8086)), Some(PciId(0x10c9))));
    let role = pf.as_pf().unwrap();
    assert_eq!((role.total_vfs, role.num_vfs), (Some(7), Some(2)));
    assert_eq!(role.vfs, BTreeMap::from([(0, address("0000:01:10.0")), (1, address("0000:01:10.2"))]));

    let vf = inventory.function(&address("0000:01:10.0")).unwrap();
    assert_eq!(vf.numa_node, Some(0));
    assert_eq!(vf.iommu_group, Some(10));
    assert_eq!(
        vf.as_vf(),
        Some(&VfRole {
            pf_address: pf.address,
            index: Some(0),
            pf_netdev: Some("ens1f0".to_owned()),
            representor: None
        })
    );
    let netdev = &vf.netdevs[0];
    assert_eq!(netdev.name, "ens1f0v0");
    assert_eq!(
        (netdev.mtu, netdev.carrier, netdev.link_type.as_deref()),
        (Some(1500), Some(true), Some("ether"))
    );

    let dpdk = inventory.function(&address("0000:01:10.2")).unwrap();
    assert!(dpdk.is_vfio());
    assert!(dpdk.netdevs.is_empty());
    assert_eq!(inventory.iommu_groups[&11].members[0].driver.as_deref(), Some("vfio-pci"));
}

#[test]
fn one_function_reads_like_the_scan() {
    let tree = SysfsTree::igb(3);
    for function in scanned(&tree).functions {
        assert_eq!(read_function(&tree.root(), &function.address).unwrap(), function);
    }
}

#[test]
fn a_vf_is_located_through_its_pf() {
    let tree = SysfsTree::igb(2);
    let location = vf_location(&tree.root(), &address("0000:01:10.2")).unwrap();
    let expected =
        VfLocation { pf_address: address("0000:01:00.0"), pf_netdev: "ens1f0".to_owned(), index: 1 };
    assert_eq!(location, expected);
}

#[test]
fn what_keeps_a_vf_from_being_located_is_named() {
    let tree = SysfsTree::igb(2);
    let error = |text: &str| vf_location(&tree.root(), &address(text)).unwrap_err().to_string();
    assert!(error("0000:05:00.0").contains("0000:05:00.0 does not exist"));
    assert!(error("0000:01:00.0").contains("not a virtual function"));
    tree.unset("0000:01:00.0", "virtfn1");
    assert!(error("0000:01:10.2").contains("no virtfn link to 0000:01:10.2"));
    tree.remove_netdev("0000:01:00.0", "ens1f0");
    assert!(error("0000:01:10.0").contains("PF 0000:01:00.0 of VF 0000:01:10.0 has no network device"));
}

#[test]
fn garbled_attributes_are_noted_and_the_device_stays() {
    let tree = SysfsTree::igb(1);
    let vf = "0000:01:10.0";
    tree.set(vf, "numa_node", "zero");
    tree.set(vf, "net/ens1f0v0/mtu", "-");
    tree.unset(vf, "vendor");
    tree.set("0000:01:00.0", "sriov_numvfs", "many");
    let read = function(&tree, vf);
    assert_eq!((read.numa_node, read.vendor, read.netdevs[0].mtu), (None, None, None));
    assert_eq!(read.device, Some(PciId(0x10ca)));
    let notes = read.notes.join("\n");
    for part in ["vendor: missing", "numa_node: found \"zero\"", "ens1f0v0: mtu: found \"-\""] {
        assert!(notes.contains(part), "{notes}");
    }
    let pf = function(&tree, "0000:01:00.0");
    assert_eq!(pf.as_pf().unwrap().vfs.len(), 1);
    assert!(pf.as_pf().unwrap().has_vfs());
    assert!(pf.notes[0].contains("sriov_numvfs: found \"many\""), "{:?}", pf.notes);
}

#[test]
fn a_function_whose_class_is_unreadable_stays_and_its_parts_tell_what_it_is_for() {
    let tree = SysfsTree::igb(2);
    tree.set("0000:01:10.0", "class", "?");
    tree.unset("0000:01:10.2", "class");
    tree.remove_netdev("0000:01:10.2", "ens1f0v1");
    for (address, modalias) in [
        ("0000:02:00.0", ""),
        ("0000:02:00.1", "pci:v00008086d00001234sv00008086sd00000000bc06sc04i00"),
        ("0000:02:00.2", "pci:v00008086d00001234sv00008086sd00000000bc12sc00i00"),
    ] {
        tree.function(address, "8086:1234", "");
        tree.set(address, "class", "?");
        tree.set(address, "modalias", modalias);
    }
    let inventory = scanned(&tree);
    let kind = |text: &str| inventory.function(&address(text)).map(|function| function.kind);
    assert_eq!(kind("0000:01:10.0"), Some(Some(Kind::Network)), "by its network device");
    assert_eq!(kind("0000:01:10.2"), Some(Some(Kind::Network)), "by its PF");
    assert_eq!(kind("0000:02:00.0"), Some(None));
    assert_eq!(kind("0000:02:00.1"), None, "a bridge, by its modalias");
    assert_eq!(kind("0000:02:00.2"), Some(Some(Kind::Accelerator)), "by its modalias");
    let notes = |text: &str| inventory.function(&address(text)).unwrap().notes.join("\n");
    assert_eq!(notes("0000:01:10.0"), "class: found \"?\": not a PCI class");
    assert_eq!(notes("0000:01:10.2"), "class: missing");
}

#[test]
fn other_classes_are_passed_over_and_accelerators_are_not() {
    let tree = SysfsTree::new();
    for (address, class) in [("0000:03:00.0", "0x010802"), ("0000:04:00.0", "0x120000")] {
        tree.function(address, "8086:0d5c", "");
        tree.set(address, "class", class);
    }
    let functions = scanned(&tree).functions;
    assert_eq!(functions.len(), 1);
    assert_eq!(functions[0].kind, Some(Kind::Accelerator));
}

#[test]
fn a_group_names_the_member_that_a_host_driver_uses() {
    let tree = SysfsTree::igb(2);
    tree.group(20, &["0000:01:10.0", "0000:01:10.2"]);
    tree.bind_vfio("0000:01:10.0");
    let group = read_group(&tree.root(), 20).unwrap();
    assert_eq!(group.blocker().unwrap().name, "0000:01:10.2");
    tree.bind("0000:01:10.2", "");
    assert_eq!(read_group(&tree.root(), 20).unwrap().blocker(), None);
    assert!(read_group(&tree.root(), 21).is_err());
}

#[test]
fn nodes_of_groups_follow_the_noiommu_mapping() {
    let tree = SysfsTree::igb(1);
    let nodes = |group: &IommuGroup| (group.node_name(), group.container_node());
    let group = read_group(&tree.root(), 10).unwrap();
    assert_eq!(nodes(&group), ("vfio/10".to_owned(), "/dev/vfio/10".to_owned()));
    tree.bind_vfio("0000:01:10.0");
    tree.noiommu(10);
    let group = read_group(&tree.root(), 10).unwrap();
    assert_eq!(nodes(&group), ("vfio/noiommu-10".to_owned(), "/dev/vfio/10".to_owned()));
}

#[test]
fn what_is_stacked_on_a_network_device_is_followed() {
    let tree = SysfsTree::igb(0);
    tree.stack("ens1f0", "bond0", true);
    tree.stack("bond0", "bond0.7", false);
    let pf = function(&tree, "0000:01:00.0");
    assert_eq!(pf.netdevs[0].master.as_deref(), Some("bond0"));
    assert_eq!(pf.netdevs[0].uppers, BTreeSet::from(["bond0".to_owned(), "bond0.7".to_owned()]));
}

#[test]
fn a_network_device_behind_virtio_is_seen() {
    let tree = SysfsTree::new();
    tree.function("0000:00:03.0", "1af4:1041", "virtio-pci");
    let net = tree.device("0000:00:03.0").join("virtio1/net/eth0");
    std::fs::create_dir_all(net).unwrap();
    assert_eq!(function(&tree, "0000:00:03.0").netdevs[0].name, "eth0");
}

#[test]
fn a_tree_that_is_no_sysfs_is_an_error_with_its_path() {
    let error = scan(&SysRoot::new("/nonexistent"), None).unwrap_err();
    assert!(crate::error_text(&error).contains("/nonexistent/bus/pci/devices"), "{error}");
}
