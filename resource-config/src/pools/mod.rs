//! Which device belongs to which pool, and why the others belong to none.

mod candidate;
mod checks;
mod empty;
mod hints;
mod id;
mod matching;
mod named;
mod units;
mod uplink;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

pub use self::empty::{EmptyPool, Taken, TurnedAway, why_empty};
pub use self::id::DeviceId;
pub use self::named::{NoSuchDevice, named};
pub(crate) use self::uplink::use_by_host;

use self::checks::Subject;
use self::units::Units;
use crate::config::{Config, Resource, ResourceName};
use crate::inventory::Inventory;
use crate::pci::PciAddress;

/// The rule that devices of one IOMMU group are given out as one, as reasons name it.
const IOMMU_GROUP: &str = "iommuGroup";

/// The devices of a node, divided among the pools of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// One per resource, in the order of the configuration; a pool may be empty.
    pub pools: Vec<Pool>,
    /// Devices that are in no pool, sorted.
    pub unassigned: Vec<Unassigned>,
    /// Devices of pools that other pools select too, sorted.
    pub overlaps: Vec<Overlap>,
}

impl Assignment {
    /// Leaves out all devices but these; all pools stay.
    pub fn retain(&mut self, ids: &BTreeSet<DeviceId>) {
        for pool in &mut self.pools {
            pool.devices.retain(|device| ids.contains(&device.id));
        }
        self.unassigned.retain(|device| ids.contains(&device.id));
        self.overlaps.retain(|overlap| ids.contains(&overlap.id));
    }
}

/// The devices of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// The resource.
    pub resource: ResourceName,
    /// Its devices, sorted.
    pub devices: Vec<Device>,
}

/// A device of a pool: what a pod gets when it asks for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// What kubelet knows it by.
    pub id: DeviceId,
    /// The driver that it is bound to; for an auxiliary device, the one of the PCI function that it is a part of.
    pub driver: String,
    /// Its NUMA node, where the platform names one.
    pub numa_node: Option<u32>,
    /// The address of its PF, for a VF; for an auxiliary device, of the PCI function that it is a part of.
    pub pf_address: Option<PciAddress>,
    /// Which of the resource's objects of `selectors` selected it, from 0.
    pub selectors: usize,
    /// Other members of its IOMMU group, which whoever has the group through VFIO has too. Empty for devices on other drivers.
    pub group_peers: Vec<String>,
    /// Why it cannot be used at the moment, for people: it is offered, and refused to whoever gets it, since what stands in the
    /// way (another member of its IOMMU group on a host driver) may be gone by then.
    pub problem: Option<String>,
    /// What of it could not be read, for people.
    pub notes: Vec<String>,
}

/// A device that is in no pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unassigned {
    /// What kubelet knows it by.
    pub id: DeviceId,
    /// Why it is not, one per pool, in the order of the configuration.
    pub reasons: Vec<Reason>,
    /// What of it could not be read, for people.
    pub notes: Vec<String>,
}

/// Why a device is not in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// The resource of the pool.
    pub resource: ResourceName,
    /// The first selector that the device does not meet, as spelt in configurations, or one of the rules that hold for
    /// every pool: `deviceType`, `pfWithVfs`, `hostUplink`, `iommuGroup`. Of several alternatives of the pool, the one that
    /// came furthest.
    pub selector: &'static str,
    /// What the device has; empty when it has nothing of the kind.
    pub found: String,
    /// What the pool wants.
    pub wanted: Vec<String>,
}

impl Reason {
    /// What was found and wanted, without the resource.
    #[must_use]
    pub fn mismatch(&self) -> String {
        let found = if self.found.is_empty() { "nothing" } else { &self.found };
        format!("{}: found {found}, wanted {}", self.selector, self.wanted.join(" or "))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.mismatch())
    }
}

/// A device that more than one pool selects: the first has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overlap {
    /// What kubelet knows it by.
    pub id: DeviceId,
    /// The pool that has it.
    pub resource: ResourceName,
    /// Pools that select it too.
    pub also: Vec<ResourceName>,
}

/// Divides the devices of a node among the pools of a configuration: the first pool that selects a device has it.
///
/// Of the devices of one IOMMU group that are on VFIO drivers only the first is offered, since VFIO hands out whole groups: two
/// pods can never get members of one.
#[must_use]
pub fn assign(inventory: &Inventory, config: &Config) -> Assignment {
    let pool = |resource: &Resource| Pool { resource: resource.name.clone(), devices: Vec::new() };
    let mut assignment =
        Assignment { pools: config.resources.iter().map(pool).collect(), ..Assignment::default() };
    let candidates = candidate::all(inventory);
    let mut owned = Vec::new();
    for candidate in &candidates {
        let it = Subject { inventory, candidate };
        match owner(config, &it) {
            Some(owner) => owned.push((owner, candidate)),
            None => assignment.unassigned.push(unassigned(config, &it, "")),
        }
    }
    // The order that decides which member of an IOMMU group is its first: pools as configured, then devices.
    owned.sort_by_cached_key(|(owner, candidate)| (owner.pool, candidate.id()));
    let mut units = Units::new(inventory);
    for (owner, candidate) in owned {
        let resource = config.resources.get(owner.pool);
        let Some((pool, resource)) = assignment.pools.get_mut(owner.pool).zip(resource) else { continue };
        match units.claim(candidate, &resource.name, owner.selectors) {
            Ok(device) => {
                if !owner.also.is_empty() {
                    let (id, resource) = (device.id.clone(), resource.name.clone());
                    assignment.overlaps.push(Overlap { id, resource, also: owner.also });
                }
                pool.devices.push(device);
            }
            Err(found) => {
                let it = Subject { inventory, candidate };
                assignment.unassigned.push(unassigned(config, &it, &found));
            }
        }
    }
    assignment.unassigned.sort_by(|a, b| a.id.cmp(&b.id));
    assignment.overlaps.sort_by(|a, b| a.id.cmp(&b.id));
    assignment
}

/// Which pool has a device.
struct Owner {
    /// Its index.
    pool: usize,
    /// The index of its object of selectors that selects the device.
    selectors: usize,
    /// Pools after it that select the device too.
    also: Vec<ResourceName>,
}

/// The first pool that selects a device.
fn owner(config: &Config, it: &Subject<'_>) -> Option<Owner> {
    let mut selecting = config.resources.iter().enumerate().filter_map(|(pool, resource)| {
        let selectors = matching::select(resource, it).ok()?;
        Some((pool, selectors, &resource.name))
    });
    let (pool, selectors, _) = selecting.next()?;
    Some(Owner { pool, selectors, also: selecting.map(|(_, _, name)| name.clone()).collect() })
}

/// Why no pool has a device: those that select it do not because of `group`, which says who has its IOMMU group.
fn unassigned(config: &Config, it: &Subject<'_>, group: &str) -> Unassigned {
    let reason = |resource: &Resource| match matching::select(resource, it) {
        Err(mismatch) => mismatch.reason(resource, it),
        Ok(_) => Reason {
            resource: resource.name.clone(),
            selector: IOMMU_GROUP,
            found: group.to_owned(),
            wanted: vec!["the first device of an IOMMU group".to_owned()],
        },
    };
    let reasons = config.resources.iter().map(reason).collect();
    Unassigned { id: it.candidate.id(), reasons, notes: it.candidate.notes().to_vec() }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod selector_tests;
#[cfg(test)]
mod tests;
