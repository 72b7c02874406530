//! Kubernetes' own programs in place of the stand-ins: etcd, API server, controllers, scheduler and kubelet on this node.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, KUBECONFIG, NODE},
    shell::run,
};
use crate::kubelet::{client_of, sandbox_config::MIRROR};

/// Where the API server listens.
const SERVER: &str = "https://127.0.0.1:6443";
/// The node's management address, which is in the certificate that the API server makes for itself.
const ADDRESS: &str = "10.0.2.15";
/// What the cluster keeps, until the node goes.
const STATE: &str = "/run/kubernetes";
/// Where kubelet looks for static pods.
const STATIC: &str = "/etc/kubernetes/manifests";
/// The definition of networks, as it ships.
const NETWORKS: &str =
    include_str!("../../../../../deploy/kustomize/crd/network-attachment-definitions.yaml");
/// How long anything may take to happen: these programs are large for an emulated node.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// Starts all but kubelet, and waits until pods can be made.
pub(super) async fn start(cluster: &mut Cluster) -> Result<()> {
    fs::create_dir_all(STATE)?;
    let key = format!("{STATE}/accounts.key");
    if !Path::new(&key).exists() {
        run("ssh-keygen", &["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", &key])?;
    }
    let tokens = format!("{STATE}/tokens.csv");
    fs::write(
        &tokens,
        format!("admin,admin,admin,system:masters\nkubelet,system:node:{NODE},{NODE},system:nodes\n"),
    )?;
    let (kubeconfig, certificate) = (KUBECONFIG, format!("{STATE}/certificates/apiserver.crt"));
    write_kubeconfig(Path::new(KUBECONFIG), "admin", &certificate)?;
    write_kubeconfig(&kubelets(), "kubelet", &certificate)?;

    reach_service()?;
    let etcd = "http://127.0.0.1:2379";
    cluster.start_part(
        "etcd",
        &[
            "--data-dir",
            &format!("{STATE}/etcd"),
            "--listen-client-urls",
            etcd,
            "--advertise-client-urls",
            etcd,
            "--listen-peer-urls",
            "http://127.0.0.1:2380",
        ],
    )?;
    cluster.start_part(
        "kube-apiserver",
        &[
            "--etcd-servers",
            etcd,
            "--secure-port",
            "6443",
            "--bind-address",
            "0.0.0.0",
            "--advertise-address",
            ADDRESS,
            "--cert-dir",
            &format!("{STATE}/certificates"),
            "--token-auth-file",
            &tokens,
            "--authorization-mode",
            "Node,RBAC",
            "--enable-admission-plugins",
            "NodeRestriction",
            "--allow-privileged",
            "--service-cluster-ip-range",
            "10.96.0.0/16",
            "--service-account-issuer",
            "https://kubernetes.default.svc",
            "--service-account-key-file",
            &key,
            "--service-account-signing-key-file",
            &key,
        ],
    )?;
    cluster
        .wait_until("the API server is ready", async |cluster| {
            Ok(cluster.kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|answer| answer == "ok").then_some(()))
        })
        .await?;
    cluster.connect(client_of(Path::new(KUBECONFIG)).await?);
    cluster.start_part(
        "kube-controller-manager",
        &[
            "--kubeconfig",
            kubeconfig,
            "--leader-elect=false",
            "--service-account-private-key-file",
            &key,
            "--root-ca-file",
            &certificate,
        ],
    )?;
    cluster.start_part("kube-scheduler", &["--kubeconfig", kubeconfig, "--leader-elect=false"])?;
    let definition = PathBuf::from(STATE).join("networks.yaml");
    fs::write(&definition, NETWORKS)?;
    cluster.apply_file(&definition)?;
    let accounts = async |cluster: &Cluster| {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "default");
        Ok(accounts.get_opt("default").await?.map(drop))
    };
    cluster.wait_until("the controllers have made an account for pods", accounts).await
}

/// What kube-proxy would do for the only service that is needed, that of the API server.
fn reach_service() -> Result<()> {
    run("ip", &["route", "replace", "10.96.0.0/16", "dev", "mgmt0"])?;
    let (from, to) = (["-d", "10.96.0.1", "-p", "tcp", "--dport", "443"], format!("{ADDRESS}:6443"));
    for chain in ["OUTPUT", "PREROUTING"] {
        let rule =
            [&["-t", "nat", "-A", chain][..], &from, &["-j", "DNAT", "--to-destination", &to]].concat();
        run("iptables", &rule)?;
    }
    Ok(())
}

/// What kubelet is started with.
pub(super) fn kubelet_arguments() -> Vec<String> {
    let kubeconfig = format!("--kubeconfig={}", kubelets().display());
    let name = format!("--hostname-override={NODE}");
    let address = format!("--node-ip={ADDRESS}");
    let manifests = format!("--pod-manifest-path={STATIC}");
    let fixed = [
        "--container-runtime=remote",
        "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
        "--cgroup-driver=cgroupfs",
        "--cgroups-per-qos=false",
        "--enforce-node-allocatable=",
        "--eviction-hard=",
        "--fail-swap-on=false",
        "--anonymous-auth=true",
        "--authorization-mode=AlwaysAllow",
        "--resolv-conf=/dev/null",
        "--v=2",
    ];
    [kubeconfig, name, address, manifests].into_iter().chain(fixed.map(str::to_owned)).collect()
}

/// Whether a pod is the API server's image of a static one, which the stand-ins run as any other.
pub(super) fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// Has kubelet run the static pod of which a mirror is wanted.
pub(super) fn create_static(mirror: &Value) -> Result<()> {
    let mut pod = mirror.clone();
    let name = pod["metadata"]["name"].as_str().context("a pod without a name")?.to_owned();
    if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
        annotations.remove(MIRROR);
    }
    // kubelet adds the node's name.
    pod["metadata"]["name"] = json!(name.trim_end_matches(&format!("-{NODE}")));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    fs::create_dir_all(STATIC)?;
    fs::write(static_file(&name), pod.to_string()).context(STATIC)
}

/// Takes a static pod away, by its mirror's name; whether there was one.
pub(super) fn delete_static(mirror: &str) -> Result<bool> {
    let file = static_file(mirror);
    if !file.exists() {
        return Ok(false);
    }
    fs::remove_file(&file).with_context(|| file.display().to_string())?;
    Ok(true)
}

fn static_file(mirror: &str) -> PathBuf {
    Path::new(STATIC).join(format!("{mirror}.yaml"))
}

fn kubelets() -> PathBuf {
    PathBuf::from(STATE).join("kubelet.kubeconfig")
}

fn write_kubeconfig(path: &Path, token: &str, certificate: &str) -> Result<()> {
    let document = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "node",
        "clusters": [{"name": "node", "cluster": {
            "server": SERVER, "tls-server-name": ADDRESS, "certificate-authority": certificate}}],
        "users": [{"name": "node", "user": {"token": token}}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": "node"}}],
    });
    let folder = path.parent().context("no folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, document.to_string()).with_context(|| format!("write {}", path.display()))
}
