use std::ffi::OsString;

use fairlead_resource_config::test_support::SysfsTree;

use crate::preflight::{
    Check, Driver, Drivers, Facts, Hugepages, InterfaceFacts, NodeState, NumaNode, PagePool, ProcessFacts,
    Roots, Verdict, Wanted,
};
use crate::testpmd::arguments::{IovaMode, Tuning};

use super::{Needs, iova_mode, share_cores};

const A: &str = "0000:01:10.0";
const B: &str = "0000:01:10.2";

const NEEDS: Needs = Needs {
    programs: 2,
    tuning: Tuning { queues: 1, cores: 1, burst: 32, descriptors: 512 },
    frame_size: 1518,
};
const MEMORY: u64 = 32 << 20;

fn checks(facts: &Facts) -> Vec<Check> {
    super::checks(facts, &NEEDS)
}

fn driver(text: &str) -> Driver {
    serde_json::from_str(text).unwrap()
}

fn facts(tree: &SysfsTree) -> Facts {
    let (sys, proc, dev) = (tree.root(), tree.proc(), tree.dev());
    let roots = Roots { sys, proc, root: dev.clone(), dev, path: OsString::new() };
    let devices = [A, B].map(|text| text.parse().unwrap());
    let mut facts = Facts::gather(&roots, &Wanted { devices: &devices, ..Wanted::default() });
    facts.pod = false;
    let igb_vf = driver(r#"{"name": "net_e1000_igb_vf", "pci_ids": [[32902, 4298, 65535, 65535]]}"#);
    facts.drivers = Drivers { all: vec![igb_vf], folders: Vec::new() };
    // What no made-up tree has: nodes that answer.
    for device in &mut facts.devices {
        if device.node.exists() {
            device.node_state = NodeState::Opens { viable: true };
        }
    }
    facts.vfio_state = NodeState::Opens { viable: true };
    let pool = PagePool { size: 2 << 20, total: 256, free: 200, allowed: None };
    facts.hugepages = Hugepages { pools: vec![pool], mounts: vec!["/dev/hugepages".into()] };
    facts.process = ProcessFacts {
        ipc_lock: Some(true),
        sys_rawio: Some(false),
        memlock: Some(65536),
        cores: Some(vec![0, 1]),
        ..ProcessFacts::default()
    };
    facts.testpmd = Ok("/usr/bin/dpdk-testpmd".into());
    facts
}

fn bound() -> SysfsTree {
    let tree = SysfsTree::igb(2);
    tree.bind_vfio(A);
    tree.bind_vfio(B);
    tree
}

fn good() -> Facts {
    facts(&bound())
}

/// The one check that is not well, as text.
fn only_fault(facts: &Facts, verdict: Verdict) -> String {
    let checks = checks(facts);
    let faults: Vec<&Check> = checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
    let [fault] = faults.as_slice() else { panic!("not one fault: {checks:#?}") };
    assert_eq!(fault.verdict, verdict);
    assert!(fault.remedy.is_some());
    fault.to_string()
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn all_is_well() {
    let facts = good();
    assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok && check.remedy.is_none()));
    assert_eq!(iova_mode(&facts), IovaMode::Va);
    assert_eq!(share_cores(&facts, 2, NEEDS.tuning).unwrap()[0].forwarding, [0]);
}

#[test]
fn a_device_on_a_kernel_driver() {
    let tree = SysfsTree::igb(2);
    tree.bind_vfio(A);
    assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[B, "igbvf", "driver_override"]);
}

#[test]
fn a_device_that_is_gone_or_no_network_device() {
    let tree = bound();
    tree.set(A, "class", "0x010802");
    assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[A, "not a network device"]);
    tree.remove(A);
    assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[A, "no such", "restart the pod"]);
}

#[test]
fn nodes_that_do_not_open() {
    let cases = [
        (NodeState::Opens { viable: false }, "not viable"),
        (NodeState::Missing, "request it as a resource"),
        (NodeState::InUse, "in use"),
        (NodeState::Bad("cannot open it: Permission denied".into()), "Permission denied"),
    ];
    for (state, words) in cases {
        let mut facts = good();
        facts.devices[1].node_state = state;
        assert_says(&only_fault(&facts, Verdict::Fail), &[B, words]);
    }
    for (state, words) in [
        (NodeState::Missing, "missing"),
        (NodeState::InUse, "in use"),
        (NodeState::Bad("no".into()), "device_ownership"),
    ] {
        let mut facts = good();
        facts.vfio_state = state;
        assert_says(&only_fault(&facts, Verdict::Fail), &["vfio/vfio", words]);
    }
}

#[test]
fn groups_that_are_shared() {
    let tree = bound();
    tree.group(7, &[A, B]);
    std::fs::write(tree.dev().join("vfio/7"), "").unwrap();
    assert_says(&only_fault(&facts(&tree), Verdict::Fail), &["share IOMMU group 7", "ACS"]);

    let tree = bound();
    tree.igb_vf(2);
    tree.group(8, &[B, "0000:01:10.4"]);
    std::fs::write(tree.dev().join("vfio/8"), "").unwrap();
    assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[B, "0000:01:10.4 on igbvf"]);
}

#[test]
fn a_device_without_group() {
    let tree = bound();
    tree.unset(A, "iommu_group");
    assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[A, "intel_iommu=on"]);
}

#[test]
fn without_iommu_addresses_are_physical_and_raw_io_is_asked_for() {
    let tree = bound();
    tree.noiommu(10);
    let mut facts = facts(&tree);
    assert_says(&only_fault(&facts, Verdict::Fail), &["SYS_RAWIO"]);
    facts.process.sys_rawio = Some(true);
    assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok));
    assert_eq!(iova_mode(&facts), IovaMode::Pa);
}

#[test]
fn too_few_huge_pages_on_the_node_or_for_the_container() {
    let mut facts = good();
    facts.hugepages.pools[0].free = 31;
    assert_says(&only_fault(&facts, Verdict::Fail), &["2Mi: 31 of 256 free", "reserve more"]);
    facts.hugepages.pools[0].free = 32;
    assert_eq!(checks(&facts).iter().filter(|check| check.verdict != Verdict::Ok).count(), 0);
    facts.hugepages.pools[0].allowed = Some(0);
    assert_says(&only_fault(&facts, Verdict::Fail), &["may use 0", "limits and requests"]);
    facts.hugepages.pools.clear();
    assert_says(&only_fault(&facts, Verdict::Fail), &["the node has none", "nr_hugepages"]);
}

#[test]
fn no_mount_of_huge_pages_is_only_a_warning() {
    let mut facts = good();
    facts.hugepages.mounts.clear();
    assert_says(&only_fault(&facts, Verdict::Warn), &["emptyDir"]);
}

#[test]
fn locked_memory_by_capability_or_by_limit() {
    let mut facts = good();
    facts.process.ipc_lock = Some(false);
    assert_says(&only_fault(&facts, Verdict::Fail), &["64 KiB", "IPC_LOCK"]);
    facts.process.memlock = None;
    assert_says(&only_fault(&facts, Verdict::Fail), &["cannot be read"]);
    for enough in [u64::MAX, MEMORY] {
        facts.process.memlock = Some(enough);
        assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok));
    }
}

#[test]
fn two_processors_are_needed() {
    let mut facts = good();
    facts.process.cores = Some(vec![5]);
    assert_says(&only_fault(&facts, Verdict::Fail), &["1 usable"]);
    assert_eq!(share_cores(&facts, 2, NEEDS.tuning), None);
    facts.process.cores = None;
    assert_says(&only_fault(&facts, Verdict::Fail), &["/proc"]);
}

#[test]
fn no_testpmd_and_no_sysfs() {
    let mut facts = good();
    facts.testpmd = Err("there is none".into());
    assert_says(&only_fault(&facts, Verdict::Fail), &["there is none", "--testpmd"]);
    facts.sysfs_error = Some("cannot list".into());
    assert_says(&only_fault(&facts, Verdict::Fail), &["sysfs", "cannot list", "/sys"]);
}

#[test]
fn every_size_of_huge_pages_is_told() {
    let mut facts = good();
    facts.hugepages.pools.push(PagePool { size: 1 << 30, total: 2, free: 1, allowed: Some(0) });
    let texts: Vec<String> = checks(&facts).iter().map(ToString::to_string).collect();
    let has = |words: &str| texts.iter().any(|text| text.contains(words));
    assert!(
        has("huge pages 2Mi: 200 of 256 free")
            && has("huge pages 1Gi: 1 of 2 free, of which the container may use 0")
    );
    facts.hugepages.pools[0].free = 0;
    let failed = checks(&facts).into_iter().filter(|check| check.verdict == Verdict::Fail).count();
    assert_eq!(failed, 2, "{texts:#?}");
}

#[test]
fn a_device_without_its_dpdk_driver() {
    let mut facts = good();
    facts.drivers.all = vec![driver(r#"{"name": "net_other", "pci_ids": [[32902, 1, 65535, 65535]]}"#)];
    let failed: Vec<Check> =
        checks(&facts).into_iter().filter(|check| check.verdict == Verdict::Fail).collect();
    assert_eq!(failed.len(), 2);
    assert_says(&failed[0].to_string(), &[A, "none for 8086:10ca", "librte_net_e1000"]);
    facts.drivers.all.clear();
    assert_says(&only_fault(&facts, Verdict::Warn), &["no folder of drivers"]);
}

#[test]
fn a_device_that_stays_on_its_kernel_driver() {
    let tree = bound();
    tree.bind(A, "mlx5_core");
    let mut facts = facts(&tree);
    facts.process.net_raw = Some(true);
    facts.devices[0].node_state = NodeState::Missing;
    assert_says(&only_fault(&facts, Verdict::Fail), &[A, "stays on mlx5_core", "networks"]);
    tree.add_netdev(A, "net1");
    let mut facts = self::facts(&tree);
    facts.process.net_raw = Some(true);
    facts.devices[0].node_state = NodeState::Missing;
    assert_says(&only_fault(&facts, Verdict::Fail), &[A, "uverbs", "isRdma"]);
    facts.devices[0].node_state = NodeState::Opens { viable: true };
    assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok), "{:#?}", checks(&facts));
    facts.process.net_raw = Some(false);
    assert_says(&only_fault(&facts, Verdict::Fail), &["NET_RAW", "mlx5"]);
}

fn net1() -> InterfaceFacts {
    InterfaceFacts {
        name: "net1".into(),
        exists: true,
        up: true,
        carrier: Some(true),
        mac: None,
        mtu: Some(1500),
        speed: None,
        driver: None,
    }
}

#[test]
fn interfaces_of_the_kernel() {
    let mut facts = good();
    facts.devices.clear();
    facts.interfaces = vec![net1()];
    facts.process.net_raw = Some(true);
    facts.process.ipc_lock = Some(false);
    facts.vfio_state = NodeState::Missing;
    facts.drivers.all = vec![driver(r#"{"name": "net_af_packet", "pci_ids": []}"#)];
    assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok), "{:#?}", checks(&facts));
    type Spoil = fn(&mut InterfaceFacts);
    let cases: [(Spoil, &str); 4] = [
        (|net1| net1.exists = false, "no such interface"),
        (|net1| net1.up = false, "ip link set net1 up"),
        (|net1| net1.carrier = Some(false), "no carrier"),
        (|net1| net1.mtu = Some(1400), "MTU is 1400, frames of 1518 bytes need 1500"),
    ];
    for (spoil, words) in cases {
        let mut bad = facts.clone();
        spoil(&mut bad.interfaces[0]);
        assert_says(&only_fault(&bad, Verdict::Fail), &["net1", words]);
    }
    facts.process.net_raw = Some(false);
    assert_says(&only_fault(&facts, Verdict::Fail), &["NET_RAW", "packet sockets"]);
    facts.process.net_raw = Some(true);
    facts.drivers.all[0].name = "net_other".into();
    assert_says(&only_fault(&facts, Verdict::Fail), &["librte_net_af_packet"]);
}

#[test]
fn processors_that_are_few_throttled_or_everybodys_are_told() {
    let mut facts = good();
    let crowded = super::checks(&facts, &Needs { programs: 3, ..NEEDS });
    let crowded: Vec<&Check> = crowded.iter().filter(|check| check.verdict == Verdict::Warn).collect();
    assert_says(&crowded[0].to_string(), &["3 threads are busy", "take turns"]);
    facts.process.quota = Some(1.5);
    assert_says(&only_fault(&facts, Verdict::Warn), &["1.5 processors' time", "cpu limit"]);
    facts.process.quota = Some(2.0);
    facts.process.online = Some(vec![0, 1]);
    assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok));
    facts.pod = true;
    assert_says(&only_fault(&facts, Verdict::Warn), &["every processor", "static CPU manager"]);
    facts.process.online = Some(vec![0, 1, 2, 3]);
    assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok));
}

#[test]
fn ports_forward_near_their_device() {
    let mut facts = good();
    let node = |processors: &[u32], free| NumaNode { processors: processors.to_vec(), free };
    facts.process.cores = Some(vec![0, 1, 2, 3]);
    facts.numa = [(0, node(&[2, 3], 1 << 30)), (1, node(&[0, 1], 0))].into();
    let shares = share_cores(&facts, 2, NEEDS.tuning).unwrap();
    assert_eq!(shares[0].main, 2);
    let warned: Vec<String> = checks(&facts)
        .iter()
        .filter(|check| check.verdict == Verdict::Warn)
        .map(ToString::to_string)
        .collect();
    // Three would do; with one of the two for waiting, the second port forwards elsewhere.
    assert_eq!(warned.len(), 1);
    assert_says(&warned[0], &[B, "processors 0 of another node"]);
    facts.numa.get_mut(&0).unwrap().processors = vec![1, 2, 3];
    assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok), "{:#?}", checks(&facts));
    facts.numa.get_mut(&0).unwrap().free = 1 << 20;
    let warned = checks(&facts).into_iter().filter(|check| check.verdict == Verdict::Warn).count();
    assert_eq!(warned, 2);
}

#[test]
fn a_device_that_no_network_was_attached_with() {
    let mut facts = good();
    let attachment = |device: &str| crate::network_status::Attachment {
        network: "default/dpdk-net".into(),
        interface: "net1".into(),
        mac: None,
        pci_address: device.parse().ok(),
    };
    facts.attachments = vec![attachment(A)];
    assert_says(&only_fault(&facts, Verdict::Warn), &[B, "VLAN", "once for each device"]);
    facts.attachments.push(attachment(B));
    assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok));
}
