//! IOMMU groups as units of allocation.

use std::collections::BTreeMap;

use super::Device;
use super::candidate::Candidate;
use crate::config::ResourceName;
use crate::inventory::{Function, Inventory};
use crate::pci::PciAddress;

/// The groups that have been given out, each with the device that stands for it.
pub(super) struct Units<'a> {
    inventory: &'a Inventory,
    claimed: BTreeMap<u32, (PciAddress, &'a ResourceName)>,
    /// Of groups on VFIO whose members cannot be listed: the functions that name them as theirs.
    unlisted: BTreeMap<u32, Vec<PciAddress>>,
}

impl<'a> Units<'a> {
    pub(super) fn new(inventory: &'a Inventory) -> Self {
        let is_unlisted = |number: &u32| !inventory.iommu_groups.contains_key(number);
        let on_vfio = inventory.functions.iter().filter(|function| function.is_vfio());
        let mut unlisted: BTreeMap<u32, Vec<PciAddress>> = on_vfio
            .filter_map(|function| function.iommu_group.filter(is_unlisted))
            .map(|number| (number, Vec::new()))
            .collect();
        for function in &inventory.functions {
            if let Some(members) = function.iommu_group.and_then(|number| unlisted.get_mut(&number)) {
                members.push(function.address);
            }
        }
        Self { inventory, claimed: BTreeMap::new(), unlisted }
    }

    /// The device as the pool offers it, selected by the object of selectors of this index, or which device stands for its group
    /// already.
    pub(super) fn claim(
        &mut self,
        candidate: &Candidate<'_>,
        resource: &'a ResourceName,
        selectors: usize,
    ) -> Result<Device, String> {
        let mut device = device(candidate, selectors);
        let Some(function) = candidate.own_function().filter(|function| function.is_vfio()) else {
            return Ok(device);
        };
        let Some(number) = function.iommu_group else {
            device.problem =
                Some("it has no IOMMU group: the IOMMU is off, and so is VFIO's noiommu mode".to_owned());
            return Ok(device);
        };
        if let Some((first, owner)) = self.claimed.get(&number) {
            return Err(format!("group {number}, which {first} stands for in {owner}"));
        }
        self.claimed.insert(number, (function.address, resource));
        device.group_peers = self.peers(function, number);
        device.problem = self.problem(number);
        Ok(device)
    }

    /// The other members of a group: as the group lists them, or where it cannot be read, as the devices name their group.
    fn peers(&self, function: &Function, number: u32) -> Vec<String> {
        let mut names: Vec<String> = match self.inventory.iommu_groups.get(&number) {
            Some(group) => group.members.iter().map(|member| member.name.clone()).collect(),
            None => self.unlisted.get(&number).into_iter().flatten().map(ToString::to_string).collect(),
        };
        let own = function.address.to_string();
        names.retain(|name| *name != own);
        names
    }

    fn problem(&self, number: u32) -> Option<String> {
        let Some(group) = self.inventory.iommu_groups.get(&number) else {
            return Some(format!("the members of IOMMU group {number} cannot be read"));
        };
        let blocker = group.blocker()?;
        let driver = blocker.driver.as_deref().unwrap_or_default();
        Some(format!("IOMMU group {number} is not viable: {} is on the host driver {driver}", blocker.name))
    }
}

fn device(candidate: &Candidate<'_>, selectors: usize) -> Device {
    Device {
        id: candidate.id(),
        driver: candidate.driver().cloned().unwrap_or_default(),
        numa_node: candidate.function().and_then(|function| function.numa_node),
        pf_address: candidate.origin.as_ref().map(|origin| origin.address),
        selectors,
        group_peers: Vec::new(),
        problem: None,
        notes: candidate.notes().to_vec(),
    }
}
