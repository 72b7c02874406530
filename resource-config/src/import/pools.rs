//! The device plugin's pools.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::node_policy::NodePolicy;
use super::objects::Files;
use super::ports::{Group, Port, Ports};
use crate::pci::PciId;

/// Which device identifier the VFs of a PF have, by vendor and the PF's own.
pub(super) type VfIds = BTreeMap<(PciId, PciId), PciId>;

/// A resource, as far as it is put together.
struct Pool<'a> {
    resource: &'a str,
    exclude_topology: bool,
    selectors: Vec<Map<String, Value>>,
}

/// The configuration; `None` when no policy is about any device.
pub(super) fn text(
    policies: &[NodePolicy],
    ports: &Ports<'_>,
    ids: &VfIds,
    prefix: &str,
    files: &mut Files,
) -> Option<String> {
    let mut pools: Vec<Pool<'_>> = Vec::new();
    for port in &ports.0 {
        for group in &port.groups {
            let selector = of_vfs(port, group, ids, files);
            add(group.policy, selector, &mut pools, files);
        }
    }
    // The policy that was applied last comes first.
    for policy in policies.iter().rev().filter(|policy| policy.num_vfs == 0) {
        add(policy, of_pfs(policy), &mut pools, files);
    }
    refuse_order(&pools, ports, files);
    let list: Vec<Value> = pools.iter().map(|pool| document(pool, prefix)).collect();
    let text = serde_json::to_string_pretty(&json!({"resourceList": list})).unwrap_or_default();
    (!list.is_empty()).then_some(text + "\n")
}

fn add<'a>(
    policy: &'a NodePolicy,
    selector: Map<String, Value>,
    pools: &mut Vec<Pool<'a>>,
    files: &mut Files,
) {
    let Some(pool) = pools.iter_mut().find(|pool| pool.resource == policy.resource) else {
        pools.push(Pool {
            resource: &policy.resource,
            exclude_topology: policy.exclude_topology,
            selectors: vec![selector],
        });
        return;
    };
    if pool.exclude_topology != policy.exclude_topology {
        let text = format!(
            "is {} here and otherwise in another policy of resource {}; the one that the operator applies last counts",
            policy.exclude_topology, policy.resource
        );
        files.note(policy.file, &policy.key("excludeTopology"), text);
    }
    // Selectors that differ in the PF alone are one.
    for key in ["pfNames", "rootDevices"] {
        let Some(last) = pool.selectors.last_mut().filter(|last| differ_in(last, &selector, key)) else {
            continue;
        };
        if let (Some(Value::Array(list)), Some(Value::Array(more))) = (last.get_mut(key), selector.get(key)) {
            list.extend(more.iter().cloned());
        }
        return;
    }
    if !pool.selectors.contains(&selector) {
        pool.selectors.push(selector);
    }
}

fn differ_in(a: &Map<String, Value>, b: &Map<String, Value>, key: &str) -> bool {
    let others = |map: &Map<String, Value>| {
        map.iter().filter(|(name, _)| *name != key).map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    a.contains_key(key) && b.contains_key(key) && a != b && others(a) == others(b)
}

/// Selects the VFs of a group.
fn of_vfs(port: &Port<'_>, group: &Group<'_>, ids: &VfIds, files: &mut Files) -> Map<String, Value> {
    let policy = group.policy;
    let mut selector = Map::new();
    if let Some(vendor) = port.pfs.vendor {
        selector.insert("vendors".to_owned(), json!([vendor.to_string()]));
    }
    if let Some(device) = port.pfs.device {
        devices(device, port, group, ids, &mut selector, files);
    }
    let indexes = if port.is_whole(group) {
        String::new()
    } else {
        format!("#{}-{}", group.indexes.start(), group.indexes.end())
    };
    if let Some(name) = &port.pfs.name {
        selector.insert("pfNames".to_owned(), json!([format!("{name}{indexes}")]));
    }
    if !port.pfs.addresses.is_empty() {
        let addresses = port.pfs.addresses.iter().map(|address| format!("{address}{indexes}"));
        selector.insert("rootDevices".to_owned(), addresses.collect());
    }
    if policy.is_vfio {
        selector.insert("drivers".to_owned(), json!(["vfio-pci"]));
    }
    // The link type of a device on vfio-pci is not known.
    if let Some(kind) = policy.link_type.filter(|_| !policy.is_vfio) {
        selector.insert("linkTypes".to_owned(), json!([kind]));
    }
    common(policy, &mut selector);
    selector
}

/// A PF's identifier selects VFs by what it says of theirs. Where PFs are named besides, it is not needed.
fn devices(
    device: PciId,
    port: &Port<'_>,
    group: &Group<'_>,
    ids: &VfIds,
    selector: &mut Map<String, Value>,
    files: &mut Files,
) {
    let mut of_vfs: Vec<String> = ids
        .iter()
        .filter(|((vendor, pf), _)| *pf == device && port.pfs.vendor.is_none_or(|ours| ours == *vendor))
        .map(|(_, vf)| vf.to_string())
        .collect();
    of_vfs.dedup();
    if !of_vfs.is_empty() {
        selector.insert("devices".to_owned(), json!(of_vfs));
    } else if port.pfs.name.is_none() && port.pfs.addresses.is_empty() {
        let allowed = "PFs named in pfNames or rootDevices, or the operator's ConfigMap supported-nic-ids among the files: it says which \
                       identifier the VFs have";
        let found = format!("{device}, the identifier of a PF");
        files.problem(group.policy.file, &group.policy.key("nicSelector.deviceID"), found, allowed);
    }
}

/// Selects PFs that are offered themselves.
fn of_pfs(policy: &NodePolicy) -> Map<String, Value> {
    let mut selector = Map::new();
    for (key, id) in [("vendors", policy.vendor), ("devices", policy.device)] {
        if let Some(id) = id {
            selector.insert(key.to_owned(), json!([id.to_string()]));
        }
    }
    if !policy.root_devices.is_empty() {
        selector.insert("pciAddresses".to_owned(), json!(policy.root_devices));
    }
    common(policy, &mut selector);
    selector
}

fn common(policy: &NodePolicy, selector: &mut Map<String, Value>) {
    for (key, value) in [("isRdma", policy.is_rdma), ("needVhostNet", policy.need_vhost_net)] {
        if value {
            selector.insert(key.to_owned(), json!(true));
        }
    }
}

/// The first pool that selects a device has it: that must be the one of the policy with precedence.
fn refuse_order(pools: &[Pool<'_>], ports: &Ports<'_>, files: &mut Files) {
    let place = |resource: &str| pools.iter().position(|pool| pool.resource == resource);
    for (later, earlier) in ports.overlapping() {
        for (ours, theirs) in later.groups.iter().flat_map(|a| earlier.groups.iter().map(move |b| (a, b))) {
            let (a, b) = (&ours.policy.resource, &theirs.policy.resource);
            if a != b && place(a) > place(b) {
                let (found, policy) = (format!("{a}, whose devices may be those of {b}, too"), ours.policy);
                let allowed = "policies of several resources in one order of precedence, or PFs that cannot be the same";
                files.problem(policy.file, &policy.key("resourceName"), found, allowed);
            }
        }
    }
}

fn document(pool: &Pool<'_>, prefix: &str) -> Value {
    let mut entry = Map::from_iter([
        ("resourceName".to_owned(), json!(pool.resource)),
        ("resourcePrefix".to_owned(), json!(prefix)),
    ]);
    if pool.exclude_topology {
        entry.insert("excludeTopology".to_owned(), json!(true));
    }
    entry.insert("selectors".to_owned(), json!(pool.selectors));
    Value::Object(entry)
}
