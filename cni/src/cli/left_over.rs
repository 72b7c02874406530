//! What nobody owns: only said, since others may have made it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use fairlead_resource_config::{PciAddress, inventory};

use super::records;
use crate::{
    config::Fields,
    engine::Engine,
    ipam::{self, Owner, Place},
    protocol::error::CniError,
    record::Record,
};

/// A line for each thing. `networks` is where host-local keeps reservations unless a network says otherwise.
///
/// # Errors
/// When records or reservations cannot be read.
pub fn left_over(engine: &Engine, networks: &Path) -> Result<Vec<String>, CniError> {
    let records = records(engine)?;
    let mut lines: Vec<String> = engine.store.unreadable()?.iter().map(ToString::to_string).collect();
    lines.extend(engine.store.broken()?.iter().map(|file| {
        format!(
            "{}: a record that could not be read was set aside: see what is in it, then remove it",
            file.display()
        )
    }));
    lines.extend(reservations(&records, networks)?);
    lines.extend(devices(&records, engine));
    Ok(lines)
}

fn reservations(records: &[Record], networks: &Path) -> Result<Vec<String>, CniError> {
    let owned: BTreeSet<(&str, &str)> =
        records.iter().map(|record| (record.container_id.as_str(), record.interface.as_str())).collect();
    let is_ours = |owner: &Owner| {
        // The oldest reservations tell no interface.
        owned.contains(&(owner.container_id.as_str(), owner.interface.as_str()))
            || (owner.interface.is_empty() && owned.iter().any(|(id, _)| *id == owner.container_id))
    };
    let mut lines = Vec::new();
    for (path, place) in stores(records, networks)? {
        for owner in ipam::owners(&place)?.iter().filter(|owner| !is_ours(owner)) {
            lines.push(format!(
                "{path}: container {} has a reservation for interface {} that no attachment here owns",
                owner.container_id, owner.interface
            ));
        }
    }
    Ok(lines)
}

/// Every store that a network of ours uses, by whomever it is executed, and those in the usual folder.
fn stores(records: &[Record], networks: &Path) -> Result<BTreeMap<String, Place>, CniError> {
    let mut stores = BTreeMap::new();
    let mut add = |place: Place| stores.insert(place.to_string(), place);
    for step in records.iter().flat_map(|record| &record.steps) {
        let ipam: Fields = step.config.object("ipam")?.unwrap_or_default();
        if ipam.text("type")? == Some(ipam::Kind::HostLocal.name()) {
            add(ipam::place(&step.config)?);
        }
    }
    for entry in fs::read_dir(networks).into_iter().flatten().flatten() {
        let network = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !network.starts_with('.') {
            add(Place { data_dir: networks.to_owned(), network });
        }
    }
    Ok(stores)
}

/// VFs that are in a namespace of no attachment here, or that the kernel gave back from one: it calls them `dev` and a number
/// when their name in the namespace is taken in the host.
fn devices(records: &[Record], engine: &Engine) -> Vec<String> {
    let owned: BTreeSet<String> = records.iter().flat_map(Record::devices).collect();
    let mut lines = Vec::new();
    for entry in fs::read_dir(engine.host.sys.pci_devices()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(address) = name.parse::<PciAddress>() else { continue };
        if owned.contains(&name) || !entry.path().join("physfn").exists() {
            continue;
        }
        let Ok(vf) = inventory::read_function(&engine.host.sys, &address) else { continue };
        match vf.netdevs.first() {
            Some(netdev) if is_from_namespace(&netdev.name) => lines.push(format!(
                "VF {address} is called {}: the kernel gave it back from a network namespace, and no attachment here \
                 owned it",
                netdev.name
            )),
            None if entry.path().join("net").exists() => lines.push(format!(
                "VF {address} is in another network namespace than the host's, and no attachment here owns it"
            )),
            _ => {}
        }
    }
    lines
}

/// The kernel's pattern for a device that comes home under a name that is taken (`dev%d`).
fn is_from_namespace(name: &str) -> bool {
    name.strip_prefix("dev")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_names_are_known() {
        for (name, is) in [("dev5", true), ("dev", false), ("device0", false), ("enp1s0v0", false)] {
            assert_eq!(is_from_namespace(name), is, "{name}");
        }
    }
}
