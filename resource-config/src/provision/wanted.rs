//! From a section to what one PF shall be like, and whether it can be.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_kernel::Mac;

use super::choice::Chosen;
use super::family::Family;
use super::plan::{NodeState, PfPlan, PlannedStep, Refusal};
use super::policy::{Section, VfDriver, WantedMode};
use super::port::{Binding, CurrentPf, Port, WantedMtu, WantedPf, WantedVf};
use super::step::Step;
use crate::inventory::{EswitchMode, Function};
use crate::pci::PciAddress;

/// Why a PF without a network device cannot be set up.
pub(super) fn no_netdev(pf: &Function) -> String {
    match pf.driver.as_deref() {
        None => "it has no driver, so no VFs can be made; bind it to its kernel driver".to_owned(),
        Some(driver) => format!(
            "it is on {driver} and has no network device in this network namespace; bind it to its kernel driver, and run in \
             the host's network namespace (hostNetwork: true)"
        ),
    }
}

/// What the section wants of this PF, or everything that makes it impossible.
pub(super) fn of(
    chosen: &Chosen<'_>,
    current: &CurrentPf,
    port: &Port,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<WantedPf, Vec<String>> {
    let section = chosen.section;
    let mut problems = Vec::new();
    check_number(chosen, current, family, &mut problems);
    check_mode(chosen, family, &mut problems);
    let number = if section.externally_managed { None } else { section.num_vfs };
    let count = number.unwrap_or(current.num_vfs);
    check_ranges(section, count, &mut problems);
    let mtu = (0..count).filter_map(|index| section.vf(index).mtu).chain(section.mtu).max();
    if section.externally_managed {
        if let Some(mtu) = mtu.filter(|mtu| *mtu > current.mtu) {
            problems.push(format!(
                "the section is externallyManaged and needs MTU {mtu}, the PF has {}: raise it",
                current.mtu
            ));
        }
    } else if family.pf_up_first && !section.up && !current.up && count > 0 {
        problems.push(
            "the PF is down and `up` is false: VFs of this driver do not start then; leave `up` out"
                .to_owned(),
        );
    }
    let mut vfs = vfs(section, port, count, &mut problems);
    if family.bifurcated && vfs.values().any(|vf| matches!(vf.binding, Binding::Named(_))) {
        notes.push(
            "DPDK uses these VFs beside the kernel's driver: on vfio-pci its own driver for them does not work".to_owned(),
        );
    }
    if port.vfs.is_none() && number.is_none_or(|number| number == current.num_vfs) && current.num_vfs > 0 {
        notes.push(
            "the VFs' administrative settings cannot be read, so they are set only when VFs are made"
                .to_owned(),
        );
        for vf in vfs.values_mut() {
            (vf.mac, vf.trust, vf.spoof_check) = (None, None, None);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let own = !section.externally_managed;
    Ok(WantedPf {
        up: (own && section.up).then_some(true),
        mtu: mtu.filter(|_| own).map(WantedMtu::AtLeast),
        num_vfs: number,
        vfs,
    })
}

fn vfs(section: &Section, port: &Port, count: u32, problems: &mut Vec<String>) -> BTreeMap<u32, WantedVf> {
    let mut vfs = BTreeMap::new();
    for index in 0..count {
        let settings = section.vf(index);
        let mac = section.mac_prefix.as_ref().map(|prefix| port.mac.and_then(|pf| prefix.address(pf, index)));
        if mac == Some(None) {
            problems.push(format!(
                "macPrefix: VF {index} gets no address: the PF needs an Ethernet address, and indexes end at 255"
            ));
            break;
        }
        let vf = WantedVf {
            binding: match settings.driver {
                None => Binding::Any,
                Some(driver) => driver.name().map_or(Binding::Kernel, |name| Binding::Named(name.to_owned())),
            },
            mac: mac.flatten(),
            insists_on_mac: true,
            trust: settings.trust,
            spoof_check: settings.spoof_check,
            mtu: settings.mtu,
        };
        vfs.insert(index, vf);
    }
    vfs
}

fn check_number(chosen: &Chosen<'_>, current: &CurrentPf, family: &Family, problems: &mut Vec<String>) {
    let Some(number) = chosen.section.num_vfs else { return };
    if chosen.section.externally_managed {
        if current.num_vfs < number {
            let has = current.num_vfs;
            problems.push(format!(
                "the section is externallyManaged and needs {number} VFs, the PF has {has}: whoever makes them has to make more"
            ));
        }
        return;
    }
    let Some(total) = chosen.pf.as_pf().and_then(|role| role.total_vfs) else { return };
    if number > total {
        let advice = family.more_vfs(chosen.pf.address, number);
        problems.push(format!(
            "numVfs is {number}, the card allows {total} (sriov_totalvfs); allowed: 0 to {total}. For more: {advice}"
        ));
    }
}

fn check_mode(chosen: &Chosen<'_>, family: &Family, problems: &mut Vec<String>) {
    let Some(wanted) = chosen.section.eswitch_mode else { return };
    let found = chosen.pf.as_pf().and_then(|role| role.eswitch_mode);
    // A driver that tells of no mode knows only the legacy one.
    let is_met = match wanted {
        WantedMode::Legacy => !matches!(found, Some(EswitchMode::Switchdev)),
        WantedMode::Switchdev => found == Some(EswitchMode::Switchdev),
    };
    if !is_met {
        let mode = match wanted {
            WantedMode::Legacy => "legacy",
            WantedMode::Switchdev => "switchdev",
        };
        let advice = family.change_mode(chosen.pf.address, mode);
        problems.push(format!(
            "eSwitchMode is {mode}, the PF is in another mode, which this program does not change: {advice}"
        ));
    }
}

fn check_ranges(section: &Section, count: u32, problems: &mut Vec<String>) {
    for range in &section.ranges {
        if let Some(highest) = range.indexes.highest().filter(|highest| *highest >= count) {
            problems.push(format!(
                "a range of `vfs` goes to VF {highest}, there are {count} VFs, counted from 0"
            ));
        }
    }
}

/// What VFIO needs, or why it cannot be had. Without an IOMMU nothing is tried unless the policy asks for it.
pub(super) fn preparations(
    section: &Section,
    pf: &Function,
    wanted: &WantedPf,
    current: &CurrentPf,
    state: &NodeState,
) -> Result<Vec<Step>, Vec<String>> {
    let vfio = VfDriver::VfioPci.name().unwrap_or_default();
    let needs = |(index, vf): (&u32, &WantedVf)| {
        let has =
            current.vfs.get(index).filter(|_| wanted.num_vfs.is_none_or(|number| number == current.num_vfs));
        vf.binding == Binding::Named(vfio.to_owned()) && has.and_then(|vf| vf.driver.as_deref()) != Some(vfio)
    };
    // VFs that are to be made will have an IOMMU when their PF has one.
    if !wanted.vfs.iter().any(needs) || pf.iommu_group.is_some() {
        return Ok(Vec::new());
    }
    if !section.noiommu {
        return Err(vec![
            "vfio-pci needs an IOMMU and this node has none: switch on VT-d or AMD-Vi in the BIOS and boot with intel_iommu=on \
             iommu=pt (AMD: iommu=pt); in a virtual machine without one, `noiommu: true` in the policy does without protection"
                .to_owned(),
        ]);
    }
    if state.noiommu == Some(true) {
        return Ok(Vec::new());
    }
    Ok(vec![Step::LoadModule { module: vfio.to_owned() }, Step::Noiommu { allowed: true }])
}

/// Refuses PFs whose VFs would get an address that VFs of another PF get.
pub(super) fn refuse_shared_macs(plans: &mut [PfPlan]) {
    let macs = |plan: &PfPlan| -> BTreeSet<Mac> { plan.steps.iter().filter_map(admin_mac).collect() };
    let mut owners: BTreeMap<Mac, PciAddress> = BTreeMap::new();
    for plan in plans {
        let own = macs(plan);
        if let Some((mac, owner)) = own.iter().find_map(|mac| Some((mac, owners.get(mac)?))) {
            let reason = format!(
                "macPrefix: VFs of PF {owner} get {mac} too; a prefix of two bytes leaves room for what tells PFs apart"
            );
            plan.refusals.push(Refusal { device: Some(plan.address), reason });
            plan.steps.clear();
        } else {
            owners.extend(own.into_iter().map(|mac| (mac, plan.address)));
        }
    }
}

fn admin_mac(step: &PlannedStep) -> Option<Mac> {
    if let Step::VfAdmin { change, .. } = &step.step { change.mac } else { None }
}
