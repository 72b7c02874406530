//! Reading `SriovNetworkNodePolicy`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::fields::Fields;
use super::objects::{Files, Object};
use crate::config::ResourceName;
use crate::document::{Place, Report};
use crate::pci::{PciAddress, PciId};
use crate::provision::policy::NodeIdentity;

pub(super) const KIND: &str = "SriovNetworkNodePolicy";
/// The label that every node has; its value is the node's name, but for nodes whose host name is another.
pub(super) const HOST_NAME_LABEL: &str = "kubernetes.io/hostname";

/// The operator's own, which it passes over.
const DEFAULT_POLICY: &str = "default";
/// The ConfigMap in which the operator lists the cards that it knows.
pub(super) const IDS: &str = "supported-nic-ids";

/// The bounds that the operator has for a priority.
const PRIORITIES: RangeInclusive<u32> = 0..=99;
const NUMBERS: RangeInclusive<u32> = 0..=65535;
const MTUS: RangeInclusive<u32> = 68..=65535;
const LINK_TYPES: &[(&str, &str)] =
    &[("eth", "ether"), ("ETH", "ether"), ("ib", "infiniband"), ("IB", "infiniband")];
const NICS: &str =
    "at least one of vendor, deviceID, pfNames, rootDevices: without, the policy selects no PF";
const PF_NAMES: &str = "names of PFs, alone or with one range of VF indexes, as in ens1f0#0-3";

/// What a policy says.
#[derive(Debug, Clone)]
pub(super) struct NodePolicy {
    pub(super) file: usize,
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) resource: String,
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) priority: u32,
    pub(super) mtu: Option<u32>,
    pub(super) num_vfs: u32,
    pub(super) vendor: Option<PciId>,
    pub(super) device: Option<PciId>,
    pub(super) root_devices: Vec<PciAddress>,
    pub(super) pf_names: Vec<PfName>,
    pub(super) is_vfio: bool,
    pub(super) is_rdma: bool,
    pub(super) need_vhost_net: bool,
    pub(super) link_type: Option<&'static str>,
    pub(super) eswitch_mode: Option<&'static str>,
    pub(super) exclude_topology: bool,
    pub(super) externally_managed: bool,
}

/// A PF's name, alone or with some of its VFs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PfName {
    pub(super) name: String,
    pub(super) indexes: Option<RangeInclusive<u32>>,
}

impl NodePolicy {
    /// Whether its `nodeSelector` selects the node.
    pub(super) fn is_for(&self, node: &NodeIdentity) -> bool {
        let has = |(key, value): (&String, &String)| match node.labels.get(key) {
            Some(label) => label == value,
            None => key == HOST_NAME_LABEL && *value == node.name,
        };
        self.node_selector.iter().all(has)
    }

    /// The place of a key of its spec.
    pub(super) fn key(&self, key: &str) -> Place {
        self.place.key(&format!("spec.{key}"))
    }
}

/// The policies, in the order in which the operator applies them: the last one that names a PF's VF has it.
pub(super) fn read(objects: &[Object], files: &mut Files) -> Vec<NodePolicy> {
    let mut policies: Vec<NodePolicy> = Vec::new();
    for object in objects.iter().filter(|object| object.kind == KIND) {
        if object.name == DEFAULT_POLICY {
            files.note(
                object.file,
                &object.place,
                "passed over, as the operator does with the policy of this name",
            );
            continue;
        }
        if policies.iter().any(|other| other.name == object.name) {
            let found = "a second policy of this name";
            files.problem(object.file, &object.place, found, "each policy once in all files");
        }
        policies.extend(policy(object, files.report(object.file)));
    }
    policies.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    policies
}

fn policy(object: &Object, report: &mut Report) -> Option<NodePolicy> {
    let problems = report.problems.len();
    let mut spec = Fields::new(object.part("spec"), object.place.key("spec"), report);
    let selector = spec.take("nicSelector");
    let mut policy = NodePolicy {
        file: object.file,
        place: object.place.clone(),
        name: object.name.clone(),
        resource: resource_name(&mut spec),
        node_selector: spec.labels("nodeSelector"),
        priority: spec.number("priority", PRIORITIES).unwrap_or(0),
        // The operator's types write 0 for what was not said.
        mtu: spec.number_or_zero("mtu", MTUS),
        num_vfs: spec.number("numVfs", NUMBERS).unwrap_or(0),
        vendor: None,
        device: None,
        root_devices: Vec::new(),
        pf_names: Vec::new(),
        is_vfio: spec.one_of("deviceType", &[("netdevice", false), ("vfio-pci", true)]).unwrap_or(false),
        is_rdma: spec.boolean("isRdma"),
        need_vhost_net: spec.boolean("needVhostNet"),
        link_type: spec.one_of("linkType", LINK_TYPES),
        eswitch_mode: spec.one_of("eSwitchMode", &[("legacy", "legacy"), ("switchdev", "switchdev")]),
        exclude_topology: spec.boolean("excludeTopology"),
        externally_managed: spec.boolean("externallyManaged"),
    };
    refuse(&mut spec);
    remarks(&policy, &mut spec);
    let place = spec.place.key("nicSelector");
    let report = spec.finish();
    match selector {
        Some(selector) => nics(&mut policy, Fields::new(selector, place, report)),
        None => report.problem(&place, "nothing", NICS),
    }
    let report = &*report;
    (report.problems.len() == problems).then_some(policy)
}

/// What `fairlead-config` does not do.
fn refuse(spec: &mut Fields<'_>) {
    let allowed = "no vdpaType: fairlead-config makes no vDPA devices. Where something else makes them, leave the key out here and \
                   add it to the pool";
    spec.refuse("vdpaType", allowed);
    spec.refuse("bridge", "no bridge: fairlead-config makes none for Open vSwitch");
    spec.refuse("eSwitchParams", "no eSwitchParams: fairlead-config sets none");
}

/// What is otherwise than with the operator.
fn remarks(policy: &NodePolicy, spec: &mut Fields<'_>) {
    if policy.is_vfio && policy.is_rdma {
        spec.problem(
            "isRdma",
            "true for deviceType vfio-pci",
            "true only for netdevice, as for the operator",
        );
    }
    if policy.eswitch_mode.is_some() && policy.num_vfs > 0 {
        spec.note(
            "eSwitchMode",
            "fairlead-config checks the mode and does not change it (devlink dev eswitch does)",
        );
    }
    if policy.link_type.is_some() {
        let text = "selects devices for the pool; the port's type is not changed, as the operator does for Mellanox cards";
        spec.note("linkType", text);
    }
    if policy.is_rdma {
        let text = "selects devices for the pool; VFs get no RDMA node GUID of their own, which the operator gives them on some cards";
        spec.note("isRdma", text);
    }
}

/// The name of a resource, without prefix.
pub(super) fn resource_name(spec: &mut Fields<'_>) -> String {
    let allowed = "letters, digits, _ and -, at most 63, beginning and ending with a letter or digit";
    let Some(name) = spec.text("resourceName") else {
        spec.problem("resourceName", "nothing", allowed);
        return String::new();
    };
    if ResourceName::new(super::DEFAULT_PREFIX, name).is_err() {
        spec.problem("resourceName", format!("{name:?}"), allowed);
    }
    name.to_owned()
}

fn nics(policy: &mut NodePolicy, mut nics: Fields<'_>) {
    let ids = "four hexadecimal digits, such as 8086";
    policy.vendor = nics.parsed("vendor", ids, |text| text.parse().ok());
    policy.device = nics.parsed("deviceID", ids, |text| text.parse().ok());
    for (index, text) in nics.texts("rootDevices").into_iter().enumerate() {
        match text.parse() {
            Ok(address) => policy.root_devices.push(address),
            Err(_) => {
                let allowed = "PCI addresses of PFs, such as 0000:3b:00.0, without VF indexes";
                nics.problem(&format!("rootDevices[{index}]"), format!("{text:?}"), allowed);
            }
        }
    }
    for (index, text) in nics.texts("pfNames").into_iter().enumerate() {
        match pf_name(text) {
            Some(name) => pf(policy, name, &format!("pfNames[{index}]"), &mut nics),
            None => nics.problem(&format!("pfNames[{index}]"), format!("{text:?}"), PF_NAMES),
        }
    }
    let allowed = "no netFilter: which networks a virtual machine's ports are in is the cloud's to say; name the ports in rootDevices";
    nics.refuse("netFilter", allowed);
    let named = policy.vendor.is_some() || policy.device.is_some();
    if !named
        && policy.root_devices.is_empty()
        && policy.pf_names.is_empty()
        && nics.report.problems.is_empty()
    {
        nics.report.problem(&nics.place, "no PF", NICS);
    }
    if policy.num_vfs == 0 && !policy.pf_names.is_empty() {
        let allowed = "rootDevices, where numVfs is 0: a pool names a PF that it offers itself by address";
        nics.problem("pfNames", "names of PFs", allowed);
    }
    nics.finish();
}

/// Adds a PF's name; its VFs must be there, and the name once.
fn pf(policy: &mut NodePolicy, name: PfName, key: &str, nics: &mut Fields<'_>) {
    if policy.pf_names.iter().any(|other| other.name == name.name) {
        let found = format!("PF {} a second time, of which the operator sets up only the first", name.name);
        nics.problem(key, found, "each PF once in a policy");
    }
    if let Some(last) = name.indexes.as_ref().map(|indexes| *indexes.end())
        && last >= policy.num_vfs
    {
        nics.problem(
            key,
            format!("VF {last}"),
            &format!("indexes below numVfs, which is {}", policy.num_vfs),
        );
    }
    policy.pf_names.push(name);
}

fn pf_name(text: &str) -> Option<PfName> {
    let (name, indexes) = match text.split_once('#') {
        Some((name, range)) => {
            let (first, last) = range.split_once('-')?;
            let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
            let (first, last): (u32, u32) = (number(first)?, number(last)?);
            (name, Some((first <= last).then_some(first..=last)?))
        }
        None => (text, None),
    };
    let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '/');
    is_name.then(|| PfName { name: name.to_owned(), indexes })
}

/// Which device identifier a PF's VFs have, by vendor and the PF's own: from the operator's ConfigMap, if it is there.
pub(super) fn vf_ids(objects: &[Object], files: &mut Files) -> BTreeMap<(PciId, PciId), PciId> {
    let mut ids = BTreeMap::new();
    for object in objects.iter().filter(|object| object.kind == "ConfigMap" && object.name == IDS) {
        for (key, value) in object.part("data").as_map().unwrap_or_default() {
            let parts = value.as_text().unwrap_or_default().split(' ').map(str::parse::<PciId>);
            match parts.collect::<Result<Vec<_>, _>>().as_deref() {
                Ok([vendor, pf, vf]) => {
                    ids.insert((*vendor, *pf), *vf);
                }
                _ => {
                    let allowed = "three identifiers with spaces between: vendor, PF, VF";
                    files.problem(
                        object.file,
                        &object.place.key("data").key(key),
                        value.to_string(),
                        allowed,
                    );
                }
            }
        }
    }
    ids
}
