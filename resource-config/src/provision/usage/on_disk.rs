//! Users of devices by the files that kubelet and the CNI executable keep.

use std::path::Path;
use std::{fs, io};

use serde_json::Value;

use super::Usage;
use crate::pci::PciAddress;
use crate::provision::files;

/// kubelet's own record of what it gave to containers.
pub(super) fn checkpoint(kubelet_root: &Path, usage: &mut Usage) {
    let path = kubelet_root.join("device-plugins/kubelet_internal_checkpoint");
    let Some(value) = json(&path, usage) else { return };
    let entries = value.pointer("/Data/PodDeviceEntries").and_then(Value::as_array);
    for entry in entries.into_iter().flatten() {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
        let user = format!(
            "kubelet gave it to container {} of the pod with UID {} (resource {}, {})",
            text("ContainerName"),
            text("PodUID"),
            text("ResourceName"),
            path.display()
        );
        // By NUMA node since Kubernetes 1.20, before that a plain list.
        for address in addresses(entry.get("DeviceIDs").unwrap_or(&Value::Null)) {
            usage.add(address, user.clone(), false);
        }
    }
}

/// The CNI executable's records; those of another boot describe nothing any more.
pub(super) fn attachments(folder: &Path, boot_id: &Option<String>, usage: &mut Usage) {
    let names = files::names(folder).unwrap_or_else(|error| {
        usage.notes.push(format!("cannot list {}: {error}", folder.display()));
        Vec::new()
    });
    for name in names.iter().filter(|name| name.ends_with(".json")) {
        let path = folder.join(name);
        let Some(record) = json(&path, usage) else { continue };
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        if let (Some(now), Some(then)) = (boot_id, text("/bootId"))
            && now != then
        {
            continue;
        }
        let user = format!(
            "interface {} of pod {}/{} (record {})",
            text("/interface").unwrap_or("?"),
            text("/pod/namespace").unwrap_or("?"),
            text("/pod/name").unwrap_or("?"),
            path.display()
        );
        let mut found = addresses(record.get("steps").unwrap_or(&Value::Null));
        found.sort_unstable();
        found.dedup();
        for address in found {
            usage.add(address, user.clone(), true);
        }
    }
}

/// Every text within a value that is a PCI address in full.
fn addresses(value: &Value) -> Vec<PciAddress> {
    match value {
        // The short form without a domain would take texts such as times for addresses.
        Value::String(text) if text.matches(':').count() == 2 => text.parse().into_iter().collect(),
        Value::Array(values) => values.iter().flat_map(addresses).collect(),
        Value::Object(values) => values.values().flat_map(addresses).collect(),
        _ => Vec::new(),
    }
}

/// The JSON in a file; a file that is missing says nothing, one that is garbled is noted.
fn json(path: &Path, usage: &mut Usage) -> Option<Value> {
    let read = fs::read(path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    match read {
        Ok(value) => Some(value),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let problem = "which devices it says are in use is not known";
            usage.notes.push(format!("{}: {error}; {problem}", path.display()));
            None
        }
    }
}
