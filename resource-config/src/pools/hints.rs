//! What else tells why a pool is empty: the PFs that it names.

use crate::config::{DeviceType, Functions, Resource};
use crate::inventory::{Function, Inventory, pf_netdev};

/// Of each PF that a pool names, that it does not exist or has nothing to offer; each said once.
pub(super) fn of_pfs(inventory: &Inventory, resource: &Resource) -> Vec<String> {
    let mut hints: Vec<String> = Vec::new();
    for selectors in &resource.selectors {
        let by_name = selectors.pf_names.iter().map(|pf| (name(pf), called(inventory, &pf.pf)));
        let by_address = selectors.root_devices.iter().map(|pf| (name(pf), inventory.function(&pf.pf)));
        let found = by_name.chain(by_address).filter_map(|(name, pf)| hint(inventory, resource, name, pf));
        for hint in found {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }
    hints
}

/// The PF as the configuration spells it, without indexes.
fn name<T>(functions: &Functions<T>) -> &str {
    functions.text().split('#').next().unwrap_or_default()
}

fn called<'a>(inventory: &'a Inventory, wanted: &str) -> Option<&'a Function> {
    let is_it = |name: &String| name.eq_ignore_ascii_case(wanted);
    inventory.functions.iter().find(|function| {
        let netdev = pf_netdev(&function.netdevs);
        netdev.is_some_and(|netdev| is_it(&netdev.name) || netdev.altnames.iter().any(is_it))
    })
}

fn hint(inventory: &Inventory, resource: &Resource, name: &str, pf: Option<&Function>) -> Option<String> {
    let Some(pf) = pf else { return Some(format!("this node has no PF {name}")) };
    if resource.device_type == DeviceType::AuxNetDevice {
        let has_parts = inventory.aux_devices.iter().any(|aux| aux.parent == pf.address);
        return (!has_parts).then(|| format!("{name} has no scalable functions"));
    }
    match pf.as_pf() {
        None => Some(format!("{name} is no PF: it cannot have VFs")),
        Some(role) if role.has_vfs() => None,
        Some(role) => {
            let most = role.total_vfs.map(|total| format!(" of {total}")).unwrap_or_default();
            Some(format!("{name} has 0{most} VFs"))
        }
    }
}
