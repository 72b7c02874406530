//! What a policy asks of a node: a function from plain data to plain data.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::changes;
use super::choice::{self, Chosen};
use super::drop_ins;
use super::family;
use super::guard;
use super::policy::{NodeIdentity, Policy};
use super::port::{CurrentPf, Port};
use super::step::Step;
use super::usage::Usage;
use super::wanted;
use crate::inventory::{Inventory, pf_netdev};
use crate::pci::PciAddress;

/// What a plan is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    /// The node's devices.
    pub inventory: Inventory,
    /// What else is known of PFs with a network device.
    pub ports: BTreeMap<PciAddress, Port>,
    /// Who uses which device.
    pub usage: Usage,
    /// Our drop-in files, by name.
    pub drop_ins: BTreeMap<String, String>,
    /// Whether VFIO works without an IOMMU; `None` when the module is not loaded.
    pub noiommu: Option<bool>,
}

/// What is asked beside the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// This node.
    pub node: NodeIdentity,
    /// Devices that are touched although they are in use: a PF that carries the host's traffic, or a VF.
    pub force: BTreeSet<PciAddress>,
}

/// What there is to do on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Files that keep udev and NetworkManager away from VFs, to be written or removed.
    pub drop_ins: Vec<DropIn>,
    /// One for each PF that the policy is about, in the order of addresses.
    pub pfs: Vec<PfPlan>,
    /// Why a section cannot be carried out at all.
    pub refusals: Vec<Refusal>,
    /// What is odd and keeps nothing from being done.
    pub warnings: Vec<String>,
}

/// A drop-in file that differs from what it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DropIn {
    /// Its name in the folder of udev's rules.
    pub file: String,
    /// What shall be in it; `None` when it shall go.
    pub text: Option<String>,
}

/// What there is to do on one PF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PfPlan {
    /// Its address.
    pub address: PciAddress,
    /// Its network device.
    pub netdev: Option<String>,
    /// The section of the policy.
    pub section: String,
    /// What is done, in this order; none when the PF is as it shall be or everything is refused.
    pub steps: Vec<PlannedStep>,
    /// What is not done, and why. A refused VF is left out, a refused PF has no steps.
    pub refusals: Vec<Refusal>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// A step, with words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// The step in words.
    pub text: String,
    /// What others notice of it.
    pub disturbs: Option<String>,
}

impl From<Step> for PlannedStep {
    fn from(step: Step) -> Self {
        Self { text: step.to_string(), disturbs: step.disturbs(), step }
    }
}

/// Something that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The PF or VF that stays as it is.
    pub device: Option<PciAddress>,
    /// Why, and what to do about it.
    pub reason: String,
}

impl Plan {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drop_ins.is_empty() && self.pfs.iter().all(|pf| pf.steps.is_empty())
    }

    /// Everything that is refused.
    pub fn all_refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.iter().chain(self.pfs.iter().flat_map(|pf| &pf.refusals))
    }
}

/// What it takes to have a node as its policy says.
#[must_use]
pub fn provision(policy: &Policy, state: &NodeState, request: &Request) -> Plan {
    let choice = choice::choose(policy, &state.inventory, &request.node);
    let mut plan = Plan {
        refusals: choice.refusals,
        warnings: [choice.warnings, state.usage.notes.clone()].concat(),
        drop_ins: drop_ins::changes(&choice.chosen, &state.drop_ins),
        pfs: choice.chosen.iter().map(|chosen| one_pf(chosen, state, request)).collect(),
    };
    wanted::refuse_shared_macs(&mut plan.pfs);
    plan
}

fn one_pf(chosen: &Chosen<'_>, state: &NodeState, request: &Request) -> PfPlan {
    let pf = chosen.pf;
    let mut plan = PfPlan {
        address: pf.address,
        netdev: pf_netdev(&pf.netdevs).map(|netdev| netdev.name.clone()),
        section: chosen.section.name.clone(),
        steps: Vec::new(),
        refusals: Vec::new(),
        notes: Vec::new(),
    };
    match wanted_steps(chosen, state, request, &mut plan) {
        Ok(steps) => plan.steps = steps.into_iter().map(PlannedStep::from).collect(),
        Err(reasons) => {
            plan.refusals
                .extend(reasons.into_iter().map(|reason| Refusal { device: Some(pf.address), reason }));
        }
    }
    plan
}

/// The steps, or why the PF stays as it is altogether.
fn wanted_steps(
    chosen: &Chosen<'_>,
    state: &NodeState,
    request: &Request,
    plan: &mut PfPlan,
) -> Result<Vec<Step>, Vec<String>> {
    let pf = chosen.pf;
    let family = family::of(pf.driver.as_deref());
    let port = state.ports.get(&pf.address).filter(|_| plan.netdev.is_some());
    let Some(port) = port else { return Err(vec![wanted::no_netdev(pf)]) };
    let Some(current) = CurrentPf::of(&state.inventory, pf, port) else {
        return Err(vec!["it has no SR-IOV capability (no sriov_totalvfs): it is no PF".to_owned()]);
    };
    let wanted = wanted::of(chosen, &current, port, family, &mut plan.notes)?;
    let mut steps = wanted::preparations(chosen.section, pf, &wanted, &current, state)?;
    steps.extend(changes::steps(&current, &wanted, family));
    guard::check(chosen, &current, steps, state, request, plan)
}

#[cfg(test)]
mod tests;
