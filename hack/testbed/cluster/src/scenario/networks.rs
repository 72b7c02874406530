//! Cases of what the networks of a pod are together: another primary network, default routes, device information, and devices
//! that are known without kubelet's socket.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{cases::pod, cluster::Cluster};

/// Device-information files of attachments.
pub(super) const DEVICE_INFO: &str = "/var/run/k8s.cni.cncf.io/devinfo/cni";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// A network on port 2 that brings no default route of its own.
fn define(cluster: &Cluster) -> Result<()> {
    let config = json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "enp2s0", "ipam": {
        "type": "host-local", "subnet": "10.88.0.0/24", "rangeStart": "10.88.0.10", "gateway": "10.88.0.1"}});
    cluster.define("routed", &config)
}

async fn status(cluster: &Cluster, pod: &str) -> Result<Vec<Value>> {
    let pod = cluster.wait_for_pod(pod).await?;
    let annotations = pod.metadata.annotations.unwrap_or_default();
    let text = annotations.get(STATUS).context("the pod has no network-status")?;
    serde_json::from_str(text).with_context(|| format!("network-status is no list: {text}"))
}

/// Lines of the pod's routing table that are default routes.
fn default_routes(cluster: &Cluster, pod: &str) -> Result<Vec<String>> {
    let table = cluster.exec(pod, &["ip", "route", "show"])?;
    Ok(table.lines().filter(|line| line.starts_with("default")).map(|line| line.trim().to_owned()).collect())
}

/// See [`super::cases::ALL`].
pub(super) async fn default_route(cluster: &Cluster) -> Result<()> {
    define(cluster)?;
    let networks = r#"[{"name":"sriov-net"},{"name":"routed","default-route":["10.88.0.1"]}]"#;
    cluster.apply_document(&pod("moved", Some(networks), &json!({"intel.com/sriov": "1"})))?;
    let entries = status(cluster, "moved").await?;
    let routes = default_routes(cluster, "moved")?;
    let wanted = "default via 10.88.0.1 dev net2";
    ensure!(routes.len() == 1 && routes[0].starts_with(wanted), "the pod's default routes are {routes:?}");
    ensure!(entries[2]["gateway"] == json!(["10.88.0.1"]), "net2's status is {}", entries[2]);
    ensure!(entries[0].get("gateway").is_none(), "eth0's status is {}", entries[0]);
    let device = cluster.variable("moved", "PCIDEVICE_INTEL_COM_SRIOV")?;
    let info = &entries[1]["device-info"];
    ensure!(info["pci"]["pci-address"] == device.trim(), "net1's device information is {info}, not {device}");
    let files: Vec<_> = fs::read_dir(DEVICE_INFO)?.collect::<Result<_, _>>()?;
    ensure!(files.len() == 1, "{} device-information files instead of one", files.len());
    let copy: Value = serde_json::from_slice(&fs::read(files[0].path())?)?;
    ensure!(copy == *info, "the file says {copy}, the status {info}");
    cluster.wait_for_event("moved", "AddedInterface: Add net2").await?;
    cluster.delete_pods(&["moved"]).await?;
    cluster.wait_for_event("moved", "RemovedInterface: Remove eth0").await.map(drop)
}

/// See [`super::cases::ALL`].
pub(super) async fn default_network(cluster: &Cluster) -> Result<()> {
    define(cluster)?;
    let mut document = pod("instead", Some("macvlan-conf"), &json!({}));
    document["metadata"]["annotations"]["v1.multus-cni.io/default-network"] = json!("default/routed");
    cluster.apply_document(&document)?;
    let entries = status(cluster, "instead").await?;
    let named: Vec<_> = entries.iter().map(|entry| (&entry["name"], &entry["interface"])).collect();
    let wanted =
        [(&json!("default/routed"), &json!("eth0")), (&json!("default/macvlan-conf"), &json!("net1"))];
    ensure!(named == wanted && entries[0]["default"] == true, "network-status is {entries:?}");
    let address = entries[0]["ips"][0].as_str().unwrap_or_default().to_owned();
    let shown = cluster.exec("instead", &["ip", "address", "show", "dev", "eth0"])?;
    ensure!(address.starts_with("10.88.0.") && shown.contains(&address), "eth0 is {shown}");
    let ip = cluster.pods().get("instead").await?.status.unwrap_or_default().pod_ip.unwrap_or_default();
    ensure!(ip == address, "the pod's IP is {ip}, not {address}");
    cluster.delete_pods(&["instead"]).await
}

/// See [`super::cases::ALL`].
pub(super) async fn without_socket(cluster: &Cluster) -> Result<()> {
    let away = format!("{SOCKET}.away");
    fs::rename(SOCKET, &away).context("take kubelet's PodResources socket away")?;
    let started = async {
        let vf = json!({"intel.com/sriov": "1"});
        cluster.apply_document(&pod("checkpointed", Some("sriov-net"), &vf))?;
        let entries = status(cluster, "checkpointed").await?;
        let device = cluster.variable("checkpointed", "PCIDEVICE_INTEL_COM_SRIOV")?;
        let info = &entries[1]["device-info"]["pci"]["pci-address"];
        ensure!(*info == device.trim(), "the network got {info}, the container {device}");
        cluster.delete_pods(&["checkpointed"]).await
    };
    let started = started.await;
    fs::rename(&away, SOCKET).context("put it back")?;
    started
}
