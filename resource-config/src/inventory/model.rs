//! What the inventory is made of.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Serialize;

use super::iommu::{IommuGroup, is_vfio_driver};
use super::netdev::Netdev;
use crate::pci::{PciAddress, PciId};

/// The devices of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// PCI functions of the wanted classes, sorted by address.
    pub functions: Vec<Function>,
    /// The IOMMU groups of these functions, by number.
    pub iommu_groups: BTreeMap<u32, IommuGroup>,
    /// Auxiliary devices that can be handed out on their own (scalable functions), sorted by name.
    pub aux_devices: Vec<AuxDevice>,
    /// Names of network devices that carry a default route of the host, IPv4 or IPv6.
    pub default_route_netdevs: BTreeSet<String>,
    /// Network devices of the host, of any kind, with their addresses of more than link scope.
    pub addressed_netdevs: BTreeMap<String, Vec<IpNet>>,
    /// What could not be read and belongs to no single device.
    pub notes: Vec<String>,
}

impl Inventory {
    /// The function at `address`.
    #[must_use]
    pub fn function(&self, address: &PciAddress) -> Option<&Function> {
        let index = self.functions.binary_search_by_key(address, |function| function.address).ok()?;
        self.functions.get(index)
    }
}

/// One PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// Its PCI address.
    pub address: PciAddress,
    /// What it is for, where its class or, if that is unreadable, its parts or its PF tell.
    pub kind: Option<Kind>,
    /// Vendor identifier.
    pub vendor: Option<PciId>,
    /// Device identifier.
    pub device: Option<PciId>,
    /// The bound driver.
    pub driver: Option<String>,
    /// Its network devices in the host's network namespace: none when it is bound to vfio-pci or is inside a pod.
    pub netdevs: Vec<Netdev>,
    /// The NUMA node, where the platform names one.
    pub numa_node: Option<u32>,
    /// The firmware's number for the port (`acpi_index`).
    pub acpi_index: Option<String>,
    /// The firmware's label for it, else the name of the PCI slot that it is in; VFs are in none.
    pub label: Option<String>,
    /// The only driver that may bind to it (`driver_override`).
    pub driver_override: Option<String>,
    /// Number of its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Name of its VFIO character device below `/dev/vfio/devices`, such as `vfio0`.
    pub vfio_cdev: Option<String>,
    /// Name of its UIO character device below `/dev`, such as `uio0`.
    pub uio: Option<String>,
    /// Its RDMA devices in this RDMA namespace.
    pub rdma: Vec<RdmaDevice>,
    /// The vDPA devices made on it.
    pub vdpa: Vec<VdpaDevice>,
    /// Name of the Dynamic Device Personalization package that runs on it, or for a VF on its PF.
    pub ddp_profile: Option<String>,
    /// Its part in SR-IOV.
    pub role: Role,
    /// Attributes that could not be read, for people.
    pub notes: Vec<String>,
}

impl Function {
    /// Whether a VFIO driver has it: `vfio-pci` or one of its vendor variants (`mlx5_vfio_pci`, ...).
    #[must_use]
    pub fn is_vfio(&self) -> bool {
        self.vfio_cdev.is_some() || self.driver.as_deref().is_some_and(is_vfio_driver)
    }

    /// Whether it is used through a UIO device.
    #[must_use]
    pub fn is_uio(&self) -> bool {
        self.driver.as_deref().is_some_and(is_uio_driver)
    }

    /// Its place as a VF.
    #[must_use]
    pub fn as_vf(&self) -> Option<&VfRole> {
        if let Role::Vf(vf) = &self.role { Some(vf) } else { None }
    }

    /// Its VFs, as a PF.
    #[must_use]
    pub fn as_pf(&self) -> Option<&PfRole> {
        if let Role::Pf(pf) = &self.role { Some(pf) } else { None }
    }
}

/// Whether a driver makes a UIO device of a function: those that upstream's device plugin knows, and the kernel's own.
#[must_use]
pub fn is_uio_driver(driver: &str) -> bool {
    matches!(driver, "uio" | "igb_uio" | "uio_pci_generic")
}

/// What a PCI function is for, by its base class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Network controller, base class 0x02.
    Network,
    /// Processing accelerator, base class 0x12.
    Accelerator,
}

/// The part of a function in SR-IOV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It can have VFs.
    Pf(PfRole),
    /// It is one.
    Vf(VfRole),
    /// Neither.
    Plain,
}

/// A function that can have VFs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PfRole {
    /// The most VFs it can have.
    pub total_vfs: Option<u32>,
    /// The VFs it was told to have.
    pub num_vfs: Option<u32>,
    /// The VFs it has, by index.
    pub vfs: BTreeMap<u32, PciAddress>,
    /// How its embedded switch works; `None` when the driver has none to tell of.
    pub eswitch_mode: Option<EswitchMode>,
}

/// How the embedded switch of a PF works (devlink `eswitch mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EswitchMode {
    /// By addresses and VLANs, set up through the PF.
    Legacy,
    /// Each VF has a representor, and rules between these say what goes where.
    Switchdev,
}

impl PfRole {
    /// Whether it has VFs now.
    #[must_use]
    pub fn has_vfs(&self) -> bool {
        self.num_vfs.is_some_and(|n| n > 0) || !self.vfs.is_empty()
    }
}

/// A virtual function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VfRole {
    /// The address of its PF.
    pub pf_address: PciAddress,
    /// Its number among the VFs of the PF; `None` when the PF has no link to it.
    pub index: Option<u32>,
    /// The PF's network device in the host's network namespace.
    pub pf_netdev: Option<String>,
    /// The network device that stands for it in the embedded switch (switchdev mode).
    pub representor: Option<String>,
}

/// An RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RdmaDevice {
    /// Its name, such as `mlx5_0`.
    pub name: String,
    /// The first partition key of its first port, as sysfs prints it.
    pub pkey: Option<String>,
    /// Its character devices below `/dev`, such as `infiniband/uverbs0`, and the shared `infiniband/rdma_cm`; sorted.
    pub char_devices: Vec<String>,
}

/// A vDPA device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VdpaDevice {
    /// Its name, such as `vdpa0`.
    pub name: String,
    /// The driver on the vDPA bus: `vhost_vdpa` or `virtio_vdpa`.
    pub bus_driver: Option<String>,
    /// Its character device below `/dev`, such as `vhost-vdpa-0`; only with `vhost_vdpa`.
    pub char_device: Option<String>,
}

/// A device on the auxiliary bus that can be handed out on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuxDevice {
    /// Its name, such as `mlx5_core.sf.4`.
    pub name: String,
    /// The middle part of the name: `sf`.
    pub kind: String,
    /// The number that its maker gave it.
    pub sfnum: Option<u32>,
    /// The PCI function that it is a part of.
    pub parent: PciAddress,
    /// The driver on the auxiliary bus.
    pub driver: Option<String>,
    /// Its network devices in the host's network namespace.
    pub netdevs: Vec<Netdev>,
    /// Its RDMA devices.
    pub rdma: Vec<RdmaDevice>,
    /// The vDPA devices made on it.
    pub vdpa: Vec<VdpaDevice>,
    /// Attributes that could not be read, for people.
    pub notes: Vec<String>,
}

/// Where a VF is, complete: what it takes to set the VF up through its PF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfLocation {
    /// The address of its PF.
    pub pf_address: PciAddress,
    /// The PF's network device in the host's network namespace.
    pub pf_netdev: String,
    /// Its number among the VFs of the PF.
    pub index: u32,
}
