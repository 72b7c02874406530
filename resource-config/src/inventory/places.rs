//! What devices tell of each other: PFs of their VFs, ports of the embedded switch of what they stand for.

use std::collections::{BTreeMap, BTreeSet};

use super::netdev::{represented_vf, uplink_number};
use super::{Function, Inventory, PfRole, Role, pf_netdev};
use crate::network::Network;
use crate::pci::PciAddress;

/// Network devices that are also listed with an auxiliary device are that one's alone.
pub(super) fn take_netdevs_of_aux_devices(inventory: &mut Inventory) {
    let mut of_aux: BTreeMap<PciAddress, BTreeSet<String>> = BTreeMap::new();
    for device in &inventory.aux_devices {
        let names = device.netdevs.iter().map(|netdev| netdev.name.clone());
        of_aux.entry(device.parent).or_default().extend(names);
    }
    for function in &mut inventory.functions {
        if let Some(names) = of_aux.get(&function.address) {
            function.netdevs.retain(|netdev| !names.contains(&netdev.name));
        }
    }
}

/// Gives each PF the mode of its embedded switch.
pub(super) fn put_devlink(inventory: &mut Inventory, network: &Network) {
    for function in &mut inventory.functions {
        if let Role::Pf(pf) = &mut function.role {
            pf.eswitch_mode = network.devlink.get(&function.address).and_then(|told| told.eswitch_mode);
        }
    }
}

/// Gives each function the name of its DDP package: its own, else its PF's.
pub(super) fn name_profiles(inventory: &mut Inventory, network: &Network) {
    let profile = |address: &PciAddress| network.devlink.get(address)?.ddp_profile.clone();
    for function in &mut inventory.functions {
        let of_pf = || profile(&function.as_vf()?.pf_address);
        function.ddp_profile = profile(&function.address).or_else(of_pf);
    }
}

/// Where a VF is, as its PF tells it.
struct Place {
    pf: PciAddress,
    index: u32,
    netdev: Option<String>,
    representor: Option<String>,
}

/// Gives each VF its index, its PF's network device and its representor, from what the PFs' own entries say.
pub(super) fn locate_vfs(inventory: &mut Inventory, network: &Network) {
    let mut places: BTreeMap<PciAddress, Place> = BTreeMap::new();
    let mut strays = Vec::new();
    for (number, pf) in inventory.functions.iter().enumerate() {
        let Role::Pf(role) = &pf.role else { continue };
        let netdev = pf_netdev(&pf.netdevs).map(|netdev| netdev.name.clone());
        let mut representors = representors(pf, role, network);
        for (index, vf) in &role.vfs {
            if inventory.function(vf).is_none() {
                strays.push((number, format!("virtfn{index} points to {vf}, which cannot be read")));
            }
            let representor = representors.remove(index);
            let place = Place { pf: pf.address, index: *index, netdev: netdev.clone(), representor };
            places.insert(*vf, place);
        }
    }
    for (number, note) in strays {
        if let Some(pf) = inventory.functions.get_mut(number) {
            pf.notes.push(note);
        }
    }
    let kinds: BTreeMap<PciAddress, _> =
        inventory.functions.iter().map(|function| (function.address, function.kind)).collect();
    for function in &mut inventory.functions {
        let Role::Vf(vf) = &mut function.role else { continue };
        let pf = vf.pf_address;
        match (places.remove(&function.address), kinds.get(&pf)) {
            (Some(place), _) if place.pf == pf => {
                vf.index = Some(place.index);
                vf.pf_netdev = place.netdev;
                vf.representor = place.representor;
            }
            (_, None) => function.notes.push(format!("physfn points to {pf}, which cannot be read")),
            (_, Some(_)) => function.notes.push(format!("PF {pf} has no virtfn link to it")),
        }
        // Where its own class is unreadable: a VF is for what its PF is for.
        function.kind = function.kind.or(kinds.get(&pf).copied().flatten());
    }
}

/// The network devices that stand for the VFs of a PF in its embedded switch, by VF index.
fn representors(pf: &Function, role: &PfRole, network: &Network) -> BTreeMap<u32, String> {
    if role.vfs.is_empty() {
        return BTreeMap::new();
    }
    let uplink = pf_netdev(&pf.netdevs);
    let switch = uplink.and_then(|uplink| uplink.phys_switch_id.as_ref());
    let port = uplink.and_then(|uplink| uplink.phys_port_name.as_deref()).and_then(uplink_number);
    let own = pf.netdevs.iter().filter_map(|netdev| {
        let (pf, vf) = represented_vf(netdev.phys_port_name.as_deref()?)?;
        Some((pf, vf, &netdev.name))
    });
    let own: Vec<(u32, u32, &String)> = own.collect();
    // Ports are numbered like the functions of the card, where nothing else tells.
    let number = port.unwrap_or_else(|| u32::from(pf.address.function()));
    let is_of_one_pf = own.iter().all(|(pf, ..)| Some(*pf) == own.first().map(|(pf, ..)| *pf));
    let has_number = own.iter().any(|(pf, ..)| *pf == number);
    let mut found: BTreeMap<u32, String> = own
        .iter()
        .filter(|(pf, ..)| *pf == number || (is_of_one_pf && !has_number))
        .map(|(_, vf, name)| (*vf, (*name).clone()))
        .collect();
    // Some drivers give their representors no parent, so that only the switch connects them.
    let elsewhere =
        network.links.iter().filter(|link| switch.is_some() && link.phys_switch_id.as_ref() == switch);
    for link in elsewhere {
        if let Some((pf, vf)) = link.phys_port_name.as_deref().and_then(represented_vf)
            && pf == number
        {
            found.entry(vf).or_insert_with(|| link.name.clone());
        }
    }
    found
}
