//! The decision: from what a pod asks for, what its networks are and which devices it has, to its attachments.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    annotation::NetworkSelection,
    devices::PodDevices,
    nad::{NadError, NetworkAttachmentDefinition},
};
use crate::agent_protocol::{Plan, PlannedAttachment, PodRef};

/// The definitions that a plan may use.
#[derive(Clone, Debug)]
pub struct Definitions {
    /// Where they were looked for, for error texts, as in "in the API server".
    pub source: String,
    by_key: BTreeMap<(String, String), NetworkAttachmentDefinition>,
}

impl Definitions {
    /// Definitions that were looked for at `source`.
    pub fn new(
        source: impl Into<String>,
        definitions: impl IntoIterator<Item = NetworkAttachmentDefinition>,
    ) -> Self {
        let keyed = |nad: NetworkAttachmentDefinition| ((nad.namespace.clone(), nad.name.clone()), nad);
        Self { source: source.into(), by_key: definitions.into_iter().map(keyed).collect() }
    }

    fn get(&self, selection: &NetworkSelection) -> Option<&NetworkAttachmentDefinition> {
        self.by_key.get(&(selection.namespace.clone(), selection.name.clone()))
    }
}

/// A pod's networks cannot be attached.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The pod asks for something that does not exist yet.
    #[error("pod {pod} asks for `{key}` with network {network}: this is not supported yet, remove it")]
    Unsupported {
        /// `namespace/name` of the pod.
        pod: String,
        /// The network.
        network: String,
        /// The annotation's key.
        key: &'static str,
    },
    /// A network does not exist.
    #[error(
        "pod {pod} asks for network {network}, but there is no such NetworkAttachmentDefinition {looked_in}: create it, \
         or correct the pod's annotation"
    )]
    NoDefinition {
        /// `namespace/name` of the pod.
        pod: String,
        /// `namespace/name` of the network.
        network: String,
        /// Where it was looked for.
        looked_in: String,
    },
    /// A network has no usable configuration.
    #[error("pod {pod} asks for a network that cannot be used")]
    Config {
        /// `namespace/name` of the pod.
        pod: String,
        /// Why not.
        source: NadError,
    },
    /// Two networks of a pod are to have one interface name.
    #[error(
        "pod {pod} asks for two interfaces {interface}: networks {} and {} (a network without `interface` gets net1, \
         net2, ... by its place): give one of them another name", networks.0, networks.1
    )]
    DuplicateInterface {
        /// `namespace/name` of the pod.
        pod: String,
        /// The interface.
        interface: String,
        /// The two networks.
        networks: (String, String),
    },
    /// The pod has fewer devices than its networks take.
    #[error(
        "pod {pod} asks for {} {resource} but {}: raise the container's limit or drop a network",
        amount(*given), needs(networks)
    )]
    TooFewDevices {
        /// `namespace/name` of the pod.
        pod: String,
        /// The resource.
        resource: String,
        /// How many devices kubelet allocated.
        given: usize,
        /// The networks that take one each.
        networks: Vec<String>,
    },
    /// The annotation names a device that is not the pod's.
    #[error(
        "pod {pod} asks for device {device} with network {network}, which is not allocated to it{}: leave `deviceID` \
         out, or name a device of the pod (it has {})", under(resource.as_deref()), devices_text(devices)
    )]
    NotAllocated {
        /// `namespace/name` of the pod.
        pod: String,
        /// The network.
        network: String,
        /// The device.
        device: String,
        /// The resource that the network takes, if it names one.
        resource: Option<String>,
        /// The pod's devices.
        devices: Vec<String>,
    },
    /// Two networks name one device.
    #[error("pod {pod} asks for device {device} with networks {} and {}: name another for one of them", networks.0, networks.1)]
    DuplicateDevice {
        /// `namespace/name` of the pod.
        pod: String,
        /// The device.
        device: String,
        /// The two networks.
        networks: (String, String),
    },
}

/// The attachments of `pod`, in the annotation's order.
///
/// The n-th network without `interface` of its own is called `net<n>`, counted over all networks, as Multus does. Networks
/// that name a device get it; the others of a resource share out the rest, the n-th network the n-th device.
///
/// # Errors
/// When any of the networks cannot be attached; none is left out.
pub fn plan(
    pod: &PodRef,
    selections: &[NetworkSelection],
    definitions: &Definitions,
    devices: &PodDevices,
) -> Result<Plan, PlanError> {
    let networks = selections
        .iter()
        .map(|selection| requested(pod, selection, definitions))
        .collect::<Result<Vec<_>, _>>()?;
    let interfaces = interfaces(pod, selections)?;
    let assigned = assign(pod, &networks, devices)?;
    let attachments = networks.iter().zip(interfaces).zip(assigned);
    attachments
        .map(|((network, interface), device)| attachment(pod, network, interface, device))
        .collect::<Result<_, _>>()
        .map(|attachments| Plan { attachments })
}

/// Whether a plan needs to know the pod's devices.
pub fn needs_devices(selections: &[NetworkSelection], definitions: &Definitions) -> bool {
    let takes_one = |selection: &NetworkSelection| {
        selection.device_id.is_some()
            || definitions.get(selection).is_some_and(|nad| nad.resource_name.is_some())
    };
    selections.iter().any(takes_one)
}

/// A network as asked for, with its definition.
struct Requested<'a> {
    selection: &'a NetworkSelection,
    definition: &'a NetworkAttachmentDefinition,
}

fn requested<'a>(
    pod: &PodRef,
    selection: &'a NetworkSelection,
    definitions: &'a Definitions,
) -> Result<Requested<'a>, PlanError> {
    if selection.default_route.is_some() {
        let (pod, network) = (pod.to_string(), name_for(pod, selection));
        return Err(PlanError::Unsupported { pod, network, key: "default-route" });
    }
    match definitions.get(selection) {
        Some(definition) => Ok(Requested { selection, definition }),
        None => Err(PlanError::NoDefinition {
            pod: pod.to_string(),
            network: selection.network(),
            looked_in: definitions.source.clone(),
        }),
    }
}

fn interfaces(pod: &PodRef, selections: &[NetworkSelection]) -> Result<Vec<String>, PlanError> {
    let mut names: Vec<String> = Vec::new();
    for (index, selection) in selections.iter().enumerate() {
        let name = selection.interface.clone().unwrap_or_else(|| format!("net{}", index + 1));
        if let Some(first) = names.iter().position(|other| *other == name) {
            return Err(PlanError::DuplicateInterface {
                pod: pod.to_string(),
                interface: name,
                networks: (name_for(pod, &selections[first]), name_for(pod, selection)),
            });
        }
        names.push(name);
    }
    Ok(names)
}

/// A device and the resource it belongs to.
type Device<'a> = (&'a str, &'a str);

fn assign<'a>(
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
                device: network.selection.device_id.clone().unwrap_or_default(),
                networks: (name_for(pod, networks[first].selection), name_for(pod, network.selection)),
            });
        }
        assigned.push(device);
    }
    let taken: HashSet<&str> = assigned.iter().flatten().map(|(_, device)| *device).collect();
    let mut free: BTreeMap<&str, _> = BTreeMap::new();
    for (network, device) in networks.iter().zip(&mut assigned) {
        let Some(resource) = network.definition.resource_name.as_deref().filter(|_| device.is_none()) else {
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
    let Some(device) = network.selection.device_id.as_deref() else { return Ok(None) };
    let wanted = network.definition.resource_name.as_deref();
    let is_it = |&(resource, id): &Device<'_>| id == device && wanted.is_none_or(|wanted| wanted == resource);
    devices.iter().find(is_it).map(Some).ok_or_else(|| PlanError::NotAllocated {
        pod: pod.to_string(),
        network: name_for(pod, network.selection),
        device: device.to_owned(),
        resource: wanted.map(str::to_owned),
        devices: devices.iter().map(|(resource, id)| format!("{id} of {resource}")).collect(),
    })
}

fn too_few(pod: &PodRef, resource: &str, networks: &[Requested<'_>], devices: &PodDevices) -> PlanError {
    let takes = |network: &&Requested<'_>| {
        let named = || network.selection.device_id.as_deref().and_then(|device| devices.resource_of(device));
        network.definition.resource_name.as_deref().or_else(named) == Some(resource)
    };
    PlanError::TooFewDevices {
        pod: pod.to_string(),
        resource: resource.to_owned(),
        given: devices.of(resource).len(),
        networks: networks.iter().filter(takes).map(|network| name_for(pod, network.selection)).collect(),
    }
}

fn attachment(
    pod: &PodRef,
    network: &Requested<'_>,
    interface: String,
    device: Option<Device<'_>>,
) -> Result<PlannedAttachment, PlanError> {
    let config = network.definition.resolved_config();
    let config = config.map_err(|source| PlanError::Config { pod: pod.to_string(), source })?;
    Ok(PlannedAttachment {
        network: network.definition.to_string(),
        interface,
        config: config.into_owned(),
        device_id: device.map(|(_, id)| id.to_owned()),
        resource_name: device.map(|(resource, _)| resource.to_owned()),
        capability_args: capability_args(network.selection, device),
        cni_args: network.selection.cni_args.clone(),
    })
}

/// The values for `runtimeConfig`, named as in CNI's list of capabilities.
fn capability_args(selection: &NetworkSelection, device: Option<Device<'_>>) -> Map<String, Value> {
    let list = |values: Vec<Value>| (!values.is_empty()).then(|| Value::from(values));
    let values = [
        ("ips", list(selection.ips.iter().cloned().map(Value::from).collect())),
        ("mac", selection.mac.clone().map(Value::from)),
        ("infinibandGUID", selection.infiniband_guid.clone().map(Value::from)),
        ("bandwidth", selection.bandwidth.clone().map(Value::from)),
        ("portMappings", list(selection.port_mappings.clone())),
        ("deviceID", device.map(|(_, id)| id.into())),
    ];
    values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// A network as the pod's author knows it: without namespace when it is the pod's own.
fn name_for(pod: &PodRef, selection: &NetworkSelection) -> String {
    if selection.namespace == pod.namespace { selection.name.clone() } else { selection.network() }
}

fn amount(given: usize) -> String {
    if given == 0 { "no".into() } else { given.to_string() }
}

fn needs(networks: &[String]) -> String {
    match networks {
        [network] => format!("network {network} needs 1"),
        _ => format!("networks {} need {}", networks.join(", "), networks.len()),
    }
}

fn under(resource: Option<&str>) -> String {
    resource.map(|resource| format!(" under {resource}")).unwrap_or_default()
}

fn devices_text(devices: &[String]) -> String {
    if devices.is_empty() { "none".into() } else { devices.join(", ") }
}

#[cfg(test)]
mod tests;
