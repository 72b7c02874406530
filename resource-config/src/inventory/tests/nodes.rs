//! Whole nodes, from the tree files in `tests/trees`.

use std::path::PathBuf;

use super::*;
use crate::tree::Tree;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name)
}

/// The inventory of a tree file, having made sure that a recording of it, and for those without errors a directory, too, gives
/// the same.
fn node(name: &str) -> Inventory {
    let path = file(name);
    let inventory = Scanner::tree(&path).unwrap().scan().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let again = dir.path().join("again.tree");
    std::fs::write(&again, Scanner::tree(&path).unwrap().record().unwrap()).unwrap();
    assert_eq!(Scanner::tree(&again).unwrap().scan().unwrap(), inventory);
    if name != "broken.tree" {
        let sys = dir.path().join("sys");
        Tree::load(&path).unwrap().materialise(&sys);
        assert_eq!(Scanner::sysfs(&sys).scan().unwrap(), inventory);
        std::fs::write(&again, Scanner::sysfs(&sys).record().unwrap()).unwrap();
        assert_eq!(Scanner::tree(&again).unwrap().scan().unwrap(), inventory);
    }
    inventory
}

fn at<'a>(inventory: &'a Inventory, text: &str) -> &'a Function {
    inventory.function(&address(text)).unwrap()
}

fn names(netdevs: &[Netdev]) -> Vec<&str> {
    netdevs.iter().map(|netdev| netdev.name.as_str()).collect()
}

fn without_notes(inventory: &Inventory) {
    assert_eq!(inventory.notes, Vec::<String>::new());
    for function in &inventory.functions {
        assert_eq!(function.notes, Vec::<String>::new(), "{}", function.address);
    }
}

#[test]
fn switchdev_with_representors_scalable_functions_rdma_and_vdpa() {
    let inventory = node("mlx5-switchdev.tree");
    without_notes(&inventory);
    assert_eq!(inventory.functions.len(), 4);

    let pf = at(&inventory, "03:00.0");
    assert_eq!(pf.as_pf().unwrap().eswitch_mode, Some(EswitchMode::Switchdev));
    assert_eq!(pf.label.as_deref(), Some("NIC in slot 3"));
    assert_eq!(names(&pf.netdevs), ["a_rep_vf0", "b_rep_vf1", "c_rep_sf88", "ens3f0np0"], "not the SF's");
    assert_eq!(pf_netdev(&pf.netdevs).unwrap().altnames, ["enp3s0f0np0"]);
    assert_eq!(pf_netdev(&pf.netdevs).unwrap().index, Some(4));
    assert_eq!(pf.rdma[0].pkey.as_deref(), Some("0xffff"));
    let nodes = ["infiniband/issm0", "infiniband/rdma_cm", "infiniband/umad0", "infiniband/uverbs0"];
    assert_eq!(pf.rdma[0].char_devices, nodes);

    let other = at(&inventory, "03:00.1");
    assert_eq!(other.as_pf().unwrap().eswitch_mode, Some(EswitchMode::Legacy));
    assert_eq!((other.numa_node, other.netdevs[0].link_type.as_deref()), (None, Some("infiniband")));

    for (vf, index, representor) in [("03:00.2", 0, "a_rep_vf0"), ("03:00.3", 1, "b_rep_vf1")] {
        let role = at(&inventory, vf).as_vf().unwrap();
        assert_eq!((role.index, role.pf_netdev.as_deref()), (Some(index), Some("ens3f0np0")));
        assert_eq!(role.representor.as_deref(), Some(representor));
    }
    assert_eq!(at(&inventory, "03:00.2").rdma[0].char_devices, ["infiniband/rdma_cm", "infiniband/uverbs2"]);
    let vdpa = VdpaDevice {
        name: "tenant7".to_owned(),
        bus_driver: Some("vhost_vdpa".to_owned()),
        char_device: Some("vhost-vdpa-2".to_owned()),
    };
    assert_eq!(at(&inventory, "03:00.3").vdpa, [vdpa]);

    assert_eq!(inventory.aux_devices.len(), 1, "parts of drivers are no devices");
    let sf = &inventory.aux_devices[0];
    assert_eq!((sf.name.as_str(), sf.kind.as_str(), sf.sfnum), ("mlx5_core.sf.4", "sf", Some(88)));
    assert_eq!((sf.parent, sf.driver.as_deref()), (address("03:00.0"), Some("mlx5_core.sf")));
    assert_eq!((names(&sf.netdevs), sf.rdma[0].name.as_str()), (vec!["ens3s88"], "mlx5_3"));
    assert_eq!(sf.rdma[0].char_devices, ["infiniband/rdma_cm", "infiniband/uverbs3"]);
}

#[test]
fn ddp_packages_slots_overrides_and_cdevs() {
    let inventory = node("e810-ddp.tree");
    without_notes(&inventory);
    for function in &inventory.functions {
        assert_eq!(function.ddp_profile.as_deref(), Some("ICE COMMS Package"), "{}", function.address);
    }
    let (pf, dpdk, kernel) =
        (at(&inventory, "86:00.0"), at(&inventory, "86:01.0"), at(&inventory, "86:01.1"));
    assert_eq!((pf.label.as_deref(), pf.acpi_index.as_deref()), (Some("7"), Some("11")));
    assert_eq!((pf.driver_override.as_deref(), kernel.driver_override.as_deref()), (None, None));
    assert_eq!(dpdk.driver_override.as_deref(), Some("vfio-pci"));
    assert_eq!((dpdk.vfio_cdev.as_deref(), dpdk.label.as_deref()), (Some("vfio3"), None));
    assert!(kernel.netdevs.is_empty(), "inside a pod");
}

#[test]
fn a_virtual_machine_without_iommu() {
    let inventory = node("noiommu-vm.tree");
    without_notes(&inventory);
    let passed_in = at(&inventory, "00:05.0");
    assert_eq!((&passed_in.role, passed_in.iommu_group), (&Role::Plain, Some(0)));
    assert_eq!(inventory.iommu_groups[&0].node_name(), "vfio/noiommu-0");
    assert_eq!(names(&at(&inventory, "00:03.0").netdevs), ["eth0"]);
    assert_eq!(inventory.addressed_netdevs["eth0"], ["192.0.2.7/24".parse().unwrap()]);
}

#[test]
fn without_netlink_stacking_follows_from_what_sysfs_shows() {
    let inventory = node("bonded-uplink.tree");
    without_notes(&inventory);
    for (device, master, uppers) in [
        ("17:00.0", Some("bond0"), vec!["bond0", "bond0.100"]),
        ("17:00.1", Some("bond0"), vec!["bond0", "bond0.100"]),
        ("18:00.0", Some("br0"), vec!["br0"]),
        ("18:00.1", None, vec!["macvlan0"]),
    ] {
        let netdev = &at(&inventory, device).netdevs[0];
        let found: Vec<&str> = netdev.uppers.iter().map(String::as_str).collect();
        assert_eq!((netdev.master.as_deref(), found), (master, uppers), "{device}");
    }
}

#[test]
fn groups_name_the_member_that_blocks_them() {
    let inventory = node("shared-groups.tree");
    without_notes(&inventory);
    let shared = &inventory.iommu_groups[&6];
    let members: Vec<&str> = shared.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(members, ["0000:05:10.0", "0000:05:10.1", "0000:06:00.0"]);
    assert_eq!(shared.blocker().unwrap().driver.as_deref(), Some("snd_hda_intel"));
    assert_eq!(inventory.iommu_groups[&7].blocker(), None, "a port of the bus does no harm");
}

#[test]
fn the_emulated_node_as_it_was_recorded() {
    let inventory = node("emulated-igb.tree");
    without_notes(&inventory);
    let pf = at(&inventory, "01:00.0");
    let uplink = pf_netdev(&pf.netdevs).unwrap();
    assert_eq!(uplink.altnames, ["enx525400fa0100", "uplink-one"]);
    assert_eq!(uplink.uppers, BTreeSet::from(["vl7".to_owned()]));
    let addressed: Vec<&str> = inventory.addressed_netdevs.keys().map(String::as_str).collect();
    assert_eq!(addressed, ["br9", "mgmt0", "vl7"]);
    assert_eq!(at(&inventory, "02:00.0").netdevs[0].master.as_deref(), Some("br9"));
    for (vf, index, driver, netdev, cdev) in [
        ("01:10.0", 0, "igbvf", Some("enp1s0v0"), None),
        ("01:10.2", 1, "vfio-pci", None, Some("vfio0")),
        ("01:10.4", 2, "igbvf", None, None),
        ("01:10.6", 3, "igbvf", Some("enp1s0v3"), None),
    ] {
        let vf = at(&inventory, vf);
        assert_eq!((vf.as_vf().unwrap().index, vf.driver.as_deref()), (Some(index), Some(driver)));
        assert_eq!((names(&vf.netdevs).first().copied(), vf.vfio_cdev.as_deref()), (netdev, cdev));
    }
    assert_eq!(inventory.iommu_groups[&11].blocker(), None);
    assert_eq!(names(&at(&inventory, "00:05.0").netdevs), ["mgmt0"]);
}

#[test]
fn what_is_broken_is_noted_and_nothing_is_lost() {
    let inventory = node("broken.tree");
    let listed: Vec<String> =
        inventory.functions.iter().map(|function| function.address.to_string()).collect();
    let expected = ["0000:01:00.0", "0000:01:10.0", "0000:01:10.1", "0000:02:00.0", "0000:02:00.1"];
    assert_eq!(listed, expected);
    let has = |notes: &[String], expected: &[&str]| {
        for part in expected {
            assert!(notes.iter().any(|note| note.contains(part)), "{part} in {notes:#?}");
        }
        assert_eq!(notes.len(), expected.len(), "{notes:#?}");
    };
    has(
        &inventory.notes,
        &[
            "\"not-an-address\" is not a PCI address",
            "0000:02:00.2 passed over: its folder: Input/output error",
            "0000:02:00.3 passed over: its folder: No such file",
            "the members of IOMMU group 4 cannot be read",
            "links[0] has no ifname",
        ],
    );
    let pf = at(&inventory, "01:00.0");
    has(
        &pf.notes,
        &[
            "vendor: found \"8086!\"",
            "numa_node: found \"one\"",
            "sriov_totalvfs: found \"many\"",
            "sriov_numvfs: Input/output error",
            "virtfn1: wanted a symbolic link",
            "virtfnx: its name does not end in the index of a VF",
            "net: cannot be listed: Input/output error",
            "virtfn9 points to 0000:09:10.0, which cannot be read",
        ],
    );
    assert_eq!((pf.vendor, pf.device), (None, Some(PciId(0x10c9))));
    let vf = at(&inventory, "01:10.0");
    has(
        &vf.notes,
        &[
            "driver: Input/output error",
            "ens1f0v0: mtu: found \"1.5k\"",
            "ens1f0v0: operstate: Input/output error",
            "ens1f0v1: cannot be listed: Permission denied",
        ],
    );
    assert_eq!(names(&vf.netdevs), ["ens1f0v0", "ens1f0v1"]);
    assert_eq!(vf.as_vf().unwrap().index, Some(0));
    has(
        &at(&inventory, "01:10.1").notes,
        &["iommu_group: found \"none\"", "PF 0000:01:00.0 has no virtfn link to it"],
    );
    has(&at(&inventory, "02:00.0").notes, &["physfn points to 0000:0f:00.0, which cannot be read"]);
    assert_eq!(at(&inventory, "02:00.1").role, Role::Plain);
    has(&at(&inventory, "02:00.1").notes, &["physfn: found \"somewhere\""]);
}

#[test]
fn a_tree_file_that_is_none_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tree");
    std::fs::write(&path, "fairlead-tree 1\n[bus/pci/devices\n").unwrap();
    let error = Scanner::tree(&path).unwrap_err().to_string();
    assert!(error.ends_with("x.tree: line 2: a folder's line ends with ]"), "{error}");
    std::fs::write(&path, "fairlead-tree 1\n").unwrap();
    let error = Scanner::tree(&path).unwrap().scan().unwrap_err().to_string();
    assert!(error.contains("cannot list the PCI functions"), "{error}");
}
