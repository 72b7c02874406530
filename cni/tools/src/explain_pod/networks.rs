//! The networks that a pod asks for: planned and checked as an ADD does.

use std::collections::BTreeMap;

use fairlead_cni::{
    agent_protocol::{Answer, Call, PlannedAttachment},
    engine::Engine,
    exec,
    meta::{
        primary,
        rehearsal::{Rehearsed, rehearse},
    },
    networks::{
        ask::{Annotations, Networks},
        devices::PodDevices,
        nad::NetworkAttachmentDefinition,
        plan::{Allocated, Definitions, plan},
    },
};

use super::{
    documents::Pod,
    resources::{Asked, Offers},
};
use crate::{
    doctor::{Node, agent},
    finding::Finding,
};

/// As runtimes call it.
const PRIMARY: &str = "eth0";

/// Says whether its networks can be attached.
pub(super) fn judge(
    pod: &Pod,
    given: &[NetworkAttachmentDefinition],
    asked: &Asked,
    node: &Node,
    offers: &Offers,
) -> Vec<Finding> {
    let annotations = Annotations::of(&pod.annotations);
    let asks = annotations.networks.is_some() || annotations.default_network.is_some();
    if pod.spec["hostNetwork"] == true {
        return vec![match asks {
            true => Finding::warning(
                "pod.networks",
                "it has the host's network: its annotations are not looked at",
                "take hostNetwork, or the annotations, out",
            ),
            false => Finding::ok("pod.networks", "it has the host's network"),
        }];
    }
    let policy = node.section.policy_for(&pod.reference.namespace);
    let networks = match Networks::of(&pod.reference, PRIMARY, annotations, &policy) {
        Ok(networks) => networks,
        Err(error) => {
            return vec![Finding::error("pod.networks", error.to_string(), "correct the annotation")];
        }
    };
    let mut findings = Vec::new();
    if networks.primary.is_none() {
        findings.push(primary_network(node));
    }
    let definitions = match define(&networks, given, node) {
        Ok(definitions) => definitions,
        Err(finding) => {
            findings.push(finding);
            return findings;
        }
    };
    let offers = offers.clone().unwrap_or_default();
    let others =
        offers.values().flatten().filter_map(|device| Some((device.id.clone(), device.holder.clone()?)));
    let allocated = Allocated { own: PodDevices::new(&asked.allocate(&offers)), others: others.collect() };
    match plan(&pod.reference, &networks, &definitions, &allocated) {
        Err(error) => findings.push(Finding::error(
            "pod.networks",
            error.to_string(),
            "correct the manifest, or the network's definition",
        )),
        Ok(plan) => {
            let all: Vec<PlannedAttachment> =
                plan.primary.map(|primary| *primary).into_iter().chain(plan.attachments).collect();
            if all.is_empty() {
                findings.push(Finding::ok("pod.networks", "it asks for no other networks"));
            }
            if !all.is_empty() {
                findings.extend(attachments(all, pod, node));
            }
        }
    }
    findings
}

/// The definitions of the networks: as they were given, else as the node's agent knows them.
fn define(
    networks: &Networks,
    given: &[NetworkAttachmentDefinition],
    node: &Node,
) -> Result<Definitions, Finding> {
    let id = "pod.networks";
    let source = "in the files that were given and in the cluster";
    let lacked_by = |known: &Definitions, optional_too: bool| -> Vec<String> {
        let names = networks.definitions().into_iter();
        names
            .filter(|(namespace, name, optional)| {
                (optional_too || !optional) && known.named(namespace, name).is_none()
            })
            .map(|(namespace, name, _)| format!("{namespace}/{name}"))
            .collect()
    };
    let others = lacked_by(&Definitions::new(source, given.iter().cloned()), true);
    let asked = if others.is_empty() { Ok(Vec::new()) } else { ask_agent(others, node) };
    let definitions = Definitions::new(source, given.iter().chain(asked.iter().flatten()).cloned());
    let missing = lacked_by(&definitions, false).join(", ");
    match asked {
        _ if missing.is_empty() => Ok(definitions),
        Ok(_) => {
            let seen = format!("there is no definition of {missing}, {source}");
            Err(Finding::error(id, seen, "make the NetworkAttachmentDefinition, or correct the annotation"))
        }
        Err(why) => {
            let seen = format!(
                "the definitions of {missing} were not given, and the agent does not tell them: {why}"
            );
            let remedy = "kubectl get net-attach-def -A -o yaml >nads.yaml, and name that file with --nad; one that is not there is to be made";
            Err(match given.is_empty() {
                true => Finding::unknown(id, seen, remedy),
                false => Finding::error(id, seen, remedy),
            })
        }
    }
}

/// Asks the agent for definitions.
fn ask_agent(networks: Vec<String>, node: &Node) -> Result<Vec<NetworkAttachmentDefinition>, String> {
    match agent::ask(node, &Call::Definitions { networks, deadline_ms: 0 })? {
        Answer::Definitions { found } => Ok(found),
        other => Err(format!("it answers {other:?}")),
    }
}

/// The node's own network, of which the plugins must be there.
fn primary_network(node: &Node) -> Finding {
    let id = "pod.primary";
    let remedy = "`fairlead doctor` says what is wrong with the node's primary network";
    let mut section = node.section.clone();
    section.primary_dir = node.root.path(&section.primary_dir);
    // Only the agent knows whether a name has a definition.
    section.policy.cluster_network.take_if(|reference| !reference.contains('/'));
    let bin = [node.root.path(&node.bin)];
    let network = match primary::load(&section) {
        Ok(network) => network,
        Err(error) => return Finding::error(id, error.to_string(), remedy),
    };
    let executed = network.plugins.iter().filter(|plugin| !section.is_listed(&plugin.kind));
    for plugin in executed {
        if let Err(error) = exec::find(&plugin.kind, &bin) {
            return Finding::error(id, format!("primary network {}: {error}", network.name), remedy);
        }
    }
    Finding::ok(id, format!("the primary network {} is there", network.name))
}

fn attachments(all: Vec<PlannedAttachment>, pod: &Pod, node: &Node) -> Vec<Finding> {
    let unknown = |why: String| {
        let remedy = "call `fairlead explain-pod` on the node itself, as root";
        vec![Finding::unknown("pod.network", format!("configurations cannot be checked: {why}"), remedy)]
    };
    if !node.root.is_own() {
        return unknown("the node's interfaces are not to be seen from here".into());
    }
    let mut engine = match Engine::open(&node.section.state_dir, &node.section.run_dir) {
        Ok(engine) => engine,
        Err(error) => return unknown(error.to_string()),
    };
    let path = [node.bin.clone()];
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for (order, planned) in all.into_iter().enumerate() {
        let label = format!("{} for {}{}", planned.network, planned.interface, device_of(&planned));
        match rehearse(planned, order, &pod.reference, &node.section, &path, &mut engine) {
            Err(error) => findings.push(Finding::error(
                "pod.network",
                error.to_string(),
                "correct the network's definition or what it names on this node",
            )),
            Ok(rehearsed) => findings.extend(attachment(&label, &rehearsed, &mut used)),
        }
    }
    findings
}

fn device_of(planned: &PlannedAttachment) -> String {
    planned
        .device_id
        .as_ref()
        .map(|device| {
            format!(
                " with {device} or another of {}",
                planned.resource_name.as_deref().unwrap_or("its resource")
            )
        })
        .unwrap_or_default()
}

/// Several attachments may take from one set of ranges.
fn attachment(label: &str, rehearsed: &Rehearsed, used: &mut BTreeMap<String, usize>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(vain) = &rehearsed.vain {
        findings.push(Finding::warning(
            "pod.capabilities",
            vain.clone(),
            "add the capability to the network, or take it out of the annotation",
        ));
    }
    let mut told = Vec::new();
    for left in &rehearsed.left {
        let used = used.entry(left.ranges.clone()).or_default();
        *used += 1;
        match left.wanted {
            Some((address, false)) => {
                let seen = format!("{label}: address {address} is taken, or not of {}", left.ranges);
                findings.push(Finding::error(
                    "pod.addresses",
                    seen,
                    "ask for another one; `fairlead history --address` says who has it",
                ));
            }
            None if left.free < *used => {
                let seen = format!("{label}: no address is left in {}", left.ranges);
                findings.push(Finding::error("pod.addresses", seen, "widen the range, or delete pods; `fairlead reconcile` finds reservations that nobody owns"));
            }
            _ => told.push(match left.free {
                1000.. => format!("1000 or more addresses left in {}", left.ranges),
                free => format!("{free} addresses left in {}", left.ranges),
            }),
        }
    }
    if findings.iter().all(|finding| finding.id != "pod.addresses") {
        let told: String = told.iter().map(|text| format!(", {text}")).collect();
        findings.push(Finding::ok("pod.network", format!("{label}: {}{told}", rehearsed.plugins.join(", "))));
    }
    findings
}

#[cfg(test)]
mod tests {
    use fairlead_cni::ipam::Left;

    use super::*;
    use crate::finding::Severity;

    #[test]
    fn addresses_that_are_left_are_shared_out_among_the_pods_networks() {
        let left = |free, wanted: Option<(&str, bool)>| Rehearsed {
            left: vec![Left {
                ranges: "10.0.0.1-10.0.0.2".into(),
                free,
                wanted: wanted.map(|(address, free)| (address.parse().unwrap(), free)),
            }],
            ..Rehearsed::default()
        };
        let mut used = BTreeMap::new();
        let mut severities = |rehearsed: &Rehearsed| -> Vec<Severity> {
            attachment("a/b for net1", rehearsed, &mut used).iter().map(|finding| finding.severity).collect()
        };
        assert_eq!(severities(&left(1, None)), [Severity::Ok]);
        assert_eq!(severities(&left(1, None)), [Severity::Error], "the first has it");
        assert_eq!(severities(&left(1, Some(("10.0.0.1", true)))), [Severity::Ok]);
        assert_eq!(severities(&left(1, Some(("10.0.0.1", false)))), [Severity::Error]);
        let vain = Rehearsed { vain: Some("in vain".into()), ..Rehearsed::default() };
        assert_eq!(severities(&vain), [Severity::Warning, Severity::Ok]);
    }
}
