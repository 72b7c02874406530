//! What a device has to meet to belong to a pool, one check for each selector and rule, in upstream's order.
//!
//! Whether it is met is decided first; what was found and wanted is put into words only when somebody asks.

use std::fmt::Display;

use super::candidate::{Candidate, Origin};
use super::uplink;
use crate::config::{DeviceType, Functions, PKey, Resource, Selectors, VdpaType};
use crate::inventory::{Function, Inventory, VdpaDevice};

/// A selector or rule.
pub(super) struct Check<Wanted> {
    /// As spelt in configurations, or the name of a rule.
    pub(super) name: &'static str,
    pub(super) met: fn(&Wanted, &Subject<'_>) -> bool,
    /// What the device has; empty when it has nothing of the kind.
    pub(super) found: fn(&Wanted, &Subject<'_>) -> String,
    pub(super) wanted: fn(&Wanted) -> Vec<String>,
}

/// A device on its node.
pub(super) struct Subject<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) candidate: &'a Candidate<'a>,
}

/// What a pool asks of each of its devices.
pub(super) static OF_POOL: [Check<Resource>; 2] = [
    Check {
        name: "deviceType",
        met: |wanted, it| it.candidate.device_type() == Some(wanted.device_type),
        found: |_, it| text(it.candidate.device_type().map(DeviceType::as_str)),
        wanted: |wanted| vec![wanted.device_type.as_str().to_owned()],
    },
    // A PF that has VFs belongs to its VFs' users.
    Check {
        name: "pfWithVfs",
        met: |_, it| vfs(it).is_none(),
        found: |_, it| vfs(it).unwrap_or_default(),
        wanted: |_| vec!["a VF, or a function without VFs".to_owned()],
    },
];

/// What one object of selectors asks.
pub(super) static OF_SELECTORS: [Check<Selectors>; 14] = [
    Check {
        name: "vendors",
        met: |wanted, it| one_of(&wanted.vendors, it.function(|f| f.vendor.as_ref())),
        found: |_, it| text(it.function(|f| f.vendor.as_ref())),
        wanted: |wanted| texts(&wanted.vendors),
    },
    Check {
        name: "devices",
        met: |wanted, it| one_of(&wanted.devices, it.function(|f| f.device.as_ref())),
        found: |_, it| text(it.function(|f| f.device.as_ref())),
        wanted: |wanted| texts(&wanted.devices),
    },
    // A device without a driver is of no use to a pod, whatever a pool asks for.
    Check {
        name: "drivers",
        met: |wanted, it| {
            let driver = it.candidate.driver();
            driver.is_some() && one_of(&wanted.drivers, driver)
        },
        found: |_, it| text(it.candidate.driver()),
        wanted: |wanted| {
            if wanted.drivers.is_empty() { vec!["any driver".to_owned()] } else { wanted.drivers.clone() }
        },
    },
    Check {
        name: "auxTypes",
        met: |wanted, it| one_of(&wanted.aux_types, it.candidate.aux_kind()),
        found: |_, it| text(it.candidate.aux_kind()),
        wanted: |wanted| wanted.aux_types.clone(),
    },
    Check {
        name: "pciAddresses",
        met: |wanted, it| {
            one_of(&wanted.pci_addresses, it.candidate.own_function().map(|function| &function.address))
        },
        found: |_, it| text(it.candidate.own_function().map(|function| function.address)),
        wanted: |wanted| texts(&wanted.pci_addresses),
    },
    Check {
        name: "acpiIndexes",
        met: |wanted, it| one_of(&wanted.acpi_indexes, it.function(|f| f.acpi_index.as_ref())),
        found: |_, it| text(it.function(|f| f.acpi_index.as_ref())),
        wanted: |wanted| wanted.acpi_indexes.clone(),
    },
    Check {
        name: "pfNames",
        met: |wanted, it| {
            let origin = it.candidate.origin.as_ref();
            from(&wanted.pf_names, origin, |pf, origin| is_called(origin, pf))
        },
        found: |wanted, it| function_of(&wanted.pf_names, it, |origin| origin.name),
        wanted: |wanted| elements(&wanted.pf_names),
    },
    Check {
        name: "rootDevices",
        met: |wanted, it| {
            let origin = it.candidate.origin.as_ref();
            from(&wanted.root_devices, origin, |pf, origin| *pf == origin.address)
        },
        found: |wanted, it| function_of(&wanted.root_devices, it, |origin| Some(origin.address)),
        wanted: |wanted| elements(&wanted.root_devices),
    },
    Check {
        name: "linkTypes",
        met: |wanted, it| one_of(&wanted.link_types, it.candidate.link_type()),
        found: |_, it| text(it.candidate.link_type()),
        wanted: |wanted| wanted.link_types.clone(),
    },
    Check {
        name: "ddpProfiles",
        met: |wanted, it| one_of(&wanted.ddp_profiles, it.function(|f| f.ddp_profile.as_ref())),
        found: |_, it| text(it.function(|f| f.ddp_profile.as_ref())),
        wanted: |wanted| wanted.ddp_profiles.clone(),
    },
    Check {
        name: "pKeys",
        met: |wanted, it| {
            one_of(&wanted.p_keys, p_key(it).and_then(|text| text.parse::<PKey>().ok()).as_ref())
        },
        found: |_, it| text(p_key(it)),
        wanted: |wanted| texts(&wanted.p_keys),
    },
    Check {
        name: "isRdma",
        met: |wanted, it| !wanted.is_rdma || !it.candidate.rdma().is_empty(),
        found: |_, it| (!it.candidate.rdma().is_empty()).to_string(),
        wanted: |wanted| vec![wanted.is_rdma.to_string()],
    },
    Check {
        name: "vdpaType",
        met: |wanted, it| {
            wanted
                .vdpa_type
                .is_none_or(|kind| it.candidate.vdpa().iter().any(|vdpa| vdpa_type(vdpa) == Some(kind)))
        },
        found: |_, it| text(it.candidate.vdpa().iter().find_map(vdpa_type).map(VdpaType::as_str)),
        wanted: |wanted| wanted.vdpa_type.iter().map(|kind| kind.as_str().to_owned()).collect(),
    },
    Check {
        name: "hostUplink",
        met: |wanted, it| {
            let own = it.candidate.own_function();
            own.is_some_and(|function| wanted.pci_addresses.contains(&function.address))
                || uplink::use_by_host(it.inventory, it.candidate.netdevs()).is_none()
        },
        found: |_, it| uplink::use_by_host(it.inventory, it.candidate.netdevs()).unwrap_or_default(),
        wanted: |_| {
            ["a device that the host does not use", "its address in pciAddresses"].map(str::to_owned).into()
        },
    },
];

impl<'a> Subject<'a> {
    /// An attribute of its PCI function.
    fn function<T>(&self, attribute: impl FnOnce(&'a Function) -> Option<&'a T>) -> Option<&'a T> {
        attribute(self.candidate.function()?)
    }
}

fn vfs(it: &Subject<'_>) -> Option<String> {
    let pf = it.candidate.own_function()?.as_pf().filter(|pf| pf.has_vfs())?;
    let count = pf.vfs.len();
    Some(format!("a PF with {count} {}", if count == 1 { "VF" } else { "VFs" }))
}

fn one_of<T: PartialEq>(wanted: &[T], found: Option<&T>) -> bool {
    wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
}

/// Matches a VF or scalable function against PFs with lists of indexes. What comes from no PF meets none, as upstream.
fn from<T>(
    wanted: &[Functions<T>],
    origin: Option<&Origin<'_>>,
    same: impl Fn(&T, &Origin<'_>) -> bool,
) -> bool {
    let matches = |origin: &Origin<'_>| {
        wanted.iter().any(|functions| functions.contains(origin.index) && same(&functions.pf, origin))
    };
    wanted.is_empty() || origin.is_some_and(matches)
}

/// Whether the PF's network device has this name or alternative name.
fn is_called(origin: &Origin<'_>, wanted: &str) -> bool {
    let is_it = |name: &str| name.eq_ignore_ascii_case(wanted);
    origin.name.is_some_and(is_it)
        || origin
            .netdev
            .is_some_and(|netdev| is_it(&netdev.name) || netdev.altnames.iter().any(|name| is_it(name)))
}

/// The PF that a device comes from, with its index where indexes are asked for.
fn function_of<'a, T, Name: Display>(
    wanted: &[Functions<T>],
    it: &'a Subject<'_>,
    name: impl FnOnce(&'a Origin<'_>) -> Option<Name>,
) -> String {
    let Some(origin) = it.candidate.origin.as_ref() else { return String::new() };
    let Some(name) = name(origin) else { return String::new() };
    match origin.index.filter(|_| wanted.iter().any(Functions::has_indexes)) {
        Some(index) => format!("{name}#{index}"),
        None => name.to_string(),
    }
}

/// Partition keys mean something on InfiniBand only, as upstream has it; RoCE devices have one too.
fn p_key<'a>(it: &Subject<'a>) -> Option<&'a String> {
    let is_infiniband = it.candidate.link_type().is_some_and(|kind| kind == "infiniband");
    it.candidate.rdma().iter().find_map(|rdma| rdma.pkey.as_ref()).filter(|_| is_infiniband)
}

fn vdpa_type(vdpa: &VdpaDevice) -> Option<VdpaType> {
    let driver = vdpa.bus_driver.as_deref()?;
    [VdpaType::Vhost, VdpaType::Virtio].into_iter().find(|kind| kind.bus_driver() == driver)
}

fn text(found: Option<impl Display>) -> String {
    found.map(|found| found.to_string()).unwrap_or_default()
}

fn texts(wanted: &[impl Display]) -> Vec<String> {
    wanted.iter().map(ToString::to_string).collect()
}

fn elements<T>(wanted: &[Functions<T>]) -> Vec<String> {
    wanted.iter().map(|functions| functions.text().to_owned()).collect()
}
