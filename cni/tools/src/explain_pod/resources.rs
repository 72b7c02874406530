//! The devices that a pod asks for, and those that are free on this node.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_cni::networks::devices::ContainerDevices;
use serde_json::Value;

use crate::finding::Finding;

/// A device of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) numa_node: Option<u32>,
    /// Why it cannot be handed out.
    pub(super) problem: Option<String>,
    /// Who has it.
    pub(super) holder: Option<String>,
}

impl Device {
    fn is_free(&self) -> bool {
        self.problem.is_none() && self.holder.is_none()
    }
}

/// The node's devices by resource; nothing where the pools are not known.
pub(super) type Offers = Option<BTreeMap<String, Vec<Device>>>;

/// How many of each resource each container asks for, in pod order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    containers: Vec<(String, BTreeMap<String, u64>)>,
    /// What the pod needs at a time: an init container's devices are given to a later one again.
    pub(super) total: BTreeMap<String, u64>,
}

impl Asked {
    /// From a pod's spec. Only what is named like a device plugin's resource counts.
    ///
    /// # Errors
    /// Which quantity is none.
    pub(super) fn of(spec: &Value) -> Result<Self, String> {
        let mut asked = Self::default();
        let (mut steady, mut init) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
        for (key, is_init) in [("initContainers", true), ("containers", false)] {
            for container in spec[key].as_array().into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or_default().to_owned();
                let counts = counts(&name, &container["resources"])?;
                let stays = !is_init || container["restartPolicy"] == "Always";
                for (resource, count) in &counts {
                    match stays {
                        true => *steady.entry(resource.clone()).or_default() += count,
                        false => {
                            let most = init.entry(resource.clone()).or_default();
                            *most = (*most).max(*count);
                        }
                    }
                }
                if stays || !counts.is_empty() {
                    asked.containers.push((name, counts));
                }
            }
        }
        asked.total = steady;
        for (resource, count) in init {
            let most = asked.total.entry(resource).or_default();
            *most = (*most).max(count);
        }
        Ok(asked)
    }

    /// What kubelet might give: free devices first, then any, so that what comes after the shortage can be told, too.
    pub(super) fn allocate(&self, offers: &BTreeMap<String, Vec<Device>>) -> Vec<ContainerDevices> {
        let mut left: BTreeMap<&String, Vec<&Device>> = BTreeMap::new();
        for (resource, devices) in offers {
            let mut devices: Vec<&Device> = devices.iter().collect();
            devices.sort_by_key(|device| !device.is_free());
            left.insert(resource, devices);
        }
        let mut containers = Vec::new();
        for (container, counts) in &self.containers {
            let mut rows = Vec::new();
            for (resource, count) in counts {
                let Some(devices) = left.get_mut(resource) else { continue };
                let taken = devices.len().min(usize::try_from(*count).unwrap_or(usize::MAX));
                let ids = devices.drain(..taken).map(|device| device.id.clone()).collect();
                rows.push((resource.clone(), ids));
            }
            containers.push(ContainerDevices { container: container.clone(), rows });
        }
        containers
    }
}

fn counts(container: &str, resources: &Value) -> Result<BTreeMap<String, u64>, String> {
    let mut counts = BTreeMap::new();
    for (kind, others) in [("limits", "requests"), ("requests", "limits")] {
        for (resource, quantity) in resources[kind].as_object().into_iter().flatten() {
            if !resource.contains('/') || resource.starts_with("kubernetes.io/") {
                continue;
            }
            let wrong = || {
                format!("container {container}: {kind} of {resource} is {quantity}: a whole number is wanted")
            };
            let text = quantity.as_str().map_or_else(|| quantity.to_string(), str::to_owned);
            let count: u64 = text.parse().map_err(|_| wrong())?;
            let other = &resources[others][resource];
            let other_text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            match (kind, other.is_null()) {
                ("requests", true) => {
                    return Err(format!(
                        "container {container} requests {resource} and has no limit of it: the API server refuses that"
                    ));
                }
                (_, false) if other_text != text => {
                    return Err(format!(
                        "container {container}: request and limit of {resource} differ: the API server refuses that"
                    ));
                }
                _ => {}
            }
            if count > 0 {
                counts.insert(resource.clone(), count);
            }
        }
    }
    Ok(counts)
}

/// Says whether this node has what is asked for.
pub(super) fn judge(asked: &Asked, offers: &Offers) -> Vec<Finding> {
    if asked.total.is_empty() {
        return vec![Finding::ok("pod.resources", "it asks for no devices")];
    }
    let Some(offers) = offers else {
        let names: Vec<&str> = asked.total.keys().map(String::as_str).collect();
        let seen =
            format!("whether {} are here is not known without the pools' configuration", names.join(", "));
        return vec![Finding::unknown("pod.resources", seen, "name it with --pools FILE")];
    };
    let mut findings: Vec<Finding> =
        asked.total.iter().map(|(resource, count)| enough(resource, *count, offers.get(resource))).collect();
    if findings.iter().all(|finding| finding.remedy.is_none()) {
        findings.extend(numa(asked, offers));
    }
    findings
}

fn enough(resource: &str, count: u64, devices: Option<&Vec<Device>>) -> Finding {
    let id = "pod.resources";
    let Some(devices) = devices else {
        let seen = format!("{resource}: this node has no pool of that name");
        return Finding::error(
            id,
            seen,
            "correct the name, or add the pool to the device plugin's configuration",
        );
    };
    let free = devices.iter().filter(|device| device.is_free()).count() as u64;
    if free >= count {
        return Finding::ok(id, format!("{resource}: {count} asked for, {free} of {} free", devices.len()));
    }
    let why = devices.iter().filter_map(|device| {
        let why = device.problem.clone().or_else(|| Some(format!("{} has it", device.holder.as_ref()?)))?;
        Some(format!("{}: {why}", device.id))
    });
    let why: Vec<String> = why.take(8).collect();
    let seen =
        format!("{resource}: {count} asked for, {free} of {} free ({})", devices.len(), why.join("; "));
    let remedy = match devices.len() as u64 >= count {
        true => "delete pods that have them, or put right what keeps them from being handed out",
        false => "ask for fewer, or make more VFs (`fairlead doctor` says why a pool has no more)",
    };
    Finding::error(id, seen, remedy)
}

/// Whether one NUMA node has all of it: what kubelet's topology manager may insist on.
fn numa(asked: &Asked, offers: &BTreeMap<String, Vec<Device>>) -> Option<Finding> {
    let free = |resource: &String| {
        offers.get(resource).into_iter().flatten().filter(|device| device.is_free()).collect::<Vec<_>>()
    };
    let all: BTreeSet<u32> =
        asked.total.keys().flat_map(free).filter_map(|device| device.numa_node).collect();
    if all.is_empty() || asked.total.values().sum::<u64>() < 2 {
        return None;
    }
    let has_all = |node: &&u32| {
        asked.total.iter().all(|(resource, count)| {
            let near =
                free(resource).into_iter().filter(|device| device.numa_node.is_none_or(|at| at == **node));
            near.count() as u64 >= *count
        })
    };
    Some(match all.iter().find(has_all) {
        Some(node) => Finding::ok("pod.numa", format!("all of its devices can be of NUMA node {node}")),
        None => Finding::warning(
            "pod.numa",
            "no NUMA node has all of its devices: a kubelet with topologyManagerPolicy single-numa-node refuses it",
            "ask for less, or take VFs of a PF on one NUMA node (policy best-effort admits it, and it runs slower)",
        ),
    })
}
