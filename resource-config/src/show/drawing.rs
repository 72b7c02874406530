//! What is to be drawn: ports with what hangs below them.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_resource_config::PciAddress;
use fairlead_resource_config::inventory::{
    AuxDevice, EswitchMode, Function, Inventory, Kind, Netdev, PfRole, Role, pf_netdev,
};
use fairlead_resource_config::pools::{Assignment, DeviceId};

use crate::names;

/// A node.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) ports: Vec<Port>,
    /// With a configuration: each pool with its number of devices.
    pub(super) pools: Option<Vec<(String, usize)>>,
    /// What could not be read.
    pub(super) notes: Vec<String>,
}

/// A function that is no VF (or a VF whose PF is not there), with what is made of it.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) head: Item,
    /// VFs by number, then scalable functions.
    pub(super) below: Vec<Item>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) place: Place,
    /// Its PCI address or name.
    pub(super) device: String,
    pub(super) driver: Option<String>,
    /// The resource that it belongs to.
    pub(super) pool: Option<String>,
    pub(super) netdevs: Vec<String>,
    /// The state of its network devices.
    pub(super) link: Option<String>,
    pub(super) group: Option<u32>,
    pub(super) sharing: Sharing,
    pub(super) numa: Option<u32>,
    pub(super) representor: Option<String>,
    /// Everything else that is worth saying.
    pub(super) remarks: Vec<String>,
}

/// What it is to its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The port itself.
    Port,
    /// A VF, with its number.
    Vf(Option<u32>),
    /// A scalable function or another auxiliary device, with its number.
    Sf(Option<u32>),
}

/// Who else is in its IOMMU group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    Alone,
    Shared,
    /// With a device that a driver of the host uses: VFIO does not hand the group out.
    NotViable,
    NoIommu,
}

impl Drawing {
    pub(super) fn of(inventory: &Inventory, assignment: Option<&Assignment>) -> Self {
        let pools = assignment.iter().flat_map(|assignment| &assignment.pools);
        let pool_of = pools
            .flat_map(|pool| pool.devices.iter().map(|device| (device.id.clone(), pool.resource.to_string())))
            .collect();
        let artist = Artist { inventory, pool_of };
        let below: BTreeSet<PciAddress> = inventory
            .functions
            .iter()
            .filter_map(Function::as_pf)
            .flat_map(|pf| pf.vfs.values().copied())
            .collect();
        let ports = inventory.functions.iter().filter(|function| !below.contains(&function.address));
        Self {
            ports: ports.map(|port| artist.port(port)).collect(),
            pools: assignment.map(|assignment| {
                let count = |pool: &fairlead_resource_config::pools::Pool| {
                    (pool.resource.to_string(), pool.devices.len())
                };
                assignment.pools.iter().map(count).collect()
            }),
            notes: notes(inventory),
        }
    }
}

struct Artist<'a> {
    inventory: &'a Inventory,
    pool_of: BTreeMap<DeviceId, String>,
}

impl Artist<'_> {
    fn port(&self, function: &Function) -> Port {
        let vfs = function.as_pf().into_iter().flat_map(|pf| &pf.vfs);
        let aux = self.inventory.aux_devices.iter().filter(|device| device.parent == function.address);
        let below = vfs.map(|(index, address)| self.vf(*index, address)).chain(aux.map(|aux| self.aux(aux)));
        let below = below.collect();
        let place = match &function.role {
            Role::Vf(vf) => Place::Vf(vf.index),
            Role::Pf(_) | Role::Plain => Place::Port,
        };
        let mut head = self.function(place, function);
        let mut about = Vec::new();
        if let Role::Pf(pf) = &function.role {
            about.extend(of_pf(pf));
        }
        if let Role::Vf(vf) = &function.role {
            about.push(format!("its PF {} is not there", vf.pf_address));
        }
        head.remarks.splice(0..0, about);
        head.remarks.extend(function.label.as_ref().map(|label| format!("labelled {label}")));
        // The longest comes last.
        head.remarks.push(names::device(function.vendor, function.device));
        Port { head, below }
    }

    fn vf(&self, index: u32, address: &PciAddress) -> Item {
        let place = Place::Vf(Some(index));
        match self.inventory.function(address) {
            Some(vf) => self.function(place, vf),
            None => Item {
                place,
                device: address.to_string(),
                driver: None,
                pool: None,
                netdevs: Vec::new(),
                link: None,
                group: None,
                sharing: Sharing::Alone,
                numa: None,
                representor: None,
                remarks: vec!["missing: the PF has a link to it, and there is no such function".to_owned()],
            },
        }
    }

    fn function(&self, place: Place, function: &Function) -> Item {
        // In switchdev mode a PF's representors are network devices of it, too; they are shown with their VFs.
        let netdevs: Vec<&Netdev> = match place {
            Place::Port if function.as_pf().is_some() => match pf_netdev(&function.netdevs) {
                Some(uplink) => vec![uplink],
                None => function.netdevs.iter().collect(),
            },
            _ => function.netdevs.iter().collect(),
        };
        let (sharing, shared) = self.sharing(function);
        let mut remarks: Vec<String> = shared.into_iter().collect();
        remarks.extend(self.on_netdevs(&netdevs));
        // Some other function without network device is of no interest: it may never have had one.
        if function.as_vf().is_some() && netdevs.is_empty() && is_on_kernel_driver(function) {
            remarks.push("no network device here: in a pod?".to_owned());
        }
        remarks.extend(function.driver_override.as_ref().map(|driver| format!("only for driver {driver}")));
        remarks.extend(listed("RDMA", function.rdma.iter().map(|rdma| &rdma.name)));
        remarks.extend(listed("vDPA", function.vdpa.iter().map(|vdpa| &vdpa.name)));
        remarks.extend(function.ddp_profile.as_ref().map(|profile| format!("DDP profile {profile}")));
        Item {
            place,
            device: function.address.to_string(),
            driver: function.driver.clone(),
            pool: self.pool_of.get(&DeviceId::Pci(function.address)).cloned(),
            link: link(&netdevs),
            netdevs: netdevs.iter().map(|netdev| netdev.name.clone()).collect(),
            group: function.iommu_group,
            sharing,
            numa: function.numa_node,
            representor: function.as_vf().and_then(|vf| vf.representor.clone()),
            remarks,
        }
    }

    fn aux(&self, device: &AuxDevice) -> Item {
        let netdevs: Vec<&Netdev> = device.netdevs.iter().collect();
        let mut remarks = self.on_netdevs(&netdevs);
        remarks.extend(listed("RDMA", device.rdma.iter().map(|rdma| &rdma.name)));
        remarks.extend(listed("vDPA", device.vdpa.iter().map(|vdpa| &vdpa.name)));
        let parent = self.inventory.function(&device.parent);
        Item {
            place: Place::Sf(device.sfnum),
            device: device.name.clone(),
            driver: device.driver.clone(),
            pool: self.pool_of.get(&DeviceId::Aux(device.name.clone())).cloned(),
            link: link(&netdevs),
            netdevs: netdevs.iter().map(|netdev| netdev.name.clone()).collect(),
            group: None,
            sharing: Sharing::Alone,
            numa: parent.and_then(|parent| parent.numa_node),
            representor: None,
            remarks,
        }
    }

    /// Who shares the IOMMU group, as a mark and in words.
    fn sharing(&self, function: &Function) -> (Sharing, Option<String>) {
        let group = function.iommu_group.and_then(|number| self.inventory.iommu_groups.get(&number));
        let Some(group) = group else { return (Sharing::Alone, None) };
        let own = function.address.to_string();
        if let Some(blocker) = group.blocker().filter(|blocker| blocker.name != own) {
            let driver = blocker.driver.as_deref().unwrap_or_default();
            let text = format!("group {} not viable: {} is on {driver}", group.number, blocker.name);
            return (Sharing::NotViable, Some(text));
        }
        let others: Vec<&str> =
            group.members.iter().map(|member| member.name.as_str()).filter(|name| *name != own).collect();
        match (&others[..], group.noiommu) {
            ([], false) => (Sharing::Alone, None),
            ([], true) => (Sharing::NoIommu, Some("no IOMMU: unsafe".to_owned())),
            _ => (
                Sharing::Shared,
                Some(format!("group {} shared with {}", group.number, others.join(" and "))),
            ),
        }
    }

    /// Where network devices are enslaved, and what of the host they carry.
    fn on_netdevs(&self, netdevs: &[&Netdev]) -> Vec<String> {
        let mut remarks: Vec<String> =
            netdevs.iter().filter_map(|netdev| Some(format!("in {}", netdev.master.as_ref()?))).collect();
        let names: BTreeSet<&String> =
            netdevs.iter().flat_map(|netdev| netdev.uppers.iter().chain([&netdev.name])).collect();
        let of_host = |name: &&&String| {
            self.inventory.default_route_netdevs.contains(**name)
                || self.inventory.addressed_netdevs.contains_key(**name)
        };
        let carrying: Vec<&str> = names.iter().filter(of_host).map(|name| name.as_str()).collect();
        if !carrying.is_empty() {
            remarks.push(format!("used by the host: {}", carrying.join(", ")));
        }
        let altnames: Vec<&str> =
            netdevs.iter().flat_map(|netdev| &netdev.altnames).map(String::as_str).collect();
        if !altnames.is_empty() {
            remarks.push(format!("also {}", altnames.join(", ")));
        }
        remarks
    }
}

fn is_on_kernel_driver(function: &Function) -> bool {
    let has_driver = function.driver.is_some() && function.kind == Some(Kind::Network);
    has_driver && !function.is_vfio() && !function.is_uio() && function.vdpa.is_empty()
}

fn of_pf(pf: &PfRole) -> Vec<String> {
    let total = pf.total_vfs.map_or_else(|| "?".to_owned(), |total| total.to_string());
    let mut remarks = vec![format!("{} of {total} VFs", pf.vfs.len())];
    if pf.eswitch_mode == Some(EswitchMode::Switchdev) {
        remarks.push("switchdev".to_owned());
    }
    remarks
}

fn listed<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
}

/// `up`, `up, no carrier`, `up infiniband`; of several network devices each that is different.
fn link(netdevs: &[&Netdev]) -> Option<String> {
    let state = |netdev: &&Netdev| {
        let state = netdev.operstate.as_deref().unwrap_or("unknown");
        let carrier = if netdev.carrier == Some(false) { ", no carrier" } else { "" };
        let kind = netdev.link_type.as_deref().filter(|kind| *kind != "ether");
        format!("{state}{carrier}{}", kind.map(|kind| format!(" {kind}")).unwrap_or_default())
    };
    let states: BTreeSet<String> = netdevs.iter().map(state).collect();
    (!states.is_empty()).then(|| states.into_iter().collect::<Vec<_>>().join("; "))
}

fn notes(inventory: &Inventory) -> Vec<String> {
    let functions =
        inventory.functions.iter().map(|function| (function.address.to_string(), &function.notes));
    let aux = inventory.aux_devices.iter().map(|device| (device.name.clone(), &device.notes));
    let of_devices = functions
        .chain(aux)
        .flat_map(|(device, notes)| notes.iter().map(move |note| format!("{device}: {note}")));
    of_devices.chain(inventory.notes.iter().cloned()).collect()
}
