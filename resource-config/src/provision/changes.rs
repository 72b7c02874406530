//! The steps from what a PF is like to what it shall be like, in the order that drivers need. Serves to set up and to restore.
//!
//! VFs are made with automatic probing off, so that administrative addresses are there before a driver asks for them (igb
//! tells its VF only then) and no kernel driver is started only to be taken off again. It is on while VFs are bound to the
//! kernel's driver, as without it the kernel binds only what has a `driver_override`; then it is as it was before.

use std::collections::BTreeSet;

use fairlead_kernel::route::VfChange;

use super::family::Family;
use super::port::{Binding, CurrentPf, CurrentVf, WantedMtu, WantedPf, WantedVf};
use super::step::Step;

/// All steps for one PF, none when everything is as wanted.
pub(super) fn steps(current: &CurrentPf, wanted: &WantedPf, family: &Family) -> Vec<Step> {
    let remake = wanted.num_vfs.filter(|number| *number != current.num_vfs);
    let mut vf_steps = Vec::new();
    let mut mtu_steps = Vec::new();
    for (index, wanted) in &wanted.vfs {
        let fresh;
        let vf = match (remake, current.vfs.get(index)) {
            (None, Some(vf)) => vf,
            (None, None) => continue,
            (Some(number), _) if *index < number => {
                fresh = CurrentVf::default();
                &fresh
            }
            (Some(_), _) => continue,
        };
        // Without the switch the kernel may have bound new VFs before anybody could say otherwise.
        let maybe_bound = remake.is_some() && current.autoprobe.is_none();
        one_vf(*index, vf, wanted, maybe_bound, &mut vf_steps);
        mtu_steps.extend(vf_mtu(*index, vf, wanted, remake.is_some()));
    }
    let mut steps = modules(&vf_steps, family);
    let (before, after) = pf_steps(current, wanted);
    steps.extend(before);
    steps.extend(made_and_bound(current, remake, vf_steps));
    steps.extend(mtu_steps);
    steps.extend(after);
    steps
}

/// Modules first: when one is missing, nothing has been touched yet.
fn modules(vf_steps: &[Step], family: &Family) -> Vec<Step> {
    let needed: BTreeSet<&str> = vf_steps
        .iter()
        .filter_map(|step| match step {
            Step::Bind { driver: Some(driver), .. } => Some(driver.as_str()),
            Step::Bind { driver: None, .. } => family.vf_driver,
            _ => None,
        })
        .collect();
    needed.into_iter().map(|module| Step::LoadModule { module: module.to_owned() }).collect()
}

/// What VFs need of the PF comes before them, what they would suffer from after them.
fn pf_steps(current: &CurrentPf, wanted: &WantedPf) -> (Vec<Step>, Vec<Step>) {
    let mtu = match wanted.mtu {
        Some(WantedMtu::AtLeast(mtu)) => mtu.max(current.mtu),
        Some(WantedMtu::Exactly(mtu)) => mtu,
        None => current.mtu,
    };
    let up = wanted.up.unwrap_or(current.up);
    let mtu_step = Step::PfMtu { from: current.mtu, to: mtu };
    let before =
        [(mtu > current.mtu).then_some(mtu_step.clone()), (up && !current.up).then_some(Step::PfUp { up })];
    let after = [(mtu < current.mtu).then_some(mtu_step), (!up && current.up).then_some(Step::PfUp { up })];
    (before.into_iter().flatten().collect(), after.into_iter().flatten().collect())
}

/// The number of VFs, then what they are like. The kernel refuses one number over another: it goes through zero.
fn made_and_bound(current: &CurrentPf, remake: Option<u32>, vf_steps: Vec<Step>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut probing = Probing { now: current.autoprobe };
    if let Some(number) = remake {
        if number > 0 {
            steps.extend(probing.switch(false));
        }
        if current.num_vfs > 0 {
            steps.push(Step::NumVfs { from: current.num_vfs, to: 0 });
        }
        if number > 0 {
            steps.push(Step::NumVfs { from: 0, to: number });
        }
    }
    let is_bind = |step: &Step| matches!(step, Step::Bind { .. });
    let to_kernel = |step: &Step| matches!(step, Step::Bind { driver: None, .. });
    let binds = vf_steps.iter().any(is_bind);
    if vf_steps.iter().any(to_kernel) {
        steps.extend(probing.switch(true));
    }
    steps.extend(vf_steps);
    if let Some(before) = current.autoprobe_before.or(current.autoprobe) {
        steps.extend(probing.switch(before));
    }
    steps.extend(binds.then_some(Step::Settle));
    steps
}

/// Automatic probing while the steps are done; `None` where the kernel has no switch for it.
struct Probing {
    now: Option<bool>,
}

impl Probing {
    fn switch(&mut self, on: bool) -> Option<Step> {
        let now = self.now.as_mut().filter(|now| **now != on)?;
        *now = on;
        Some(Step::Autoprobe { on })
    }
}

/// Settings of one VF. An address only counts for a driver that starts after it was set, so a bound VF is bound anew for it.
fn one_vf(index: u32, vf: &CurrentVf, wanted: &WantedVf, maybe_bound: bool, steps: &mut Vec<Step>) {
    let change = VfChange {
        mac: wanted.mac.filter(|mac| vf.mac != Some(*mac)),
        trust: wanted.trust.filter(|trust| vf.trust != Some(*trust)),
        spoof_check: wanted.spoof_check.filter(|on| vf.spoof_check != Some(*on)),
        ..VfChange::default()
    };
    let driver = vf.driver.as_deref();
    let rebind = !wanted.binding.is_met_by(driver) || (change.mac.is_some() && driver.is_some());
    if rebind && (driver.is_some() || maybe_bound) {
        steps.push(Step::Unbind { vf: index, driver: vf.driver.clone() });
    }
    if change != VfChange::default() {
        steps.push(Step::VfAdmin { vf: index, change: change.clone() });
    }
    if rebind && wanted.binding != Binding::Unbound {
        let driver = match &wanted.binding {
            Binding::Named(name) => Some(name.clone()),
            // Rebound only for its address: to what it had.
            Binding::Any => vf.driver.clone().filter(|driver| super::port::is_for_user_space(driver)),
            _ => None,
        };
        let mac = if wanted.insists_on_mac { wanted.mac } else { change.mac };
        let mac = mac.filter(|mac| driver.is_none() && !mac.is_zero());
        steps.push(Step::Bind { vf: index, driver, mac });
    }
}

/// A VF whose network device is not here (it is in a pod) is left alone; a VF that is bound anew keeps no MTU.
fn vf_mtu(index: u32, vf: &CurrentVf, wanted: &WantedVf, remade: bool) -> Option<Step> {
    let to = wanted.mtu?;
    let has_netdev = match &wanted.binding {
        Binding::Kernel => true,
        Binding::Any => !vf.driver.as_deref().is_some_and(super::port::is_for_user_space),
        Binding::Named(_) | Binding::Unbound => false,
    };
    let rebound =
        !wanted.binding.is_met_by(vf.driver.as_deref()) || wanted.mac.is_some_and(|mac| vf.mac != Some(mac));
    let differs = vf.mtu.is_some_and(|mtu| mtu != to);
    (has_netdev && (remade || rebound || differs)).then_some(Step::VfMtu { vf: index, to })
}
