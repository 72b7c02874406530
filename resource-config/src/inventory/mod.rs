//! What a node has: one scan of sysfs and netlink into plain data.
//!
//! An attribute that is missing or garbled is left out with a note on its device; it never drops the device.

mod attributes;
mod auxiliary;
mod class;
mod error;
mod function;
mod iommu;
mod model;
mod netdev;
mod node;
mod parallel;
mod places;
mod rdma;
mod scan;
mod scanner;
mod stack;
mod vdpa;

use std::io;
use std::path::Path;

pub use self::error::InventoryError;
pub use self::iommu::{GroupMember, IommuGroup, read_group};
pub use self::model::{
    AuxDevice, EswitchMode, Function, Inventory, Kind, PfRole, RdmaDevice, Role, VdpaDevice, VfLocation,
    VfRole, is_uio_driver,
};
pub use self::netdev::{Netdev, pf_netdev};
pub use self::scanner::Scanner;

use self::node::{Detail, Node};
use crate::network::Network;
use crate::pci::PciAddress;
use crate::sysfs::SysRoot;

/// Reads every PCI function of the network and accelerator classes, and what belongs to them, from sysfs alone; see [`Scanner`]
/// for what netlink knows, too.
///
/// `proc` is the proc file system whose `net` says which network devices carry the host's default routes; without it none
/// is known to, unless the root has a `netlink.json`.
///
/// # Errors
/// The PCI functions cannot be listed.
pub fn scan(root: &SysRoot, proc: Option<&Path>) -> Result<Inventory, InventoryError> {
    Scanner::of(root.clone(), proc).scan()
}

/// Reads one function, and of its PF what [`VfRole`] needs. Cheap: the node is not scanned. What is only known of all devices
/// together is left out: what is stacked on network devices indirectly, representors, and what only netlink tells.
///
/// # Errors
/// The function does not exist or cannot be read.
pub fn read_function(root: &SysRoot, address: &PciAddress) -> Result<Function, InventoryError> {
    let network = Network::default();
    let failed = |source: io::Error| {
        let (address, path) = (*address, root.pci_device(address));
        match source.kind() {
            io::ErrorKind::NotFound => InventoryError::NoSuchFunction { address, path },
            _ => InventoryError::Function { address, path, source },
        }
    };
    let node = Node::open(root, &network, Detail::Full).map_err(failed)?;
    let function::Read { mut function, edges, .. } = function::read_any(&node, *address).map_err(failed)?;
    for netdev in &mut function.netdevs {
        netdev.master = edges.master(&netdev.name).cloned();
        netdev.uppers = edges.uppers(&netdev.name);
    }
    if let Role::Vf(vf) = &mut function.role {
        let (index, netdevs) = function::read_pf(&node, &vf.pf_address, address, &mut function.notes);
        vf.index = index;
        vf.pf_netdev = pf_netdev(&netdevs).map(|netdev| netdev.name.clone());
    }
    Ok(function)
}

/// Where a VF is, without a scan of the node.
///
/// # Errors
/// The function does not exist, is no VF, or its PF has no link to it or no network device here.
pub fn vf_location(root: &SysRoot, address: &PciAddress) -> Result<VfLocation, InventoryError> {
    let function = read_function(root, address)?;
    let Role::Vf(VfRole { pf_address, index, pf_netdev, .. }) = function.role else {
        return Err(InventoryError::NotVf { address: *address });
    };
    let index = index.ok_or(InventoryError::NoVfIndex { address: *address, pf_address })?;
    let pf_netdev = pf_netdev.ok_or(InventoryError::NoPfNetdev { address: *address, pf_address })?;
    Ok(VfLocation { pf_address, pf_netdev, index })
}

#[cfg(test)]
mod tests;
