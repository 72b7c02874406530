//! What pods have, looked at from the node: quicker than a command in a container for each of many.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{cases::ATTACHMENTS, shell::run};

/// The network namespace of a pod, as the executable's records name it.
pub(super) fn netns_of(pod: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(ATTACHMENTS).context(ATTACHMENTS)? {
        let record: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
        if record["pod"]["name"] == pod {
            return Ok(record["netnsPath"].as_str().unwrap_or_default().into());
        }
    }
    anyhow::bail!("no record is of pod {pod}")
}

/// Runs a program of the node's in a namespace.
pub(super) fn run_in(netns: &Path, command: &[&str]) -> Result<String> {
    let netns = format!("--net={}", netns.display());
    run("nsenter", &[&[netns.as_str()], command].concat())
}

/// Pings from a namespace.
pub(super) fn ping(netns: &Path, address: &str) -> Result<()> {
    run_in(netns, &["ping", "-q", "-c", "1", "-W", "10", address]).map(drop)
}

/// Makes sure that the pod's interfaces have the hardware and IP addresses that network-status says, each with no others.
pub(super) fn compare(pod: &str, netns: &Path, status: &[Value]) -> Result<()> {
    let text = run_in(netns, &["ip", "-json", "address", "show"])?;
    let links: Vec<Value> = serde_json::from_str(&text).context("ip -json")?;
    for entry in status {
        let interface = &entry["interface"];
        let link = links.iter().find(|link| link["ifname"] == *interface);
        let link = link.with_context(|| format!("pod {pod} has no interface {interface}"))?;
        ensure!(
            link["address"] == entry["mac"],
            "pod {pod}: {interface} is {link}, network-status says {entry}"
        );
        let mut has: Vec<&str> = link["addr_info"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|address| address["scope"] == "global")
            .filter_map(|address| address["local"].as_str())
            .collect();
        let mut said = addresses(entry);
        has.sort_unstable();
        said.sort_unstable();
        ensure!(has == said, "pod {pod}: {interface} has {has:?}, network-status says {said:?}");
    }
    Ok(())
}

/// The addresses of an entry of network-status.
pub(super) fn addresses(entry: &Value) -> Vec<&str> {
    entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
