//! Shadow: what this node's running pods would get by our plan, compared with what they have by their network-status. Nothing is
//! changed, and nobody calls us for it: another meta plugin may still be at work.

use std::collections::BTreeSet;

use fairlead_cni::{
    agent_protocol::{Plan, PlannedAttachment},
    status::NetworkStatus,
};
use serde::Serialize;

/// What the comparison brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shadow {
    /// How many pods were compared.
    pub compared: usize,
    /// How many of them would get something else.
    pub differing: usize,
    /// Pods of which there is something to tell.
    pub pods: Vec<PodShadow>,
}

/// What there is to tell of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PodShadow {
    /// `namespace/name`.
    pub pod: String,
    /// What would be otherwise, each with the reason.
    pub differences: Vec<String>,
    /// What could not be compared, or is worth knowing.
    pub notes: Vec<String>,
}

impl Shadow {
    /// Adds a pod.
    pub(crate) fn add(&mut self, pod: PodShadow) {
        self.compared += 1;
        self.differing += usize::from(!pod.differences.is_empty());
        if !(pod.differences.is_empty() && pod.notes.is_empty()) {
            self.pods.push(pod);
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for pod in &self.pods {
            let lines = pod.differences.iter().map(|line| ("DIFFERS", line));
            for (word, line) in lines.chain(pod.notes.iter().map(|line| ("note   ", line))) {
                text += &format!("{word}  pod {}: {line}\n", pod.pod);
            }
        }
        text + &format!("{} pods compared, {} differ\n", self.compared, self.differing)
    }
}

/// Compares a plan with a pod's status.
pub(crate) fn compare(pod: String, plan: &Plan, status: &[NetworkStatus]) -> PodShadow {
    let mut found = PodShadow { pod, ..PodShadow::default() };
    let default = status.iter().position(|entry| entry.default).unwrap_or(0);
    let others: Vec<&NetworkStatus> =
        status.iter().enumerate().filter(|(index, _)| *index != default).map(|(_, entry)| entry).collect();
    match (&plan.primary, status.get(default)) {
        (Some(planned), Some(entry)) => pair(planned, entry, &mut found),
        (Some(planned), None) => {
            found.differences.push(format!("network {} is planned, and not in the status", planned.network));
        }
        (None, _) => {}
    }
    if plan.attachments.len() != others.len() {
        let planned = plan.attachments.iter().map(|one| one.network.as_str());
        let has = others.iter().map(|entry| entry.name.as_str());
        found.differences.push(format!(
            "{} would be attached besides the primary network, the status has {}: the annotation, or what the section says of \
             networks, is otherwise than when the pod was made, or a network made several interfaces",
            list(planned),
            list(has)
        ));
        return found;
    }
    for (planned, entry) in plan.attachments.iter().zip(&others) {
        pair(planned, entry, &mut found);
    }
    devices(&plan.attachments, &others, &mut found);
    found
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// Name and interface of one network.
fn pair(planned: &PlannedAttachment, entry: &NetworkStatus, found: &mut PodShadow) {
    // What is on the node's disk has its configuration's name, which the agent does not see.
    if planned.on_disk.is_none() && planned.network != entry.name {
        let text = format!("network {} is planned where the status has {}", planned.network, entry.name);
        found.differences.push(text);
        return;
    }
    if entry.interface.is_empty() {
        found.notes.push(format!("the status of network {} tells no interface", entry.name));
    } else if planned.interface != entry.interface {
        found.differences.push(format!(
            "network {} would be {}, the status has {}: the interface is named otherwise by the annotation, or counted otherwise",
            entry.name, planned.interface, entry.interface
        ));
    }
}

/// Which device each network has.
fn devices(planned: &[PlannedAttachment], entries: &[&NetworkStatus], found: &mut PodShadow) {
    let pairs = || planned.iter().zip(entries).map(|(planned, entry)| (planned, device_of(entry)));
    for (index, (one, told)) in pairs().enumerate() {
        let (network, interface) = (&one.network, &one.interface);
        let (ours, theirs) = match (&one.device_id, told) {
            (None, None) => continue,
            (Some(ours), None) => {
                let text =
                    format!("network {network} ({interface}): the status tells no device; planned is {ours}");
                found.notes.push(text);
                continue;
            }
            (None, Some(theirs)) => {
                let text = format!(
                    "network {network} ({interface}): the status has device {theirs}, and the network's definition names no resource"
                );
                found.differences.push(text);
                continue;
            }
            (Some(ours), Some(theirs)) if *ours == theirs => continue,
            (Some(ours), Some(theirs)) => (ours, theirs),
        };
        let of_resource = || pairs().filter(|(other, _)| other.resource_name == one.resource_name);
        let all_ours: BTreeSet<String> = of_resource().filter_map(|(one, _)| one.device_id.clone()).collect();
        let all_theirs: BTreeSet<String> = of_resource().filter_map(|(_, told)| told).collect();
        let why = if all_ours == all_theirs {
            "the pod's devices of this resource are the same in another order: Fairlead takes them by container and address, as in \
             the containers' variables"
        } else {
            "kubelet says that the pod has other devices than those in the status"
        };
        found.differences.push(format!(
            "network {network} ({}, number {}) would get device {ours}, the status has {theirs}: {why}",
            interface,
            index + 1
        ));
    }
}

/// The device that stands behind an interface.
fn device_of(entry: &NetworkStatus) -> Option<String> {
    let info = entry.device_info.as_ref()?;
    let kind = info.get("type")?.as_str()?;
    Some(info.get(kind)?.get("pci-address")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(network: &str, interface: &str, device: Option<&str>) -> PlannedAttachment {
        PlannedAttachment {
            network: network.into(),
            interface: interface.into(),
            device_id: device.map(str::to_owned),
            resource_name: device.map(|_| "intel.com/sriov".to_owned()),
            ..PlannedAttachment::default()
        }
    }

    fn entry(network: &str, interface: &str, device: Option<&str>) -> Value {
        let mut entry = json!({"name": network, "interface": interface, "dns": {}});
        if let Some(device) = device {
            entry["device-info"] = json!({"type": "pci", "version": "1.1.0", "pci": {"pci-address": device}});
        }
        entry
    }

    fn compared(planned: Vec<PlannedAttachment>, mut entries: Vec<Value>) -> PodShadow {
        entries.insert(0, json!({"name": "cbr0", "interface": "eth0", "default": true, "dns": {}}));
        let status: Vec<NetworkStatus> = serde_json::from_value(Value::from(entries)).unwrap();
        compare("a/b".into(), &Plan { primary: None, attachments: planned }, &status)
    }

    const A: Option<&str> = Some("0000:01:10.0");
    const B: Option<&str> = Some("0000:01:10.2");

    #[test]
    fn a_pod_that_would_get_the_same_has_nothing_to_tell() {
        let plan = vec![planned("d/fast", "net1", A), planned("d/slow", "data", None)];
        let found = compared(plan, vec![entry("d/fast", "net1", A), entry("d/slow", "data", None)]);
        let mut shadow = Shadow::default();
        shadow.add(found);
        assert_eq!(shadow.text(), "1 pods compared, 0 differ\n");
    }

    #[test]
    fn every_difference_has_its_reason() {
        let one = |plan: PlannedAttachment, entry: Value| {
            let found = compared(vec![plan], vec![entry]);
            assert_eq!(found.differences.len() + found.notes.len(), 1, "{found:?}");
            [found.differences, found.notes].concat().remove(0)
        };
        let fast = || planned("d/fast", "net1", A);
        for (plan, entry, words) in [
            (fast(), entry("d/slow", "net1", A), "d/fast is planned where the status has d/slow"),
            (fast(), entry("d/fast", "net3", A), "would be net1, the status has net3"),
            (fast(), entry("d/fast", "", A), "tells no interface"),
            (fast(), entry("d/fast", "net1", None), "tells no device"),
            (fast(), entry("d/fast", "net1", B), "kubelet says that the pod has other devices"),
            (planned("d/fast", "net1", None), entry("d/fast", "net1", B), "names no resource"),
        ] {
            let text = one(plan, entry);
            assert!(text.contains(words), "{words}: {text}");
        }
        let both = vec![planned("d/fast", "net1", A), planned("d/fast", "net2", B)];
        let found = compared(both.clone(), vec![entry("d/fast", "net1", B), entry("d/fast", "net2", A)]);
        assert!(
            found.differences.len() == 2 && found.differences[1].contains("in another order"),
            "{found:?}"
        );
        let found = compared(both, vec![entry("d/fast", "net1", A)]);
        assert!(found.differences[0].contains("d/fast, d/fast would be attached"), "{found:?}");
        let mut shadow = Shadow::default();
        shadow.add(found);
        assert!(
            shadow.text().starts_with("DIFFERS  pod a/b: ")
                && shadow.text().ends_with("1 pods compared, 1 differ\n")
        );
    }

    #[test]
    fn a_primary_network_of_the_plan_is_compared_too() {
        let plan = Plan { primary: Some(Box::new(planned("d/own", "eth0", None))), attachments: Vec::new() };
        let status = |name: &str| -> Vec<NetworkStatus> {
            serde_json::from_value(json!([{"name": name, "interface": "eth0", "default": true, "dns": {}}]))
                .unwrap()
        };
        assert_eq!(compare("a/b".into(), &plan, &status("d/own")).differences, Vec::<String>::new());
        assert_eq!(compare("a/b".into(), &plan, &status("cbr0")).differences.len(), 1);
        assert_eq!(compare("a/b".into(), &plan, &[]).differences.len(), 1);
    }
}
