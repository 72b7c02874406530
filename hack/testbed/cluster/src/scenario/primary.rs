//! What an operator does with the primary network: chains of plugins beside its file, and having it made in process.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    cases::{ATTACHMENTS, pod},
    cluster::{CNI_CONF, Cluster},
    inside::{netns_of, ping, run_in},
    quickstarts::{address, start},
    shell::run,
};

const PRIMARY: &str = "10-bridge.conflist";

/// Has our section hold these options. The runtime reads it when it sees that the file changed, which nobody is told of.
async fn set_section(options: &Value) -> Result<()> {
    run("fairlead", &["install", "--section", &options.to_string()])?;
    sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Settings of eth0, each by a plugin in a folder: of the primary network's name, and of the auxiliary chain's.
const SETTINGS: [(&str, &str); 2] = [("pod-network", "arp_filter"), ("vendor", "arp_announce")];

/// See [`super::cases::ALL`].
pub(super) async fn operated(cluster: &Cluster) -> Result<()> {
    let file = Path::new(CNI_CONF).join(PRIMARY);
    let before = fs::read(&file).with_context(|| file.display().to_string())?;
    let mut config: Value = serde_json::from_slice(&before)?;
    let ports = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    config["plugins"].as_array_mut().context("no list of plugins")?.push(ports);
    fs::write(&file, config.to_string())?;
    for (folder, setting) in SETTINGS {
        let folder = Path::new(CNI_CONF).join(folder);
        fs::create_dir_all(&folder)?;
        let plugin = json!({"type": "tuning", "sysctl": {format!("net.ipv4.conf.eth0.{setting}"): "1"}});
        fs::write(folder.join("10-sysctl.conf"), plugin.to_string())?;
    }
    set_section(&json!({"builtins": ["bridge", "host-local", "macvlan"], "auxiliaryCNIChainName": "vendor"}))
        .await?;
    let played = pods(cluster).await;
    set_section(&json!({})).await?;
    fs::write(&file, before)?;
    for (folder, _) in SETTINGS {
        fs::remove_dir_all(Path::new(CNI_CONF).join(folder))?;
    }
    played
}

async fn pods(cluster: &Cluster) -> Result<()> {
    let mut server = pod("server", Some("macvlan-conf"), &json!({}));
    let container = &mut server["spec"]["containers"][0];
    container["ports"] = json!([{"containerPort": 8080, "hostPort": 18080}]);
    container["command"] = json!(["httpd", "-f", "-p", "8080", "-h", "/etc"]);
    cluster.create_pod(&pod("plain", None, &json!({}))).await?;
    let statuses = start(cluster, &[server, pod("client", Some("macvlan-conf"), &json!({}))]).await?;
    cluster.wait_for_pod("plain").await?;
    check_plugins()?;
    for name in ["server", "plain"] {
        for (_, setting) in SETTINGS {
            let value =
                run_in(&netns_of(name)?, &["cat", &format!("/proc/sys/net/ipv4/conf/eth0/{setting}")])?;
            ensure!(value.trim() == "1", "pod {name}: {setting} is {value}");
        }
    }
    check_traffic(&statuses[0])?;
    cluster.delete_pods(&["server", "client", "plain"]).await?;
    let left = run("iptables-save", &[])?;
    ensure!(!left.contains("18080"), "a mapped port is left: {left}");
    Ok(())
}

/// Which plugins of the primary network were executed.
fn check_plugins() -> Result<()> {
    let records = run("sh", &["-c", &format!("cat {ATTACHMENTS}/*-eth0.json")])?;
    for (plugin, count) in [("bridge", 0), ("host-local", 0), ("portmap", 3), ("tuning", 3)] {
        let executed = records.matches(&format!("/opt/cni/bin/{plugin}\"")).count();
        ensure!(executed == count, "{plugin} was executed {executed} times, not {count}: {records}");
    }
    Ok(())
}

fn check_traffic(server: &[Value]) -> Result<()> {
    let from = netns_of("client")?;
    for interface in ["eth0", "net1"] {
        ping(&from, address(server, interface)?)?;
    }
    let direct = format!("http://{}:8080/passwd", address(server, "eth0")?);
    let page = run_in(&from, &["busybox", "wget", "-q", "-O", "-", "-T", "20", &direct])?;
    let through = "http://10.22.0.1:18080/passwd";
    let mapped = run("busybox", &["wget", "-q", "-O", "-", "-T", "20", through])?;
    ensure!(page.contains("nobody") && page == mapped, "the port of the node answers {mapped}");
    Ok(())
}
