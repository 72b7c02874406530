//! Tables as kubectl prints them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::{apiserver::Kind, time};

/// `pod`, `networkattachmentdefinition.k8s.cni.cncf.io`.
pub(super) fn kind_name(kind: &Kind) -> String {
    let name = kind.kind.to_ascii_lowercase();
    if kind.group.is_empty() { name } else { format!("{name}.{}", kind.group) }
}

/// Kind and name.
pub(super) fn reference(kind: &Kind, object: &Value) -> String {
    format!("{}/{}", kind_name(kind), text(&object["metadata"]["name"]))
}

/// Makes an object's cells.
type Row = fn(&Value) -> Vec<String>;

/// A table of objects of one kind.
pub(super) fn table(kind: &Kind, objects: &[Value], wide: bool, namespaces: bool) -> String {
    let (mut header, row): (Vec<&str>, Row) = match kind.kind {
        "Pod" => (vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"], pod),
        "Node" => {
            (vec!["NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP", "CONTAINER-RUNTIME"], node)
        }
        "Event" => (vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"], event),
        "Namespace" => (vec!["NAME", "STATUS", "AGE"], namespace),
        _ => (vec!["NAME", "AGE"], other),
    };
    let columns = match kind.kind {
        "Pod" | "Node" if !wide => 5,
        _ => header.len(),
    };
    header.truncate(columns);
    let with_namespace = namespaces && kind.namespaced;
    let mut rows = vec![header.into_iter().map(String::from).collect::<Vec<_>>()];
    rows.extend(objects.iter().map(|object| row(object).into_iter().take(columns).collect()));
    if with_namespace {
        rows[0].insert(0, "NAMESPACE".into());
        for (row, object) in rows.iter_mut().skip(1).zip(objects) {
            row.insert(0, text(&object["metadata"]["namespace"]));
        }
    }
    align(&rows)
}

/// Columns as wide as their widest cell, three spaces between them.
pub(super) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        out.push('\n');
    }
    out
}

fn pod(pod: &Value) -> Vec<String> {
    let containers = pod["status"]["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let ready = containers.iter().filter(|c| c["ready"] == true).count();
    let restarts: i64 = containers.iter().filter_map(|c| c["restartCount"].as_i64()).sum();
    vec![
        text(&pod["metadata"]["name"]),
        format!("{ready}/{all}"),
        pod_status(pod),
        restarts.to_string(),
        age(&pod["metadata"]["creationTimestamp"]),
        or_none(&pod["status"]["podIP"]),
        or_none(&pod["spec"]["nodeName"]),
    ]
}

/// kubectl's word for how a pod is: what holds its containers up goes before the phase.
pub(super) fn pod_status(pod: &Value) -> String {
    let status = &pod["status"];
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".into();
    }
    let mut word = match status["reason"].as_str() {
        Some(reason) => reason.to_string(),
        None => text(&status["phase"]),
    };
    for container in status["containerStatuses"].as_array().into_iter().flatten().rev() {
        let state = &container["state"];
        if let Some(reason) = state["waiting"]["reason"].as_str() {
            word = reason.into();
        } else if let Some(reason) = state["terminated"]["reason"].as_str() {
            word = reason.into();
        } else if let Some(code) = state["terminated"]["exitCode"].as_i64() {
            word = format!("ExitCode:{code}");
        }
    }
    word
}

fn node(node: &Value) -> Vec<String> {
    let list = |path: &str| node["status"][path].as_array().into_iter().flatten();
    let ready = list("conditions").any(|c| c["type"] == "Ready" && c["status"] == "True");
    let ip = list("addresses").find(|a| a["type"] == "InternalIP");
    let info = &node["status"]["nodeInfo"];
    vec![
        text(&node["metadata"]["name"]),
        if ready { "Ready" } else { "NotReady" }.into(),
        "<none>".into(),
        age(&node["metadata"]["creationTimestamp"]),
        text(&info["kubeletVersion"]),
        ip.map_or("<none>".into(), |a| text(&a["address"])),
        text(&info["containerRuntimeVersion"]),
    ]
}

fn event(event: &Value) -> Vec<String> {
    let object = &event["involvedObject"];
    let count = event["count"].as_i64().unwrap_or(1);
    let seen = age(&event["lastTimestamp"]);
    vec![
        if count > 1 { format!("{seen} (x{count})") } else { seen },
        text(&event["type"]),
        text(&event["reason"]),
        format!("{}/{}", text(&object["kind"]).to_ascii_lowercase(), text(&object["name"])),
        text(&event["message"]),
    ]
}

fn namespace(namespace: &Value) -> Vec<String> {
    let metadata = &namespace["metadata"];
    vec![text(&metadata["name"]), text(&namespace["status"]["phase"]), age(&metadata["creationTimestamp"])]
}

fn other(object: &Value) -> Vec<String> {
    vec![text(&object["metadata"]["name"]), age(&object["metadata"]["creationTimestamp"])]
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn or_none(value: &Value) -> String {
    value.as_str().filter(|t| !t.is_empty()).unwrap_or("<none>").to_string()
}

fn age(since: &Value) -> String {
    serde_json::from_value::<Time>(since.clone()).map_or("<unknown>".into(), |t| time::age(&t))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn a_pod() -> Value {
        json!({
            "metadata": { "name": "p", "namespace": "n", "creationTimestamp": time::now() },
            "spec": { "nodeName": "node1", "containers": [{}, {}] },
            "status": { "phase": "Running", "podIP": "10.0.0.5", "containerStatuses": [
                { "ready": true, "restartCount": 2, "state": { "running": {} } },
                { "ready": false, "restartCount": 1, "state": { "waiting": { "reason": "CrashLoopBackOff" } } },
            ] },
        })
    }

    #[test]
    fn pods() {
        let kind = Kind::named("pod").unwrap();
        let out = table(kind, &[a_pod()], true, true);
        let lines: Vec<Vec<&str>> = out.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]);
        assert_eq!(lines[1][..5], ["n", "p", "1/2", "CrashLoopBackOff", "3"]);
        assert_eq!(lines[1][6..], ["10.0.0.5", "node1"]);
        assert!(!table(kind, &[a_pod()], false, false).contains("NODE"));
    }

    #[test]
    fn how_a_pod_is() {
        let mut pod = json!({ "status": { "phase": "Failed", "reason": "OutOfintel.com/sriov" } });
        assert_eq!(pod_status(&pod), "OutOfintel.com/sriov");
        pod["metadata"]["deletionTimestamp"] = json!(time::now());
        assert_eq!(pod_status(&pod), "Terminating");
    }

    #[test]
    fn columns() {
        let rows = [vec!["A".to_string(), "B".into()], vec!["long".into(), "x".into()]];
        assert_eq!(align(&rows), "A      B\nlong   x\n");
    }
}
