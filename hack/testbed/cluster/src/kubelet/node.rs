//! The Node object: made at start, its resources and conditions kept up to date.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};

use super::{Shared, devices::Count, machine::Machine};
use crate::time;

/// How often the node's state is looked at when nothing calls for it.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the Node object up to date until the task is ended.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut devices = shared.devices.subscribe();
    let mut written = Value::Null;
    loop {
        devices.mark_unchanged();
        let status = status(&shared, &written).await;
        if status != written {
            match write(&shared, &status).await {
                Ok(()) => written = status,
                Err(error) => tracing::warn!(target: "kubelet", "node {}: {error}", shared.config.node),
            }
        }
        let _ = tokio::time::timeout(EVERY, devices.changed()).await;
    }
}

async fn write(shared: &Shared, status: &Value) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(shared.client.clone());
    let name = &shared.config.node;
    let patch = json!({ "status": status });
    match nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(error)) if error.code == 404 => {
            nodes.create(&PostParams::default(), &node(name)).await?;
            nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
        }
        other => other.map(drop),
    }
}

fn node(name: &str) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(name.into());
    let labels = [("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux")];
    node.metadata.labels = Some(labels.map(|(k, v)| (k.to_string(), v.to_string())).into());
    node
}

async fn status(shared: &Shared, before: &Value) -> Value {
    let machine = &shared.machine;
    let (capacity, allocatable) = resources(machine, &shared.devices.counts());
    let (ready, reason, message) = readiness(shared).await;
    shared.network_ready.send_replace(if ready { None } else { Some(message.clone()) });
    let value = if ready { "True" } else { "False" };
    let previous = &before["conditions"][0];
    let since = if previous["status"] == value {
        previous["lastTransitionTime"].clone()
    } else {
        tracing::info!(target: "kubelet", "node {} Ready={value}: {message}", shared.config.node);
        json!(time::now())
    };
    json!({
        "capacity": capacity,
        "allocatable": allocatable,
        "addresses": [
            { "type": "InternalIP", "address": machine.ip },
            { "type": "Hostname", "address": shared.config.node },
        ],
        "conditions": [
            { "type": "Ready", "status": value, "reason": reason, "message": message, "lastTransitionTime": since },
        ],
        "nodeInfo": node_info(shared, before).await,
    })
}

/// Node resources with the devices: what is unhealthy is capacity but not allocatable.
fn resources(machine: &Machine, devices: &BTreeMap<String, Count>) -> (Value, Value) {
    let map = |base: Vec<(String, String)>, count: fn(&Count) -> usize| {
        let devices = devices.iter().map(|(name, c)| (name.clone(), json!(count(c).to_string())));
        base.into_iter().map(|(name, amount)| (name, json!(amount))).chain(devices).collect::<Map<_, _>>()
    };
    (map(machine.capacity(), |c| c.capacity).into(), map(machine.allocatable(), |c| c.allocatable).into())
}

/// Kubelet's texts for a runtime that is not there, or has no network.
async fn readiness(shared: &Shared) -> (bool, &'static str, String) {
    let conditions = match shared.runtime.conditions().await {
        Ok(conditions) => conditions,
        Err(status) => {
            return (false, "KubeletNotReady", format!("container runtime is down: {}", status.message()));
        }
    };
    let problems: Vec<String> = conditions
        .iter()
        .filter(|c| matches!(c.r#type.as_str(), "RuntimeReady" | "NetworkReady") && !c.status)
        .map(|c| {
            let what =
                if c.r#type == "NetworkReady" { "container runtime network" } else { "container runtime" };
            format!("{what} not ready: {}=false reason:{} message:{}", c.r#type, c.reason, c.message)
        })
        .collect();
    match problems.is_empty() {
        true => (true, "KubeletReady", "kubelet is posting ready status".into()),
        false => (false, "KubeletNotReady", problems.join(", ")),
    }
}

async fn node_info(shared: &Shared, before: &Value) -> Value {
    if before["nodeInfo"]["containerRuntimeVersion"].as_str().is_some_and(|v| !v.is_empty()) {
        return before["nodeInfo"].clone();
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let release = read("/etc/os-release");
    let os = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    json!({
        "kubeletVersion": crate::VERSION,
        "kubeProxyVersion": "",
        "containerRuntimeVersion": shared.runtime.version().await.unwrap_or_default(),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "osImage": os.trim_matches('"'),
        "operatingSystem": "linux",
        "architecture": "amd64",
        "machineID": read("/etc/machine-id"),
        "systemUUID": "",
        "bootID": read("/proc/sys/kernel/random/boot_id"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unhealthy_devices_are_capacity_only() {
        let machine = Machine { cpus: 2, memory: 1 << 30, huge_pages: vec![], ip: "1.2.3.4".into() };
        let devices = BTreeMap::from([("a/b".to_string(), Count { capacity: 2, allocatable: 1 })]);
        let (capacity, allocatable) = resources(&machine, &devices);
        assert_eq!((&capacity["a/b"], &allocatable["a/b"]), (&json!("2"), &json!("1")));
        assert_eq!(capacity["pods"], "110");
    }
}
