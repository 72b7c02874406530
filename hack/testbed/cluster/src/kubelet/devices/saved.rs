//! What pods hold, on disk, so that a kubelet that starts again knows: the real one's checkpoint, which device plugins read, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fairlead_kubelet_api::device_plugin::ContainerAllocateResponse;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::state::{Allocation, Holder};

/// The node that devices without one are put under.
const NO_NODE: i64 = -1;

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
    /// The real one's is computed from its own memory layout, and nobody else looks at it.
    checksum: u64,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Data {
    /// `null` when there is none, as in the real one.
    pod_device_entries: Option<Vec<Entry>>,
    /// Healthy devices by resource.
    registered_devices: BTreeMap<String, Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    container_name: String,
    resource_name: String,
    /// By NUMA node; a device of several nodes is under each.
    #[serde(rename = "DeviceIDs")]
    device_ids: BTreeMap<i64, BTreeSet<String>>,
    /// A ContainerAllocateResponse, serialised, in base64.
    alloc_resp: String,
}

/// What a kubelet that starts knows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Saved {
    /// Who holds what, by the pod's UID; names come with the pods.
    pub(super) holders: BTreeMap<String, Holder>,
    /// Resources that had been registered: the node has none of them until their plugins are back.
    pub(super) resources: BTreeSet<String>,
}

/// Where it is, below kubelet's root.
pub(super) fn path(root: &Path) -> PathBuf {
    root.join("device-plugins/kubelet_internal_checkpoint")
}

/// Reads what was saved. A file that is not there is none.
pub(super) fn read(path: &Path) -> Result<Saved, String> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(format!("read {}: {error}", path.display())),
    };
    let checkpoint: Checkpoint =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut saved = Saved::default();
    for entry in checkpoint.data.pod_device_entries.into_iter().flatten() {
        let uid = entry.pod_uid.clone();
        let allocation = entry.allocation().map_err(|why| format!("{}: pod {uid}: {why}", path.display()))?;
        saved.holders.entry(uid).or_default().allocations.push(allocation);
    }
    saved.resources = checkpoint.data.registered_devices.into_keys().collect();
    Ok(saved)
}

/// Writes who holds what, and which devices are healthy.
pub(super) fn write(
    path: &Path,
    holders: &BTreeMap<String, Holder>,
    healthy: BTreeMap<String, Vec<String>>,
) -> io::Result<()> {
    let entries: Vec<Entry> = holders
        .iter()
        .flat_map(|(uid, holder)| holder.allocations.iter().map(move |one| Entry::of(uid, one)))
        .collect();
    let entries = Some(entries).filter(|entries| !entries.is_empty());
    let data = Data { pod_device_entries: entries, registered_devices: healthy };
    crate::files::write_private(path, &serde_json::to_vec(&Checkpoint { data, checksum: 0 })?)
}

impl Entry {
    fn of(uid: &str, allocation: &Allocation) -> Self {
        let mut device_ids: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        for (id, numa) in &allocation.devices {
            let nodes = numa.as_deref().filter(|nodes| !nodes.is_empty()).unwrap_or(&[NO_NODE]);
            for node in nodes {
                device_ids.entry(*node).or_default().insert(id.clone());
            }
        }
        Self {
            pod_uid: uid.into(),
            container_name: allocation.container.clone(),
            resource_name: allocation.resource.clone(),
            device_ids,
            alloc_resp: STANDARD.encode(allocation.response.encode_to_vec()),
        }
    }

    fn allocation(self) -> Result<Allocation, String> {
        let bytes = STANDARD.decode(&self.alloc_resp).map_err(|error| error.to_string())?;
        let response =
            ContainerAllocateResponse::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
        let mut devices: BTreeMap<String, Option<Vec<i64>>> = BTreeMap::new();
        for (node, ids) in self.device_ids {
            for id in ids {
                let nodes = devices.entry(id).or_default();
                if node != NO_NODE {
                    nodes.get_or_insert_default().push(node);
                }
            }
        }
        Ok(Allocation { container: self.container_name, resource: self.resource_name, devices, response })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn holders() -> BTreeMap<String, Holder> {
        let response = ContainerAllocateResponse {
            envs: HashMap::from([("E".into(), "v".into())]),
            ..ContainerAllocateResponse::default()
        };
        let allocation = Allocation {
            container: "c".into(),
            resource: "a/b".into(),
            devices: BTreeMap::from([("x".into(), Some(vec![0, 1])), ("y".into(), None)]),
            response,
        };
        let holder = Holder { allocations: vec![allocation], ..Holder::default() };
        BTreeMap::from([("uid".to_string(), holder)])
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        assert_eq!(read(&path), Ok(Saved::default()));
        write(&path, &holders(), BTreeMap::from([("a/b".into(), vec!["z".into()])])).unwrap();
        let saved = Saved { holders: holders(), resources: BTreeSet::from(["a/b".into()]) };
        assert_eq!(read(&path), Ok(saved));
        fs::write(&path, "{").unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn it_looks_like_the_real_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        write(&path, &holders(), BTreeMap::from([("a/b".into(), vec!["z".into()])])).unwrap();
        let found: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let wanted = serde_json::json!({"Data": {"PodDeviceEntries": [{
            "PodUID": "uid", "ContainerName": "c", "ResourceName": "a/b",
            "DeviceIDs": {"-1": ["y"], "0": ["x"], "1": ["x"]}, "AllocResp": "CgYKAUUSAXY=",
        }], "RegisteredDevices": {"a/b": ["z"]}}, "Checksum": 0});
        assert_eq!(found, wanted);
        write(&path, &BTreeMap::new(), BTreeMap::new()).unwrap();
        let empty = fs::read_to_string(&path).unwrap();
        assert_eq!(empty, r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":0}"#);
    }
}
