//! kubelet's own file of what it has given to containers.

use std::path::{Path, PathBuf};
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::device_plugin::ContainerAllocateResponse;

/// Its name, beside the plugins' sockets.
const NAME: &str = "kubelet_internal_checkpoint";

/// A checkpoint that cannot be read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a checkpoint of kubelet's")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
}

/// Devices that one container has been given of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// UID of the container's pod, as kubelet knows it.
    pub pod_uid: String,
    /// Name of the container.
    pub container: String,
    /// Name of the resource.
    pub resource: String,
    /// IDs of the devices.
    pub ids: Vec<String>,
    /// What the plugin answered then, in protobuf and base64.
    answer: String,
}

impl Entry {
    /// What the plugin answered then.
    pub fn answer(&self) -> Option<ContainerAllocateResponse> {
        ContainerAllocateResponse::decode(STANDARD.decode(&self.answer).ok()?.as_slice()).ok()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    #[serde(default)]
    pod_device_entries: Option<Vec<FileEntry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FileEntry {
    #[serde(rename = "PodUID", default)]
    pod_uid: String,
    #[serde(default)]
    container_name: String,
    resource_name: String,
    /// By NUMA node since Kubernetes 1.20, before that a plain list.
    #[serde(rename = "DeviceIDs", default)]
    device_ids: Value,
    #[serde(default)]
    alloc_resp: Option<String>,
}

/// Reads the checkpoint in the folder of the plugins' sockets. Entries are in no particular order, a container's devices of a
/// resource neither.
///
/// # Errors
/// When it is not there, or is something else.
pub fn read(dir: &Path) -> Result<Vec<Entry>, CheckpointError> {
    let path = dir.join(NAME);
    let text = fs::read(&path).map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
    let file: File =
        serde_json::from_slice(&text).map_err(|source| CheckpointError::Syntax { path, source })?;
    let entry = |entry: FileEntry| Entry {
        pod_uid: entry.pod_uid,
        container: entry.container_name,
        resource: entry.resource_name,
        ids: texts(entry.device_ids),
        answer: entry.alloc_resp.unwrap_or_default(),
    };
    Ok(file.data.pod_device_entries.unwrap_or_default().into_iter().map(entry).collect())
}

fn texts(value: Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.into_iter().flat_map(texts).collect(),
        Value::Object(values) => values.into_iter().flat_map(|(_, value)| texts(value)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_plugin::DeviceSpec;

    #[test]
    fn both_forms_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(CheckpointError::Read { .. })));
        let spec = DeviceSpec { host_path: "/dev/vfio/12".to_owned(), ..Default::default() };
        let answer = ContainerAllocateResponse { devices: vec![spec], ..Default::default() };
        let text = serde_json::json!({"Data": {"PodDeviceEntries": [
            {"PodUID": "u", "ContainerName": "c", "ResourceName": "a/b", "DeviceIDs": {"0": ["x"], "-1": ["y"]},
             "AllocResp": STANDARD.encode(answer.encode_to_vec())},
            {"PodUID": "v", "ContainerName": "c", "ResourceName": "a/c", "DeviceIDs": ["z"], "AllocResp": null},
        ], "RegisteredDevices": {}}, "Checksum": 1});
        fs::write(dir.path().join(NAME), text.to_string()).unwrap();
        let entries = read(dir.path()).unwrap();
        assert_eq!(
            (entries[0].resource.as_str(), entries[0].ids.as_slice()),
            ("a/b", &["x".to_owned(), "y".to_owned()][..])
        );
        assert_eq!(entries[0].answer(), Some(answer));
        assert_eq!((entries[1].pod_uid.as_str(), entries[1].ids.as_slice()), ("v", &["z".to_owned()][..]));
        fs::write(dir.path().join(NAME), "{torn").unwrap();
        assert!(matches!(read(dir.path()), Err(CheckpointError::Syntax { .. })));
        fs::write(dir.path().join(NAME), r#"{"Data":{"PodDeviceEntries":null}}"#).unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
    }
}
