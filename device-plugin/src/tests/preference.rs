//! Which devices are preferred.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_resource_config::config::{self, Preference};
use fairlead_resource_config::pools::Device;
use rand::prelude::*;

use crate::member::Member;
use crate::pool::Listing;
use crate::prefer::preferred;

/// A pool of devices, each with its NUMA node and the number of its PF.
fn pool(preference: Preference, devices: &[(&str, Option<u32>, u8)]) -> Listing {
    let text = r#"{"resourceList":[{"resourceName":"a"}]}"#;
    let loaded = config::parse(text, std::path::Path::new("config.json"), config::DEFAULT_PREFIX).unwrap();
    let mut resource = loaded.config.resources[0].clone();
    resource.offer.preferred_allocation = preference;
    let member = |(id, numa_node, pf): &(&str, Option<u32>, u8)| Member {
        device: Device {
            id: id.parse().unwrap(),
            driver: "igbvf".to_owned(),
            numa_node: *numa_node,
            pf_address: format!("0000:{pf:02x}:00.0").parse().ok(),
            selectors: 0,
            group_peers: Vec::new(),
            problem: None,
            notes: Vec::new(),
        },
        address: id.parse().ok(),
        rdma: Vec::new(),
        vdpa: None,
        representor: None,
        problem: None,
        in_use: false,
    };
    let mut members: Vec<Member> = devices.iter().map(member).collect();
    members.sort_by(|a, b| a.id().cmp(b.id()));
    Listing { resource: Arc::new(resource), members: Arc::new(members) }
}

fn texts(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// Two NUMA nodes with two PFs each.
const NODE: &[(&str, Option<u32>, u8)] = &[
    ("0000:01:10.0", Some(0), 1),
    ("0000:01:10.1", Some(0), 1),
    ("0000:02:10.0", Some(0), 2),
    ("0000:02:10.1", Some(0), 2),
    ("0000:02:10.2", Some(0), 2),
    ("0000:81:10.0", Some(1), 0x81),
    ("0000:81:10.1", Some(1), 0x81),
    ("0000:82:10.0", Some(1), 0x82),
];

fn chosen(preference: Preference, must: &[&str], size: usize) -> Vec<String> {
    let all: Vec<&str> = NODE.iter().map(|(id, ..)| *id).collect();
    preferred(&pool(preference, NODE), &texts(&all), &texts(must), size)
}

#[test]
fn packed_takes_one_pf_that_just_has_enough() {
    for (size, expected) in [
        // The smaller node has enough, and there the smaller PF.
        (1, &["0000:82:10.0"][..]),
        (2, &["0000:81:10.0", "0000:81:10.1"]),
        (3, &["0000:81:10.0", "0000:81:10.1", "0000:82:10.0"]),
        (4, &["0000:02:10.0", "0000:02:10.1", "0000:02:10.2", "0000:01:10.0"]),
    ] {
        assert_eq!(chosen(Preference::Packed, &[], size), texts(expected), "{size}");
    }
}

#[test]
fn spread_takes_turns_between_the_pfs_of_a_node() {
    assert_eq!(chosen(Preference::Spread, &[], 2), texts(&["0000:81:10.0", "0000:82:10.0"]));
    let four = ["0000:02:10.0", "0000:01:10.0", "0000:02:10.1", "0000:01:10.1"];
    assert_eq!(chosen(Preference::Spread, &[], 4), texts(&four));
}

#[test]
fn what_must_be_chosen_leads_the_rest() {
    let must = ["0000:01:10.1"];
    assert_eq!(chosen(Preference::Packed, &must, 2), texts(&["0000:01:10.1", "0000:01:10.0"]));
    assert_eq!(chosen(Preference::Spread, &must, 2), texts(&["0000:01:10.1", "0000:02:10.0"]));
}

#[test]
fn devices_that_left_the_pool_are_the_last_choice() {
    let listing = pool(Preference::Packed, NODE);
    let available = texts(&["0000:09:00.0", "0000:01:10.0"]);
    assert_eq!(preferred(&listing, &available, &[], 1), texts(&["0000:01:10.0"]));
    assert_eq!(preferred(&listing, &available, &[], 3), texts(&["0000:01:10.0", "0000:09:00.0"]));
}

/// How many of something the chosen devices come from.
fn count<T: Ord>(
    devices: &[(String, Option<u32>, u8)],
    chosen: &[String],
    what: impl Fn(&(String, Option<u32>, u8)) -> T,
) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for device in devices.iter().filter(|(id, ..)| chosen.contains(id)) {
        *counts.entry(what(device)).or_default() += 1;
    }
    counts
}

/// Made-up nodes of all kinds: whatever is asked, the answer is one that kubelet takes, and from as few NUMA nodes as can be.
#[test]
fn answers_are_whole_and_of_few_numa_nodes() {
    let mut random = StdRng::seed_from_u64(4);
    for _ in 0..3000 {
        let devices: Vec<(String, Option<u32>, u8)> = (0..random.random_range(1..24_u32))
            .map(|n| {
                let pf = random.random_range(0..5_u8);
                let numa_node = (pf < 4).then_some(u32::from(pf / 2));
                (format!("0000:{pf:02x}:{:02x}.{}", 16 + n / 8, n % 8), numa_node, pf)
            })
            .collect();
        let preference = *[Preference::Packed, Preference::Spread].choose(&mut random).unwrap();
        let borrowed: Vec<_> = devices.iter().map(|(id, numa, pf)| (id.as_str(), *numa, *pf)).collect();
        let listing = pool(preference, &borrowed);
        let mut available: Vec<String> = devices.iter().map(|(id, ..)| id.clone()).collect();
        available.shuffle(&mut random);
        let size = random.random_range(0..=available.len());
        let must = available[..random.random_range(0..=size.min(3))].to_vec();
        let answer = preferred(&listing, &available, &must, size);

        assert_eq!(answer.len(), size);
        assert_eq!(answer.iter().collect::<BTreeSet<_>>().len(), size, "one is chosen twice");
        assert!(must.iter().all(|id| answer.contains(id)) && answer.iter().all(|id| available.contains(id)));
        let mut other_order = available.clone();
        other_order.sort();
        assert_eq!(
            preferred(&listing, &other_order, &must, size),
            answer,
            "the order of the question matters"
        );

        let nodes = count(&devices, &answer, |device| device.1);
        if must.is_empty() {
            // The largest nodes, until there are enough.
            let mut sizes: Vec<usize> =
                count(&devices, &available, |device| device.1).into_values().collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let enough = (0..=sizes.len()).find(|n| sizes[..*n].iter().sum::<usize>() >= size).unwrap();
            assert_eq!(nodes.len(), enough, "{devices:?} {size}");
        }
        if preference == Preference::Spread && must.is_empty() && nodes.len() == 1 {
            // No PF gives two more than another that has some left.
            let (numa, _) = nodes.first_key_value().unwrap();
            let has: Vec<_> = devices.iter().filter(|device| device.1 == *numa).cloned().collect();
            let given = count(&devices, &answer, |device| device.2);
            let most = given.values().max().unwrap();
            for (pf, all) in count(&has, &available, |device| device.2) {
                let taken = given.get(&pf).copied().unwrap_or_default();
                assert!(taken == all || taken + 1 >= *most, "{devices:?} {answer:?}");
            }
        }
    }
}
