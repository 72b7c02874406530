//! What kubelet allocated to a pod, put in an order that the container sees too.

use std::collections::{BTreeMap, HashSet};

use fairlead_resource_config::PciAddress;

/// What kubelet's PodResources says of one container. Rows and IDs come in random order, a resource in several rows when
/// its devices are on several NUMA nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDevices {
    /// Name of the container.
    pub container: String,
    /// Resource name and device IDs.
    pub rows: Vec<(String, Vec<String>)>,
}

/// A pod's devices by resource: containers in pod order, devices of a container sorted by address. This is the order of a
/// container's `PCIDEVICE_*` variables too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodDevices(BTreeMap<String, Vec<String>>);

impl PodDevices {
    /// Puts the rows of the pod's containers, given in pod order, into order.
    ///
    /// A device that two containers share (kubelet gives an init container's devices to a later one again) counts once,
    /// where it is first.
    pub fn new(containers: &[ContainerDevices]) -> Self {
        let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut seen = HashSet::new();
        for container in containers {
            let mut own: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
            for (resource, ids) in &container.rows {
                own.entry(resource).or_default().extend(ids);
            }
            for (resource, mut ids) in own {
                ids.sort_by_key(|id| address(id));
                let new = ids.into_iter().filter(|&id| seen.insert((resource, id))).cloned();
                devices.entry(resource.to_owned()).or_default().extend(new);
            }
        }
        Self(devices)
    }

    /// The devices of a resource in order; empty when the pod has none.
    pub fn of(&self, resource: &str) -> &[String] {
        self.0.get(resource).map_or(&[], Vec::as_slice)
    }

    /// The resource that a device was allocated under.
    pub fn resource_of(&self, device: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(_, ids)| ids.iter().any(|id| id == device))
            .map(|(resource, _)| resource.as_str())
    }

    /// All devices with their resource.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(resource, ids)| ids.iter().map(move |id| (resource.as_str(), id.as_str())))
    }
}

/// What devices are sorted by: PCI addresses by their numbers, then other IDs by their text.
fn address(id: &str) -> (bool, Option<PciAddress>, &str) {
    let address = id.parse().ok();
    (address.is_none(), address, id)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

    use super::*;

    fn container(name: &str, rows: &[(&str, &[&str])]) -> ContainerDevices {
        ContainerDevices {
            container: name.into(),
            rows: rows
                .iter()
                .map(|(resource, ids)| ((*resource).into(), ids.iter().map(|id| (*id).into()).collect()))
                .collect(),
        }
    }

    #[test]
    fn containers_come_in_pod_order_and_a_containers_devices_by_address() {
        let sorted = [
            container("b", &[("x/vf", &["0000:81:10.0", "0000:81:10.2"]), ("x/vf", &["0000:01:10.1"])]),
            container("a", &[("x/vf", &["0000:01:10.0"]), ("x/dpdk", &["0000:01:11.0"])]),
        ];
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut containers = sorted.clone();
            for container in &mut containers {
                container.rows.shuffle(&mut random);
                for (_, ids) in &mut container.rows {
                    ids.shuffle(&mut random);
                }
            }
            let devices = PodDevices::new(&containers);
            assert_eq!(devices.of("x/vf"), ["0000:01:10.1", "0000:81:10.0", "0000:81:10.2", "0000:01:10.0"]);
            assert_eq!(devices.of("x/dpdk"), ["0000:01:11.0"]);
        }
    }

    #[test]
    fn pci_addresses_are_sorted_by_number_and_before_other_ids() {
        let ids = ["mlx5_core.sf.10", "10000:01:00.0", "ffff:01:00.0", "0000:01:00.0", "mlx5_core.eth.2"];
        assert_eq!(
            PodDevices::new(&[container("a", &[("x/vf", &ids)])]).of("x/vf"),
            ["0000:01:00.0", "ffff:01:00.0", "10000:01:00.0", "mlx5_core.eth.2", "mlx5_core.sf.10"]
        );
    }

    #[test]
    fn a_device_of_two_containers_counts_once() {
        let devices = PodDevices::new(&[
            container("setup", &[("x/vf", &["0000:01:10.1"])]),
            container("main", &[("x/vf", &["0000:01:10.1", "0000:01:10.0"])]),
        ]);
        assert_eq!(devices.of("x/vf"), ["0000:01:10.1", "0000:01:10.0"]);
    }

    #[test]
    fn devices_are_found_by_resource_and_back() {
        let devices = PodDevices::new(&[container("a", &[("x/vf", &["0000:01:10.1"])])]);
        assert!(devices.of("x/other").is_empty());
        assert_eq!(devices.resource_of("0000:01:10.1"), Some("x/vf"));
        assert_eq!(devices.resource_of("0000:01:10.2"), None);
        assert_eq!(devices.iter().collect::<Vec<_>>(), [("x/vf", "0000:01:10.1")]);
    }
}
