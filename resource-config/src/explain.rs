//! What `fairlead-config explain` says.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_resource_config::config::Config;
use fairlead_resource_config::inventory::Inventory;
use fairlead_resource_config::pools::{
    self, Assignment, Device, DeviceId, EmptyPool, NoSuchDevice, Overlap, Pool, Reason,
};
use serde::Serialize;

use crate::output;

/// The fields of the JSON form.
pub(crate) const HELP: &str = "\
JSON (-o json):
  pools[]        one per resource, in the order of the configuration
    resource     prefix/name
    devices[]    id          PCI address, or name of an auxiliary device
                 driver      the driver that it is bound to
                 numaNode    null where the platform names none
                 pfAddress   of its PF (an auxiliary device: of the function that it is a part of), or null
                 selectors   which of the resource's objects of selectors has selected it, from 0
                 groupPeers  members of its IOMMU group that come along with it
                 problem     why it cannot be used at the moment, or null; it is offered all the same
                 notes       attributes that could not be read
  unassigned[]   devices that are in no pool
    id, notes    as above
    reasons[]    one per resource, in the order of the configuration
      resource   prefix/name
      selector   the first selector that turned the device away, by its key (of several objects of selectors, in the one
                 that came furthest), or a rule: deviceType, pfWithVfs (a PF with VFs is never offered), hostUplink (the
                 host uses it: a default route, an address or a master on its network device or above it; listing it in
                 pciAddresses lifts this), iommuGroup (another device stands for its IOMMU group)
      found      what the device has; \"\" when it has nothing of the kind
      wanted[]   what the pool asks for; any of these would do
  overlaps[]     id, resource that has the device, also[]: resources that select it too
  emptyPools[]   pools without a device
    resource     prefix/name
    turnedAway[] selector, devices (how many), found[], wanted[]: what turned most away comes first
    taken[]      resource, devices: pools before it that have devices which it selects too
    hints[]      PFs that it names and that do not exist or have no VFs
  notes[]        what of the node could not be read and belongs to no device above
With DEVICE given, pools and unassigned have only these; emptyPools is about all devices.";

/// An assignment, and why pools are empty.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    #[serde(flatten)]
    assignment: Assignment,
    empty_pools: Vec<EmptyPool>,
    /// What of the node could not be read.
    notes: Vec<String>,
    /// Whether only some devices were asked for.
    #[serde(skip)]
    is_part: bool,
}

impl Explanation {
    /// Explains these devices; without any, all of the node.
    pub(crate) fn of(
        inventory: &Inventory,
        config: &Config,
        devices: &[String],
    ) -> Result<Self, NoSuchDevice> {
        let named = devices.iter().map(|name| pools::named(inventory, name));
        let named = named.collect::<Result<BTreeSet<DeviceId>, _>>()?;
        let mut assignment = pools::assign(inventory, config);
        let empty_pools = pools::why_empty(inventory, config, &assignment);
        let is_part = !named.is_empty();
        if is_part {
            assignment.retain(&named);
        }
        Ok(Self { assignment, empty_pools, notes: inventory.notes.clone(), is_part })
    }

    /// The pools with their numbers of devices, why some have none, then one line per device, sorted, and what could not be read.
    pub(crate) fn text(&self) -> String {
        let devices = output::columns(&self.devices());
        let lines = if self.is_part {
            devices
        } else {
            let mut lines = self.pools();
            lines.push(String::new());
            lines.extend(devices);
            lines.extend(notes(&self.notes));
            lines
        };
        lines.into_iter().map(|line| line + "\n").collect()
    }

    fn pools(&self) -> Vec<String> {
        let count = |pool: &Pool| [pool.resource.to_string(), pool.devices.len().to_string()];
        let mut counts = vec![["RESOURCE", "DEVICES"].map(str::to_owned)];
        counts.extend(self.assignment.pools.iter().map(count));
        let mut lines = output::columns(&counts);
        if !self.empty_pools.is_empty() {
            lines.push(String::new());
            lines.extend(self.empty_pools.iter().map(ToString::to_string));
        }
        lines
    }

    fn devices(&self) -> Vec<[String; 3]> {
        let overlaps: BTreeMap<&DeviceId, &Overlap> =
            self.assignment.overlaps.iter().map(|overlap| (&overlap.id, overlap)).collect();
        let mut lines = Vec::new();
        for pool in &self.assignment.pools {
            for device in &pool.devices {
                let why = remarks(device, overlaps.get(&device.id).copied());
                lines.push((&device.id, [device.id.to_string(), pool.resource.to_string(), why]));
            }
        }
        for device in &self.assignment.unassigned {
            let why = reasons(&device.reasons)
                .into_iter()
                .chain(notes(&device.notes))
                .collect::<Vec<_>>()
                .join("; ");
            lines.push((&device.id, [device.id.to_string(), "-".to_owned(), why]));
        }
        lines.sort_by_key(|(id, _)| *id);
        let header = ["DEVICE", "RESOURCE", "WHY"].map(str::to_owned);
        [header].into_iter().chain(lines.into_iter().map(|(_, line)| line)).collect()
    }
}

/// The reasons, those that are the same told once for all their resources.
fn reasons(reasons: &[Reason]) -> Vec<String> {
    let mut told: Vec<(Vec<String>, &Reason)> = Vec::new();
    let same =
        |a: &Reason, b: &Reason| (a.selector, &a.found, &a.wanted) == (b.selector, &b.found, &b.wanted);
    for reason in reasons {
        match told.iter_mut().find(|(_, other)| same(reason, other)) {
            Some((resources, _)) => resources.push(reason.resource.to_string()),
            None => told.push((vec![reason.resource.to_string()], reason)),
        }
    }
    let text = |(resources, reason): (Vec<String>, &Reason)| {
        let all = resources.len() == reasons.len() && resources.len() > 1;
        let resources = if all { "every resource".to_owned() } else { resources.join(", ") };
        format!("{resources}: {}", reason.mismatch())
    };
    told.into_iter().map(text).collect()
}

fn remarks(device: &Device, overlap: Option<&Overlap>) -> String {
    let mut remarks = vec![format!("driver {}", device.driver)];
    if !device.group_peers.is_empty() {
        remarks.push(format!("brings its IOMMU group along: {}", device.group_peers.join(", ")));
    }
    remarks.extend(device.problem.clone());
    if let Some(overlap) = overlap {
        let also: Vec<String> = overlap.also.iter().map(ToString::to_string).collect();
        remarks.push(format!("selected by {} too", also.join(", ")));
    }
    remarks.extend(notes(&device.notes));
    remarks.join("; ")
}

fn notes(notes: &[String]) -> impl Iterator<Item = String> {
    notes.iter().map(|note| format!("note: {note}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fairlead_resource_config::config;

    use super::*;

    /// One port whose PF has a VF on vfio-pci, one on its kernel driver, and a scalable function.
    fn inventory() -> Inventory {
        use fairlead_resource_config::inventory::{AuxDevice, Function, Kind, Netdev, PfRole, Role, VfRole};
        let address = |text: &str| text.parse().unwrap();
        let (pf, a, b) = (address("01:00.0"), address("01:10.0"), address("01:10.2"));
        let function = |address, driver: &str, netdev: &str, role| Function {
            address,
            kind: Some(Kind::Network),
            vendor: "8086".parse().ok(),
            device: "10ca".parse().ok(),
            driver: Some(driver.to_owned()),
            netdevs: [netdev]
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(|name| Netdev {
                    name: name.to_owned(),
                    altnames: vec![format!("alt-{name}")],
                    ..Netdev::default()
                })
                .collect(),
            numa_node: None,
            acpi_index: None,
            label: None,
            driver_override: None,
            iommu_group: None,
            vfio_cdev: None,
            uio: None,
            rdma: Vec::new(),
            vdpa: Vec::new(),
            ddp_profile: None,
            role,
            notes: Vec::new(),
        };
        let vf = |index| {
            Role::Vf(VfRole {
                pf_address: pf,
                index: Some(index),
                pf_netdev: Some("ens1f0".to_owned()),
                representor: None,
            })
        };
        let of_pf = PfRole {
            total_vfs: Some(7),
            num_vfs: Some(2),
            vfs: BTreeMap::from([(0, a), (1, b)]),
            eswitch_mode: None,
        };
        let mut noted = function(b, "igbvf", "ens1f0v1", vf(1));
        noted.notes.push("numa_node: found \"x\"".to_owned());
        Inventory {
            functions: vec![
                function(pf, "igb", "ens1f0", Role::Pf(of_pf)),
                function(a, "vfio-pci", "", vf(0)),
                noted,
            ],
            aux_devices: vec![AuxDevice {
                name: "mlx5_core.sf.4".to_owned(),
                kind: "sf".to_owned(),
                sfnum: Some(88),
                parent: pf,
                driver: None,
                netdevs: Vec::new(),
                rdma: Vec::new(),
                vdpa: Vec::new(),
                notes: Vec::new(),
            }],
            notes: vec!["0000:02:00.0 passed over: its class cannot be read".to_owned()],
            ..Inventory::default()
        }
    }

    fn explained(devices: &[&str]) -> Result<String, String> {
        let config = r#"{"resourceList":[
            {"resourceName":"a","selectors":{"drivers":["vfio-pci"]}},
            {"resourceName":"b","selectors":{"drivers":["vfio-pci"],"pfNames":["ens1f0"]}},
            {"resourceName":"c","selectors":{"vendors":["8086"],"pfNames":["ens2f0"]}},
            {"resourceName":"d","selectors":{"drivers":["igbvf"]}}]}"#;
        let config = config::parse(config, Path::new("f"), config::DEFAULT_PREFIX).unwrap().config;
        let devices: Vec<String> = devices.iter().map(|name| (*name).to_owned()).collect();
        let explanation = Explanation::of(&inventory(), &config, &devices);
        explanation.map(|explanation| explanation.text()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_device_has_a_line_with_its_pool_or_the_reasons_and_empty_pools_say_why() {
        let pf = "found a PF with 2 VFs";
        let vf = "wanted a VF, or a function without VFs";
        let expected = format!(
            "\
RESOURCE     DEVICES
intel.com/a  1
intel.com/b  0
intel.com/c  0
intel.com/d  1

intel.com/b has no device: intel.com/a, which comes before it, has 1 device that it selects; \
deviceType turned away 1 device (found auxNetDevice; wanted netDevice); \
drivers turned away 1 device (found igbvf; wanted vfio-pci); pfWithVfs turned away 1 device ({pf}; {vf})
intel.com/c has no device: this node has no PF ens2f0; pfNames turned away 2 devices (found ens1f0; wanted ens2f0); \
deviceType turned away 1 device (found auxNetDevice; wanted netDevice); pfWithVfs turned away 1 device ({pf}; {vf})

DEVICE          RESOURCE     WHY
0000:01:00.0    -            every resource: pfWithVfs: {pf}, {vf}
0000:01:10.0    intel.com/a  driver vfio-pci; it has no IOMMU group: the IOMMU is off, and so is VFIO's noiommu mode; \
selected by intel.com/b too
0000:01:10.2    intel.com/d  driver igbvf; note: numa_node: found \"x\"
mlx5_core.sf.4  -            every resource: deviceType: found auxNetDevice, wanted netDevice
note: 0000:02:00.0 passed over: its class cannot be read
"
        );
        assert_eq!(explained(&[]).unwrap(), expected);
    }

    #[test]
    fn devices_are_asked_for_by_any_of_their_names() {
        let line = "0000:01:10.2  intel.com/d  driver igbvf; note: numa_node: found \"x\"";
        for name in ["0000:01:10.2", "1:10.2", "ens1f0v1", "alt-ens1f0v1"] {
            let text = explained(&[name]).unwrap();
            assert_eq!(text, format!("DEVICE        RESOURCE     WHY\n{line}\n"), "{name}");
        }
        assert!(explained(&["mlx5_core.sf.4", "ens1f0"]).unwrap().lines().count() == 3);
        for name in ["0000:01:10.4", "eth9"] {
            let expected = format!(
                "\"{name}\": no such device; give a PCI address, an auxiliary device or a network device of this node \
                 (a network device inside a pod has no name outside)"
            );
            assert_eq!(explained(&["ens1f0", name]).unwrap_err(), expected);
        }
    }
}
