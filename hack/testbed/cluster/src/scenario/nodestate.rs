//! What a node has that a pod could leave something in: taken before the first pod, and compared after the last.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::Value;

use super::shell::run;

/// Settings of a link that must come back; the rest (index, counters, queues) is the kernel's.
const LINK_KEYS: [&str; 8] =
    ["ifname", "altnames", "address", "mtu", "master", "vfinfo_list", "parentdev", "ifalias"];
/// Folders of which every file counts.
const FOLDERS: [&str; 5] = [
    "/var/lib/fairlead",
    "/run/fairlead",
    "/var/lib/cni/networks",
    "/run/netns",
    super::networks::DEVICE_INFO,
];

/// The state, one line for each thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeState(BTreeSet<String>);

impl NodeState {
    /// Reads it.
    pub(super) fn read() -> Result<Self> {
        let mut lines = BTreeSet::new();
        links(&mut lines)?;
        for folder in FOLDERS {
            files(Path::new(folder), &mut lines)?;
        }
        for (what, arguments) in [
            ("container", ["-n", "k8s.io", "containers", "list", "-q"]),
            ("task", ["-n", "k8s.io", "tasks", "list", "-q"]),
        ] {
            lines.extend(run("ctr", &arguments)?.lines().map(|id| format!("containerd: {what} {id}")));
        }
        Ok(Self(lines))
    }

    /// Waits until the node is as it was; things may take some time to settle after the last pod is gone.
    ///
    /// # Errors
    /// What is missing and what is too much, when it does not become so in time.
    pub(super) async fn returns(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let now = Self::read()?;
            if now == *self {
                return Ok(());
            }
            if start.elapsed() > limit {
                let lost: Vec<_> = self.0.difference(&now.0).map(|line| format!("  was    {line}")).collect();
                let left: Vec<_> = now.0.difference(&self.0).map(|line| format!("  is now {line}")).collect();
                bail!("the node is not as before the first pod:\n{}\n{}", lost.join("\n"), left.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Has the containers of another one.
    pub(super) fn take_containers_from(&mut self, other: &Self) {
        let is_container = |line: &String| line.starts_with("containerd: ");
        self.0.retain(|line| !is_container(line));
        self.0.extend(other.0.iter().filter(|line| is_container(line)).cloned());
    }

    /// How many things are compared.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn links(lines: &mut BTreeSet<String>) -> Result<()> {
    let links: Value = serde_json::from_str(&run("ip", &["-json", "-details", "link", "show"])?)?;
    for link in links.as_array().into_iter().flatten() {
        let name = link["ifname"].as_str().unwrap_or("?");
        for key in LINK_KEYS {
            if let Some(value) = link.get(key) {
                lines.insert(format!("link {name}: {key} {value}"));
            }
        }
        let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
        lines.insert(format!("link {name}: {}", if up { "up" } else { "down" }));
    }
    Ok(())
}

/// Lists the files of a folder. Of host-local's store only the addresses count: it keeps its lock, and where it was, for ever.
fn files(folder: &Path, lines: &mut BTreeSet<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        // What happened stays for people to read.
        if path.ends_with("fairlead/history") {
            continue;
        }
        if path.is_dir() {
            files(&path, lines)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !path.starts_with("/var/lib/cni/networks") || name.parse::<IpAddr>().is_ok() {
            lines.insert(format!("file {}", path.display()));
        }
    }
    Ok(())
}
