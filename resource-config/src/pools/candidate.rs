//! What selectors look at, the same for PCI functions and auxiliary devices.

use std::collections::HashMap;

use super::DeviceId;
use crate::config::DeviceType;
use crate::inventory::{AuxDevice, Function, Inventory, Kind, Netdev, RdmaDevice, VdpaDevice, pf_netdev};
use crate::pci::PciAddress;

/// A device that a pool may have.
pub(super) struct Candidate<'a> {
    device: Either<'a>,
    /// Where it comes from, for a VF or an auxiliary device.
    pub(super) origin: Option<Origin<'a>>,
}

enum Either<'a> {
    Function(&'a Function),
    /// With the function that it is a part of, where the inventory has that.
    Aux(&'a AuxDevice, Option<&'a Function>),
}

/// Where a VF or an auxiliary device comes from.
pub(super) struct Origin<'a> {
    /// The address of the PF, or of whatever function an auxiliary device is a part of.
    pub(super) address: PciAddress,
    /// The name of that function's network device in the host's network namespace.
    pub(super) name: Option<&'a str>,
    /// The same network device, where the inventory has it.
    pub(super) netdev: Option<&'a Netdev>,
    /// The VF's index, or the number of a scalable function.
    pub(super) index: Option<u32>,
}

/// All devices of a node, PCI functions first, each kind in the order of the inventory.
pub(super) fn all(inventory: &Inventory) -> Vec<Candidate<'_>> {
    // Once for each port: in switchdev mode it has a network device for each of its VFs.
    let ports: HashMap<PciAddress, &Netdev> = inventory
        .functions
        .iter()
        .filter_map(|function| Some((function.address, pf_netdev(&function.netdevs)?)))
        .collect();
    let functions = inventory.functions.iter().map(|function| Candidate {
        device: Either::Function(function),
        origin: function.as_vf().map(|vf| Origin {
            address: vf.pf_address,
            name: vf.pf_netdev.as_deref(),
            netdev: ports.get(&vf.pf_address).copied(),
            index: vf.index,
        }),
    });
    let aux = inventory.aux_devices.iter().map(|aux| {
        let netdev = ports.get(&aux.parent).copied();
        let origin = Origin {
            address: aux.parent,
            name: netdev.map(|netdev| netdev.name.as_str()),
            netdev,
            index: aux.sfnum,
        };
        Candidate { device: Either::Aux(aux, inventory.function(&aux.parent)), origin: Some(origin) }
    });
    functions.chain(aux).collect()
}

impl<'a> Candidate<'a> {
    pub(super) fn id(&self) -> DeviceId {
        match self.device {
            Either::Function(function) => DeviceId::Pci(function.address),
            Either::Aux(aux, _) => DeviceId::Aux(aux.name.clone()),
        }
    }

    /// The PCI function whose identifiers, driver and NUMA node it has: its own, or the one that it is a part of, as upstream.
    pub(super) fn function(&self) -> Option<&'a Function> {
        match self.device {
            Either::Function(function) => Some(function),
            Either::Aux(_, function) => function,
        }
    }

    /// The PCI function that it is itself.
    pub(super) fn own_function(&self) -> Option<&'a Function> {
        if let Either::Function(function) = self.device { Some(function) } else { None }
    }

    /// The kind of auxiliary device that it is.
    pub(super) fn aux_kind(&self) -> Option<&'a String> {
        if let Either::Aux(aux, _) = self.device { Some(&aux.kind) } else { None }
    }

    /// `None` when its class is not known.
    pub(super) fn device_type(&self) -> Option<DeviceType> {
        match self.device {
            Either::Function(function) => function.kind.map(|kind| match kind {
                Kind::Network => DeviceType::NetDevice,
                Kind::Accelerator => DeviceType::Accelerator,
            }),
            Either::Aux(..) => Some(DeviceType::AuxNetDevice),
        }
    }

    pub(super) fn driver(&self) -> Option<&'a String> {
        self.function()?.driver.as_ref()
    }

    /// Its own network devices in the host's network namespace.
    pub(super) fn netdevs(&self) -> &'a [Netdev] {
        match self.device {
            Either::Function(function) => &function.netdevs,
            Either::Aux(aux, _) => &aux.netdevs,
        }
    }

    /// The link type of its own network device, else of the one that it comes from: a VF on vfio-pci or in a pod has none to see.
    pub(super) fn link_type(&self) -> Option<&'a String> {
        let netdevs = self.netdevs();
        let own = pf_netdev(netdevs).or(netdevs.first()).and_then(|netdev| netdev.link_type.as_ref());
        own.or_else(|| self.origin.as_ref()?.netdev?.link_type.as_ref())
    }

    pub(super) fn rdma(&self) -> &'a [RdmaDevice] {
        match self.device {
            Either::Function(function) => &function.rdma,
            Either::Aux(aux, _) => &aux.rdma,
        }
    }

    pub(super) fn vdpa(&self) -> &'a [VdpaDevice] {
        match self.device {
            Either::Function(function) => &function.vdpa,
            Either::Aux(aux, _) => &aux.vdpa,
        }
    }

    /// What of it could not be read.
    pub(super) fn notes(&self) -> &'a [String] {
        match self.device {
            Either::Function(function) => &function.notes,
            Either::Aux(aux, _) => &aux.notes,
        }
    }
}
