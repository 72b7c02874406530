//! Networks of every kind in one pod, and in many.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    cases::pod,
    cluster::Cluster,
    inside::{netns_of, ping},
    quickstarts::{address, start},
    shell::run,
};

const VF: &str = "intel.com/sriov";
const USER_SPACE: &str = "intel.com/sriov_dpdk";
const BRIDGE: &str = "mixed0";
/// How many pods the deployment has.
const REPLICAS: usize = 4;

fn define(cluster: &Cluster) -> Result<()> {
    let local = |part: &str| json!({"type": "host-local", "subnet": format!("{part}.0/24")});
    let network = |kind: &str, more: &Value| {
        let mut config = json!({"cniVersion": "1.0.0", "type": kind});
        config
            .as_object_mut()
            .into_iter()
            .for_each(|map| map.extend(more.as_object().cloned().unwrap_or_default()));
        config
    };
    // Both ports are on one wire: who has an interface on each must not answer for one on the other.
    let one_answer = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.all.arp_ignore": "1"}});
    for (name, plugin) in [
        ("mixed-macvlan", json!({"type": "macvlan", "master": "enp2s0", "ipam": local("10.65.1")})),
        ("mixed-ipvlan", json!({"type": "ipvlan", "master": "enp1s0", "ipam": local("10.65.2")})),
    ] {
        cluster.define(name, &json!({"cniVersion": "1.0.0", "plugins": [plugin, one_answer]}))?;
    }
    for (name, kind, more) in [
        ("mixed-bridge", "bridge", json!({"bridge": BRIDGE, "ipam": local("10.65.3")})),
        ("mixed-ptp", "ptp", json!({"ipMasq": true, "ipam": local("10.65.4")})),
    ] {
        cluster.define(name, &network(kind, &more))?;
    }
    // Two ways to hand over a VF, into one subnet.
    for (name, kind, first) in [("mixed-vf", "sriov", 10), ("mixed-device", "host-device", 20)] {
        let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.65.5.0/24",
                          "rangeStart": format!("10.65.5.{first}"), "rangeEnd": format!("10.65.5.{}", first + 5)}]]});
        let annotations = json!({"k8s.v1.cni.cncf.io/resourceName": VF});
        cluster.define_with(name, &network(kind, &json!({"ipam": ipam})), &annotations)?;
    }
    Ok(())
}

/// See [`super::cases::ALL`].
pub(super) async fn all_kinds(cluster: &Cluster) -> Result<()> {
    define(cluster)?;
    let devices = json!({VF: "1", USER_SPACE: "1"});
    let common = "mixed-macvlan, mixed-ipvlan, mixed-bridge, mixed-ptp, mixed-macvlan, dpdk-net";
    let mut pods = vec![
        pod("mixed-a", Some(&format!("mixed-vf, {common}")), &devices),
        pod("mixed-b", Some(&format!("mixed-device, {common}")), &devices),
    ];
    let names: Vec<String> = (0..REPLICAS).map(|number| format!("replica-{number}")).collect();
    let networks = "mixed-bridge, mixed-macvlan@lan0, mixed-ipvlan, mixed-ptp";
    pods.extend(names.iter().map(|name| pod(name, Some(networks), &json!({}))));
    let statuses = start(cluster, &pods).await?;
    let devices = statuses[..2].iter().map(|status| status[7]["device-info"]["pci"]["pci-address"].as_str());
    let devices = devices.collect::<Option<Vec<_>>>().context("a VF in user space has no PCI address")?;
    ensure!(devices[0] != devices[1], "both pods got {devices:?}");
    for (name, device) in ["mixed-a", "mixed-b"].iter().zip(&devices) {
        let given = cluster.variable(name, "PCIDEVICE_INTEL_COM_SRIOV_DPDK")?;
        ensure!(given.trim() == *device, "pod {name} has {device} attached, and was given {given}");
    }
    let from = netns_of("mixed-a")?;
    for interface in ["eth0", "net1", "net2", "net3", "net4", "net5", "net6"] {
        // The emulated PF now and then answers a VF that has just come up after seconds only.
        let to = address(&statuses[1], interface)?;
        ping(&from, to).or_else(|_| ping(&from, to)).with_context(|| format!("{interface} of mixed-b"))?;
    }
    for (name, next) in names.iter().zip(&statuses[3..]) {
        let from = netns_of(name)?;
        for interface in ["net1", "lan0", "net3", "net4"] {
            ping(&from, address(next, interface)?)
                .with_context(|| format!("from {name} to {interface} of the next"))?;
        }
    }
    let all: Vec<&str> = ["mixed-a", "mixed-b"].into_iter().chain(names.iter().map(String::as_str)).collect();
    cluster.delete_pods(&all).await?;
    for resource in [VF, USER_SPACE] {
        cluster.wait_for_allocatable(resource, 2).await?;
    }
    run("ip", &["link", "delete", BRIDGE]).map(drop)
}
