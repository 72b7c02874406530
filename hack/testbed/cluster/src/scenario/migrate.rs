//! A node of Multus and the reference plugins that becomes one of Fairlead, and goes back, with pods that run meanwhile.
//!
//! Multus is our stand-in ([`crate::multus`]); the plugins that it executes are Debian's. sriov-cni is no package there: VFs are moved by the
//! reference host-device plugin under the old stack.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    cases::pod,
    cluster::{CNI_CONF, Cluster, KUBECONFIG, NODE},
    install,
    shell::run,
};
use crate::multus::CALLS;

const PROGRAM: &str = "/opt/cni/bin/multus";
const CONF: &str = "/etc/cni/net.d/00-multus.conf";
const NOTES: &str = "/var/lib/cni/multus";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// A namespace that is nobody's.
const ELSEWHERE: &str = "elsewhere";

/// See [`super::cases::ALL`].
pub(super) async fn there_and_back(cluster: &mut Cluster) -> Result<()> {
    cluster.kill_part("agent").await?;
    run("fairlead", &["uninstall"])?;
    old_stack()?;
    define(cluster)?;
    start_old_pods(cluster).await?;
    check(cluster)?;
    shadow(cluster).await?;

    run("fairlead", &["install", "--aliases", "none"])?;
    cluster.start_agent()?;
    deletes_what_multus_made(cluster).await?;
    start_new_pods(cluster).await?;

    // The way back.
    cluster.kill_part("agent").await?;
    let Err(refused) = run("fairlead", &["uninstall"]) else { bail!("the program was removed under pods") };
    ensure!(format!("{refused:#}").contains("pod default/new-vf"), "the pods are not named: {refused:#}");
    let vf = cluster.variable("new-vf", "PCIDEVICE_INTEL_COM_SRIOV")?.trim().to_owned();
    let before = calls()?;
    cluster.delete_pods(&["new-vf", "new-moved"]).await.context("under the old stack")?;
    ensure!(calls()? > before, "the runtime did not call the old stack");
    ensure!(!attachments()?.is_empty(), "there is nothing to be repaired: the case shows nothing");
    in_other_hands(&vf)?;
    run("fairlead", &["reconcile"]).context("what the old stack missed")?;
    ensure!(attachments()?.is_empty(), "records are left: {:?}", attachments()?);

    fs::remove_file(CONF)?;
    fs::remove_file(PROGRAM)?;
    run("fairlead", &["uninstall"]).context("nothing holds the program any more")?;
    install::install(&cluster.programs)?;
    cluster.start_agent()
}

/// Puts Multus' stand-in before the primary network.
fn old_stack() -> Result<()> {
    let own = std::env::current_exe()?;
    fs::write(PROGRAM, format!("#!/bin/sh\nexec {} multus\n", own.display()))?;
    fs::set_permissions(PROGRAM, fs::Permissions::from_mode(0o755))?;
    fs::write(CALLS, "")?;
    let config = json!({"cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus", "logLevel": "error",
        "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig", "clusterNetwork": format!("{CNI_CONF}/10-bridge.conflist")});
    Ok(fs::write(CONF, config.to_string())?)
}

/// A network that moves a VF, as the reference plugins can.
fn define(cluster: &Cluster) -> Result<()> {
    let config = json!({"cniVersion": "0.4.0", "type": "host-device", "ipam": {"type": "host-local", "subnet": "10.66.0.0/24"}});
    cluster.apply_document(&json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "moved-vf", "namespace": "default",
                     "annotations": {"k8s.v1.cni.cncf.io/resourceName": "intel.com/sriov"}},
        "spec": {"config": config.to_string()}
    }))
}

async fn start_old_pods(cluster: &Cluster) -> Result<()> {
    let vf = json!({"intel.com/sriov": "1"});
    cluster.apply_document(&pod("old-vf", Some("macvlan-conf, moved-vf"), &vf))?;
    cluster.apply_document(&pod("old-plain", Some("macvlan-conf@data"), &json!({})))?;
    for (name, interfaces) in [("old-vf", ["net1", "net2"]), ("old-plain", ["eth0", "data"])] {
        cluster.wait_for_pod(name).await.context("under the old stack")?;
        let links = cluster.exec(name, &["ip", "link", "show"])?;
        ensure!(interfaces.iter().all(|interface| links.contains(interface)), "{name} has {links}");
    }
    ensure!(notes()?.len() == 2 + 3 + 2, "the old stack's notes are {:?}", notes()?);
    Ok(())
}

/// `fairlead migrate --check`.
fn check(cluster: &Cluster) -> Result<()> {
    let networks = "/root/networks.json";
    fs::write(networks, cluster.kubectl(&["get", "network-attachment-definitions", "-A", "-o", "json"])?)?;
    let pools = cluster.manifests().join("pools.json");
    let pools = pools.to_string_lossy();
    let options = ["migrate", "--check", "--networks", networks, "--pools", &pools, "-o", "json"];
    let found: Value = serde_json::from_str(&run("fairlead", &options).context("something is in the way")?)?;
    let all = found["findings"].as_array().context("findings")?;
    for (id, words) in [
        ("migrate.multus", "00-multus.conf is Multus' (thin"),
        ("migrate.multus", "kubeconfig (only the agent"),
        ("migrate.install", "00-fairlead.conflist: written around network pod-network"),
        (
            "migrate.networks",
            "default/sriov-net: sriov in process, host-local in process, a device of intel.com/sriov",
        ),
        ("migrate.networks", "default/moved-vf: host-device in process"),
        ("migrate.pods", "net2 (moved-vf: host-device)"),
        ("migrate.pods", "pod default/old-plain"),
        ("migrate.devices", "intel.com/sriov: the same 2 devices"),
        ("migrate.devices", "intel.com/sriov_dpdk: the same 2 devices"),
    ] {
        let is = |finding: &Value| {
            finding["id"] == id && finding["seen"].as_str().is_some_and(|text| text.contains(words))
        };
        ensure!(all.iter().any(is), "no {id} says \"{words}\": {all:#?}");
    }
    ensure!(
        found["conflist"]["plugins"][0]["type"] == "fairlead",
        "the configuration would be {}",
        found["conflist"]
    );
    ensure!(!Path::new(CNI_CONF).join("00-fairlead.conflist").exists(), "the check placed a file");
    Ok(())
}

/// The shadow finds no difference, and then the one that is planted.
async fn shadow(cluster: &Cluster) -> Result<()> {
    let options = ["--shadow", "--node-name", NODE, "--kubeconfig", KUBECONFIG, "--output", "json"];
    let found: Value =
        serde_json::from_str(&run("fairlead-agent", &options).context("a difference that is none")?)?;
    ensure!(found["compared"] == 2 && found["pods"] == json!([]), "the shadow says {found}");
    let status = cluster.wait_for_pod("old-vf").await?.metadata.annotations.unwrap_or_default();
    let status = status.get(STATUS).context("old-vf has no network-status")?;
    let planted = status.replace("\"net1\"", "\"net7\"");
    publish(cluster, &planted).await?;
    let Err(differs) = run("fairlead-agent", &options) else { bail!("the planted difference was not found") };
    let text = format!("{differs:#}");
    ensure!(text.contains("default/old-vf") && text.contains("would be net1, the status has net7"), "{text}");
    publish(cluster, status).await
}

async fn publish(cluster: &Cluster, status: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {STATUS: status}}}));
    cluster.pods().patch("old-vf", &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Fairlead deletes the pods that the old stack made, with nothing left.
async fn deletes_what_multus_made(cluster: &Cluster) -> Result<()> {
    let before = calls()?;
    let vf = cluster.variable("old-vf", "PCIDEVICE_INTEL_COM_SRIOV")?.trim().to_owned();
    cluster.delete_pods(&["old-vf", "old-plain"]).await.context("pods of the old stack")?;
    ensure!(calls()? == before, "the runtime called the old stack, so this shows nothing");
    ensure!(notes()?.is_empty(), "notes of the old stack are left: {:?}", notes()?);
    // The reference host-device plugin, which undoes what it did, leaves the alias by which it knows a device.
    run("ip", &["link", "set", "dev", &netdev(&vf)?, "alias", ""])?;
    cluster.is_as_before().await
}

async fn start_new_pods(cluster: &Cluster) -> Result<()> {
    let vf = json!({"intel.com/sriov": "1"});
    cluster.apply_document(&pod("new-vf", Some("sriov-net, macvlan-conf"), &vf))?;
    cluster.apply_document(&pod("new-moved", Some("moved-vf, macvlan-conf"), &vf))?;
    for name in ["new-vf", "new-moved"] {
        cluster.wait_for_pod(name).await.context("under Fairlead")?;
    }
    Ok(())
}

/// A VF that another stack has given to somebody else before `reconcile` comes keeps what its PF has for it.
fn in_other_hands(vf: &str) -> Result<()> {
    let name =
        fs::read_dir(format!("/sys/bus/pci/devices/{vf}/net"))?.next().context("the VF is not at home")??;
    run("ip", &["netns", "add", ELSEWHERE])?;
    run("ip", &["link", "set", &name.file_name().to_string_lossy(), "netns", ELSEWHERE])?;
    let vfs = || run("ip", &["-json", "link", "show", "dev", "enp1s0"]);
    let before = vfs()?;
    ensure!(before.contains("\"vlan\":100"), "no VF has its VLAN any more: {before}");
    let Err(told) = run("fairlead", &["reconcile"]) else { bail!("a VF in other hands is not told") };
    ensure!(format!("{told:#}").contains("another namespace holds it"), "{told:#}");
    ensure!(vfs()? == before, "the VF was changed under its new owner: {} instead of {before}", vfs()?);
    run("ip", &["netns", "delete", ELSEWHERE]).map(drop)
}

/// The network device of a VF that is at home.
fn netdev(vf: &str) -> Result<String> {
    let name =
        fs::read_dir(format!("/sys/bus/pci/devices/{vf}/net"))?.next().context("the VF is not at home")??;
    Ok(name.file_name().to_string_lossy().into_owned())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}

/// What Multus has noted.
fn notes() -> Result<Vec<PathBuf>> {
    let notes = Path::new(NOTES);
    Ok([files(notes)?, files(&notes.join("results"))?].concat())
}

fn attachments() -> Result<Vec<PathBuf>> {
    files(Path::new("/var/lib/fairlead/attachments"))
}

/// How often the old stack was called.
fn calls() -> Result<usize> {
    Ok(fs::read_to_string(CALLS)?.lines().count())
}
