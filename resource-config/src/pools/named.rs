//! Devices by the names that people know them by.

use thiserror::Error;

use super::DeviceId;
use crate::inventory::{Inventory, Netdev};
use crate::pci::PciAddress;

/// A name that no device of the node has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{name:?}: no such device; give a PCI address, an auxiliary device or a network device of this node \
     (a network device inside a pod has no name outside)"
)]
pub struct NoSuchDevice {
    name: String,
}

/// The device of this PCI address (short form too), auxiliary device name, or network device name or alternative name.
///
/// # Errors
/// The node has no such device, or it is of a class that no pool can have.
pub fn named(inventory: &Inventory, name: &str) -> Result<DeviceId, NoSuchDevice> {
    let found = match name.parse::<PciAddress>() {
        Ok(address) => inventory.function(&address).map(|function| DeviceId::Pci(function.address)),
        Err(_) => by_name(inventory, name),
    };
    found.ok_or_else(|| NoSuchDevice { name: name.to_owned() })
}

fn by_name(inventory: &Inventory, name: &str) -> Option<DeviceId> {
    let is_it = |netdev: &Netdev| netdev.name == name || netdev.altnames.iter().any(|alt| alt == name);
    let aux = inventory.aux_devices.iter().find(|aux| aux.name == name || aux.netdevs.iter().any(is_it));
    let function = || inventory.functions.iter().find(|function| function.netdevs.iter().any(is_it));
    aux.map(|aux| DeviceId::Aux(aux.name.clone())).or_else(|| function().map(|f| DeviceId::Pci(f.address)))
}
