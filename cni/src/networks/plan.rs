//! The decision: from what a pod asks for, what its networks are and which devices it has, to its attachments.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Map, Value};

use super::{
    annotation::NetworkSelection,
    ask::{Asked, Networks},
    devices::PodDevices,
    nad::{Configuration, NetworkAttachmentDefinition},
};
use crate::agent_protocol::{Plan, PlannedAttachment, PodRef};

mod assign;
mod error;

use self::assign::{Device, assign, check_own_devices};
pub use self::error::PlanError;

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

    /// The definition of that name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&NetworkAttachmentDefinition> {
        self.by_key.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn get(&self, selection: &NetworkSelection) -> Option<&NetworkAttachmentDefinition> {
        self.named(&selection.namespace, &selection.name)
    }
}

/// What kubelet allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// To the pod.
    pub own: PodDevices,
    /// To other pods: device and who has it.
    pub others: BTreeMap<String, String>,
}

/// Which allocations a plan needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The pod's own.
    pub own: bool,
    /// Those of other pods.
    pub others: bool,
}

/// The attachments of `pod`, in order.
///
/// The n-th network without `interface` of its own is called `net<n>`, counted over all networks but the primary one, as
/// Multus does. Networks that name a device get it; the others of a resource share out the rest, the n-th network the n-th
/// device, the primary network first.
///
/// # Errors
/// When any of the networks cannot be attached; none is left out.
pub fn plan(
    pod: &PodRef,
    networks: &Networks,
    definitions: &Definitions,
    devices: &Allocated,
) -> Result<Plan, PlanError> {
    let requested =
        networks.iter().map(|asked| requested(pod, asked, definitions)).collect::<Result<Vec<_>, _>>()?;
    check_default_routes(pod, networks)?;
    let interfaces = interfaces(pod, networks)?;
    check_own_devices(pod, &requested, &devices.others)?;
    let assigned = assign(pod, &requested, &devices.own)?;
    let mut attachments = requested
        .iter()
        .zip(interfaces)
        .zip(assigned)
        .map(|((network, interface), device)| attachment(pod, network, interface, device))
        .collect::<Result<Vec<_>, _>>()?;
    let primary = networks.primary.is_some().then(|| Box::new(attachments.remove(0)));
    Ok(Plan { primary, attachments })
}

/// Which allocations a plan needs.
pub fn needs(networks: &Networks, definitions: &Definitions) -> Needs {
    let mut needs = Needs::default();
    for asked in networks.iter() {
        let definition = definitions.get(&asked.selection);
        let takes_one = definition.is_some_and(|nad| nad.resource_name.is_some());
        needs.own |= takes_one || asked.selection.device_id.is_some();
        needs.others |= definition.is_some_and(|nad| !own_devices(nad, &asked.selection).is_empty());
    }
    needs
}

/// A network as asked for, with its definition. What the operator names may have none: it is on the node's disk.
struct Requested<'a> {
    asked: &'a Asked,
    definition: Option<&'a NetworkAttachmentDefinition>,
}

impl<'a> Requested<'a> {
    fn selection(&self) -> &'a NetworkSelection {
        &self.asked.selection
    }

    /// The resource whose devices it takes.
    fn resource(&self) -> Option<&'a str> {
        self.definition?.resource_name.as_deref()
    }

    /// Devices that its author named, where it gets no other.
    fn own_devices(&self) -> Vec<String> {
        self.definition.map(|nad| own_devices(nad, self.selection())).unwrap_or_default()
    }
}

fn own_devices(definition: &NetworkAttachmentDefinition, selection: &NetworkSelection) -> Vec<String> {
    if definition.resource_name.is_some() || selection.device_id.is_some() {
        return Vec::new();
    }
    definition.own_devices()
}

fn requested<'a>(
    pod: &PodRef,
    asked: &'a Asked,
    definitions: &'a Definitions,
) -> Result<Requested<'a>, PlanError> {
    let definition = definitions.get(&asked.selection);
    if definition.is_none() && !asked.by_operator {
        return Err(PlanError::NoDefinition {
            pod: pod.to_string(),
            network: asked.selection.network(),
            looked_in: definitions.source.clone(),
        });
    }
    Ok(Requested { asked, definition })
}

/// Names of the interfaces, the primary one's first where there is one.
fn interfaces(pod: &PodRef, networks: &Networks) -> Result<Vec<String>, PlanError> {
    let mut names: Vec<String> = Vec::new();
    for (index, asked) in networks.others.iter().enumerate() {
        let selection = &asked.selection;
        let name = selection.interface.clone();
        let name = name.unwrap_or_else(|| format!("net{}", networks.before + index + 1));
        if name == networks.interface {
            let network = name_for(pod, selection);
            return Err(PlanError::PrimaryInterface { pod: pod.to_string(), network, interface: name });
        }
        if let Some(first) = names.iter().position(|other| *other == name) {
            return Err(PlanError::DuplicateInterface {
                pod: pod.to_string(),
                interface: name,
                networks: (name_for(pod, &networks.others[first].selection), name_for(pod, selection)),
            });
        }
        names.push(name);
    }
    if networks.primary.is_some() {
        names.insert(0, networks.interface.clone());
    }
    Ok(names)
}

/// A pod has one default route of each family.
fn check_default_routes(pod: &PodRef, networks: &Networks) -> Result<(), PlanError> {
    let all: Vec<(IpAddr, String)> = networks
        .iter()
        .flat_map(|asked| {
            let gateways = asked.selection.default_route.iter().flatten();
            gateways.map(|gateway| (*gateway, name_for(pod, &asked.selection)))
        })
        .collect();
    for family in [4, 6] {
        let of_family = all.iter().filter(|(gateway, _)| gateway.is_ipv4() == (family == 4));
        let gateways: Vec<String> =
            of_family.map(|(gateway, network)| format!("{gateway} (network {network})")).collect();
        if gateways.len() > 1 {
            return Err(PlanError::DefaultRoutes { pod: pod.to_string(), family, gateways });
        }
    }
    Ok(())
}

fn attachment(
    pod: &PodRef,
    network: &Requested<'_>,
    interface: String,
    device: Option<Device<'_>>,
) -> Result<PlannedAttachment, PlanError> {
    let selection = network.selection();
    let configuration = match network.definition {
        Some(definition) => definition.configuration(),
        None => Ok(Configuration::OnDisk(&selection.name)),
    };
    let (config, on_disk) =
        match configuration.map_err(|source| PlanError::Config { pod: pod.to_string(), source })? {
            Configuration::Text(text) => (text.into_owned(), None),
            Configuration::OnDisk(name) => (String::new(), Some(name.to_owned())),
        };
    Ok(PlannedAttachment {
        // What has no definition is known by the name in its configuration.
        network: network.definition.map(ToString::to_string).unwrap_or_default(),
        interface,
        config,
        on_disk,
        device_id: device.map(|(_, id)| id.to_owned()),
        resource_name: device.map(|(resource, _)| resource.to_owned()),
        capability_args: capability_args(selection, device),
        cni_args: selection.cni_args.clone(),
        default_route: selection.default_route.clone(),
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

/// A network as the pod's author knows it: without namespace when it is the pod's own. A path is its own name.
fn name_for(pod: &PodRef, selection: &NetworkSelection) -> String {
    if selection.name.contains('/') || selection.namespace == pod.namespace {
        selection.name.clone()
    } else {
        selection.network()
    }
}

#[cfg(test)]
mod tests;
