//! Executing plugins, and the devices that kubelet gave to the pod.

use std::{
    collections::BTreeMap,
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use fairlead_kubelet_api::checkpoint;
use serde_json::{Value, json};

use super::Delegate;

const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins";

/// What the runtime says of the sandbox.
pub(super) struct Sandbox {
    pub(super) container_id: String,
    pub(super) netns: String,
    pub(super) interface: String,
    /// Namespace and name.
    pub(super) pod: (String, String),
    pub(super) uid: String,
    path: String,
}

impl Sandbox {
    pub(super) fn read() -> Result<Self> {
        let variable = |name: &str| env::var(name).with_context(|| format!("{name} is missing"));
        let text = variable("CNI_ARGS")?;
        let args: BTreeMap<&str, &str> = text.split(';').filter_map(|pair| pair.split_once('=')).collect();
        let arg = |name: &str| {
            args.get(name).map(|value| (*value).to_owned()).with_context(|| format!("CNI_ARGS lacks {name}"))
        };
        Ok(Self {
            container_id: variable("CNI_CONTAINERID")?,
            netns: env::var("CNI_NETNS").unwrap_or_default(),
            interface: variable("CNI_IFNAME")?,
            pod: (arg("K8S_POD_NAMESPACE")?, arg("K8S_POD_NAME")?),
            uid: arg("K8S_POD_UID")?,
            path: variable("CNI_PATH")?,
        })
    }

    /// The arguments that Multus passes on, in its order.
    pub(super) fn args(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("IgnoreUnknown", "true"),
            ("K8S_POD_NAMESPACE", &self.pod.0),
            ("K8S_POD_NAME", &self.pod.1),
            ("K8S_POD_INFRA_CONTAINER_ID", &self.container_id),
            ("K8S_POD_UID", &self.uid),
        ]
    }
}

/// The devices of a pod, by resource.
pub(super) fn devices(uid: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in checkpoint::read(Path::new(CHECKPOINT))?.into_iter().filter(|entry| entry.pod_uid == uid) {
        devices.entry(entry.resource).or_default().extend(entry.ids);
    }
    devices.values_mut().for_each(|ids| ids.sort());
    Ok(devices)
}

/// Puts a device into a configuration, as Multus does.
pub(super) fn inject(config: &mut Value, device: &str) {
    let into = |config: &mut Value| {
        config["deviceID"] = json!(device);
        config["pciBusID"] = json!(device);
    };
    match config.get_mut("plugins").and_then(Value::as_array_mut) {
        Some(plugins) => plugins.iter_mut().for_each(into),
        None => into(config),
    }
}

/// A network's plugins, each with what it has from the list.
fn plugins(config: &Value) -> Vec<Value> {
    let Some(plugins) = config["plugins"].as_array() else { return vec![config.clone()] };
    let complete = |plugin: &Value| {
        let mut plugin = plugin.clone();
        plugin["name"] = config["name"].clone();
        plugin["cniVersion"] = config["cniVersion"].clone();
        plugin
    };
    plugins.iter().map(complete).collect()
}

/// Makes a network.
pub(super) fn add(delegate: &Delegate, sandbox: &Sandbox) -> Result<Value> {
    let mut result = Value::Null;
    for mut plugin in plugins(&delegate.config) {
        if !result.is_null() {
            plugin["prevResult"] = result;
        }
        let program =
            program(&plugin, sandbox)?.with_context(|| format!("there is no plugin {}", plugin["type"]))?;
        result = serde_json::from_str(&execute(&program, "ADD", &plugin, delegate, sandbox)?)?;
    }
    Ok(result)
}

/// Has all plugins of a network let go. One that is not there has nothing to undo: sriov-cni, which is no package of Debian's, does nothing
/// for a pod of which it has no notes of its own.
pub(super) fn delete(delegate: &Delegate, sandbox: &Sandbox, result: Option<&Value>) -> Result<()> {
    for mut plugin in plugins(&delegate.config).into_iter().rev() {
        if let Some(result) = result {
            plugin["prevResult"] = result.clone();
        }
        if let Some(program) = program(&plugin, sandbox)? {
            execute(&program, "DEL", &plugin, delegate, sandbox)?;
        }
    }
    Ok(())
}

fn program(plugin: &Value, sandbox: &Sandbox) -> Result<Option<PathBuf>> {
    let kind = plugin["type"].as_str().context("a plugin without type")?;
    Ok(sandbox.path.split(':').map(|dir| Path::new(dir).join(kind)).find(|file| file.is_file()))
}

fn execute(
    program: &Path,
    verb: &str,
    input: &Value,
    delegate: &Delegate,
    sandbox: &Sandbox,
) -> Result<String> {
    let args: Vec<String> = sandbox.args().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut child = Command::new(program)
        .env("CNI_COMMAND", verb)
        .env("CNI_IFNAME", &delegate.interface)
        .env("CNI_ARGS", args.join(";"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| program.display().to_string())?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.to_string().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let more = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} {verb} for network {}: {} {}",
            program.display(),
            delegate.network,
            text.trim(),
            more.trim()
        );
    }
    Ok(text)
}
