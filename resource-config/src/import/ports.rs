//! Which policies are about one PF, and what comes of them: as the operator merges them, policy by policy.

use std::ops::RangeInclusive;

use super::node_policy::NodePolicy;
use super::objects::Files;
use crate::pci::{PciAddress, PciId};

/// The PFs that a policy means: every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pfs {
    pub(super) name: Option<String>,
    pub(super) addresses: Vec<PciAddress>,
    pub(super) vendor: Option<PciId>,
    pub(super) device: Option<PciId>,
}

impl Pfs {
    /// Whether a PF may meet the conditions of both.
    fn may_be(&self, other: &Self) -> bool {
        let differ = |a: Option<PciId>, b: Option<PciId>| a.is_some() && b.is_some() && a != b;
        let names = self.name.is_some() && other.name.is_some() && self.name != other.name;
        let both = !self.addresses.is_empty() && !other.addresses.is_empty();
        let addresses = both && !self.addresses.iter().any(|address| other.addresses.contains(address));
        !names && !addresses && !differ(self.vendor, other.vendor) && !differ(self.device, other.device)
    }
}

/// VFs that a policy gives to its resource.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    pub(super) policy: &'a NodePolicy,
    pub(super) indexes: RangeInclusive<u32>,
}

impl Group<'_> {
    fn overlaps(&self, other: &Self) -> bool {
        self.indexes.start() <= other.indexes.end() && other.indexes.start() <= self.indexes.end()
    }
}

/// What a PF shall be like.
#[derive(Debug, Clone)]
pub(super) struct Port<'a> {
    pub(super) pfs: Pfs,
    pub(super) num_vfs: u32,
    pub(super) mtu: Option<u32>,
    /// Those of the policy that was applied last come first.
    pub(super) groups: Vec<Group<'a>>,
    /// The policy that was applied last, whose other settings count.
    pub(super) policy: &'a NodePolicy,
}

impl Port<'_> {
    /// Whether the group has all VFs.
    pub(super) fn is_whole(&self, group: &Group<'_>) -> bool {
        *group.indexes.start() == 0 && group.indexes.end() + 1 == self.num_vfs
    }
}

/// All PFs that policies mean, those of the policies that were applied last before others.
pub(super) struct Ports<'a>(pub(super) Vec<Port<'a>>);

impl<'a> Ports<'a> {
    /// Merges policies, which come in the order of their application.
    pub(super) fn of(policies: &'a [NodePolicy], files: &mut Files) -> Self {
        let mut ports: Vec<Port<'a>> = Vec::new();
        let mut before = None;
        for policy in policies.iter().filter(|policy| policy.num_vfs > 0) {
            let is_equal = before.replace(policy.priority) == Some(policy.priority);
            let mut ours: Vec<Port<'a>> = claims(policy);
            for port in &mut ours {
                if let Some(index) = ports.iter().position(|other| other.pfs == port.pfs) {
                    merge(port, &ports.remove(index), is_equal, files);
                }
            }
            // The last one applied has precedence, so its ports come first.
            ours.append(&mut ports);
            ports = ours;
        }
        let ports = Self(ports);
        ports.refuse_uncertain(files);
        ports
    }

    /// Pairs of PFs that may be the same: first the one with precedence.
    pub(super) fn overlapping(&self) -> impl Iterator<Item = (&Port<'a>, &Port<'a>)> {
        let pairs =
            |(index, later): (usize, _)| self.0.iter().skip(index + 1).map(move |earlier| (later, earlier));
        let pairs = self.0.iter().enumerate().flat_map(pairs);
        pairs.filter(|(later, earlier): &(&Port<'a>, &Port<'a>)| later.pfs.may_be(&earlier.pfs))
    }

    /// Refuses what cannot be told without the node: policies that name their PFs differently, where it matters whether they mean
    /// the same one.
    fn refuse_uncertain(&self, files: &mut Files) {
        for (later, earlier) in self.overlapping().filter(|(a, b)| a.policy.name != b.policy.name) {
            let (name, policy) = (&earlier.policy.name, later.policy);
            let place = policy.key("nicSelector");
            if would_merge(later, earlier) {
                let found = format!(
                    "PFs that may be those of policy {name}, whose VFs or settings the operator would then add to these"
                );
                let allowed =
                    "the same PFs by the same keys in both policies, or PFs that cannot be the same";
                files.problem(policy.file, &place, found, allowed);
            } else {
                let text = format!(
                    "a PF that policy {name} selects, too, is set up by this one alone, as by the operator"
                );
                files.note(policy.file, &place, text);
            }
        }
    }
}

/// What a policy asks for, PF by PF.
fn claims(policy: &NodePolicy) -> Vec<Port<'_>> {
    let port =
        |name: Option<String>, addresses: Vec<PciAddress>, indexes: Option<RangeInclusive<u32>>| Port {
            pfs: Pfs { name, addresses, vendor: policy.vendor, device: policy.device },
            num_vfs: policy.num_vfs,
            mtu: policy.mtu,
            groups: vec![Group { policy, indexes: indexes.unwrap_or(0..=policy.num_vfs.saturating_sub(1)) }],
            policy,
        };
    let addresses = || {
        let mut addresses = policy.root_devices.clone();
        addresses.sort_unstable();
        addresses
    };
    if !policy.pf_names.is_empty() {
        let named = policy.pf_names.iter();
        return named.map(|pf| port(Some(pf.name.clone()), addresses(), pf.indexes.clone())).collect();
    }
    if policy.root_devices.is_empty() {
        return vec![port(None, Vec::new(), None)];
    }
    policy.root_devices.iter().map(|address| port(None, vec![*address], None)).collect()
}

/// Adds to a port what an earlier policy asked for, and still may have.
fn merge<'a>(port: &mut Port<'a>, earlier: &Port<'a>, is_equal: bool, files: &mut Files) {
    let Some(ours) = port.groups.first().cloned() else { return };
    let mut kept = false;
    for group in &earlier.groups {
        if group.policy.resource != ours.policy.resource && !group.overlaps(&ours) {
            port.groups.push(group.clone());
            kept = true;
            continue;
        }
        let (first, last) = (group.indexes.start(), group.indexes.end());
        let winner = &ours.policy.name;
        let text = format!(
            "its VFs {first}-{last} of {} are passed over for policy {winner}, as by the operator",
            port.pfs
        );
        files.note(group.policy.file, &group.policy.place, text);
    }
    if kept || is_equal {
        port.num_vfs = port.num_vfs.max(earlier.num_vfs);
        port.mtu = port.mtu.max(earlier.mtu);
    }
}

/// Whether anything of the earlier one would be added, were they the same PF.
fn would_merge(later: &Port<'_>, earlier: &Port<'_>) -> bool {
    let apart = |a: &Group<'_>, b: &Group<'_>| a.policy.resource != b.policy.resource && !a.overlaps(b);
    let groups = later.groups.iter().any(|a| earlier.groups.iter().any(|b| apart(a, b)));
    let settings = earlier.num_vfs > later.num_vfs || earlier.mtu > later.mtu;
    groups || (settings && later.policy.priority == earlier.policy.priority)
}

impl std::fmt::Display for Pfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, self.addresses.as_slice()) {
            (Some(name), _) => write!(f, "PF {name}"),
            (None, []) => f.write_str("each PF"),
            (None, addresses) => {
                let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "PF {}", texts.join(", "))
            }
        }
    }
}
