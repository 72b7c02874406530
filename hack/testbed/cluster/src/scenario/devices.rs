//! Cases about devices: what becomes of them while pods run, and kubelets that come and go.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    cases::pod,
    cluster::Cluster,
    hardware::{self, Port},
};

const KERNEL: &str = "intel.com/sriov";
const DPDK: &str = "intel.com/sriov_dpdk";

/// The folder of the device plugins' sockets, and of kubelet's own record.
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";
/// What kubelet keeps there of plugins and pods.
const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";

/// A socket that kubelet's plugin watcher finds.
const DPDK_SOCKET: &str = "/var/lib/kubelet/plugins_registry/intel.com_sriov_dpdk.sock";

/// Makes VFs on the other port while a pod has one, gives one to a pod, and takes them away again.
pub(super) async fn hot_added(cluster: &mut Cluster) -> Result<()> {
    cluster.apply_document(&pod("holder", Some("dpdk-net"), &json!({DPDK: "1"})))?;
    cluster.wait_for_pod("holder").await?;
    let has = cluster.variable("holder", "PCIDEVICE_INTEL_COM_SRIOV_DPDK")?;
    hardware::make_vfs(Port::Second, 2)?;
    cluster.wait_for_allocatable(KERNEL, 4).await?;
    // More than the first port has.
    cluster.apply_document(&pod("many", Some("sriov-net, sriov-net, sriov-net"), &json!({KERNEL: "3"})))?;
    cluster.wait_for_pod("many").await?;
    let now = cluster.variable("holder", "PCIDEVICE_INTEL_COM_SRIOV_DPDK")?;
    ensure!(has == now, "the pod that was there had {has} and has {now}");
    cluster.delete_pods(&["holder", "many"]).await?;
    hardware::make_vfs(Port::Second, 0)?;
    cluster.wait_for_allocatable(KERNEL, 2).await
}

/// Stops kubelet, empties its folder, and starts it again.
pub(super) async fn kubelet_emptied(cluster: &mut Cluster) -> Result<()> {
    cluster.kill_part("kubelet").await?;
    for entry in fs::read_dir(DEVICE_PLUGINS)? {
        let path = entry?.path();
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    cluster.start_kubelet()?;
    // Before that, the real one admits pods without the devices that they ask for.
    let registered = |text: String| [KERNEL, DPDK].iter().all(|resource| text.contains(resource));
    cluster
        .wait_until("the new kubelet knows both pools", async |_| {
            Ok(fs::read_to_string(CHECKPOINT).is_ok_and(registered).then_some(()))
        })
        .await?;
    for resource in [KERNEL, DPDK] {
        cluster.wait_for_allocatable(resource, 2).await?;
    }
    // The node's status may still be the old kubelet's, and the new one refuse a pod: then whoever wants it makes another.
    for _ in 0..20 {
        cluster.apply_document(&pod("after", Some("sriov-net"), &json!({KERNEL: "1", DPDK: "1"})))?;
        let started = cluster.wait_for_pod("after").await.map(drop);
        cluster.delete_pods(&["after"]).await?;
        match started {
            Err(error) if format!("{error:#}").contains("OutOf") => sleep(Duration::from_millis(500)).await,
            ended => return ended,
        }
    }
    bail!("the new kubelet has no devices ten seconds after its start")
}

/// Starts another device plugin while one runs, as an upgrade may, and ends the older one.
pub(super) async fn upgraded(cluster: &mut Cluster) -> Result<()> {
    cluster.apply_document(&pod("holder", Some("dpdk-net"), &json!({DPDK: "1"})))?;
    cluster.wait_for_pod("holder").await?;
    let socket = || fs::metadata(DPDK_SOCKET).map(|about| about.ino());
    let older = socket().context("the older plugin's socket")?;
    cluster.start_device_plugin()?;
    cluster
        .wait_until("the newer plugin has its socket", async |_| {
            Ok(socket().is_ok_and(|now| now != older).then_some(()))
        })
        .await?;
    cluster.end_part("device-plugin").await?;
    ensure!(socket().is_ok(), "the older plugin has taken the newer one's socket along");
    for resource in [KERNEL, DPDK] {
        cluster.wait_for_allocatable(resource, 2).await?;
    }
    cluster.apply_document(&pod("second", Some("dpdk-net"), &json!({DPDK: "1"})))?;
    cluster.wait_for_pod("second").await?;
    cluster.delete_pods(&["holder", "second"]).await
}

/// Unbinds a VF by hand: it stays in the node's capacity and is not handed out until it is bound again.
pub(super) async fn unbound(cluster: &mut Cluster) -> Result<()> {
    let address = hardware::vfs(Port::First).pop().context("there is no VF")?;
    hardware::write(Path::new("/sys/bus/pci/drivers/vfio-pci/unbind"), &address)?;
    cluster.wait_for_allocatable(DPDK, 1).await?;
    let rows = cluster.resources().await?;
    let capacity = rows.into_iter().find(|(name, ..)| name == DPDK).map(|(_, capacity, _)| capacity);
    ensure!(capacity.as_deref() == Some("2"), "the capacity is {capacity:?}");
    hardware::write(Path::new("/sys/bus/pci/drivers/vfio-pci/bind"), &address)?;
    cluster.wait_for_allocatable(DPDK, 2).await
}
