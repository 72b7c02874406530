//! A pool while the plugin runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_resource_config::config::{Resource, ResourceName};
use fairlead_resource_config::pools::DeviceId;
use tokio::sync::watch;

use crate::health;
use crate::member::Member;

/// What a pool lists at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    /// How the pool is configured.
    pub(crate) resource: Arc<Resource>,
    /// Its devices, sorted.
    pub(crate) members: Arc<Vec<Member>>,
}

impl Listing {
    /// The device that kubelet knows by `id`. Only the form in which devices are listed is one of their IDs.
    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        let parsed: DeviceId = id.parse().ok()?;
        let place = self.members.binary_search_by(|member| member.id().cmp(&parsed)).ok()?;
        self.members.get(place).filter(|member| member.id().to_string() == id)
    }

    /// Whether files that describe the devices of the other one would be the same. Who has a device is in none.
    pub(crate) fn is_described_like(&self, other: &Self) -> bool {
        self.resource == other.resource
            && self.members.len() == other.members.len()
            && self.members.iter().all(|member| other.has_like(member))
    }

    /// Whether this has just such a device, but for who has it.
    pub(crate) fn has_like(&self, member: &Member) -> bool {
        let own = self.members.binary_search_by(|own| own.id().cmp(member.id())).ok();
        own.and_then(|place| self.members.get(place)).is_some_and(|own| own.is_like(member))
    }

    /// Whether kubelet would get the same list.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        let seen = |member: &Member| (member.problem.is_some(), member.device.numa_node);
        self.resource.exclude_topology == other.resource.exclude_topology
            && self.members.len() == other.members.len()
            && self
                .members
                .iter()
                .zip(other.members.iter())
                .all(|(a, b)| a.id() == b.id() && seen(a) == seen(b))
    }

    /// The list that kubelet gets.
    pub(crate) fn answer(&self) -> api::ListAndWatchResponse {
        let topology = |member: &Member| {
            let node = member.device.numa_node.filter(|_| !self.resource.exclude_topology)?;
            Some(api::TopologyInfo { nodes: vec![api::NumaNode { id: i64::from(node) }] })
        };
        let listed = |member: &Member| api::Device {
            id: member.id().to_string(),
            health: health::word(member.problem.as_ref()).to_owned(),
            topology: topology(member),
        };
        api::ListAndWatchResponse { devices: self.members.iter().map(listed).collect() }
    }
}

/// A resource and its devices, which change.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: ResourceName,
    listing: watch::Sender<Listing>,
}

impl Pool {
    pub(crate) fn new(listing: Listing) -> Self {
        let name = listing.resource.name.clone();
        let empty = Listing { resource: listing.resource.clone(), members: Arc::default() };
        log_change(&empty, &listing);
        Self { name, listing: watch::Sender::new(listing) }
    }

    pub(crate) fn listing(&self) -> Listing {
        self.listing.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Listing> {
        self.listing.subscribe()
    }

    /// Replaces the devices, and says in the log what has changed. Whether anything has.
    pub(crate) fn update(&self, listing: Listing) -> bool {
        let before = self.listing();
        if before == listing {
            return false;
        }
        log_change(&before, &listing);
        self.listing.send_replace(listing);
        true
    }
}

/// One line for what came and went, and one for each reason that makes devices unhealthy, or healthy again.
fn log_change(before: &Listing, after: &Listing) {
    let (old, new) = (by_id(before), by_id(after));
    let resource = &after.resource.name;
    let added: Vec<&DeviceId> = new.keys().filter(|id| !old.contains_key(*id)).copied().collect();
    let removed: Vec<&DeviceId> = old.keys().filter(|id| !new.contains_key(*id)).copied().collect();
    if !added.is_empty() || !removed.is_empty() {
        tracing::info!(
            %resource,
            devices = new.len(),
            added = %told(&added),
            removed = %told(&removed),
            "pool changed"
        );
    }
    let mut reasons: BTreeMap<String, Vec<&DeviceId>> = BTreeMap::new();
    let mut healthy = Vec::new();
    for (id, member) in &new {
        let was = old.get(id).and_then(|member| member.problem.as_ref());
        match &member.problem {
            Some(problem) if was != Some(problem) => {
                reasons.entry(problem.to_string()).or_default().push(*id);
            }
            None if was.is_some() => healthy.push(*id),
            _ => {}
        }
        let peers = &member.device.group_peers;
        if !peers.is_empty() && old.get(id).is_none_or(|old| old.device.group_peers != *peers) {
            let members = peers.join(",");
            tracing::info!(%resource, device = %id, members, "device stands for its IOMMU group");
        }
    }
    for (reason, devices) in reasons {
        tracing::warn!(%resource, devices = %told(&devices), reason, "not to be handed out");
    }
    if !healthy.is_empty() {
        tracing::info!(%resource, devices = %told(&healthy), "can be handed out again");
    }
}

fn by_id(listing: &Listing) -> BTreeMap<&DeviceId, &Member> {
    listing.members.iter().map(|member| (member.id(), member)).collect()
}

/// The most devices that a line of the log names: thousands would make it longer than runtimes leave a line (16 KiB).
const MOST_TOLD: usize = 64;

/// Devices for a line of the log.
fn told(ids: &[&DeviceId]) -> String {
    let named = joined(ids.iter().take(MOST_TOLD).copied());
    match ids.len().saturating_sub(MOST_TOLD) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Devices as they are written into variables and logs.
pub(crate) fn joined<'a>(ids: impl IntoIterator<Item = &'a DeviceId>) -> String {
    ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_names_a_bounded_number_of_devices() {
        let ids: Vec<DeviceId> = (0..100).map(|number| DeviceId::Aux(format!("sf.{number}"))).collect();
        let told = |count: usize| told(&ids.iter().take(count).collect::<Vec<_>>());
        assert_eq!(told(2), "sf.0,sf.1");
        assert!(told(64).ends_with(",sf.63"));
        assert!(told(100).ends_with(",sf.63 and 36 more"));
    }
}
