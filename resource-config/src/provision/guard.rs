//! What must not be touched: VFs that somebody uses, and PFs that carry the host's traffic.

use std::collections::BTreeMap;

use super::choice::Chosen;
use super::plan::{NodeState, PfPlan, Refusal, Request};
use super::port::CurrentPf;
use super::step::Step;
use super::usage::User;
use crate::pci::PciAddress;
use crate::pools::use_by_host;

/// Lets pass what may be done. Steps on a VF in use are left out with a refusal, the other VFs go on; steps that concern the
/// PF as a whole make the whole PF stay as it is.
///
/// # Errors
/// Why the PF stays as it is.
pub(super) fn check(
    chosen: &Chosen<'_>,
    current: &CurrentPf,
    steps: Vec<Step>,
    state: &NodeState,
    request: &Request,
    plan: &mut PfPlan,
) -> Result<Vec<Step>, Vec<String>> {
    let steps_on_used = Used { current, state, request };
    let mut problems = Vec::new();
    let whole = steps.iter().find(|step| concerns_all_vfs(step));
    if let Some(step) = whole {
        for (index, address, users) in steps_on_used.all() {
            problems.push(format!("{step}: VF {index} ({address}) is in use: {}", advice(&address, users)));
        }
    }
    if !steps.is_empty() {
        problems.extend(uplink(chosen, state, request));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if whole.is_some() {
        return Ok(steps);
    }
    let refused = refusals(&steps, &steps_on_used, plan);
    let mut steps = steps;
    steps.retain(|step| step.vf().is_none_or(|vf| !refused.contains_key(&vf)));
    // What only prepared for the refused ones is not done either.
    if !refused.is_empty() && !steps.iter().any(|step| step.vf().is_some()) {
        steps.retain(|step| !matches!(step, Step::LoadModule { .. } | Step::Noiommu { .. } | Step::Settle));
    }
    Ok(steps)
}

fn concerns_all_vfs(step: &Step) -> bool {
    matches!(step, Step::NumVfs { to: 0, .. } | Step::PfMtu { .. } | Step::PfUp { up: false })
}

/// VFs in use that nobody told us by address to touch all the same.
struct Used<'a> {
    current: &'a CurrentPf,
    state: &'a NodeState,
    request: &'a Request,
}

impl<'a> Used<'a> {
    fn one(&self, index: u32) -> Option<(PciAddress, &'a [User])> {
        let address = self.current.vfs.get(&index)?.address?;
        let users = self.state.usage.of(&address);
        (!users.is_empty() && !self.request.force.contains(&address)).then_some((address, users))
    }

    fn all(&self) -> impl Iterator<Item = (u32, PciAddress, &'a [User])> {
        self.current.vfs.keys().filter_map(|index| {
            let (address, users) = self.one(*index)?;
            Some((*index, address, users))
        })
    }
}

/// The VFs whose steps are not done; said as a refusal, or as a note where only what an attachment has set differs.
fn refusals(steps: &[Step], used: &Used<'_>, plan: &mut PfPlan) -> BTreeMap<u32, ()> {
    let mut of_vfs: BTreeMap<u32, Vec<&Step>> = BTreeMap::new();
    for step in steps {
        if let Some(vf) = step.vf() {
            of_vfs.entry(vf).or_default().push(step);
        }
    }
    let mut refused = BTreeMap::new();
    for (index, steps) in of_vfs {
        let Some((address, users)) = used.one(index) else { continue };
        refused.insert(index, ());
        let what = steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let has_set_it = users.iter().any(|user| user.is_attachment);
        // The driver is nothing that an attachment changes.
        if has_set_it && rebinds_only_for_settings(&steps) {
            let user = users.iter().map(|user| user.text.as_str()).collect::<Vec<_>>().join("; ");
            plan.notes.push(format!("left for later ({what}): VF {index} ({address}) is in use: {user}"));
        } else {
            let reason = format!("{what}: it is in use: {}", advice(&address, users));
            plan.refusals.push(Refusal { device: Some(address), reason });
        }
    }
    refused
}

/// Whether the steps change no driver: a driver that is taken off comes back for a new address only.
fn rebinds_only_for_settings(steps: &[&Step]) -> bool {
    let from = steps
        .iter()
        .find_map(|step| if let Step::Unbind { driver, .. } = step { driver.as_deref() } else { None });
    let to = steps
        .iter()
        .find_map(|step| if let Step::Bind { driver, .. } = step { Some(driver.as_deref()) } else { None });
    match (from, to) {
        (_, None) => true,
        (Some(from), Some(None)) => !super::port::is_for_user_space(from),
        (from, Some(to)) => from == to,
    }
}

fn advice(address: &PciAddress, users: &[User]) -> String {
    let users = users.iter().map(|user| user.text.as_str()).collect::<Vec<_>>().join("; ");
    format!("{users}. Free it first, or give --force {address}")
}

fn uplink(chosen: &Chosen<'_>, state: &NodeState, request: &Request) -> Option<String> {
    let pf = chosen.pf;
    if chosen.is_named_by_address() || request.force.contains(&pf.address) {
        return None;
    }
    let used = use_by_host(&state.inventory, &pf.netdevs)?;
    Some(format!(
        "it carries the host's traffic: {used}. List it in `pciAddresses` of the section, or give --force {}, to change it \
         all the same",
        pf.address
    ))
}
