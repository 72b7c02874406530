//! Which network gets which of the pod's devices.

use std::collections::{BTreeMap, HashSet};

use super::{super::devices::PodDevices, PlanError, Requested, name_for};
use crate::agent_protocol::PodRef;

/// A device and the resource it belongs to.
pub(super) type Device<'a> = (&'a str, &'a str);

pub(super) fn assign<'a>(
    pod: &PodRef,
    networks: &[Requested<'a>],
    devices: &'a PodDevices,
) -> Result<Vec<Option<Device<'a>>>, PlanError> {
    let mut assigned = Vec::new();
    for network in networks {
        let device = named(pod, network, devices)?;
        if let Some(first) =
            device.and_then(|device| assigned.iter().position(|other| *other == Some(device)))
        {
            return Err(PlanError::DuplicateDevice {
                pod: pod.to_string(),
                device: network.selection().device_id.clone().unwrap_or_default(),
                networks: (name_for(pod, networks[first].selection()), name_for(pod, network.selection())),
            });
        }
        assigned.push(device);
    }
    let taken: HashSet<&str> = assigned.iter().flatten().map(|(_, device)| *device).collect();
    let mut free: BTreeMap<&str, _> = BTreeMap::new();
    for (network, device) in networks.iter().zip(&mut assigned) {
        let Some(resource) = network.resource().filter(|_| device.is_none()) else {
            continue;
        };
        let rest = free
            .entry(resource)
            .or_insert_with(|| devices.of(resource).iter().filter(|&id| !taken.contains(id.as_str())));
        match rest.next() {
            Some(id) => *device = Some((resource, id.as_str())),
            None => return Err(too_few(pod, resource, networks, devices)),
        }
    }
    Ok(assigned)
}

/// The device that the annotation names for a network.
fn named<'a>(
    pod: &PodRef,
    network: &Requested<'a>,
    devices: &'a PodDevices,
) -> Result<Option<Device<'a>>, PlanError> {
    let Some(device) = network.selection().device_id.as_deref() else { return Ok(None) };
    let wanted = network.resource();
    let is_it = |&(resource, id): &Device<'_>| id == device && wanted.is_none_or(|wanted| wanted == resource);
    devices.iter().find(is_it).map(Some).ok_or_else(|| PlanError::NotAllocated {
        pod: pod.to_string(),
        network: name_for(pod, network.selection()),
        device: device.to_owned(),
        resource: wanted.map(str::to_owned),
        devices: devices.iter().map(|(resource, id)| format!("{id} of {resource}")).collect(),
    })
}

fn too_few(pod: &PodRef, resource: &str, networks: &[Requested<'_>], devices: &PodDevices) -> PlanError {
    let takes = |network: &&Requested<'_>| {
        let named =
            || network.selection().device_id.as_deref().and_then(|device| devices.resource_of(device));
        network.resource().or_else(named) == Some(resource)
    };
    PlanError::TooFewDevices {
        pod: pod.to_string(),
        resource: resource.to_owned(),
        given: devices.of(resource).len(),
        networks: networks.iter().filter(takes).map(|network| name_for(pod, network.selection())).collect(),
    }
}

/// Makes sure that what a network's author named is not another pod's.
pub(super) fn check_own_devices(
    pod: &PodRef,
    networks: &[Requested<'_>],
    others: &BTreeMap<String, String>,
) -> Result<(), PlanError> {
    for network in networks {
        for device in network.own_devices() {
            if let Some(owner) = others.get(&device) {
                return Err(PlanError::OthersDevice {
                    pod: pod.to_string(),
                    network: name_for(pod, network.selection()),
                    owner: owner.clone(),
                    device,
                });
            }
        }
    }
    Ok(())
}
