//! What a container gets for the devices it holds.

use std::collections::BTreeMap;

use fairlead_kubelet_api::device_plugin::{ContainerAllocateResponse, DeviceSpec, Mount};

/// The answers for all resources of one container, merged.
#[derive(Debug, Default, PartialEq)]
pub struct Edits {
    /// Environment.
    pub envs: BTreeMap<String, String>,
    /// Mounts, by container path.
    pub mounts: BTreeMap<String, Mount>,
    /// Device nodes, by container path.
    pub devices: BTreeMap<String, DeviceSpec>,
    /// Container annotations.
    pub annotations: BTreeMap<String, String>,
    /// Fully qualified CDI names.
    pub cdi_devices: Vec<String>,
}

/// Merges answers as kubelet does: of two for the same key the first is kept. The second result is what was dropped.
pub fn merge<'a>(answers: impl IntoIterator<Item = &'a ContainerAllocateResponse>) -> (Edits, Vec<String>) {
    let mut edits = Edits::default();
    let mut dropped = Vec::new();
    for answer in answers {
        for (key, value) in &answer.envs {
            keep_first(&mut edits.envs, key, value, "environment variable", &mut dropped);
        }
        for mount in &answer.mounts {
            keep_first(&mut edits.mounts, &mount.container_path, mount, "mount", &mut dropped);
        }
        for device in &answer.devices {
            keep_first(&mut edits.devices, &device.container_path, device, "device", &mut dropped);
        }
        for (key, value) in &answer.annotations {
            keep_first(&mut edits.annotations, key, value, "annotation", &mut dropped);
        }
        for device in &answer.cdi_devices {
            if !edits.cdi_devices.contains(&device.name) {
                edits.cdi_devices.push(device.name.clone());
            }
        }
    }
    (edits, dropped)
}

fn keep_first<T: Clone + PartialEq>(
    kept: &mut BTreeMap<String, T>,
    key: &str,
    value: &T,
    what: &str,
    dropped: &mut Vec<String>,
) {
    match kept.get(key) {
        Some(first) if first != value => dropped.push(format!("{what} {key} has conflicting settings")),
        Some(_) => {}
        None => {
            kept.insert(key.into(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_first_wins() {
        let answer = |value: &str, path: &str| ContainerAllocateResponse {
            envs: HashMap::from([("E".into(), value.into())]),
            devices: vec![DeviceSpec {
                container_path: "/dev/vfio/vfio".into(),
                host_path: path.into(),
                permissions: "rw".into(),
            }],
            ..ContainerAllocateResponse::default()
        };
        let (edits, dropped) = merge([&answer("1", "/dev/a"), &answer("2", "/dev/a")]);
        assert_eq!(edits.envs["E"], "1");
        assert_eq!(edits.devices.len(), 1);
        assert_eq!(dropped, ["environment variable E has conflicting settings"]);
    }
}
