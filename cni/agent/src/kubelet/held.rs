//! What kubelet's answers mean.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_cni::{
    agent_protocol::PodRef,
    networks::devices::{ContainerDevices, PodDevices},
};
use fairlead_kubelet_api::checkpoint::Entry;

use super::listing::Listed;

/// What a pod's containers were allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    containers: Vec<ContainerDevices>,
    /// Whether the containers are in the pod's order.
    is_ordered: bool,
}

impl Held {
    /// By the checkpoint alone, which has containers in random order.
    pub(super) fn by_checkpoint(entries: Vec<Entry>) -> Self {
        let mut containers: BTreeMap<String, Vec<(String, Vec<String>)>> = BTreeMap::new();
        for entry in entries {
            containers.entry(entry.container).or_default().push((entry.resource, entry.ids));
        }
        let containers =
            containers.into_iter().map(|(container, rows)| ContainerDevices { container, rows }).collect();
        Self { containers, is_ordered: false }
    }

    /// Whether the order of the pod's containers must be known: two of them have devices of one resource.
    pub fn needs_order(&self) -> bool {
        let mut seen = BTreeSet::new();
        let mut resources = self.containers.iter().flat_map(|container| {
            container.rows.iter().map(|(resource, _)| resource.as_str()).collect::<BTreeSet<_>>()
        });
        !self.is_ordered && !resources.all(|resource| seen.insert(resource))
    }

    /// The devices in order. `order` has the names of the pod's containers, where they had to be known.
    pub fn devices(mut self, order: &[String]) -> PodDevices {
        if !self.is_ordered {
            let place =
                |container: &ContainerDevices| order.iter().position(|name| *name == container.container);
            self.containers.sort_by_key(|container| place(container).unwrap_or(usize::MAX));
        }
        PodDevices::new(&self.containers)
    }
}

/// What comes of comparing the rows of pods of one name with the checkpoint's entries of one UID.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    Good(Held),
    /// No pod of that name is listed.
    Unknown,
    /// There are several, and nothing to tell them apart.
    Ambiguous,
    /// There is another pod of that name.
    Earlier,
}

/// Resource and device.
type Pairs = BTreeSet<(String, String)>;

fn pairs<'a>(rows: impl IntoIterator<Item = (&'a String, &'a Vec<String>)>) -> Pairs {
    rows.into_iter().flat_map(|(resource, ids)| ids.iter().map(|id| (resource.clone(), id.clone()))).collect()
}

/// Finds the pod's rows: those that have no device but the checkpoint's. `own` is absent when there is no checkpoint, or no UID.
///
/// What the checkpoint has and the rows lack is added: kubelet lists no device whose plugin gives it an empty topology.
pub(super) fn check(mut listed: Vec<Vec<ContainerDevices>>, own: Option<&[Entry]>) -> Checked {
    if listed.is_empty() {
        return Checked::Unknown;
    }
    let Some(own) = own else {
        return match listed.len() {
            1 => Checked::Good(Held { containers: listed.remove(0), is_ordered: true }),
            _ => Checked::Ambiguous,
        };
    };
    let allocated = pairs(own.iter().map(|entry| (&entry.resource, &entry.ids)));
    let rows_of = |containers: &[ContainerDevices]| {
        pairs(containers.iter().flat_map(|container| container.rows.iter().map(|(name, ids)| (name, ids))))
    };
    // Of several, the one with most of its devices: an earlier pod may be listed with none any more.
    let fitting = listed.into_iter().filter(|containers| rows_of(containers).is_subset(&allocated));
    let Some(mut containers) = fitting.max_by_key(|containers| rows_of(containers).len()) else {
        return Checked::Earlier;
    };
    let has = rows_of(&containers);
    for entry in own {
        let missing: Vec<String> = entry
            .ids
            .iter()
            .filter(|id| !has.contains(&(entry.resource.clone(), (*id).clone())))
            .cloned()
            .collect();
        if missing.is_empty() {
            continue;
        }
        match containers.iter_mut().find(|container| container.container == entry.container) {
            Some(container) => container.rows.push((entry.resource.clone(), missing)),
            // Rows of an earlier pod, which has lost its devices already and had other containers.
            None => return Checked::Earlier,
        }
    }
    Checked::Good(Held { containers, is_ordered: true })
}

/// The devices of all pods but that of this name, each with who has it.
pub(super) fn by_others(pod: &PodRef, pods: &[Listed]) -> BTreeMap<String, String> {
    let others = pods.iter().filter(|one| one.name != pod.name || one.namespace != pod.namespace);
    let mut devices = BTreeMap::new();
    for other in others {
        let owner = format!("pod {}/{}", other.namespace, other.name);
        let rows = other.containers.iter().flat_map(|container| &container.rows);
        devices.extend(rows.flat_map(|(_, ids)| ids).map(|id| (id.clone(), owner.clone())));
    }
    devices
}

/// As [`by_others`], by the checkpoint.
pub(super) fn by_other_uids(pod: &PodRef, entries: Vec<Entry>) -> BTreeMap<String, String> {
    let others = entries.into_iter().filter(|entry| entry.pod_uid != pod.uid);
    let owner = |entry: &Entry| format!("the pod with UID {}", entry.pod_uid);
    others
        .flat_map(|entry| {
            let owner = owner(&entry);
            entry.ids.into_iter().map(move |id| (id, owner.clone()))
        })
        .collect()
}
