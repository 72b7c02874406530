//! The folder of CNI configurations: which one the runtime takes, and what it leads to.

use std::path::PathBuf;

use fairlead_cni::{
    config::NetworkConfig,
    install::{FILE, is_configuration, is_ours},
    meta::{config::TYPE, multus, primary},
};

use super::node::{self, Node};
use crate::finding::Finding;

/// A file that the runtime may take.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    name: String,
    /// The plugins' types, or why it cannot be used.
    plugins: Result<Vec<String>, String>,
}

impl File {
    fn is(&self, kinds: &[&str]) -> bool {
        self.plugins.as_ref().is_ok_and(|plugins| plugins.iter().any(|kind| kinds.contains(&kind.as_str())))
    }
}

/// What is in the folder.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    folder: PathBuf,
    exists: bool,
    /// Those that count, in the runtime's order.
    files: Vec<File>,
    /// Names under which others have put ours away.
    put_away: Vec<String>,
    /// Whether our section's options can be used.
    section: Result<(), String>,
    /// Name and file of the primary network that an ADD would take now.
    primary: Result<String, String>,
    /// Whether the section names the primary network.
    is_pinned: bool,
}

impl Facts {
    pub(super) fn gather(node: &Node) -> Self {
        let names = node.root.names(&node.conf);
        let file = |name: &String| {
            let text = node.root.read(node.conf.join(name)).map_err(|error| error.to_string());
            let network =
                text.and_then(|text| NetworkConfig::parse(&text).map_err(|error| error.to_string()));
            let plugins =
                network.map(|network| network.plugins.into_iter().map(|plugin| plugin.kind).collect());
            File { name: name.clone(), plugins }
        };
        let is_ours_renamed = |name: &&String| {
            let is_renamed = name.strip_prefix(FILE).is_some_and(|rest| rest.starts_with('.'));
            is_renamed && node.root.read(node.conf.join(name)).is_ok_and(|text| is_ours(&text))
        };
        let mut section = node.section.clone();
        section.primary_dir = node.root.path(&section.primary_dir);
        let reference = section.policy.cluster_network.take();
        // A name without a slash may be that of a definition, which only the agent knows.
        section.policy.cluster_network = reference
            .filter(|reference| reference.contains('/'))
            .map(|path| node.root.path(path).display().to_string());
        Self {
            folder: node.conf.clone(),
            exists: node.root.exists(&node.conf),
            files: names.iter().filter(|name| is_configuration(name)).map(file).collect(),
            put_away: names.iter().filter(is_ours_renamed).cloned().collect(),
            section: node::section(&node.root, &node.conf).map(drop).map_err(|error| error.to_string()),
            primary: primary::load(&section).map(|network| network.name).map_err(|error| error.to_string()),
            is_pinned: node.section.primary.is_some()
                || node.section.policy.cluster_network.is_some()
                || !node.section.delegates.is_empty(),
        }
    }

    fn shown(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// Says what of it keeps pods from their networks.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let folder = facts.folder.display();
    if !facts.exists {
        let remedy = "name the folder that the runtime reads with --conf-dir; in a container mount the node's root and say --root";
        return vec![Finding::error("cni.folder", format!("{folder} is not there"), remedy)];
    }
    let mut findings = vec![ours(facts)];
    findings.extend(order(facts));
    findings.extend(broken(facts));
    findings.extend(primary_network(facts));
    findings
}

/// Whether our file is there and good.
fn ours(facts: &Facts) -> Finding {
    let shown = facts.shown(FILE);
    let Some(file) = facts.files.iter().find(|file| file.name == FILE) else {
        let seen = match facts.put_away.first() {
            Some(name) => format!("{shown} is missing: somebody has renamed it to {name}"),
            None => format!("{shown} is missing: pods get the cluster's network alone"),
        };
        let remedy = match facts.put_away.iter().any(|name| name.ends_with(".cilium_bak")) {
            true => "set Cilium's value cni.exclusive to false, then call `fairlead install`",
            false => "see that the DaemonSet fairlead-cni runs here, or call `fairlead install`",
        };
        return Finding::error("cni.file", seen, remedy);
    };
    let remedy = "correct the section (ConfigMap fairlead-cni, or --section) and have `fairlead install` write the file anew";
    match (&file.plugins, &facts.section) {
        (Err(error), _) | (_, Err(error)) => Finding::error("cni.file", format!("{shown}: {error}"), remedy),
        _ if !file.is(&[TYPE]) => Finding::error(
            "cni.file",
            format!("{shown} has no plugin of type {TYPE}: it is not ours"),
            remedy,
        ),
        _ => Finding::ok("cni.file", format!("{shown} is there and its options are good")),
    }
}

/// Whether the runtime takes ours.
fn order(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let before = facts.files.iter().take_while(|file| file.name.as_str() < FILE);
    for file in before {
        let shown = facts.shown(&file.name);
        findings.push(if file.is(&multus::NAMES) {
            Finding::error(
                "cni.order",
                format!("{shown} comes before {FILE}: the runtime calls Multus, and Fairlead is not asked"),
                "stop Multus' DaemonSet, which writes it again and again, and remove the file",
            )
        } else {
            Finding::error(
                "cni.order",
                format!("{shown} comes before {FILE}: the runtime takes it, and pods get its network alone"),
                "rename it so that it comes after, and tell whoever writes it",
            )
        });
    }
    let after = facts.files.iter().filter(|file| file.name.as_str() > FILE && file.is(&multus::NAMES));
    findings.extend(after.map(|file| {
        Finding::info(
            "cni.order",
            format!("{} of Multus is not used: ours comes first", facts.shown(&file.name)),
        )
    }));
    if !findings.iter().any(|finding| finding.remedy.is_some())
        && facts.files.iter().any(|file| file.name == FILE)
    {
        findings.push(Finding::ok("cni.order", format!("{FILE} is the first of {}", facts.files.len())));
    }
    findings
}

/// Files that are no configurations.
fn broken(facts: &Facts) -> Vec<Finding> {
    let broken = facts.files.iter().filter(|file| file.name != FILE);
    broken
        .filter_map(|file| {
            let error = file.plugins.as_ref().err()?;
            let seen = format!("{}: {error}", facts.shown(&file.name));
            let remedy = "correct or remove it: a runtime may stop at it, and an ADD that looks for the primary network passes it over";
            Some(Finding::warning("cni.broken", seen, remedy))
        })
        .collect()
}

/// What the primary network is.
fn primary_network(facts: &Facts) -> Vec<Finding> {
    let wrappers: Vec<&str> = multus::NAMES.into_iter().chain([TYPE]).collect();
    let candidates: Vec<&str> = facts
        .files
        .iter()
        .filter(|file| file.plugins.is_ok() && !file.is(&wrappers))
        .map(|file| file.name.as_str())
        .collect();
    match &facts.primary {
        Err(error) => vec![Finding::error(
            "cni.primary",
            format!("no pod can start: {error}"),
            "install the cluster's network, or correct keys \"primary\", \"primaryDir\" or \"clusterNetwork\" of our section",
        )],
        Ok(name) if candidates.len() > 1 && !facts.is_pinned => vec![Finding::warning(
            "cni.primary",
            format!(
                "{} files may be the primary network ({}): {name}, the first, is taken",
                candidates.len(),
                candidates.join(", ")
            ),
            "remove those that are left from another time, or name the right one in key \"primary\" of our section",
        )],
        Ok(name) => vec![Finding::ok("cni.primary", format!("the primary network is {name}"))],
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{MadeNode, assert_found},
        *,
    };
    use crate::finding::Severity;

    fn list(kind: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"net-{kind}","plugins":[{{"type":"{kind}"}}]}}"#)
    }

    fn well() -> MadeNode {
        let node = MadeNode::new();
        node.write("/etc/cni/net.d/00-fairlead.conflist", &list("fairlead"));
        node.write("/etc/cni/net.d/10-bridge.conflist", &list("bridge"));
        node
    }

    fn found(node: &MadeNode) -> Vec<Finding> {
        judge(&Facts::gather(&node.node()))
    }

    #[track_caller]
    fn has(node: &MadeNode, id: &str, severity: Severity, words: &[&str]) {
        assert_found(&found(node), id, severity, words);
    }

    #[test]
    fn a_folder_as_it_should_be_has_nothing_but_good() {
        let all = found(&well());
        assert!(all.iter().all(|finding| finding.severity == Severity::Ok), "{all:#?}");
        let ids: Vec<&str> = all.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["cni.file", "cni.order", "cni.primary"]);
    }

    #[test]
    fn a_missing_file_of_ours_tells_who_took_it() {
        let node = well();
        node.rename("/etc/cni/net.d/00-fairlead.conflist", "/etc/cni/net.d/00-fairlead.conflist.cilium_bak");
        has(
            &node,
            "cni.file",
            Severity::Error,
            &["renamed it to 00-fairlead.conflist.cilium_bak", "cni.exclusive"],
        );
        node.remove("/etc/cni/net.d/00-fairlead.conflist.cilium_bak");
        has(&node, "cni.file", Severity::Error, &["alone", "fairlead install"]);
        node.remove_all("/etc/cni/net.d");
        has(&node, "cni.folder", Severity::Error, &["/etc/cni/net.d is not there"]);
    }

    #[test]
    fn what_is_wrong_with_our_file_is_named() {
        let node = well();
        let wrong = list("fairlead").replace(r#""type""#, r#""builtins":"sriov","type""#);
        node.write("/etc/cni/net.d/00-fairlead.conflist", &wrong);
        has(&node, "cni.file", Severity::Error, &["builtins", "ConfigMap"]);
        node.write("/etc/cni/net.d/00-fairlead.conflist", "{");
        has(&node, "cni.file", Severity::Error, &["JSON"]);
        node.write("/etc/cni/net.d/00-fairlead.conflist", &list("bridge"));
        has(&node, "cni.file", Severity::Error, &["not ours"]);
    }

    #[test]
    fn whatever_comes_before_ours_is_named_and_multus_after_it_is_only_told() {
        let node = well();
        node.write("/etc/cni/net.d/00-aaa.conflist", &list("bridge"));
        has(&node, "cni.order", Severity::Error, &["00-aaa.conflist comes before", "rename"]);
        node.remove("/etc/cni/net.d/00-aaa.conflist");
        node.write("/etc/cni/net.d/00-multus.conf", &list("multus-shim"));
        has(&node, "cni.order", Severity::Info, &["00-multus.conf of Multus is not used"]);
        node.rename("/etc/cni/net.d/00-multus.conf", "/etc/cni/net.d/00-a.conf");
        has(&node, "cni.order", Severity::Error, &["calls Multus", "DaemonSet"]);
    }

    #[test]
    fn broken_files_and_the_primary_network_are_judged() {
        let node = well();
        node.write("/etc/cni/net.d/20-torn.conflist", "{");
        has(&node, "cni.broken", Severity::Warning, &["20-torn.conflist"]);
        node.write("/etc/cni/net.d/20-torn.conflist", &list("calico"));
        has(
            &node,
            "cni.primary",
            Severity::Warning,
            &["10-bridge.conflist, 20-torn.conflist", "net-bridge", "\"primary\""],
        );
        let pinned = list("fairlead").replace(r#""type""#, r#""primary":"20-torn.conflist","type""#);
        node.write("/etc/cni/net.d/00-fairlead.conflist", &pinned);
        has(&node, "cni.primary", Severity::Ok, &["net-calico"]);
        node.remove("/etc/cni/net.d/20-torn.conflist");
        has(&node, "cni.primary", Severity::Error, &["20-torn.conflist", "\"primary\""]);
    }
}
