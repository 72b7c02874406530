//! The examples, as far as this node's card does what they ask for.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{cluster::Cluster, manifests::objects, shell::run, steps::status_of};

/// Examples that are played together: the node has two VFs of each resource.
const TOGETHER: [&[&str]; 2] = [
    &[
        "macvlan.yaml",
        "ipvlan-sbr.yaml",
        "bridge.yaml",
        "vlan.yaml",
        "sriov.yaml",
        "sriov-settings.yaml",
        "dpdk.yaml",
        "deployment.yaml",
        "statefulset.yaml",
    ],
    &["two-resources.yaml", "host-device.yaml", "mixed.yaml"],
];
/// Left by the example of a bridge, as a bridge stays when its last pod is gone.
const BRIDGE: &str = "fl-br0";
/// What igb does not do: the rate of a VF.
const NOT_HERE: &str = "max_tx_rate";

/// Some examples.
pub(super) struct Case {
    pub(super) title: String,
    networks: Vec<Value>,
    pods: Vec<Value>,
}

/// The examples in a folder.
pub(super) fn cases(folder: &Path) -> Result<Vec<Case>> {
    TOGETHER.iter().map(|files| case(folder, files)).collect()
}

fn case(folder: &Path, files: &[&str]) -> Result<Case> {
    let (mut networks, mut pods) = (Vec::new(), Vec::new());
    for file in files {
        for object in objects(&folder.join(file))? {
            match object["kind"].as_str() {
                Some("NetworkAttachmentDefinition") => networks.push(without_rate(object)?),
                Some("Pod") => pods.push(with_image(object)),
                Some("Deployment" | "StatefulSet") => pods.extend(replicas(&object)),
                // There are no controllers here.
                _ => {}
            }
        }
    }
    Ok(Case { title: format!("examples: {}", files.join(", ")), networks, pods })
}

/// The pods that a controller would make.
fn replicas(object: &Value) -> Vec<Value> {
    let count = object["spec"]["replicas"].as_u64().unwrap_or(1);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let pod = |number| {
        let mut pod = object["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(format!("{name}-{number}"));
        pod["metadata"]["namespace"] = object["metadata"]["namespace"].clone();
        with_image(pod)
    };
    (0..count).map(pod).collect()
}

/// Nothing can be pulled here.
fn with_image(mut pod: Value) -> Value {
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        container["image"] = json!("localhost/fairlead/busybox:1");
        container["imagePullPolicy"] = json!("Never");
    }
    pod
}

fn without_rate(mut network: Value) -> Result<Value> {
    let text = network["spec"]["config"].as_str().unwrap_or_default();
    let mut config: Value = serde_json::from_str(text).context("spec.config")?;
    let removed = config.as_object_mut().and_then(|config| config.remove(NOT_HERE));
    if removed.is_some() {
        println!("  igb has no {NOT_HERE}: it is taken out of network {}", network["metadata"]["name"]);
        network["spec"]["config"] = config.to_string().into();
    }
    Ok(network)
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

impl Case {
    /// Starts the pods, compares what they have with what network-status says, and deletes them.
    pub(super) async fn play(&self, cluster: &Cluster) -> Result<()> {
        for object in self.networks.iter().chain(&self.pods) {
            cluster.apply_document(object)?;
        }
        let mut of_pods = Vec::new();
        for pod in &self.pods {
            of_pods.push((name(pod), self.check(cluster, pod).await?));
        }
        for prefix in ["macvlan-", "replicas-", "mixed-"] {
            let pods: Vec<_> = of_pods.iter().filter(|(name, _)| name.starts_with(prefix)).collect();
            if let [(from, _), (_, to)] = pods.as_slice() {
                let address = to[1]["ips"][0].as_str().context("no address")?;
                cluster.exec(from, &["ping", "-c", "1", "-W", "10", address])?;
            }
        }
        cluster.delete_pods(&self.pods.iter().map(name).collect::<Vec<_>>()).await
    }

    /// Waits for a pod, and compares its interfaces; network-status is returned.
    async fn check(&self, cluster: &Cluster, pod: &Value) -> Result<Vec<Value>> {
        let name = name(pod);
        let status = status_of(&cluster.wait_for_pod(name).await?).with_context(|| format!("pod {name}"))?;
        let asked =
            pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"].as_str().unwrap_or_default();
        let wanted = match serde_json::from_str::<Value>(asked) {
            Ok(list) => list.as_array().map_or(0, Vec::len),
            Err(_) => asked.split(',').count(),
        };
        ensure!(
            status.len() == wanted + 1,
            "pod {name}: {} interfaces instead of {wanted} + 1",
            status.len()
        );
        for entry in &status {
            let interface = entry["interface"].as_str().unwrap_or_default();
            let network = self.networks.iter().find(|n| {
                entry["name"] == format!("default/{}", n["metadata"]["name"].as_str().unwrap_or_default())
            });
            let resource = network.map(|n| &n["metadata"]["annotations"]["k8s.v1.cni.cncf.io/resourceName"]);
            if resource.is_some_and(|resource| *resource == "intel.com/sriov_dpdk") {
                // In user space: there is no interface, but a device, whose node the pod has.
                let address =
                    entry["device-info"]["pci"]["pci-address"].as_str().context("no PCI address")?;
                let devices = cluster.variable(name, "PCIDEVICE_INTEL_COM_SRIOV_DPDK")?;
                ensure!(devices.contains(address), "pod {name}: {address} is not of {devices}");
                continue;
            }
            let shown = cluster.exec(name, &["ip", "address", "show", "dev", interface])?;
            for address in entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                ensure!(shown.contains(address), "pod {name}: {interface} has no {address}: {shown}");
            }
            let mac = entry["mac"].as_str().unwrap_or_default();
            ensure!(shown.contains(mac), "pod {name}: {interface} has not {mac}: {shown}");
        }
        println!("  {name}: {}", interfaces(&status));
        Ok(status)
    }
}

fn interfaces(status: &[Value]) -> String {
    let one = |entry: &Value| {
        let ips: Vec<&str> =
            entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("{} {}", entry["interface"].as_str().unwrap_or("-"), ips.join(" "))
    };
    status.iter().skip(1).map(one).collect::<Vec<_>>().join(", ")
}

/// Takes the bridge away, and compares the node with what it was before the first example.
pub(super) async fn clean(cluster: &Cluster) -> Result<()> {
    run("ip", &["link", "delete", BRIDGE])?;
    cluster.is_as_before().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/examples")
    }

    #[test]
    fn every_example_is_played() {
        let mut played: Vec<&str> = TOGETHER.concat();
        played.sort_unstable();
        let entries = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut there: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        there.retain(|name| name.ends_with(".yaml"));
        there.sort();
        assert_eq!(there, played);
    }

    #[test]
    fn the_pods_ask_for_no_more_devices_than_the_node_has() {
        for case in cases(&examples()).unwrap() {
            for resource in ["intel.com/sriov", "intel.com/sriov_dpdk"] {
                let of = |pod: &Value| -> u32 {
                    let limits = &pod["spec"]["containers"][0]["resources"]["limits"];
                    limits[resource].as_str().map_or(0, |text| text.parse().unwrap())
                };
                assert!(case.pods.iter().map(of).sum::<u32>() <= 2, "{resource}: {}", case.title);
            }
        }
    }

    #[test]
    fn controllers_pods_are_made_and_images_are_the_nodes() {
        let all = cases(&examples()).unwrap();
        let names: Vec<&str> = all[0].pods.iter().map(name).collect();
        assert!(names.contains(&"replicas-1") && names.contains(&"store-0"), "{names:?}");
        assert!(all[0].pods.iter().all(|pod| pod["spec"]["containers"][0]["imagePullPolicy"] == "Never"));
        assert!(!all[0].networks.iter().any(|n| n.to_string().contains(NOT_HERE)));
    }
}
