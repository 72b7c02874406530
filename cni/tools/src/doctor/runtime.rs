//! Whether the container runtime does what CDI needs, where devices come that way.

use std::process::Command;

use super::Node;
use crate::finding::Finding;

const CONTAINERD: &str = "/etc/containerd/config.toml";
const CRIO: [&str; 2] = ["/etc/crio/crio.conf", "/etc/crio/crio.conf.d"];
const SPECIFICATIONS: [&str; 2] = ["/run/cdi", "/etc/cdi"];

/// What is known of the runtimes.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Files by which our device plugin hands out devices.
    specifications: usize,
    /// containerd's configuration and version.
    containerd: Option<Runtime>,
    /// CRI-O's configuration.
    crio: Option<Runtime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Runtime {
    /// `enable_cdi` as it is set.
    enabled: Option<bool>,
    /// By `containerd --version`, or what the configuration's own version implies.
    major: Option<u32>,
}

impl Facts {
    pub(super) fn gather(node: &Node) -> Self {
        let root = &node.root;
        let is_ours = |name: &String| name.contains("fairlead") || name.contains("sriov");
        let crio: String = root
            .names(CRIO[1])
            .into_iter()
            .map(|name| format!("{}/{name}", CRIO[1]))
            .chain([CRIO[0].to_owned()])
            .filter_map(|path| root.read(path).ok())
            .collect();
        let containerd = root.read(CONTAINERD).ok();
        let version = root.is_own().then(version).flatten();
        Self {
            specifications: SPECIFICATIONS.iter().flat_map(|dir| root.names(dir)).filter(is_ours).count(),
            containerd: (containerd.is_some() || version.is_some()).then(|| {
                let text = containerd.unwrap_or_default();
                Runtime { enabled: setting(&text, "enable_cdi"), major: version.or_else(|| implied(&text)) }
            }),
            crio: root
                .exists("/etc/crio")
                .then(|| Runtime { enabled: setting(&crio, "enable_cdi"), major: None }),
        }
    }
}

/// The last value that a key has in a file of TOML.
fn setting(text: &str, key: &str) -> Option<bool> {
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split('#').next()?.split_once('=')?;
        (name.trim().trim_matches('"') == key).then(|| value.trim() == "true")
    });
    values.next_back()
}

/// A configuration of version 3 is containerd 2's.
fn implied(text: &str) -> Option<u32> {
    let version =
        text.lines().find_map(|line| line.trim().strip_prefix("version")?.trim().strip_prefix('='))?;
    Some(if version.trim().parse::<u32>().ok()? >= 3 { 2 } else { 1 })
}

fn version() -> Option<u32> {
    let output = Command::new("containerd").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = text.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches('v');
        word.split_once('.')
            .filter(|(major, _)| major.bytes().all(|c| c.is_ascii_digit()) && !major.is_empty())
    });
    word?.0.parse().ok()
}

/// Says whether devices that come by CDI would be missing in containers.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let id = "runtime.cdi";
    if facts.specifications == 0 {
        return vec![Finding::info(
            id,
            "no pool hands out devices by CDI: the runtime's switch does not matter",
        )];
    }
    let mut findings = Vec::new();
    if let Some(containerd) = &facts.containerd {
        let remedy = "set enable_cdi = true below [plugins.\"io.containerd.grpc.v1.cri\"] and restart containerd: without it 1.7 leaves \
                      such devices out without a word";
        findings.push(match (containerd.enabled, containerd.major) {
            (Some(true), _) => Finding::ok(id, "containerd has CDI switched on"),
            (None, Some(2..)) => Finding::ok(id, "containerd 2 has CDI switched on by itself"),
            (Some(false), _) => Finding::error(id, "containerd has CDI switched off", remedy),
            (None, Some(_)) => {
                Finding::error(id, "containerd 1 has CDI switched off unless told otherwise", remedy)
            }
            (None, None) => {
                Finding::unknown(id, "which version of containerd this is could not be told", remedy)
            }
        });
    }
    if let Some(crio) = &facts.crio {
        findings.push(match crio.enabled {
            Some(false) => Finding::error(
                id,
                "CRI-O has CDI switched off",
                "take enable_cdi out of its configuration, and restart it",
            ),
            _ => Finding::ok(id, "CRI-O has CDI switched on by itself"),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::unknown(
            id,
            "no configuration of containerd or CRI-O where it usually is",
            "see in the runtime's own documentation whether CDI is switched on",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{MadeNode, assert_found},
        *,
    };
    use crate::finding::Severity;

    #[test]
    fn the_switch_matters_where_cdi_is_used_and_depends_on_the_version() {
        let node = MadeNode::new();
        let judged = |node: &MadeNode| judge(&Facts::gather(&node.node()));
        assert_found(&judged(&node), "runtime.cdi", Severity::Info, &["does not matter"]);
        node.write("/run/cdi/fairlead-intel.com_vfs.json", "{}");
        assert_found(&judged(&node), "runtime.cdi", Severity::Unknown, &["usually"]);
        for (text, severity) in [
            ("version = 2\n", Severity::Error),
            ("version = 3\n", Severity::Ok),
            ("version = 2\n  enable_cdi = true # on\n", Severity::Ok),
            ("version = 3\nenable_cdi = false\n", Severity::Error),
            ("\n", Severity::Unknown),
        ] {
            node.write(CONTAINERD, text);
            assert_found(&judged(&node), "runtime.cdi", severity, &["containerd"]);
        }
        node.remove(CONTAINERD);
        node.write("/etc/crio/crio.conf.d/10-x", "[crio.runtime]\n");
        assert_found(&judged(&node), "runtime.cdi", Severity::Ok, &["CRI-O"]);
        node.write("/etc/crio/crio.conf.d/10-x", "enable_cdi=false\n");
        assert_found(&judged(&node), "runtime.cdi", Severity::Error, &["CRI-O"]);
    }
}
