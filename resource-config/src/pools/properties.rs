//! What holds for every node and every configuration.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::sample::{inventory, port, rdma, sf, vdpa};
use super::*;
use crate::config;

const DRIVERS: [&str; 5] = ["iavf", "vfio-pci", "vfio-pci", "mlx5_core", ""];

/// A node of up to three ports, whose VFs share IOMMU groups now and then, with scalable functions.
fn nodes() -> impl Strategy<Value = Inventory> {
    let vfs = || prop::collection::vec((select(&DRIVERS[..]), 0u32..6, any::<[bool; 3]>()), 0..6);
    (prop::collection::vec((vfs(), any::<bool>()), 0..4), prop::collection::vec(0u32..6, 0..3)).prop_map(
        |(ports, sfs)| {
            let mut functions = Vec::new();
            for (number, (vfs, is_uplink)) in ports.iter().enumerate() {
                let drivers: Vec<&str> = vfs.iter().map(|(driver, ..)| *driver).collect();
                let mut added =
                    port(&format!("0000:0{number}:00.0"), &format!("p{number}"), "ether", &drivers);
                added[0].netdevs[0].master = is_uplink.then(|| "bond0".to_owned());
                for (vf, (_, group, [has_rdma, has_vdpa, is_of_other_vendor])) in
                    added.iter_mut().skip(1).zip(vfs)
                {
                    vf.iommu_group = (*group < 5).then_some(*group);
                    vf.rdma = has_rdma.then(|| rdma("mlx5_0", "0xffff")).into_iter().collect();
                    vf.vdpa = has_vdpa.then(|| vdpa("vhost_vdpa")).into_iter().collect();
                    if *is_of_other_vendor {
                        vf.vendor = "15b3".parse().ok();
                    }
                }
                functions.append(&mut added);
            }
            let sfs: BTreeSet<u32> = sfs.into_iter().collect();
            inventory(functions, sfs.into_iter().map(|number| sf(number, "0000:00:00.0")).collect())
        },
    )
}

/// One element of a list selector, with its key.
fn conditions() -> impl Strategy<Value = (&'static str, &'static str)> {
    select(vec![
        ("vendors", "8086"),
        ("vendors", "15b3"),
        ("devices", "154c"),
        ("drivers", "iavf"),
        ("drivers", "vfio-pci"),
        ("pciAddresses", "00:01.0"),
        ("pciAddresses", "01:00.0"),
        ("pfNames", "p0"),
        ("pfNames", "p0#1-2"),
        ("pfNames", "ALT-p1#0,3"),
        ("pfNames", "p2#0-9"),
        ("rootDevices", "00:00.0#0"),
        ("rootDevices", "0000:01:00.0"),
        ("linkTypes", "ether"),
        ("linkTypes", "infiniband"),
        ("ddpProfiles", "none"),
    ])
}

/// An object of selectors.
fn objects() -> impl Strategy<Value = Value> {
    (prop::collection::vec(conditions(), 0..4), any::<bool>()).prop_map(|(conditions, is_rdma)| {
        let mut object = Map::new();
        for (key, element) in conditions {
            let list = object.entry(key).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(json!(element));
            }
        }
        object.insert("isRdma".to_owned(), json!(is_rdma));
        Value::Object(object)
    })
}

fn configured(selectors: &[(&str, Value)]) -> Config {
    let resource = |(number, (kind, selectors)): (usize, &(&str, Value))| json!({"resourceName": format!("r{number}"), "deviceType": kind, "selectors": selectors});
    let resources: Vec<Value> = selectors.iter().enumerate().map(resource).collect();
    let text = json!({"resourceList": resources}).to_string();
    config::parse(&text, Path::new("f"), config::DEFAULT_PREFIX).unwrap().config
}

/// A configuration of a few pools, some of them of scalable functions.
fn configs() -> impl Strategy<Value = Config> {
    let pool = (any::<bool>(), prop::collection::vec(objects(), 1..4)).prop_map(|(is_aux, mut objects)| {
        for object in objects.iter_mut().filter(|_| is_aux) {
            object["auxTypes"] = json!(["sf"]);
        }
        (if is_aux { "auxNetDevice" } else { "netDevice" }, Value::Array(objects))
    });
    prop::collection::vec(pool, 1..4).prop_map(|pools| configured(&pools))
}

/// What a single pool of PCI functions selects of a node whose IOMMU groups are left out.
fn selected(node: &Inventory, selectors: &Value) -> BTreeSet<DeviceId> {
    let assignment = assign(node, &configured(&[("netDevice", selectors.clone())]));
    assignment.pools[0].devices.iter().map(|device| device.id.clone()).collect()
}

fn without_groups(mut node: Inventory) -> Inventory {
    node.functions.iter_mut().for_each(|function| function.iommu_group = None);
    node
}

fn merged(a: &Value, b: &Value) -> Value {
    let mut both = a.clone();
    if let (Value::Object(both), Value::Object(b)) = (&mut both, b) {
        both.extend(b.clone());
    }
    both
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn every_device_is_in_one_pool_or_has_a_reason_for_each(node in nodes(), config in configs()) {
        let assignment = assign(&node, &config);
        let offered = assignment.pools.iter().flat_map(|pool| &pool.devices).map(|device| &device.id);
        let unassigned = assignment.unassigned.iter().map(|device| &device.id);
        let mut found: Vec<DeviceId> = offered.chain(unassigned).cloned().collect();
        found.sort();
        let functions = node.functions.iter().map(|function| DeviceId::Pci(function.address));
        let aux = node.aux_devices.iter().map(|aux| DeviceId::Aux(aux.name.clone()));
        let mut expected: Vec<DeviceId> = functions.chain(aux).collect();
        expected.sort();
        prop_assert_eq!(found, expected);

        let names: Vec<&ResourceName> = config.resources.iter().map(|resource| &resource.name).collect();
        for device in &assignment.unassigned {
            let of_device: Vec<&ResourceName> = device.reasons.iter().map(|reason| &reason.resource).collect();
            prop_assert_eq!(&of_device, &names);
        }
        for pool in &assignment.pools {
            prop_assert!(pool.devices.is_sorted_by_key(|device| device.id.clone()));
        }
        prop_assert!(assignment.unassigned.is_sorted_by_key(|device| device.id.clone()));
    }

    #[test]
    fn the_first_pool_that_selects_a_device_has_it(node in nodes().prop_map(without_groups), config in configs()) {
        let assignment = assign(&node, &config);
        let alone = |resource: &Resource| {
            let pools = assign(&node, &Config { resources: vec![resource.clone()] }).pools;
            pools[0].devices.iter().map(|device| device.id.clone()).collect::<BTreeSet<_>>()
        };
        let alone: Vec<BTreeSet<DeviceId>> = config.resources.iter().map(alone).collect();
        for (index, pool) in assignment.pools.iter().enumerate() {
            let before: BTreeSet<DeviceId> = alone[..index].iter().flatten().cloned().collect();
            let found: BTreeSet<DeviceId> = pool.devices.iter().map(|device| device.id.clone()).collect();
            prop_assert_eq!(found, &alone[index] - &before);
        }
        for overlap in &assignment.overlaps {
            let selecting = config.resources.iter().zip(&alone).filter(|(_, ids)| ids.contains(&overlap.id));
            let selecting: Vec<&ResourceName> = selecting.map(|(resource, _)| &resource.name).collect();
            prop_assert_eq!(selecting[0], &overlap.resource);
            prop_assert_eq!(&selecting[1..], &overlap.also.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_two_devices_on_offer_share_an_iommu_group_on_vfio(node in nodes(), config in configs()) {
        let mut groups = BTreeSet::new();
        for device in assign(&node, &config).pools.iter().flat_map(|pool| &pool.devices) {
            let function = device.id.pci_address().and_then(|address| node.function(&address));
            let group = function.filter(|function| function.is_vfio()).and_then(|function| function.iommu_group);
            prop_assert!(group.is_none_or(|group| groups.insert(group)));
        }
    }

    #[test]
    fn selectors_of_an_object_hold_together_and_objects_stand_for_each_other(
        node in nodes().prop_map(without_groups),
        a in objects(),
        b in objects(),
    ) {
        let (of_a, of_b) = (selected(&node, &a), selected(&node, &b));
        prop_assert_eq!(selected(&node, &json!([a, b])), &of_a | &of_b);
        let keys_of = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let mut only_b = b.clone();
        // A key that both have is a longer list, not two conditions; and pciAddresses lifts the uplink rule of the others.
        for key in keys_of(&a).intersection(&keys_of(&b)) {
            only_b.as_object_mut().unwrap().remove(key);
        }
        let both = merged(&a, &only_b);
        let lifts = both.get("pciAddresses").is_some();
        let both = selected(&node, &both);
        let expected = &of_a & &selected(&node, &only_b);
        prop_assert!(expected.is_subset(&both));
        prop_assert!(lifts || both == expected);
    }

    #[test]
    fn elements_of_a_list_add_up(node in nodes().prop_map(without_groups), a in conditions(), b in conditions()) {
        let alone = |(key, element): (&str, &str)| selected(&node, &json!({key: [element]}));
        if a.0 == b.0 {
            let both = selected(&node, &json!({a.0: [a.1, b.1]}));
            prop_assert_eq!(both, &alone(a) | &alone(b));
        }
        prop_assert_eq!(selected(&node, &json!({a.0: []})), selected(&node, &json!({})));
    }

    #[test]
    fn an_empty_pool_accounts_for_every_device(node in nodes(), config in configs()) {
        let assignment = assign(&node, &config);
        for empty in why_empty(&node, &config, &assignment) {
            let turned_away: usize = empty.turned_away.iter().map(|turned| turned.devices).sum();
            let taken: usize = empty.taken.iter().map(|taken| taken.devices).sum();
            prop_assert_eq!(turned_away + taken, node.functions.len() + node.aux_devices.len());
        }
    }
}
