//! The demo's five steps.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{cluster::Cluster, shell::run, table};

/// A step of the demo.
pub(super) struct Step {
    pub(super) title: &'static str,
    which: Which,
}

#[derive(Clone, Copy)]
enum Which {
    Resources,
    Networks,
    Dpdk,
    TooMany,
    Gone,
}

/// The steps, in order; each builds on those before it.
pub(super) const ALL: &[Step] = &[
    Step { title: "the node offers 2 VFs on igbvf and 2 on vfio-pci", which: Which::Resources },
    Step {
        title: "two pods with a VF and two macvlan interfaces each reach each other",
        which: Which::Networks,
    },
    Step {
        title: "one pod with two vfio VFs exchanges traffic between them with testpmd",
        which: Which::Dpdk,
    },
    Step { title: "a pod that asks for a third vfio VF is not admitted", which: Which::TooMany },
    Step { title: "all pods are deleted and the node is as before the first", which: Which::Gone },
];

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The demo under way.
pub(super) struct Demo {
    pub(super) cluster: Cluster,
    rows: Vec<Vec<String>>,
    throughput: Option<String>,
}

impl Demo {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, rows: Vec::new(), throughput: None }
    }

    pub(super) async fn play(&mut self, step: &Step) -> Result<()> {
        match step.which {
            Which::Resources => self.resources().await,
            Which::Networks => self.networks().await,
            Which::Dpdk => self.dpdk().await,
            Which::TooMany => self.too_many().await,
            Which::Gone => self.gone().await,
        }
    }

    /// Every pod's interfaces.
    pub(super) fn table(&self) -> String {
        table::draw(&["POD", "INTERFACE", "NETWORK", "KIND", "DEVICE", "MAC", "ADDRESSES"], &self.rows)
    }

    /// The last line of the demo.
    pub(super) fn throughput_line(&self) -> String {
        self.throughput.clone().unwrap_or_else(|| "No throughput was measured.".to_owned())
    }

    async fn resources(&mut self) -> Result<()> {
        for line in run("fairlead-config", &["show"])?.lines() {
            println!("  {line}");
        }
        println!();
        let rows = self.cluster.resources().await?;
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|(name, capacity, allocatable)| vec![name.clone(), capacity.clone(), allocatable.clone()])
            .collect();
        print!("{}", table::draw(&["RESOURCE", "CAPACITY", "ALLOCATABLE"], &cells));
        for resource in ["intel.com/sriov", "intel.com/sriov_dpdk"] {
            let found = rows.iter().find(|(name, _, _)| name == resource);
            let (_, capacity, allocatable) = found.with_context(|| format!("the node has no {resource}"))?;
            ensure!(
                capacity == "2" && allocatable == "2",
                "{resource}: {capacity} and {allocatable}, expected 2"
            );
        }
        Ok(())
    }

    async fn networks(&mut self) -> Result<()> {
        self.cluster.apply("pods-vf.yaml")?;
        for name in ["left", "right"] {
            let pod = self.cluster.wait_for_pod(name).await?;
            let entries = status_of(&pod)?;
            let networks: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
            let wanted = ["pod-network", "default/sriov-net", "default/macvlan-conf", "default/macvlan-conf"];
            ensure!(networks == wanted, "pod {name}: network-status lists {networks:?}");
            for (entry, interface) in entries.iter().zip(["eth0", "net1", "net2", "net3"]) {
                ensure!(
                    entry["interface"] == interface,
                    "pod {name}: {} instead of {interface}",
                    entry["interface"]
                );
                self.compare_with_pod(name, entry)?;
            }
            self.compare_device(name, &entries[1], "PCIDEVICE_INTEL_COM_SRIOV")?;
            self.list(name, &entries)?;
        }
        let mac = self.cluster.exec("right", &["cat", "/sys/class/net/net1/address"])?;
        ensure!(mac.trim() == "02:fa:00:00:00:02", "pod right asked for another MAC than {}", mac.trim());
        self.ping("left", "right").await?;
        self.ping("right", "left").await
    }

    /// Pings every secondary address of one pod from the address of the other that is on the same network.
    async fn ping(&self, from: &str, to: &str) -> Result<()> {
        let source = status_of(&self.cluster.pods().get(from).await?)?;
        let target = status_of(&self.cluster.pods().get(to).await?)?;
        for (own, entry) in source.iter().zip(&target).skip(1) {
            // From the address, not the interface: where two interfaces are on one network, as net2 and net3 are here, the answer
            // may come in through the other one.
            let own = own["ips"][0].as_str().unwrap_or_default();
            let interface = entry["interface"].as_str().unwrap_or_default();
            for address in entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let said = self
                    .ping_once(from, own, address)
                    // The emulated PF now and then answers a VF that has just come up after seconds only.
                    .or_else(|_| self.ping_once(from, own, address))
                    .with_context(|| {
                        format!("{from} ({own}) does not reach {address}, {interface} of {to}")
                    })?;
                let summary = said.lines().find(|line| line.contains("packets")).unwrap_or_default();
                println!("  {from} {interface} -> {to} {interface} {address}: {summary}");
            }
        }
        Ok(())
    }

    fn ping_once(&self, from: &str, own: &str, address: &str) -> Result<String> {
        self.cluster.exec(from, &["ping", "-c", "3", "-W", "2", "-I", own, address])
    }

    /// Compares an entry of network-status with what the pod itself sees.
    fn compare_with_pod(&self, pod: &str, entry: &Value) -> Result<()> {
        let interface = entry["interface"].as_str().unwrap_or_default();
        let file = |name: &str| format!("/sys/class/net/{interface}/{name}");
        let mac = self.cluster.exec(pod, &["cat", &file("address")])?;
        ensure!(
            entry["mac"] == mac.trim(),
            "pod {pod}: {interface} has {}, status says {}",
            mac.trim(),
            entry["mac"]
        );
        let shown = self.cluster.exec(pod, &["ip", "address", "show", "dev", interface])?;
        let has: BTreeSet<&str> = shown
            .lines()
            .filter_map(|line| line.trim().strip_prefix("inet "))
            .filter_map(|rest| rest.split('/').next())
            .collect();
        let said: BTreeSet<&str> =
            entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        ensure!(
            !said.is_empty() && has == said,
            "pod {pod}: {interface} has {has:?}, network-status says {said:?}"
        );
        Ok(())
    }

    /// Compares the device of an entry with the variable that the device plugin gave the container.
    fn compare_device(&self, pod: &str, entry: &Value, variable: &str) -> Result<()> {
        let given = self.cluster.variable(pod, variable)?;
        let device = entry["device-info"]["pci"]["pci-address"].as_str().unwrap_or_default();
        let given: Vec<&str> = given.trim().split(',').collect();
        ensure!(
            given.contains(&device),
            "pod {pod}: {variable} is {given:?}, network-status says {device:?}"
        );
        Ok(())
    }

    async fn dpdk(&mut self) -> Result<()> {
        self.cluster.apply("pod-dpdk.yaml")?;
        let pod = self.cluster.wait_for_pod("dpdk").await?;
        let entries = status_of(&pod)?;
        ensure!(entries.len() == 3, "network-status has {} entries instead of 3", entries.len());
        for entry in &entries[1..] {
            self.compare_device("dpdk", entry, "PCIDEVICE_INTEL_COM_SRIOV_DPDK")?;
        }
        let devices: BTreeSet<String> =
            entries[1..].iter().map(|entry| entry["device-info"]["pci"]["pci-address"].to_string()).collect();
        ensure!(devices.len() == 2, "both networks got one device: {devices:?}");
        self.list("dpdk", &entries)?;
        let report = self.cluster.exec("dpdk", &["fairlead-dpdk-check", "--json", "-"])?;
        self.throughput = Some(throughput(&report)?);
        println!("  {}", self.throughput_line());
        Ok(())
    }

    async fn too_many(&mut self) -> Result<()> {
        self.cluster.apply("pod-too-many.yaml")?;
        let reason = self.cluster.wait_for_event("too-many", "intel.com/sriov_dpdk").await?;
        ensure!(reason.contains("Insufficient intel.com/sriov_dpdk"), "another reason: {reason}");
        let status = self.cluster.pods().get("too-many").await?.status.unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Pending"), "the pod is {:?}", status.phase);
        println!("  {reason}");
        Ok(())
    }

    async fn gone(&mut self) -> Result<()> {
        self.cluster.delete_pods(&["too-many", "left", "right", "dpdk"]).await?;
        self.cluster.is_as_before().await?;
        for resource in ["intel.com/sriov", "intel.com/sriov_dpdk"] {
            self.cluster.wait_for_allocatable(resource, 2).await?;
        }
        println!(
            "  {} things compared: links and VFs with their settings, addresses, records, containers",
            self.cluster.before.len()
        );
        Ok(())
    }

    /// Adds a pod's interfaces to the table.
    fn list(&mut self, pod: &str, entries: &[Value]) -> Result<()> {
        for entry in entries {
            let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
            let device = entry["device-info"]["pci"]["pci-address"].as_str();
            let ips: Vec<&str> =
                entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            self.rows.push(vec![
                pod.to_owned(),
                text("interface"),
                text("name"),
                kind(entry, device)?,
                device.unwrap_or("-").to_owned(),
                text("mac"),
                if ips.is_empty() { "-".to_owned() } else { ips.join(", ") },
            ]);
        }
        Ok(())
    }
}

/// What an interface is: a VF with its driver, or what its network's plugin makes.
fn kind(entry: &Value, device: Option<&str>) -> Result<String> {
    if let Some(device) = device {
        let link = std::fs::read_link(format!("/sys/bus/pci/devices/{device}/driver"))
            .with_context(|| format!("{device} has no driver"))?;
        return Ok(format!("VF ({})", link.file_name().unwrap_or_default().to_string_lossy()));
    }
    let primary = entry["default"].as_bool().unwrap_or(false);
    Ok(if primary { "bridge" } else { "macvlan" }.to_owned())
}

/// The pod's network-status annotation, taken apart.
pub(super) fn status_of(pod: &Pod) -> Result<Vec<Value>> {
    let annotations = pod.metadata.annotations.as_ref();
    let text =
        annotations.and_then(|all| all.get(STATUS)).context("the pod has no network-status annotation")?;
    serde_json::from_str(text).with_context(|| format!("network-status is no list: {text}"))
}

/// One line of `fairlead-dpdk-check`'s report.
fn throughput(report: &str) -> Result<String> {
    let report: Value = serde_json::from_str(report).with_context(|| format!("no JSON report: {report}"))?;
    let results = report["results"].as_array().context("the report has no results")?;
    let mut parts = Vec::new();
    for result in results {
        let text = |key: &str| result[key].as_str().unwrap_or("?").to_owned();
        let pps = result["receivedPps"]["median"].as_f64().unwrap_or(0.0);
        if pps < 1.0 {
            bail!("no packets went from {} to {}", text("from"), text("to"));
        }
        parts.push(format!("{} -> {}: {pps:.0} packets/s", text("from"), text("to")));
    }
    ensure!(parts.len() == 2, "the report has {} results instead of 2", parts.len());
    Ok(format!("Throughput between the pod's two VFs (testpmd): {}", parts.join(", ")))
}
