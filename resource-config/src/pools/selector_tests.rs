//! The selectors that ask for more than PCI attributes, on plain data.

use std::path::Path;

use super::sample::{function, inventory, netdev, port, rdma, sf, vdpa};
use super::*;
use crate::config;
use crate::inventory::{Function, Kind, Netdev};

/// The assignment of one pool `x` of this entry, without its name.
fn assigned(inventory: &Inventory, entry: &str) -> Assignment {
    let text = format!(r#"{{"resourceList":[{{"resourceName":"x",{entry}}}]}}"#);
    assign(inventory, &config::parse(&text, Path::new("f"), config::DEFAULT_PREFIX).unwrap().config)
}

fn selected(inventory: &Inventory, selectors: &str) -> Vec<String> {
    let assignment = assigned(inventory, &format!(r#""selectors":{selectors}"#));
    assignment.pools[0].devices.iter().map(|device| device.id.to_string()).collect()
}

/// The reason why a device is not in the one pool.
fn reason(assignment: &Assignment, id: &str) -> String {
    let device = assignment.unassigned.iter().find(|device| device.id.to_string() == id).unwrap();
    let text = device.reasons[0].to_string();
    text.strip_prefix("intel.com/x: ").unwrap().to_owned()
}

fn why_not(inventory: &Inventory, selectors: &str, id: &str) -> String {
    reason(&assigned(inventory, &format!(r#""selectors":{selectors}"#)), id)
}

fn vf<'a>(inventory: &'a mut Inventory, id: &str) -> &'a mut Function {
    inventory.functions.iter_mut().find(|function| function.address.to_string() == id).unwrap()
}

const VF0: &str = "0000:03:01.0";
const VF1: &str = "0000:03:01.1";

/// One port `p0` with two VFs, the second on vfio-pci.
fn two_vfs(link_type: &str) -> Inventory {
    inventory(port("0000:03:00.0", "p0", link_type, &["iavf", "vfio-pci"]), Vec::new())
}

#[test]
fn rdma_is_asked_of_the_device_itself() {
    let mut node = two_vfs("ether");
    vf(&mut node, VF0).rdma.push(rdma("mlx5_2", "0xffff"));
    assert_eq!(selected(&node, r#"{"isRdma":true}"#), [VF0]);
    assert_eq!(selected(&node, r#"{"isRdma":false}"#), [VF0, VF1]);
    assert_eq!(why_not(&node, r#"{"isRdma":true}"#, VF1), "isRdma: found false, wanted true");
}

#[test]
fn partition_keys_count_on_infiniband_only() {
    for (link_type, found) in [("infiniband", "0x8001"), ("ether", "nothing")] {
        let mut node = two_vfs(link_type);
        vf(&mut node, VF0).rdma.push(rdma("mlx5_2", "0x8001"));
        let expected = format!("pKeys: found {found}, wanted 0x7fff or 0xabcd");
        assert_eq!(why_not(&node, r#"{"pKeys":["7fff","0xABCD"]}"#, VF0), expected);
        let is_infiniband = link_type == "infiniband";
        assert_eq!(selected(&node, r#"{"pKeys":["0x8001"]}"#).is_empty(), !is_infiniband);
    }
}

#[test]
fn vdpa_devices_are_told_apart_by_their_bus_driver() {
    let mut node = two_vfs("ether");
    vf(&mut node, VF0).vdpa.push(vdpa("vhost_vdpa"));
    vf(&mut node, VF1).vdpa.push(vdpa("virtio_vdpa"));
    assert_eq!(selected(&node, r#"{"vdpaType":"vhost"}"#), [VF0]);
    assert_eq!(selected(&node, r#"{"vdpaType":"virtio"}"#), [VF1]);
    assert_eq!(why_not(&node, r#"{"vdpaType":"vhost"}"#, VF1), "vdpaType: found virtio, wanted vhost");
    vf(&mut node, VF1).vdpa.clear();
    assert_eq!(why_not(&node, r#"{"vdpaType":"virtio"}"#, VF1), "vdpaType: found nothing, wanted virtio");
}

#[test]
fn ddp_packages_are_compared_by_name() {
    let mut node = two_vfs("ether");
    vf(&mut node, VF0).ddp_profile = Some("ICE COMMS Package".to_owned());
    assert_eq!(selected(&node, r#"{"ddpProfiles":["ICE COMMS Package"]}"#), [VF0]);
    let expected = "ddpProfiles: found nothing, wanted ICE COMMS Package";
    assert_eq!(why_not(&node, r#"{"ddpProfiles":["ICE COMMS Package"]}"#, VF1), expected);
}

#[test]
fn need_vhost_net_selects_nothing() {
    assert_eq!(selected(&two_vfs("ether"), r#"{"needVhostNet":true}"#), [VF0, VF1]);
}

#[test]
fn a_pf_goes_by_its_alternative_names_too_and_case_does_not_matter() {
    let node = two_vfs("ether");
    for selectors in
        [r#"{"pfNames":["ALT-p0#1"]}"#, r#"{"pfNames":["P0#1"]}"#, r#"{"pfNames":["p1","alt-p0#1"]}"#]
    {
        assert_eq!(selected(&node, selectors), [VF1], "{selectors}");
    }
    assert_eq!(why_not(&node, r#"{"pfNames":["p1"]}"#, VF1), "pfNames: found p0, wanted p1");
    assert_eq!(
        why_not(&node, r#"{"pfNames":["p1","p0#0,2-3"]}"#, VF1),
        "pfNames: found p0#1, wanted p1 or p0#0,2-3"
    );
}

#[test]
fn functions_that_come_from_no_pf_are_not_in_pools_by_pf() {
    let node = inventory(vec![function("0000:04:00.0", "vfio-pci")], Vec::new());
    assert_eq!(why_not(&node, r#"{"pfNames":["p0"]}"#, "0000:04:00.0"), "pfNames: found nothing, wanted p0");
    assert_eq!(
        why_not(&node, r#"{"rootDevices":["0000:04:00.0"]}"#, "0000:04:00.0"),
        "rootDevices: found nothing, wanted 0000:04:00.0"
    );
}

#[test]
fn representors_do_not_hide_the_uplink_of_their_switch() {
    let mut node = two_vfs("ether");
    let representor = |port: &str, name: &str| Netdev {
        phys_port_name: Some(port.to_owned()),
        phys_switch_id: Some("abcd".to_owned()),
        master: Some("ovs-system".to_owned()),
        ..netdev(name, "ether")
    };
    let pf = vf(&mut node, "0000:03:00.0");
    pf.netdevs[0].phys_port_name = Some("p0".to_owned());
    pf.netdevs[0].phys_switch_id = Some("abcd".to_owned());
    pf.netdevs.insert(0, representor("pf0vf0", "a_rep"));
    pf.netdevs.push(representor("pf0vf1", "z_rep"));
    assert_eq!(selected(&node, r#"{"pfNames":["alt-p0"],"linkTypes":["ether"]}"#), [VF0, VF1]);
}

#[test]
fn a_scalable_function_is_selected_by_its_number_and_its_port() {
    let mut functions = port("0000:08:00.0", "p0", "ether", &[]);
    functions[0].driver = Some("mlx5_core".to_owned());
    let mut sfs = vec![sf(4, "0000:08:00.0"), sf(10, "0000:08:00.0"), sf(5, "0000:09:00.0")];
    sfs[0].rdma.push(rdma("mlx5_4", "0xffff"));
    let node = inventory(functions, sfs);
    let aux = |selectors: &str| {
        assigned(
            &node,
            &format!(r#""deviceType":"auxNetDevice","selectors":{{"auxTypes":["sf"],{selectors}}}"#),
        )
    };
    let ids = |selectors: &str| -> Vec<String> {
        aux(selectors).pools[0].devices.iter().map(|device| device.id.to_string()).collect()
    };
    assert_eq!(ids(r#""vendors":["8086"]"#), ["mlx5_core.sf.10", "mlx5_core.sf.4"]);
    assert_eq!(ids(r#""pfNames":["alt-p0#4-9"]"#), ["mlx5_core.sf.4"]);
    assert_eq!(ids(r#""rootDevices":["08:00.0#10"]"#), ["mlx5_core.sf.10"]);
    assert_eq!(ids(r#""isRdma":true,"linkTypes":["ether"]"#), ["mlx5_core.sf.4"]);

    let assignment = aux(r#""pfNames":["p0#4"]"#);
    let device = &assignment.pools[0].devices[0];
    assert_eq!((device.driver.as_str(), device.pf_address), ("mlx5_core", "0000:08:00.0".parse().ok()));
    assert_eq!(reason(&assignment, "mlx5_core.sf.10"), "pfNames: found p0#10, wanted p0#4");
    // Its function is not known, so its driver is not either.
    assert_eq!(reason(&assignment, "mlx5_core.sf.5"), "drivers: found nothing, wanted any driver");
    assert_eq!(reason(&assignment, "0000:08:00.0"), "deviceType: found netDevice, wanted auxNetDevice");
}

#[test]
fn a_scalable_function_that_the_host_uses_is_protected_and_its_port_does_not_matter() {
    let mut functions = port("0000:08:00.0", "p0", "ether", &[]);
    functions[0].netdevs[0].master = Some("br0".to_owned());
    let mut node = inventory(functions, vec![sf(4, "0000:08:00.0"), sf(5, "0000:08:00.0")]);
    node.addressed_netdevs.insert("sf5".to_owned(), vec!["10.0.0.5/24".parse().unwrap()]);
    let assignment = assigned(&node, r#""deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"]}"#);
    assert_eq!(assignment.pools[0].devices.len(), 1);
    assert_eq!(
        reason(&assignment, "mlx5_core.sf.5"),
        "hostUplink: found sf5 carries the host's address 10.0.0.5/24, wanted a device that the host does not use or \
         its address in pciAddresses"
    );
}

#[test]
fn an_address_of_the_host_protects_as_a_default_route_does() {
    let mut node = inventory(port("0000:03:00.0", "p0", "ether", &[]), Vec::new());
    let pf = "0000:03:00.0";
    let mut found = |upper: &str, holder: &str, address: &str| {
        vf(&mut node, pf).netdevs[0].uppers =
            [upper.to_owned()].into_iter().filter(|u| !u.is_empty()).collect();
        node.addressed_netdevs = [(holder.to_owned(), vec![address.parse().unwrap()])].into();
        assigned(&node, r#""selectors":{"vendors":["8086"]}"#)
    };
    for (upper, holder, address, expected) in [
        ("", "p0", "192.0.2.7/24", "p0 carries the host's address 192.0.2.7/24"),
        ("", "p0", "2001:db8::7/64", "p0 carries the host's address 2001:db8::7/64"),
        (
            "macvlan0",
            "macvlan0",
            "192.0.2.7/24",
            "p0 carries the host's address 192.0.2.7/24 through macvlan0",
        ),
    ] {
        let text = reason(&found(upper, holder, address), pf);
        assert!(text.starts_with(&format!("hostUplink: found {expected}, wanted")), "{text}");
    }
    assert!(found("", "eno1", "192.0.2.7/24").unassigned.is_empty());
    found("", "p0", "192.0.2.7/24");
    assert_eq!(selected(&node, r#"{"pciAddresses":["03:00.0"]}"#), [pf]);
}

#[test]
fn an_accelerator_with_vfs_is_not_offered_either_and_its_vfs_are() {
    let mut functions = port("0000:03:00.0", "none", "ether", &["vfio-pci"]);
    for function in &mut functions {
        (function.kind, function.netdevs) = (Some(Kind::Accelerator), Vec::new());
        function.acpi_index = Some("3".to_owned());
    }
    let node = inventory(functions, Vec::new());
    let assignment = assigned(&node, r#""deviceType":"accelerator","selectors":{"acpiIndexes":["3"]}"#);
    assert_eq!(assignment.pools[0].devices[0].id.to_string(), VF0);
    let expected = "pfWithVfs: found a PF with 1 VF, wanted a VF, or a function without VFs";
    assert_eq!(reason(&assignment, "0000:03:00.0"), expected);
}

#[test]
fn a_device_says_which_object_of_selectors_has_selected_it() {
    let assignment = assigned(
        &two_vfs("ether"),
        r#""selectors":[{"vendors":["15b3"]},{"drivers":["vfio-pci"]},{"vendors":["8086"]}]"#,
    );
    let found: Vec<(String, usize)> =
        assignment.pools[0].devices.iter().map(|device| (device.id.to_string(), device.selectors)).collect();
    assert_eq!(found, [(VF0.to_owned(), 2), (VF1.to_owned(), 1)]);
}

#[test]
fn a_device_on_vfio_without_a_group_is_offered_with_its_problem() {
    let assignment = assigned(&two_vfs("ether"), r#""selectors":{"drivers":["vfio-pci"]}"#);
    let expected = "it has no IOMMU group: the IOMMU is off, and so is VFIO's noiommu mode";
    assert_eq!(assignment.pools[0].devices[0].problem.as_deref(), Some(expected));
}

#[test]
fn an_empty_pool_tells_of_the_pfs_that_it_names() {
    let mut functions = port("0000:03:00.0", "p0", "ether", &[]);
    functions.extend(port("0000:04:00.0", "p1", "ether", &["iavf"]));
    functions.push(Function { netdevs: vec![netdev("eno1", "ether")], ..function("0000:05:00.0", "igb") });
    let node = inventory(functions, vec![sf(4, "0000:04:00.0")]);
    let hints = |entry: &str| {
        let text = format!(r#"{{"resourceList":[{{"resourceName":"x",{entry}}}]}}"#);
        let config = config::parse(&text, Path::new("f"), config::DEFAULT_PREFIX).unwrap().config;
        let mut empty = why_empty(&node, &config, &assign(&node, &config));
        empty.remove(0).hints
    };
    let names =
        r#""selectors":[{"drivers":["x"],"pfNames":["ALT-p0#0-3","p1","eno1","p9#1"]},{"pfNames":["p9"]}]"#;
    assert_eq!(
        hints(names),
        ["ALT-p0 has 0 of 64 VFs", "eno1 is no PF: it cannot have VFs", "this node has no PF p9"]
    );
    assert_eq!(
        hints(r#""selectors":{"rootDevices":["03:00.0","6:0.0"]}"#),
        ["03:00.0 has 0 of 64 VFs", "this node has no PF 6:0.0"]
    );
    let sfs = r#""deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"],"pfNames":["p0","p1#7"]}"#;
    assert_eq!(hints(sfs), ["p0 has no scalable functions"]);
}
