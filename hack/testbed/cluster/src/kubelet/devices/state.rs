//! What plugins have reported and what pods hold: plain data and decisions.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_kubelet_api::device_plugin::{self as api, ContainerAllocateResponse};

/// One reported device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// May be allocated.
    pub healthy: bool,
    /// The NUMA nodes it is near; absent when the plugin says nothing of topology.
    pub numa: Option<Vec<i64>>,
}

/// One resource, from its first registration on.
#[derive(Debug, Default)]
pub(super) struct Resource {
    pub(super) devices: BTreeMap<String, Device>,
    /// Whether a plugin speaks for it.
    pub(super) connected: bool,
}

/// Devices that one container holds of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Container's name.
    pub container: String,
    /// Such as `intel.com/sriov`.
    pub resource: String,
    /// Devices, with their NUMA nodes at the time.
    pub devices: BTreeMap<String, Option<Vec<i64>>>,
    /// What the plugin answered; kept for restarts of the container.
    pub response: ContainerAllocateResponse,
}

/// One pod on the node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Holder {
    /// Pod's namespace.
    pub namespace: String,
    /// Pod's name.
    pub name: String,
    /// Names of its containers.
    pub containers: Vec<String>,
    /// What they hold.
    pub allocations: Vec<Allocation>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) resources: BTreeMap<String, Resource>,
    /// By pod UID.
    pub(super) holders: BTreeMap<String, Holder>,
}

/// How much there is of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// All devices reported.
    pub capacity: usize,
    /// Healthy ones.
    pub allocatable: usize,
}

impl State {
    /// A plugin's full list.
    pub(super) fn report(&mut self, resource: &str, devices: &[api::Device]) {
        let entry = self.resources.entry(resource.into()).or_default();
        entry.devices = devices.iter().map(|d| (d.id.clone(), device(d))).collect();
    }

    /// No plugin speaks for the resource: nothing of it may be allocated until one reports again.
    pub(super) fn disconnect(&mut self, resource: &str) {
        if let Some(entry) = self.resources.get_mut(resource) {
            entry.connected = false;
            for device in entry.devices.values_mut() {
                device.healthy = false;
            }
        }
    }

    /// The plugin stayed away too long: the resource is gone from the node.
    pub(super) fn expire(&mut self, resource: &str) -> bool {
        let gone = self.resources.get_mut(resource).filter(|r| !r.connected);
        gone.is_some_and(|r| !std::mem::take(&mut r.devices).is_empty())
    }

    pub(super) fn counts(&self) -> BTreeMap<String, Count> {
        let count = |r: &Resource| Count {
            capacity: r.devices.len(),
            allocatable: r.devices.values().filter(|d| d.healthy).count(),
        };
        self.resources.iter().map(|(name, resource)| (name.clone(), count(resource))).collect()
    }

    /// Healthy devices by resource.
    pub(super) fn healthy(&self) -> BTreeMap<String, Vec<String>> {
        let healthy =
            |r: &Resource| r.devices.iter().filter(|(_, d)| d.healthy).map(|(id, _)| id.clone()).collect();
        self.resources.iter().map(|(name, resource)| (name.clone(), healthy(resource))).collect()
    }

    fn in_use(&self, resource: &str) -> BTreeSet<&str> {
        let allocations = self.holders.values().flat_map(|h| &h.allocations);
        allocations
            .filter(|a| a.resource == resource)
            .flat_map(|a| a.devices.keys())
            .map(String::as_str)
            .collect()
    }

    /// Healthy devices that nobody holds, or kubelet's reason why `needed` of them cannot be had.
    pub(super) fn free(&self, resource: &str, needed: usize) -> Result<Vec<String>, String> {
        let Some(entry) = self.resources.get(resource).filter(|r| r.connected) else {
            return Err(format!("cannot allocate unregistered device {resource}"));
        };
        let healthy = entry.devices.iter().filter(|(_, d)| d.healthy).map(|(id, _)| id);
        if healthy.clone().next().is_none() {
            return Err(format!("no healthy devices present; cannot allocate unhealthy devices {resource}"));
        }
        let in_use = self.in_use(resource);
        let free: Vec<String> = healthy.filter(|id| !in_use.contains(id.as_str())).cloned().collect();
        if free.len() < needed {
            return Err(format!(
                "requested number of devices unavailable for {resource}. Requested: {needed}, Available: {}",
                free.len()
            ));
        }
        Ok(free)
    }

    /// NUMA nodes of devices, by ID.
    pub(super) fn topology(&self, resource: &str, ids: &[String]) -> BTreeMap<String, Option<Vec<i64>>> {
        let known = self.resources.get(resource);
        let numa = |id: &String| known.and_then(|r| r.devices.get(id)).and_then(|d| d.numa.clone());
        ids.iter().map(|id| (id.clone(), numa(id))).collect()
    }
}

fn device(device: &api::Device) -> Device {
    Device {
        healthy: device.health == api::HEALTHY,
        numa: device.topology.as_ref().map(|t| t.nodes.iter().map(|n| n.id).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: &str = "a/b";

    fn devices(list: &[(&str, bool)]) -> Vec<api::Device> {
        let health = |h: bool| if h { api::HEALTHY } else { api::UNHEALTHY }.to_string();
        list.iter()
            .map(|(id, h)| api::Device { id: (*id).into(), health: health(*h), topology: None })
            .collect()
    }

    fn state(list: &[(&str, bool)]) -> State {
        let mut state = State::default();
        state.resources.insert(R.into(), Resource { connected: true, ..Resource::default() });
        state.report(R, &devices(list));
        state
    }

    fn count(state: &State) -> (usize, usize) {
        let count = state.counts()[R];
        (count.capacity, count.allocatable)
    }

    #[test]
    fn a_report_is_the_full_list() {
        let mut state = state(&[("x", true), ("y", false)]);
        assert_eq!(count(&state), (2, 1));
        state.report(R, &devices(&[("z", true)]));
        assert_eq!(count(&state), (1, 1));
        state.report(R, &[]);
        assert_eq!(count(&state), (0, 0));
    }

    #[test]
    fn a_connection_that_ends_takes_health_then_capacity() {
        let mut state = state(&[("x", true)]);
        state.disconnect(R);
        assert_eq!(count(&state), (1, 0));
        assert!(state.free(R, 1).unwrap_err().contains("unregistered"));
        assert!(state.expire(R));
        assert_eq!(count(&state), (0, 0));
    }

    #[test]
    fn free_is_healthy_and_not_held() {
        let mut state = state(&[("x", true), ("y", true), ("z", false)]);
        let allocation = Allocation {
            container: "c".into(),
            resource: R.into(),
            devices: state.topology(R, &["x".into()]),
            response: ContainerAllocateResponse::default(),
        };
        state.holders.insert("u".into(), Holder { allocations: vec![allocation], ..Holder::default() });
        assert_eq!(state.free(R, 1).unwrap(), ["y"]);
        assert_eq!(
            state.free(R, 2).unwrap_err(),
            "requested number of devices unavailable for a/b. Requested: 2, Available: 1"
        );
        state.holders.remove("u");
        assert_eq!(state.free(R, 2).unwrap(), ["x", "y"]);
    }
}
