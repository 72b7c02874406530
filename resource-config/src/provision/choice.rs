//! Which section of a policy is about which PF of a node.

use super::plan::Refusal;
use super::policy::{NodeIdentity, PfSelector, Policy, Section};
use crate::inventory::{Function, Inventory, pf_netdev};

/// A PF, and the section that it is set up by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen<'a> {
    pub(super) pf: &'a Function,
    pub(super) section: &'a Section,
}

impl Chosen<'_> {
    /// Whether the section names the PF by its address: only then is it changed while it carries the host's traffic.
    pub(super) fn is_named_by_address(&self) -> bool {
        self.section.pfs.pci_addresses.contains(&self.pf.address)
    }
}

/// The sections of this node, applied to its PFs.
pub(super) struct Choice<'a> {
    /// By address.
    pub(super) chosen: Vec<Chosen<'a>>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) warnings: Vec<String>,
}

/// Gives each PF its section: the first that selects it.
///
/// A file serves a whole fleet, so one name of several that this node lacks is a warning. A section that names its PFs and
/// finds none of them is refused: the node would come up without VFs, silently.
pub(super) fn choose<'a>(policy: &'a Policy, inventory: &'a Inventory, node: &NodeIdentity) -> Choice<'a> {
    let mut choice = Choice { chosen: Vec::new(), refusals: Vec::new(), warnings: Vec::new() };
    let pfs: Vec<&Function> =
        inventory.functions.iter().filter(|function| function.as_pf().is_some()).collect();
    let sections: Vec<&Section> = policy.sections.iter().filter(|section| section.is_for(node)).collect();
    if sections.is_empty() {
        let text = format!("no section of the policy is about node {:?} with the labels given", node.name);
        choice.warnings.push(text);
    }
    for pf in &pfs {
        let mut selecting = sections.iter().filter(|section| selects(&section.pfs, pf));
        let Some(section) = selecting.next() else { continue };
        choice.chosen.push(Chosen { pf, section });
        for other in selecting {
            let (address, first, other) = (pf.address, &section.name, &other.name);
            choice
                .warnings
                .push(format!("PF {address}: section {other} is passed over, section {first} has it"));
        }
    }
    for section in sections {
        missing(section, &pfs, &mut choice);
    }
    choice
}

fn selects(selector: &PfSelector, pf: &Function) -> bool {
    let by_name = selector.pf_names.is_empty() || selector.pf_names.iter().any(|name| has_name(pf, name));
    let by_address = selector.pci_addresses.is_empty() || selector.pci_addresses.contains(&pf.address);
    let by_vendor = selector.vendors.is_empty() || pf.vendor.is_some_and(|id| selector.vendors.contains(&id));
    let by_device = selector.devices.is_empty() || pf.device.is_some_and(|id| selector.devices.contains(&id));
    by_name && by_address && by_vendor && by_device
}

fn has_name(pf: &Function, name: &str) -> bool {
    pf.netdevs.iter().any(|netdev| netdev.name == name || netdev.altnames.iter().any(|other| other == name))
}

/// Says what a section names and the node lacks.
fn missing(section: &Section, pfs: &[&Function], choice: &mut Choice<'_>) {
    let names = section.pfs.pf_names.iter().filter(|name| !pfs.iter().any(|pf| has_name(pf, name)));
    let addresses =
        section.pfs.pci_addresses.iter().filter(|address| !pfs.iter().any(|pf| pf.address == **address));
    let lacking: Vec<String> = names.cloned().chain(addresses.map(ToString::to_string)).collect();
    let matches_some = pfs.iter().any(|pf| selects(&section.pfs, pf));
    let name = &section.name;
    let there = describe(pfs);
    if matches_some {
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            choice
                .warnings
                .push(format!("section {name}: this node has no PF {lacking}; its PFs are {there}"));
        }
        return;
    }
    if section.pfs.pf_names.is_empty() && section.pfs.pci_addresses.is_empty() {
        choice.warnings.push(format!("section {name} selects no PF of this node; its PFs are {there}"));
        return;
    }
    let reason = if lacking.is_empty() {
        format!("section {name}: no PF meets all of its selectors together; the PFs of this node are {there}")
    } else {
        let lacking = lacking.join(", ");
        format!(
            "section {name}: this node has no PF {lacking}; its PFs are {there}. Correct the names, or choose the nodes of \
             the section with `nodes` or `labels`"
        )
    };
    choice.refusals.push(Refusal { device: None, reason });
}

fn describe(pfs: &[&Function]) -> String {
    if pfs.is_empty() {
        return "none: no device has SR-IOV here; is it on in the BIOS and in the card's firmware?"
            .to_owned();
    }
    let one = |pf: &&Function| match pf_netdev(&pf.netdevs) {
        Some(netdev) => format!("{} ({})", pf.address, netdev.name),
        None => pf.address.to_string(),
    };
    pfs.iter().map(one).collect::<Vec<_>>().join(", ")
}
