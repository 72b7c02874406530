//! A node without a cluster: networks from a folder, and the executable called as by cnitool or podman.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    inside::{ping, run_in},
    shell::run,
};

const PROGRAM: &str = "/opt/cni/bin/fairlead";
const FOLDER: &str = "/etc/fairlead-networks";

/// One call for a namespace, as the runtime's network.
fn call(verb: &str, container: &str, networks: &str) -> Result<Value> {
    let section = json!({"cniVersion": "1.0.0", "name": "fairlead", "type": "fairlead"});
    let mut child = Command::new(PROGRAM)
        .envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", container), ("CNI_IFNAME", "eth0")])
        .env("CNI_NETNS", Path::new("/run/netns").join(container))
        .env("CNI_PATH", "/opt/cni/bin")
        .env("CNI_ARGS", format!("FAIRLEAD_NETWORKS={networks}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no standard input")?.write_all(section.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{verb} of {container}: {text}");
    if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).context("the result") }
}

/// See [`super::cases::ALL`].
pub(super) async fn without_cluster(cluster: &mut Cluster) -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    let macvlan = json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "enp2s0",
                         "ipam": {"type": "host-local", "subnet": "10.66.1.0/24"}});
    let ipvlan = json!({"cniVersion": "1.0.0", "type": "ipvlan", "master": "enp1s0",
                        "ipam": {"type": "host-local", "subnet": "10.66.2.0/24"}});
    let definition = |name: &str, config: &Value| {
        json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
               "metadata": {"name": name}, "spec": {"config": config.to_string()}})
    };
    // JSON is YAML, too.
    fs::write(Path::new(FOLDER).join("lan.yaml"), definition("lan", &macvlan).to_string())?;
    fs::write(Path::new(FOLDER).join("storage.json"), definition("storage", &ipvlan).to_string())?;
    cluster.kill_part("agent").await?;
    cluster.start_agent_alone(Path::new(FOLDER))?;
    let played = async {
        cluster.wait_for_agent().await?;
        two_containers()
    };
    let played = played.await;
    cluster.kill_part("agent").await?;
    cluster.start_agent()?;
    cluster.wait_for_agent().await?;
    fs::remove_dir_all(FOLDER)?;
    played
}

fn two_containers() -> Result<()> {
    let containers = ["alone1", "alone2"];
    for container in containers {
        run("ip", &["netns", "add", container])?;
        let result = call("ADD", container, "lan,storage@data")?;
        ensure!(result["ips"][0]["address"].as_str().is_some_and(|ip| ip.starts_with("10.22.")), "{result}");
    }
    let netns = containers.map(|container| Path::new("/run/netns").join(container));
    for interface in ["eth0", "net1", "data"] {
        let text = run_in(&netns[1], &["ip", "-json", "-4", "address", "show", "dev", interface])?;
        let link: Value = serde_json::from_str(&text)?;
        let address =
            link[0]["addr_info"][0]["local"].as_str().with_context(|| format!("no address: {text}"))?;
        ping(&netns[0], address).with_context(|| format!("{interface} is not reached"))?;
    }
    for container in containers {
        call("DEL", container, "lan,storage@data")?;
        run("ip", &["netns", "delete", container])?;
    }
    Ok(())
}
