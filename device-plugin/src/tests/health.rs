//! What the pools list: decided step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use fairlead_resource_config::PciAddress;
use fairlead_resource_config::pools;
use fairlead_resource_config::test_support::SysfsTree;
use tokio::time::Instant;

use super::fixture::{Fixture, TWO_POOLS, add_rdma, tree};
use crate::in_use::InUse;
use crate::plan::{Memory, View, plan};

const A: &str = "0000:01:10.0";
const B: &str = "0000:01:10.2";
const C: &str = "0000:01:10.4";
const D: &str = "0000:01:10.6";
const KERNEL: &str = "intel.com/sriov";
const DPDK: &str = "intel.com/sriov_dpdk";

/// Decides again and again for one node.
struct Judge {
    node: Fixture,
    memory: Memory,
    in_use: InUse,
    provisioning: BTreeSet<PciAddress>,
    now: Instant,
    again: Option<Instant>,
}

impl Judge {
    fn of(tree: SysfsTree, config: &str) -> Self {
        let mut judge = Self {
            node: Fixture::of(tree, config),
            memory: Memory::default(),
            in_use: InUse::default(),
            provisioning: BTreeSet::new(),
            now: Instant::now(),
            again: None,
        };
        judge.listed();
        judge
    }

    fn new() -> Self {
        Self::of(tree(), TWO_POOLS)
    }

    /// Tells what pods have, and nothing else.
    fn give(&mut self, given: &[(&str, &[&str])]) {
        let ids = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect();
        let told = given.iter().map(|(resource, list)| ((*resource).to_owned(), ids(list))).collect();
        self.in_use.tell(told, self.now);
    }

    /// What each pool lists: the device and why not.
    fn listed(&mut self) -> BTreeMap<String, Vec<(String, String)>> {
        let (config, inventory) = (self.node.config(), self.node.inventory());
        let view = View {
            inventory: &inventory,
            config: &config,
            in_use: &self.in_use,
            provisioning: &self.provisioning,
            now: self.now,
        };
        let plan = plan(&view, pools::assign(&inventory, &config), &mut self.memory);
        self.again = plan.again;
        let line = |member: &crate::member::Member| {
            let problem = member.problem.as_ref().map(ToString::to_string).unwrap_or_default();
            (member.id().to_string(), problem)
        };
        plan.pools
            .into_iter()
            .map(|(name, listing)| (name, listing.members.iter().map(line).collect()))
            .collect()
    }

    fn of_pool(&mut self, pool: &str) -> Vec<(String, String)> {
        self.listed().remove(pool).unwrap_or_default()
    }

    fn ids(&mut self, pool: &str) -> Vec<String> {
        self.of_pool(pool).into_iter().map(|(id, _)| id).collect()
    }

    /// Why a device is not to be handed out; empty when it is.
    fn problem(&mut self, pool: &str, id: &str) -> String {
        let found = self.of_pool(pool).into_iter().find(|(listed, _)| listed == id);
        found.unwrap_or_else(|| panic!("{id} is not listed")).1
    }
}

#[test]
fn a_device_that_is_unbound_or_rebound_by_hand_says_so_and_recovers() {
    let mut judge = Judge::new();
    judge.node.tree.bind(C, "");
    assert_eq!(judge.problem(DPDK, C), "it is on no driver, its pool has it for vfio-pci");
    judge.node.tree.bind(C, "uio_pci_generic");
    assert_eq!(judge.problem(DPDK, C), "it is on driver uio_pci_generic, its pool has it for vfio-pci");
    judge.node.tree.bind(C, "vfio-pci");
    assert_eq!(judge.problem(DPDK, C), "");
    // Where another pool is for what it is now, it is that one's.
    judge.node.tree.bind(C, "igbvf");
    assert_eq!((judge.ids(KERNEL), judge.ids(DPDK)), (vec![A.into(), B.into(), C.into()], vec![D.into()]));
}

#[test]
fn a_free_device_that_is_gone_is_not_listed() {
    let mut judge = Judge::new();
    judge.node.tree.remove(A);
    assert_eq!(judge.ids(KERNEL), [B]);
    judge.node.tree.remove(B);
    assert!(judge.ids(KERNEL).is_empty());
}

#[test]
fn a_device_that_moves_into_a_pod_is_as_healthy_as_before() {
    let mut judge = Judge::new();
    let before = judge.listed();
    judge.node.tree.remove_netdev(A, "ens1f0v0");
    assert_eq!(judge.listed(), before);
    judge.give(&[(KERNEL, &[A])]);
    assert_eq!(judge.listed(), before);
    judge.node.tree.add_netdev(A, "ens1f0v0");
    judge.give(&[]);
    assert_eq!(judge.listed(), before);
}

#[test]
fn what_a_pod_has_belongs_to_nobody_else() {
    let mut judge = Judge::new();
    judge.give(&[(KERNEL, &[A, B])]);
    judge.node.tree.bind_vfio(A);
    judge.node.tree.remove(B);
    assert_eq!(judge.problem(KERNEL, A), "it is on driver vfio-pci, its pool has it for igbvf");
    assert_eq!(judge.problem(KERNEL, B), "it does not exist any more");
    assert_eq!(judge.ids(DPDK), [C, D]);
    judge.give(&[]);
    assert_eq!((judge.ids(KERNEL).is_empty(), judge.ids(DPDK)), (true, vec![A.into(), C.into(), D.into()]));
}

#[test]
fn a_new_process_knows_what_pods_have_from_kubelet_alone() {
    let mut judge = Judge::new();
    // Selected by no pool any more, for a reason that a pod may have made.
    judge.give(&[(KERNEL, &[A]), (DPDK, &[C, "0000:09:00.0"])]);
    judge.node.tree.stack("ens1f0v0", "bond0", true);
    judge.node.tree.bind(C, "igbvf");
    judge.memory = Memory::default();
    assert_eq!(judge.problem(KERNEL, A), "");
    assert_eq!(judge.problem(DPDK, C), "it is on driver igbvf, its pool has it for vfio-pci");
    assert_eq!(judge.problem(DPDK, "0000:09:00.0"), "it does not exist any more");
}

#[test]
fn one_group_is_never_given_out_twice() {
    let tree = tree();
    tree.group(20, &[C, D]);
    let mut judge = Judge::of(tree, TWO_POOLS);
    assert_eq!(judge.ids(DPDK), [C]);
    // Whichever of them a pod has, the other is not offered.
    judge.give(&[(DPDK, &[D])]);
    assert_eq!(judge.of_pool(DPDK), [(D.to_owned(), String::new())]);
    judge.give(&[]);
    assert_eq!(judge.ids(DPDK), [C]);
}

#[test]
fn a_group_that_is_not_viable_says_who_has_it() {
    let mut judge = Judge::new();
    judge.node.tree.group(12, &[A]);
    let problem = judge.problem(DPDK, C);
    assert!(problem.contains(A) && problem.contains("igbvf"), "{problem}");
}

#[test]
fn vfs_are_not_handed_out_while_their_pf_is_provisioned() {
    let mut judge = Judge::new();
    judge.give(&[(KERNEL, &[A])]);
    judge.provisioning = BTreeSet::from(["0000:01:00.0".parse().unwrap()]);
    judge.node.tree.igb_vf(4);
    // What a pod has stays as it is.
    assert_eq!(judge.problem(KERNEL, A), "");
    for (pool, id) in [(KERNEL, B), (KERNEL, "0000:01:11.0"), (DPDK, C)] {
        assert!(judge.problem(pool, id).starts_with("PF 0000:01:00.0 is being provisioned"));
    }
    judge.provisioning.clear();
    assert!(judge.of_pool(KERNEL).iter().all(|(_, problem)| problem.is_empty()));
}

#[test]
fn a_link_that_is_down_matters_where_a_pool_asks_and_after_a_while() {
    let config =
        TWO_POOLS.replace(r#""excludeTopology":true"#, r#""linkDown":"unhealthy","linkDownSeconds":3"#);
    let mut judge = Judge::of(tree(), &config);
    let set = |judge: &Judge, carrier: &str, state: &str| {
        judge.node.tree.set("0000:01:00.0", "net/ens1f0/carrier", carrier);
        judge.node.tree.set("0000:01:00.0", "net/ens1f0/operstate", state);
    };
    set(&judge, "0", "down");
    assert_eq!(
        (judge.problem(DPDK, C), judge.again),
        (String::new(), Some(judge.now + Duration::from_secs(3)))
    );
    judge.now += Duration::from_secs(2);
    // A flap begins the wait anew.
    set(&judge, "1", "up");
    judge.listed();
    set(&judge, "0", "down");
    judge.listed();
    judge.now += Duration::from_secs(2);
    assert_eq!(judge.problem(DPDK, C), "");
    judge.now += Duration::from_secs(1);
    assert_eq!(judge.problem(DPDK, C), "the link of 0000:01:00.0 is down");
    assert_eq!((judge.problem(KERNEL, A), judge.again), (String::new(), None));
    set(&judge, "1", "up");
    assert_eq!(judge.problem(DPDK, C), "");
}

#[test]
fn a_changed_configuration_forgets_what_it_does_not_mean() {
    let mut judge = Judge::new();
    judge.give(&[(DPDK, &[C])]);
    judge.node.tree.bind(D, "");
    assert_eq!(judge.ids(DPDK), [C, D]);
    judge.node.configure(&TWO_POOLS.replace("vfio-pci", "uio_pci_generic"));
    assert_eq!(judge.ids(DPDK), [C]);
    // The whole pool goes.
    judge.node.configure(r#"{"resourceList":[{"resourceName":"other","selectors":{"drivers":["igbvf"]}}]}"#);
    let expected = "the configuration does not have its resource any more";
    assert_eq!(judge.problem(DPDK, C), expected);
    assert!(!judge.listed().contains_key(KERNEL));
    judge.give(&[]);
    assert!(!judge.listed().contains_key(DPDK));
}

/// A pool of VFs with RDMA, of which an RDMA device disappears.
#[test]
fn a_missing_rdma_device_is_told_unless_a_pod_has_it() {
    let tree = SysfsTree::igb(2);
    add_rdma(&tree, A, 0);
    add_rdma(&tree, B, 1);
    let config = r#"{"resourceList":[{"resourceName":"sriov","selectors":{"isRdma":true}}]}"#;
    let mut judge = Judge::of(tree, config);
    assert_eq!(judge.ids(KERNEL), [A, B]);
    fs::remove_dir_all(judge.node.tree.device(A).join("infiniband")).unwrap();
    assert!(judge.problem(KERNEL, A).contains("no RDMA device"));
    judge.give(&[(KERNEL, &[A])]);
    assert_eq!(judge.problem(KERNEL, A), "");
}
