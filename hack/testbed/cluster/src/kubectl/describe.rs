//! A node, its resources, and what its pods take of them.

use std::fmt::Write;

use serde_json::Value;

use super::display::{align, pod_status, text};
use crate::kubelet::amounts::quantity;

/// The node in words.
pub(super) fn node(node: &Value, pods: &[Value]) -> String {
    let name = text(&node["metadata"]["name"]);
    let status = &node["status"];
    let mut out = String::new();
    let _ = writeln!(out, "Name:               {name}");
    out.push_str("Conditions:\n");
    let mut rows = vec![row(["  Type", "Status", "Reason", "Message"])];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let cell = |key: &str| text(&condition[key]);
        rows.push(vec![format!("  {}", cell("type")), cell("status"), cell("reason"), cell("message")]);
    }
    out.push_str(&align(&rows));
    for (title, key) in [("Capacity:", "capacity"), ("Allocatable:", "allocatable")] {
        let _ = writeln!(out, "{title}");
        let amounts = status[key].as_object().into_iter().flatten();
        out.push_str(&align(&amounts.map(|(k, v)| vec![format!("  {k}:"), text(v)]).collect::<Vec<_>>()));
    }
    let here: Vec<&Value> = pods.iter().filter(|p| p["spec"]["nodeName"] == name.as_str()).collect();
    let _ = writeln!(out, "Pods:               ({} in total)", here.len());
    let pod = |p: &&Value| {
        vec![format!("  {}", text(&p["metadata"]["namespace"])), text(&p["metadata"]["name"]), pod_status(p)]
    };
    out.push_str(&align(&here.iter().map(pod).collect::<Vec<_>>()));
    out.push_str("Allocated resources:\n");
    let mut rows = vec![row(["  Resource", "Requests"])];
    for resource in status["allocatable"].as_object().into_iter().flatten().map(|(k, _)| k) {
        rows.push(vec![format!("  {resource}"), requested(resource, &here)]);
    }
    out + &align(&rows)
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(String::from).into()
}

/// What pods that have not ended ask for, in whole units (thousandths with an m when there is a rest).
fn requested(resource: &str, pods: &[&Value]) -> String {
    let live = pods.iter().filter(|p| !matches!(p["status"]["phase"].as_str(), Some("Succeeded" | "Failed")));
    if resource == "pods" {
        return live.count().to_string();
    }
    let containers = live.flat_map(|p| p["spec"]["containers"].as_array().into_iter().flatten());
    let amounts = containers.filter_map(|c| quantity(c["resources"]["requests"][resource].as_str()?));
    match amounts.sum::<i128>() {
        whole if whole % 1000 == 0 => (whole / 1000).to_string(),
        rest => format!("{rest}m"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node() {
        let a_node = json!({
            "metadata": { "name": "node1" },
            "status": {
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fine" }],
                "capacity": { "intel.com/sriov": "2" },
                "allocatable": { "intel.com/sriov": "2", "cpu": "2", "pods": "110" },
            },
        });
        let requests = json!({ "intel.com/sriov": "1", "cpu": "500m" });
        let pod = |name: &str, phase: &str| {
            json!({
                "metadata": { "name": name, "namespace": "default" },
                "spec": { "nodeName": "node1", "containers": [{ "resources": { "requests": requests } }] },
                "status": { "phase": phase },
            })
        };
        let out = node(&a_node, &[pod("a", "Running"), pod("b", "Failed")]);
        let lines: Vec<Vec<&str>> = out.lines().map(|l| l.split_whitespace().collect()).collect();
        for wanted in [["intel.com/sriov", "1"], ["cpu", "500m"], ["pods", "1"], ["intel.com/sriov:", "2"]] {
            assert!(lines.iter().any(|l| l[..] == wanted), "{wanted:?} in\n{out}");
        }
        assert!(out.contains("(2 in total)"));
    }
}
