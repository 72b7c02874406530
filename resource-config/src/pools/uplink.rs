//! Whether the host itself uses a device.

use crate::inventory::{Inventory, Netdev};

/// How the host uses a device with these network devices, for people: one of them is enslaved, or it or something stacked on it
/// (bond, bridge, VLAN, macvlan) carries a default route or an address of more than link scope. VFs inherit nothing from their
/// PF, nor scalable functions from theirs.
pub(crate) fn use_by_host(inventory: &Inventory, netdevs: &[Netdev]) -> Option<String> {
    netdevs.iter().find_map(|netdev| {
        routed(inventory, netdev)
            .or_else(|| addressed(inventory, netdev))
            .or_else(|| Some(format!("{} is enslaved to {}", netdev.name, netdev.master.as_ref()?)))
    })
}

fn routed(inventory: &Inventory, netdev: &Netdev) -> Option<String> {
    let carrier = carriers(netdev).find(|carrier| inventory.default_route_netdevs.contains(*carrier))?;
    Some(format!("{} carries a default route of the host{}", netdev.name, through(netdev, carrier)))
}

fn addressed(inventory: &Inventory, netdev: &Netdev) -> Option<String> {
    let address = |carrier| Some((carrier, inventory.addressed_netdevs.get(carrier)?.first()?));
    let (carrier, address) = carriers(netdev).find_map(address)?;
    Some(format!("{} carries the host's address {address}{}", netdev.name, through(netdev, carrier)))
}

/// The network device, and all that is stacked on it.
fn carriers(netdev: &Netdev) -> impl Iterator<Item = &String> {
    [&netdev.name].into_iter().chain(&netdev.uppers)
}

fn through(netdev: &Netdev, carrier: &str) -> String {
    if netdev.name == carrier { String::new() } else { format!(" through {carrier}") }
}
