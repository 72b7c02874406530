//! The manifests on Kubernetes itself: applied with kubectl, run by the DaemonSets' controller, with their own accounts and rights.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    Options,
    cluster::{CNI_CONF, Cluster, NODE},
    deployed::{MANIFESTS, UNINSTALL},
    steps::status_of,
};

const NAMESPACE: &str = "fairlead-system";
const SETS: [&str; 2] = ["fairlead-cni", "fairlead-device-plugin"];
/// The first release in which a DaemonSet's new pod may come before its old one goes.
const SURGE: u64 = 22;
/// The first release that has admission policies for good.
const POLICIES: u64 = 30;

/// Applies every object, and waits until the DaemonSets are ready and kubelet has the devices.
pub(super) async fn deploy(cluster: &mut Cluster, options: &Options) -> Result<()> {
    let mut objects = objects(&options.manifests.join(MANIFESTS))?;
    suit(&mut objects, release(cluster)?);
    for object in &objects {
        cluster
            .apply_document(object)
            .with_context(|| format!("{} {}", object["kind"], object["metadata"]["name"]))?;
    }
    for set in SETS {
        wait_for_set(cluster, set).await?;
    }
    ensure!(
        Path::new(CNI_CONF).join("00-fairlead.conflist").exists(),
        "ready, but our configuration is not in place"
    );
    for resource in ["intel.com/sriov", "intel.com/sriov_dpdk"] {
        cluster.wait_for_allocatable(resource, 2).await?;
    }
    cluster.look_before()
}

/// Both DaemonSets are restarted under a pod with networks: it keeps them, and the next pod gets its own.
pub(super) async fn restarted(cluster: &mut Cluster, options: &Options) -> Result<()> {
    let pods = options.manifests.join("examples/first-pods/pods-vf.yaml");
    cluster.apply_file(&options.manifests.join("examples/first-pods/networks.yaml"))?;
    cluster.apply_file(&pods)?;
    for name in ["left", "right"] {
        cluster.wait_for_pod(name).await?;
    }
    let links = |cluster: &Cluster| cluster.exec("left", &["ip", "address"]);
    let has = links(cluster)?;
    for set in SETS {
        cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", &format!("daemonset/{set}")])?;
    }
    for set in SETS {
        wait_for_set(cluster, set).await?;
    }
    ensure!(links(cluster)? == has, "the pod has other links or addresses than before");
    cluster.wait_for_allocatable("intel.com/sriov", 2).await?;
    cluster.delete_pods(&["left"]).await?;
    cluster.apply_file(&pods)?;
    let entries = status_of(&cluster.wait_for_pod("left").await?)?;
    ensure!(entries.len() == 4, "network-status has {} entries instead of 4", entries.len());
    cluster.delete_pods(&["left", "right"]).await?;
    cluster.is_as_before_but_containers().await?;
    cluster.look_before()
}

/// The example's job, as it is.
pub(super) async fn doctor(cluster: &Cluster, options: &Options) -> Result<()> {
    let file = options.manifests.join("examples/doctor/job.yaml");
    for mut job in objects(&file)? {
        job["spec"]["template"]["spec"]["nodeName"] = json!(NODE);
        cluster.apply_document(&job)?;
    }
    let job = ["-n", NAMESPACE, "get", "job", "fairlead-doctor", "-o", "json"];
    cluster
        .wait_until("doctor's job has ended", async |cluster| {
            let status: Value = serde_json::from_str(&cluster.kubectl(&job)?)?;
            Ok((!status["status"]["succeeded"].is_null() || !status["status"]["failed"].is_null())
                .then_some(()))
        })
        .await?;
    judge(&cluster.kubectl(&["-n", NAMESPACE, "logs", "job/fairlead-doctor"])?)?;
    cluster.kubectl(&["-n", NAMESPACE, "delete", "job", "fairlead-doctor"]).map(drop)
}

/// As the documents have it: the DaemonSet goes, then the uninstaller comes.
pub(super) async fn uninstalled(cluster: &Cluster, options: &Options) -> Result<()> {
    let placed = placed();
    cluster.kubectl(&["-n", NAMESPACE, "delete", "daemonset", "fairlead-cni", "--wait"])?;
    ensure!(placed.iter().all(|file| file.exists()), "it went with its DaemonSet");
    cluster.apply_file(&options.manifests.join(UNINSTALL))?;
    cluster
        .wait_until("program and configuration are gone", async |_| {
            Ok((!placed.iter().any(|file| file.exists())).then_some(()))
        })
        .await?;
    cluster.kubectl(&["-n", NAMESPACE, "delete", "daemonset", "fairlead-uninstall"]).map(drop)
}

/// What doctor's job says is that nothing is wrong.
pub(super) fn judge(log: &str) -> Result<()> {
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("ERROR")).collect();
    ensure!(errors.is_empty(), "{}", errors.join("; "));
    ensure!(log.lines().any(|line| line.starts_with("ok")), "it found nothing well either: {log}");
    Ok(())
}

/// What an installed node has, and one that it was taken from has not.
pub(super) fn placed() -> [PathBuf; 2] {
    [Path::new(CNI_CONF).join("00-fairlead.conflist"), "/opt/cni/bin/fairlead".into()]
}

/// The objects of a manifest.
pub(super) fn objects(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_saphyr::from_multiple(&text).with_context(|| file.display().to_string())
}

/// The minor version of the API server's 1.x.
fn release(cluster: &Cluster) -> Result<u64> {
    let version: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", "/version"])?)?;
    let minor = version["gitVersion"].as_str().and_then(|text| text.split('.').nth(1));
    minor.and_then(|minor| minor.parse().ok()).with_context(|| format!("no version: {version}"))
}

/// Takes out what an old release does not have, and says so.
fn suit(objects: &mut Vec<Value>, release: u64) {
    if release < POLICIES {
        println!("  Kubernetes 1.{release} has no admission policies: they are left out");
        objects.retain(|object| {
            !object["kind"].as_str().is_some_and(|kind| kind.starts_with("ValidatingAdmission"))
        });
    }
    if release < SURGE {
        println!(
            "  Kubernetes 1.{release} starts no new pod of a DaemonSet before the old one has gone: updates leave a gap"
        );
        for set in objects.iter_mut().filter(|object| object["kind"] == "DaemonSet") {
            set["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 1});
        }
    }
}

/// Waits until a DaemonSet's pod is the one of its present template, and ready.
async fn wait_for_set(cluster: &Cluster, name: &str) -> Result<()> {
    cluster
        .wait_until(&format!("DaemonSet {name} is ready"), async |cluster| {
            let set: Value = serde_json::from_str(&cluster.kubectl(&[
                "-n",
                NAMESPACE,
                "get",
                "daemonset",
                name,
                "-o",
                "json",
            ])?)?;
            let status = &set["status"];
            let is_current = status["observedGeneration"] == set["metadata"]["generation"];
            let is_ready = ["desiredNumberScheduled", "updatedNumberScheduled", "numberReady"]
                .iter()
                .all(|count| status[count] == 1);
            Ok((is_current && is_ready).then_some(()))
        })
        .await
}
