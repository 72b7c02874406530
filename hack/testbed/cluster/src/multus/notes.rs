//! What Multus keeps of the pods that it made: its own list, and the reference library's cache.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Delegate, plugins::Sandbox};

/// Multus' folder.
pub(super) const FOLDER: &str = "/var/lib/cni/multus";
/// Device information: of device plugins, and of attachments.
const DEVICE_INFO: &str = "/var/run/k8s.cni.cncf.io/devinfo";

/// The notes of a sandbox.
pub(super) struct Notes {
    file: PathBuf,
}

impl Notes {
    pub(super) fn new(container_id: &str) -> Self {
        Self { file: Path::new(FOLDER).join(container_id) }
    }

    pub(super) fn write(&self, delegates: &[Delegate]) -> Result<()> {
        let item = |(place, delegate): (usize, &Delegate)| {
            let config = &delegate.config;
            let is_list = config.get("plugins").is_some();
            let generic =
                json!({"cniVersion": config["cniVersion"], "name": config["name"], "type": config["type"]});
            let (device, resource) =
                delegate.device.clone().map(|(resource, id)| (id, resource)).unwrap_or_default();
            json!({
                "Conf": if is_list { json!({"name": "", "type": "", "ipam": {}, "dns": {}}) } else { generic },
                "ConfList": if is_list { json!({"cniVersion": config["cniVersion"], "name": config["name"], "plugins": config["plugins"]}) }
                            else { json!({"type": "", "plugins": null}) },
                "Name": delegate.network,
                "ifnameRequest": if place == 0 { "" } else { &delegate.interface },
                "MasterPlugin": place == 0, "deviceID": device, "resourceName": resource,
                "Bytes": STANDARD.encode(config.to_string()),
            })
        };
        let list: Vec<Value> = delegates.iter().enumerate().map(item).collect();
        fs::create_dir_all(Path::new(FOLDER).join("results"))?;
        Ok(fs::write(&self.file, serde_json::to_vec(&list)?)?)
    }

    /// None when there are none.
    pub(super) fn read(&self) -> Result<Option<Vec<Delegate>>> {
        let text = match fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let list: Vec<Value> = serde_json::from_slice(&text)?;
        let delegate = |item: &Value| {
            let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
            let interface = Some(text("ifnameRequest")).filter(|name| !name.is_empty());
            Ok(Delegate {
                network: text("Name"),
                interface: interface.unwrap_or_else(|| "eth0".into()),
                config: serde_json::from_slice(&STANDARD.decode(text("Bytes"))?)?,
                device: None,
            })
        };
        list.iter().map(delegate).collect::<Result<_>>().map(Some)
    }

    /// Keeps a result, as the reference library does.
    pub(super) fn cache(&self, delegate: &Delegate, sandbox: &Sandbox, result: &Value) -> Result<()> {
        let args: Vec<Value> = sandbox.args().iter().map(|(key, value)| json!([key, value])).collect();
        let capabilities = match &delegate.device {
            Some((_, id)) => json!({"deviceID": id}),
            None => json!({}),
        };
        let entry = json!({
            "kind": "cniCacheV1", "containerId": sandbox.container_id,
            "config": STANDARD.encode(delegate.config.to_string()), "ifName": delegate.interface,
            "networkName": delegate.config["name"], "netns": sandbox.netns, "cniArgs": args,
            "capabilityArgs": capabilities, "result": result,
        });
        Ok(fs::write(entry_of(delegate, sandbox), entry.to_string())?)
    }

    /// The result that was kept.
    pub(super) fn cached(&self, delegate: &Delegate, sandbox: &Sandbox) -> Option<Value> {
        let entry: Value = serde_json::from_slice(&fs::read(entry_of(delegate, sandbox)).ok()?).ok()?;
        Some(entry["result"].clone())
    }

    /// Removes what was kept of one network.
    pub(super) fn forget(&self, delegate: &Delegate, sandbox: &Sandbox) {
        for file in [entry_of(delegate, sandbox), info_of(delegate, &sandbox.container_id)] {
            // Of a pod of others there is none.
            let _ = fs::remove_file(file);
        }
    }

    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.file);
    }
}

fn entry_of(delegate: &Delegate, sandbox: &Sandbox) -> PathBuf {
    let name = delegate.config["name"].as_str().unwrap_or_default();
    let file = format!("{name}-{}-{}", sandbox.container_id, delegate.interface);
    Path::new(FOLDER).join("results").join(file)
}

fn info_of(delegate: &Delegate, container_id: &str) -> PathBuf {
    let name = delegate.config["name"].as_str().unwrap_or_default();
    let file = format!("{name}-{container_id}_{}", delegate.interface).replace('/', "-");
    Path::new(DEVICE_INFO).join("cni").join(file)
}

/// Copies the device plugin's information on a network's device.
pub(super) fn device_info(delegate: &Delegate, container_id: &str) -> Result<Option<Value>> {
    let Some((resource, id)) = &delegate.device else { return Ok(None) };
    let file = format!("{}-{}-device.json", resource.replace('/', "-"), id.replace('/', "-"));
    let Ok(text) = fs::read(Path::new(DEVICE_INFO).join("dp").join(file)) else { return Ok(None) };
    let copy = info_of(delegate, container_id);
    fs::create_dir_all(copy.parent().unwrap_or(&copy))?;
    fs::write(copy, &text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}
