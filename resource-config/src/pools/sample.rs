//! Made-up nodes as plain data, for tests.

use std::collections::BTreeMap;

use crate::inventory::{
    AuxDevice, Function, Inventory, Kind, Netdev, PfRole, RdmaDevice, Role, VdpaDevice, VfRole,
};
use crate::pci::PciAddress;

/// Network function `0000:<text>` of Intel's.
pub(super) fn function(address: &str, driver: &str) -> Function {
    Function {
        address: address.parse().unwrap(),
        kind: Some(Kind::Network),
        vendor: "8086".parse().ok(),
        device: "154c".parse().ok(),
        driver: (!driver.is_empty()).then(|| driver.to_owned()),
        netdevs: Vec::new(),
        numa_node: Some(0),
        acpi_index: None,
        label: None,
        driver_override: None,
        iommu_group: None,
        vfio_cdev: None,
        uio: None,
        rdma: Vec::new(),
        vdpa: Vec::new(),
        ddp_profile: None,
        role: Role::Plain,
        notes: Vec::new(),
    }
}

pub(super) fn netdev(name: &str, link_type: &str) -> Netdev {
    Netdev { name: name.to_owned(), link_type: Some(link_type.to_owned()), ..Netdev::default() }
}

/// A PF with a network device of its own name and `alt-<name>`, and its VFs with these drivers at functions 1, 2, ... and beyond:
/// a VF on anything but a VFIO driver has a network device.
pub(super) fn port(address: &str, name: &str, link_type: &str, drivers: &[&str]) -> Vec<Function> {
    let pf_address: PciAddress = address.parse().unwrap();
    let mut pf = function(address, "ice");
    pf.netdevs = vec![Netdev { altnames: vec![format!("alt-{name}")], ..netdev(name, link_type) }];
    let mut functions = Vec::new();
    let mut vfs = BTreeMap::new();
    let (bus, _) = address.rsplit_once(':').unwrap();
    for (index, driver) in (0..).zip(drivers) {
        let mut vf = function(&format!("{bus}:{:02x}.{}", 1 + (index / 8), index % 8), driver);
        if !driver.is_empty() && !vf.is_vfio() {
            vf.netdevs = vec![netdev(&format!("{name}v{index}"), link_type)];
        }
        let pf_netdev = Some(name.to_owned());
        vf.role = Role::Vf(VfRole { pf_address, index: Some(index), pf_netdev, representor: None });
        vfs.insert(index, vf.address);
        functions.push(vf);
    }
    let count = u32::try_from(drivers.len()).ok();
    pf.role = Role::Pf(PfRole { total_vfs: Some(64), num_vfs: count, vfs, eswitch_mode: None });
    functions.insert(0, pf);
    functions
}

/// A scalable function of a port.
pub(super) fn sf(number: u32, parent: &str) -> AuxDevice {
    AuxDevice {
        name: format!("mlx5_core.sf.{number}"),
        kind: "sf".to_owned(),
        sfnum: Some(number),
        parent: parent.parse().unwrap(),
        driver: Some("mlx5_core.sf".to_owned()),
        netdevs: vec![netdev(&format!("sf{number}"), "ether")],
        rdma: Vec::new(),
        vdpa: Vec::new(),
        notes: Vec::new(),
    }
}

pub(super) fn rdma(name: &str, pkey: &str) -> RdmaDevice {
    RdmaDevice { name: name.to_owned(), pkey: Some(pkey.to_owned()), char_devices: Vec::new() }
}

pub(super) fn vdpa(bus_driver: &str) -> VdpaDevice {
    VdpaDevice { name: "vdpa0".to_owned(), bus_driver: Some(bus_driver.to_owned()), char_device: None }
}

pub(super) fn inventory(functions: Vec<Function>, aux_devices: Vec<AuxDevice>) -> Inventory {
    let mut inventory = Inventory { functions, aux_devices, ..Inventory::default() };
    inventory.functions.sort_by_key(|function| function.address);
    inventory
}
