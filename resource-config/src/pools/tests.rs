use std::path::Path;

use super::*;
use crate::config;
use crate::inventory::scan;
use crate::test_support::SysfsTree;

const TWO_POOLS: &str = r#"{"resourceList":[
    {"resourceName":"sriov","selectors":{"drivers":["igbvf"]}},
    {"resourceName":"sriov_dpdk","selectors":{"drivers":["vfio-pci"]}}]}"#;

fn assigned(tree: &SysfsTree, config: &str) -> Assignment {
    let config = config::parse(config, Path::new("config.json"), config::DEFAULT_PREFIX).unwrap().config;
    assign(&scan(&tree.root(), Some(&tree.proc())).unwrap(), &config)
}

/// The assignment of one pool `x` with these selectors.
fn one_pool(tree: &SysfsTree, selectors: &str) -> Assignment {
    assigned(tree, &format!(r#"{{"resourceList":[{{"resourceName":"x","selectors":{selectors}}}]}}"#))
}

fn ids(pool: &Pool) -> Vec<String> {
    pool.devices.iter().map(|device| device.id.to_string()).collect()
}

/// The reasons why a device is in no pool.
fn reasons(assignment: &Assignment, id: &str) -> Vec<String> {
    let id: DeviceId = id.parse().unwrap();
    let device = assignment.unassigned.iter().find(|device| device.id == id).unwrap();
    device.reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn devices_are_divided_by_driver_and_the_rest_say_why() {
    let tree = SysfsTree::igb(4);
    tree.bind_vfio("0000:01:10.4");
    tree.bind_vfio("0000:01:10.6");
    let assignment = assigned(&tree, TWO_POOLS);
    assert_eq!(ids(&assignment.pools[0]), ["0000:01:10.0", "0000:01:10.2"]);
    assert_eq!(ids(&assignment.pools[1]), ["0000:01:10.4", "0000:01:10.6"]);
    assert_eq!(assignment.pools[1].devices[0].pf_address, "0000:01:00.0".parse().ok());
    assert_eq!(assignment.unassigned.len(), 1);
    assert_eq!(
        reasons(&assignment, "0000:01:00.0"),
        [
            "intel.com/sriov: pfWithVfs: found a PF with 4 VFs, wanted a VF, or a function without VFs",
            "intel.com/sriov_dpdk: pfWithVfs: found a PF with 4 VFs, wanted a VF, or a function without VFs",
        ]
    );
}

#[test]
fn a_device_inside_a_pod_stays() {
    let tree = SysfsTree::igb(2);
    tree.remove_netdev("0000:01:10.0", "ens1f0v0");
    let assignment = one_pool(&tree, r#"{"pfNames":["ens1f0"],"linkTypes":["ether"],"drivers":["igbvf"]}"#);
    assert_eq!(ids(&assignment.pools[0]), ["0000:01:10.0", "0000:01:10.2"]);
}

#[test]
fn each_selector_turns_away_with_what_it_found() {
    let tree = SysfsTree::igb(1);
    tree.set("0000:01:10.0", "acpi_index", "7");
    for (selectors, expected) in [
        (r#"{"vendors":["15b3"]}"#, "vendors: found 8086, wanted 15b3"),
        (r#"{"devices":["1572","154c"]}"#, "devices: found 10ca, wanted 1572 or 154c"),
        (r#"{"drivers":["vfio-pci"]}"#, "drivers: found igbvf, wanted vfio-pci"),
        (r#"{"pciAddresses":["01:10.2"]}"#, "pciAddresses: found 0000:01:10.0, wanted 0000:01:10.2"),
        (r#"{"acpiIndexes":["8"]}"#, "acpiIndexes: found 7, wanted 8"),
        (r#"{"pfNames":["ens1f0#1-3"]}"#, "pfNames: found ens1f0#0, wanted ens1f0#1-3"),
        (r#"{"rootDevices":["01:00.1"]}"#, "rootDevices: found 0000:01:00.0, wanted 01:00.1"),
        (r#"{"linkTypes":["infiniband"]}"#, "linkTypes: found ether, wanted infiniband"),
    ] {
        assert_eq!(
            reasons(&one_pool(&tree, selectors), "0000:01:10.0"),
            [format!("intel.com/x: {expected}")]
        );
    }
    let all = r#"{"vendors":["8086"],"devices":["10ca"],"drivers":["igbvf"],"pciAddresses":["01:10.0"],
        "acpiIndexes":["7"],"pfNames":["ENS1F0#0"],"rootDevices":["01:00.0#0"],"linkTypes":["ether"]}"#;
    assert_eq!(ids(&one_pool(&tree, all).pools[0]), ["0000:01:10.0"]);
}

#[test]
fn several_entries_of_one_pf_add_up() {
    let tree = SysfsTree::igb(4);
    let assignment = one_pool(&tree, r#"{"pfNames":["ens1f0#0","ens1f0#2-3"]}"#);
    assert_eq!(ids(&assignment.pools[0]), ["0000:01:10.0", "0000:01:10.4", "0000:01:10.6"]);
}

#[test]
fn alternatives_are_tried_and_the_one_that_came_furthest_explains() {
    let tree = SysfsTree::igb(2);
    let selectors = r#"[{"vendors":["15b3"]},{"vendors":["8086"],"pfNames":["ens1f0#1"]}]"#;
    let assignment = one_pool(&tree, selectors);
    assert_eq!(ids(&assignment.pools[0]), ["0000:01:10.2"]);
    let expected = ["intel.com/x: pfNames: found ens1f0#0, wanted ens1f0#1"];
    assert_eq!(reasons(&assignment, "0000:01:10.0"), expected);
}

#[test]
fn the_first_pool_has_a_device_and_overlaps_are_noted() {
    let tree = SysfsTree::igb(1);
    let config = r#"{"resourceList":[{"resourceName":"none","selectors":{"vendors":["15b3"]}},
        {"resourceName":"a","selectors":{"vendors":["8086"]}},
        {"resourceName":"b","selectors":{"drivers":["igbvf"]}}]}"#;
    let assignment = assigned(&tree, config);
    let counts: Vec<usize> = assignment.pools.iter().map(|pool| pool.devices.len()).collect();
    assert_eq!(counts, [0, 1, 0]);
    let overlap = &assignment.overlaps[0];
    assert_eq!((overlap.id.to_string(), overlap.resource.name()), ("0000:01:10.0".to_owned(), "a"));
    assert_eq!(overlap.also[0].name(), "b");
}

#[test]
fn unbound_devices_are_not_offered() {
    let tree = SysfsTree::igb(1);
    tree.bind("0000:01:10.0", "");
    let expected = ["intel.com/x: drivers: found nothing, wanted any driver"];
    assert_eq!(reasons(&one_pool(&tree, "{}"), "0000:01:10.0"), expected);
}

#[test]
fn types_are_kept_apart() {
    let tree = SysfsTree::igb(0);
    tree.function("0000:04:00.0", "8086:0d5d", "vfio-pci");
    tree.set("0000:04:00.0", "class", "0x120000");
    let config =
        r#"{"resourceList":[{"resourceName":"nic"},{"resourceName":"fec","deviceType":"accelerator"}]}"#;
    let assignment = assigned(&tree, config);
    assert_eq!(ids(&assignment.pools[0]), ["0000:01:00.0"]);
    assert_eq!(ids(&assignment.pools[1]), ["0000:04:00.0"]);
}

#[test]
fn the_uplink_of_the_host_is_offered_only_by_address() {
    let tree = SysfsTree::igb(0);
    tree.default_route("ens1f0");
    let found = reasons(&one_pool(&tree, r#"{"vendors":["8086"]}"#), "0000:01:00.0");
    assert!(found[0].contains("hostUplink: found ens1f0 carries a default route of the host"), "{found:?}");
    let listed = one_pool(&tree, r#"{"pciAddresses":["0000:01:00.0"]}"#);
    assert_eq!(ids(&listed.pools[0]), ["0000:01:00.0"]);
}

#[test]
fn an_uplink_below_bonds_and_bridges_is_seen() {
    let tree = SysfsTree::igb(0);
    tree.stack("ens1f0", "bond0", true);
    let found = reasons(&one_pool(&tree, "{}"), "0000:01:00.0");
    assert!(found[0].contains("ens1f0 is enslaved to bond0"), "{found:?}");

    tree.stack("bond0", "bond0.7", false);
    tree.default_route("bond0.7");
    let found = reasons(&one_pool(&tree, "{}"), "0000:01:00.0");
    assert!(found[0].contains("ens1f0 carries a default route of the host through bond0.7"), "{found:?}");
}

#[test]
fn devices_of_one_iommu_group_are_one_unit_over_all_pools() {
    let tree = SysfsTree::igb(3);
    tree.group(30, &["0000:01:10.0", "0000:01:10.2", "0000:01:10.4"]);
    for vf in ["0000:01:10.0", "0000:01:10.2", "0000:01:10.4"] {
        tree.bind_vfio(vf);
    }
    let config = r#"{"resourceList":[{"resourceName":"a","selectors":{"pfNames":["ens1f0#1-2"]}},
        {"resourceName":"b","selectors":{"pfNames":["ens1f0"]}}]}"#;
    let assignment = assigned(&tree, config);
    assert_eq!(ids(&assignment.pools[0]), ["0000:01:10.2"]);
    assert_eq!(assignment.pools[0].devices[0].group_peers, ["0000:01:10.0", "0000:01:10.4"]);
    assert_eq!(ids(&assignment.pools[1]), Vec::<String>::new());
    let found = reasons(&assignment, "0000:01:10.0");
    assert!(
        found[1].contains("b: iommuGroup: found group 30, which 0000:01:10.2 stands for in intel.com/a"),
        "{found:?}"
    );
}

#[test]
fn a_group_that_a_host_driver_uses_is_a_problem_of_its_device() {
    let tree = SysfsTree::igb(2);
    tree.group(30, &["0000:01:10.0", "0000:01:10.2"]);
    tree.bind_vfio("0000:01:10.0");
    let assignment = assigned(&tree, TWO_POOLS);
    assert_eq!(ids(&assignment.pools[0]), ["0000:01:10.2"]);
    let problem = assignment.pools[1].devices[0].problem.as_deref().unwrap();
    assert_eq!(problem, "IOMMU group 30 is not viable: 0000:01:10.2 is on the host driver igbvf");
}

#[test]
fn the_json_form_is_the_documented_one() {
    let tree = SysfsTree::igb(1);
    let json = serde_json::to_value(one_pool(&tree, r#"{"drivers":["igbvf"]}"#)).unwrap();
    let expected = serde_json::json!({
        "pools": [{"resource": "intel.com/x", "devices": [{
            "id": "0000:01:10.0", "driver": "igbvf", "numaNode": 0, "pfAddress": "0000:01:00.0",
            "selectors": 0, "groupPeers": [], "problem": null, "notes": []}]}],
        "unassigned": [{"id": "0000:01:00.0", "reasons": [{
            "resource": "intel.com/x", "selector": "pfWithVfs", "found": "a PF with 1 VF",
            "wanted": ["a VF, or a function without VFs"]}], "notes": []}],
        "overlaps": []});
    assert_eq!(json, expected);
}
