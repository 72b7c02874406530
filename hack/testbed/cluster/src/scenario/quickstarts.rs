//! What Multus' documentation and its end-to-end tests have pods do, with traffic.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    cases::{ATTACHMENTS, pod},
    cluster::Cluster,
    inside::{addresses, compare, netns_of, ping, run_in},
    shell::run,
    steps::status_of,
};
use crate::kubelet::sandbox_config::MIRROR;

/// The bridge that the plugin on disk makes, and leaves.
const BRIDGE: &str = "on-disk0";

/// Starts pods at once, makes sure that they are as they say, and returns what they say.
pub(super) async fn start(cluster: &Cluster, pods: &[Value]) -> Result<Vec<Vec<Value>>> {
    for pod in pods {
        cluster.create_pod(pod).await?;
    }
    let mut all = Vec::new();
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let status = status_of(&cluster.wait_for_pod(name).await?).with_context(|| format!("pod {name}"))?;
        let inside = status.iter().filter(|entry| !is_in_user_space(entry)).cloned().collect::<Vec<_>>();
        compare(name, &netns_of(name)?, &inside)?;
        all.push(status);
    }
    Ok(all)
}

/// A VF on vfio-pci has no interface in the kernel.
fn is_in_user_space(entry: &Value) -> bool {
    entry["name"].as_str().is_some_and(|name| name.ends_with("dpdk-net"))
}

/// The first address of an interface.
pub(super) fn address<'a>(status: &'a [Value], interface: &str) -> Result<&'a str> {
    let entry = status.iter().find(|entry| entry["interface"] == interface);
    let entry = entry.with_context(|| format!("network-status has no {interface}"))?;
    addresses(entry).first().copied().with_context(|| format!("{interface} has no address"))
}

/// What the pods of the quick starts say that they have.
struct Started(BTreeMap<String, Vec<Value>>);

impl Started {
    fn status(&self, pod: &str) -> Result<&[Value]> {
        self.0.get(pod).map(Vec::as_slice).with_context(|| format!("there is no pod {pod}"))
    }

    /// The first address of a pod's interface.
    fn address(&self, pod: &str, interface: &str) -> Result<&str> {
        address(self.status(pod)?, interface)
    }
}

/// See [`super::cases::ALL`]: all pods are started together, and go together.
pub(super) async fn all(cluster: &Cluster) -> Result<()> {
    let pods = [macvlan(cluster)?, asked(cluster)?, sources(cluster)?, on_disk(cluster)?].concat();
    let names: Vec<String> =
        pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect();
    let statuses = start(cluster, &pods).await?;
    let started = Started(names.iter().cloned().zip(statuses).collect());
    check_macvlan(&started).context("one interface, and two of one network")?;
    check_asked(&started).context("addresses that pods ask for")?;
    check_sources(&started).context("ipvlan with source-based routing")?;
    check_on_disk(&started).context("plugins on disk")?;
    cluster.delete_pods(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let left = rules()?;
    ensure!(left.is_empty(), "left of masquerading: {left:?}");
    run("ip", &["link", "delete", BRIDGE]).map(drop)
}

/// Multus' quick start.
fn macvlan(cluster: &Cluster) -> Result<Vec<Value>> {
    let config = json!({"cniVersion": "0.3.1", "type": "macvlan", "master": "enp2s0", "mode": "bridge", "ipam": {
        "type": "host-local", "subnet": "192.168.1.0/24", "rangeStart": "192.168.1.200", "rangeEnd": "192.168.1.216",
        "routes": [{"dst": "0.0.0.0/0"}], "gateway": "192.168.1.1"}});
    cluster.define("quick-start", &config)?;
    Ok(vec![
        pod("samplepod", Some("quick-start"), &json!({})),
        pod("twice", Some("quick-start,quick-start"), &json!({})),
    ])
}

fn check_macvlan(started: &Started) -> Result<()> {
    let counts = (started.status("samplepod")?.len(), started.status("twice")?.len());
    ensure!(counts == (2, 3), "the pods have {counts:?} interfaces");
    let from = netns_of("samplepod")?;
    for interface in ["net1", "net2"] {
        ping(&from, started.address("twice", interface)?)?;
    }
    // The primary network's default route comes first and stays, as with Multus.
    let route = run_in(&from, &["ip", "route", "get", "8.8.8.8"])?;
    ensure!(route.contains("dev eth0"), "the pod's way out is {route}");
    Ok(())
}

/// Upstream's test of addresses in the annotation, and that of a static pod: its mirror, which kubelet runs under another UID.
fn asked(cluster: &Cluster) -> Result<Vec<Value>> {
    let macvlan = json!({"type": "macvlan", "capabilities": {"ips": true}, "master": "enp2s0", "mode": "bridge",
                         "ipam": {"type": "static"}});
    cluster.define("asked", &json!({"cniVersion": "0.3.1", "plugins": [macvlan, {"type": "tuning"}]}))?;
    let asking = |name: &str, address: &str| {
        pod(name, Some(&format!(r#"[{{"name": "asked", "ips": ["{address}/24"]}}]"#)), &json!({}))
    };
    let mut mirror = asking("static-node1", "10.1.1.13");
    mirror["metadata"]["annotations"][MIRROR] = json!("3fb1c2d4");
    Ok(vec![asking("first", "10.1.1.11"), asking("second", "10.1.1.12"), mirror])
}

fn check_asked(started: &Started) -> Result<()> {
    for (name, wanted) in [("first", "10.1.1.11"), ("second", "10.1.1.12"), ("static-node1", "10.1.1.13")] {
        let has = started.address(name, "net1")?;
        ensure!(has == wanted, "pod {name} has {has} instead of {wanted}");
        ping(&netns_of("first")?, has)?;
    }
    Ok(())
}

fn sources(cluster: &Cluster) -> Result<Vec<Value>> {
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.63.0.0/24", "rangeStart": "10.63.0.10",
                      "gateway": "10.63.0.1"}]], "routes": [{"dst": "10.99.0.0/16"}]});
    let ipvlan = json!({"type": "ipvlan", "master": "enp1s0", "mode": "l2", "ipam": ipam});
    cluster.define("sources", &json!({"cniVersion": "1.0.0", "plugins": [ipvlan, {"type": "sbr"}]}))?;
    Ok(["from", "to"].map(|name| pod(name, Some("sources"), &json!({}))).to_vec())
}

fn check_sources(started: &Started) -> Result<()> {
    let (from, own) = (netns_of("from")?, started.address("from", "net1")?);
    // Only what comes from the interface's address goes this way: sbr takes its routes out of the main table.
    run_in(&from, &["ping", "-q", "-c", "1", "-W", "10", "-I", own, started.address("to", "net1")?])?;
    for (source, way) in [(own, "via 10.63.0.1 dev net1"), (started.address("from", "eth0")?, "dev eth0")] {
        let route = run_in(&from, &["ip", "route", "get", "8.8.8.8", "from", source])?;
        ensure!(route.contains(way), "what is sent from {source} goes {route}");
    }
    Ok(())
}

/// A bridge, and another plugin for primary networks, as secondary ones. The reference plugins of the node's own packages do what
/// we leave to them, masquerading, with their IPAM plugin.
fn on_disk(cluster: &Cluster) -> Result<Vec<Value>> {
    let ipam =
        |subnet: &str| json!({"type": "host-local", "subnet": subnet, "routes": [{"dst": "10.98.0.0/16"}]});
    let bridge = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": true,
                        "ipam": ipam("10.64.0.0/24")});
    cluster.define("disk-bridge", &bridge)?;
    let ptp = json!({"cniVersion": "1.0.0", "type": "ptp", "ipMasq": true, "ipam": ipam("10.64.1.0/24")});
    cluster.define("disk-ptp", &ptp)?;
    Ok(["one", "other"].map(|name| pod(name, Some("disk-bridge, disk-ptp"), &json!({}))).to_vec())
}

fn check_on_disk(started: &Started) -> Result<()> {
    let executed = run("sh", &["-c", &format!("cat {ATTACHMENTS}/*-net[12].json")])?;
    for plugin in ["bridge", "ptp"] {
        let count = executed.matches(&format!("\"binary\":\"/opt/cni/bin/{plugin}\"")).count();
        ensure!(count == 2, "{plugin} was executed for {count} interfaces");
    }
    ensure!(!rules()?.is_empty(), "nothing is masqueraded");
    for interface in ["net1", "net2"] {
        ping(&netns_of("one")?, started.address("other", interface)?)?;
    }
    Ok(())
}

/// What iptables holds of CNI plugins for pods.
fn rules() -> Result<Vec<String>> {
    let text = run("iptables-save", &[])?;
    let of_pods = text.lines().filter(|line| line.starts_with("-A") && line.contains("CNI-"));
    Ok(of_pods.filter(|line| !line.contains("CNI-HOSTPORT")).map(str::to_owned).collect())
}
