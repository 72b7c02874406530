//! Folders of the node, and what kubelet keeps in its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::root::Root;

/// kubelet's checkpoint of devices, below its root.
pub(crate) const CHECKPOINT: &str = "device-plugins/kubelet_internal_checkpoint";

/// Folders of the node.
#[derive(Clone, Debug, clap::Args)]
pub struct Places {
    /// Where the node's root is: another folder in a container that has it mounted.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Folder of CNI plugins.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
    /// Folder of CNI configurations.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
    /// kubelet's root.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_root: PathBuf,
}

/// The files of this name that kubelet has made of pods' ConfigMaps.
pub(crate) fn config_maps(root: &Root, kubelet_root: &Path, name: &str) -> Vec<PathBuf> {
    let pods = kubelet_root.join("pods");
    let mut files = Vec::new();
    for pod in root.names(&pods) {
        let maps = pods.join(pod).join("volumes/kubernetes.io~configmap");
        files.extend(root.names(&maps).into_iter().map(|map| maps.join(map).join(name)));
    }
    files.retain(|file| root.exists(file));
    files
}

/// kubelet's checkpoint.
///
/// # Errors
/// When it cannot be read, or is no JSON.
pub(crate) fn checkpoint(root: &Root, kubelet_root: &Path) -> Result<Value, String> {
    let path = kubelet_root.join(CHECKPOINT);
    let text = root.read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no checkpoint: {error}", path.display()))
}

/// The devices that are registered by a checkpoint, by resource; none where it does not tell.
pub(crate) fn registered(checkpoint: &Value) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let resources = checkpoint.pointer("/Data/RegisteredDevices")?.as_object()?;
    let ids = |ids: &Value| {
        ids.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Some(resources.iter().map(|(resource, devices)| (resource.clone(), ids(devices))).collect())
}
