//! A device of a pool, as the plugin knows it.

use fairlead_resource_config::PciAddress;
use fairlead_resource_config::config::{Resource, Selectors};
use fairlead_resource_config::inventory::{AuxDevice, Function, Inventory, RdmaDevice, VdpaDevice};
use fairlead_resource_config::pools::{Device, DeviceId};

use crate::health::Reason;

/// A device that a pool lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// What the pool has it for.
    pub(crate) device: Device,
    /// The PCI function that it is, or for an auxiliary device, that it is a part of: not known for one that is gone.
    pub(crate) address: Option<PciAddress>,
    /// Its RDMA devices, as far as the pool hands them out.
    pub(crate) rdma: Vec<RdmaDevice>,
    /// Its vDPA device, of the type that the pool hands out.
    pub(crate) vdpa: Option<Box<VdpaDevice>>,
    /// The network device that stands for it in the embedded switch.
    pub(crate) representor: Option<String>,
    /// Why it must not be handed out now.
    pub(crate) problem: Option<Reason>,
    /// Whether a pod has it.
    pub(crate) in_use: bool,
}

impl Member {
    /// The device with what the inventory says about it, healthy and free. `None` when the inventory does not have it.
    pub(crate) fn new(inventory: &Inventory, resource: &Resource, device: Device) -> Option<Self> {
        let source = Source::of(inventory, &device.id)?;
        let selectors = resource.selectors.get(device.selectors);
        let is_rdma = selectors.is_some_and(|selectors| selectors.is_rdma);
        let vdpa_type = selectors.and_then(|selectors| selectors.vdpa_type);
        let of_type = |vdpa: &&VdpaDevice| {
            vdpa_type.is_some_and(|wanted| vdpa.bus_driver.as_deref() == Some(wanted.bus_driver()))
        };
        Some(Self {
            address: Some(source.address()),
            rdma: if is_rdma { source.rdma().to_vec() } else { Vec::new() },
            vdpa: source.vdpa().iter().find(of_type).cloned().map(Box::new),
            representor: source.function().and_then(Function::as_vf).and_then(|vf| vf.representor.clone()),
            problem: None,
            in_use: false,
            device,
        })
    }

    pub(crate) fn id(&self) -> &DeviceId {
        &self.device.id
    }

    /// Whether both are the same but for who has them.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let Self { device, address, rdma, vdpa, representor, problem, in_use: _ } = self;
        *device == other.device
            && *address == other.address
            && *rdma == other.rdma
            && *vdpa == other.vdpa
            && *representor == other.representor
            && *problem == other.problem
    }
}

/// The selectors that a device was selected by.
pub(crate) fn selectors<'a>(resource: &'a Resource, member: &Member) -> Option<&'a Selectors> {
    resource.selectors.get(member.device.selectors)
}

/// Where a device is in the inventory.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Function(&'a Function),
    Aux(&'a AuxDevice, Option<&'a Function>),
}

impl<'a> Source<'a> {
    pub(crate) fn of(inventory: &'a Inventory, id: &DeviceId) -> Option<Self> {
        match id {
            DeviceId::Pci(address) => inventory.function(address).map(Self::Function),
            DeviceId::Aux(name) => {
                let place = inventory.aux_devices.binary_search_by(|aux| aux.name.cmp(name)).ok()?;
                let aux = inventory.aux_devices.get(place)?;
                Some(Self::Aux(aux, inventory.function(&aux.parent)))
            }
        }
    }

    pub(crate) fn function(self) -> Option<&'a Function> {
        if let Self::Function(function) = self { Some(function) } else { None }
    }

    fn address(self) -> PciAddress {
        match self {
            Self::Function(function) => function.address,
            Self::Aux(aux, _) => aux.parent,
        }
    }

    /// The driver of the PCI function, as [`Device::driver`].
    pub(crate) fn driver(self) -> Option<&'a str> {
        match self {
            Self::Function(function) => Some(function),
            Self::Aux(_, function) => function,
        }
        .and_then(|function| function.driver.as_deref())
    }

    pub(crate) fn rdma(self) -> &'a [RdmaDevice] {
        match self {
            Self::Function(function) => &function.rdma,
            Self::Aux(aux, _) => &aux.rdma,
        }
    }

    pub(crate) fn vdpa(self) -> &'a [VdpaDevice] {
        match self {
            Self::Function(function) => &function.vdpa,
            Self::Aux(aux, _) => &aux.vdpa,
        }
    }
}
