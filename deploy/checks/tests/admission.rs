//! The admission policies, evaluated: what an agent may write, and what it may not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use cel::{Context, Program, Value as Cel};
use fairlead_deploy_checks::{deploy, documents};
use serde_json::{Map, Value, json};

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// A policy's verdict on a request: passed over, or the messages of what it violates.
fn verdict(file: &str, request: &Value, old: &Value, new: &Value) -> Option<Vec<String>> {
    let documents = documents(&deploy().join("kustomize/admission").join(file)).unwrap();
    let spec = &documents.iter().find(|d| d["kind"] == "ValidatingAdmissionPolicy").unwrap()["spec"];
    let list = |key: &str| spec[key].as_array().cloned().unwrap_or_default();
    let mut variables = Map::new();
    let evaluate = |expression: &Value, variables: &Map<String, Value>| -> Cel {
        let mut context = Context::default();
        for (name, value) in [("request", request), ("oldObject", old), ("object", new)] {
            context.add_variable(name, value).unwrap();
        }
        context.add_variable("variables", variables).unwrap();
        let text = expression.as_str().unwrap();
        let program = Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        program.execute(&context).unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    for condition in list("matchConditions") {
        if evaluate(&condition["expression"], &variables) != Cel::Bool(true) {
            return None;
        }
    }
    for variable in list("variables") {
        let value = evaluate(&variable["expression"], &variables);
        variables.insert(variable["name"].as_str().unwrap().to_owned(), plain(&value));
    }
    let broken = list("validations")
        .iter()
        .filter(|validation| evaluate(&validation["expression"], &variables) != Cel::Bool(true))
        .map(|validation| validation["message"].as_str().unwrap().to_owned())
        .collect();
    Some(broken)
}

fn plain(value: &Cel) -> Value {
    match value {
        Cel::String(text) => json!(text.as_str()),
        Cel::Bool(value) => json!(value),
        Cel::List(values) => values.iter().map(plain).collect(),
        Cel::Map(map) => {
            let fields = map
                .map
                .iter()
                .map(|(key, value)| (key.to_string().trim_matches('"').to_owned(), plain(value)));
            Value::Object(fields.collect())
        }
        other => panic!("{other:?}"),
    }
}

/// A request of the agent on a node.
fn agent(node: Option<&str>) -> Value {
    let mut user = json!({ "username": "system:serviceaccount:fairlead-system:fairlead-agent" });
    if let Some(node) = node {
        user["extra"] = json!({ "authentication.kubernetes.io/node-name": [node] });
    }
    json!({ "operation": "UPDATE", "userInfo": user })
}

fn pod(annotations: &Value) -> Value {
    json!({
        "metadata": { "name": "p", "labels": { "app": "a" }, "annotations": annotations },
        "spec": { "nodeName": "node1", "containers": [{ "name": "c", "image": "i" }] },
        "status": { "phase": "Pending" },
    })
}

fn on_pod(node: Option<&str>, old: &Value, new: &Value) -> Vec<String> {
    verdict("agent-pods.yaml", &agent(node), old, new).unwrap()
}

#[test]
fn an_agent_writes_network_status_of_a_pod_of_its_node() {
    let before = pod(&json!({ "k8s.v1.cni.cncf.io/networks": "a" }));
    let mut after = before.clone();
    after["metadata"]["annotations"][STATUS] = json!("[]");
    assert_eq!(on_pod(Some("node1"), &before, &after), Vec::<String>::new());
    // Again, with another text.
    let mut later = after.clone();
    later["metadata"]["annotations"][STATUS] = json!("[{}]");
    assert_eq!(on_pod(Some("node1"), &after, &later), Vec::<String>::new());
    // The first annotation that the pod has.
    let mut bare = before.clone();
    bare["metadata"].as_object_mut().unwrap().remove("annotations");
    let mut first = bare.clone();
    first["metadata"]["annotations"] = json!({ STATUS: "[]" });
    assert_eq!(on_pod(Some("node1"), &bare, &first), Vec::<String>::new());
}

#[test]
fn no_other_nodes_pod_and_none_without_the_nodes_name_in_the_token() {
    let before = pod(&json!({}));
    let mut after = before.clone();
    after["metadata"]["annotations"][STATUS] = json!("[]");
    for node in [Some("node2"), Some(""), None] {
        assert_eq!(on_pod(node, &before, &after), ["an agent changes only pods of its own node"], "{node:?}");
    }
    let mut unscheduled = before.clone();
    unscheduled["spec"].as_object_mut().unwrap().remove("nodeName");
    assert_eq!(on_pod(Some("node1"), &unscheduled, &unscheduled).len(), 1);
}

#[test]
fn nothing_else_of_the_pod_is_changed() {
    let before = pod(&json!({ "owner": "me", STATUS: "[]" }));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut after = before.clone();
        change(&mut after);
        on_pod(Some("node1"), &before, &after)
    };
    let set = |path: &'static str, value: Value| {
        changed(&move |pod: &mut Value| *pod.pointer_mut(path).unwrap() = value.clone())
    };
    let other = "an agent sets no annotation but k8s.v1.cni.cncf.io/network-status";
    assert_eq!(set("/metadata/annotations/owner", json!("you")), [other]);
    assert_eq!(changed(&|pod: &mut Value| pod["metadata"]["annotations"]["new"] = json!("x")), [other]);
    let removed = |pod: &mut Value| {
        pod["metadata"]["annotations"].as_object_mut().unwrap().remove("owner");
    };
    assert_eq!(changed(&removed), ["an agent removes no annotation of others"]);
    assert_eq!(set("/metadata/labels/app", json!("b")), ["an agent changes no labels"]);
    let finalizer = |pod: &mut Value| pod["metadata"]["finalizers"] = json!(["x/y"]);
    assert_eq!(changed(&finalizer), ["an agent changes no finalizers"]);
    assert_eq!(set("/spec/containers/0/image", json!("evil")), ["an agent does not change what a pod runs"]);
    assert_eq!(set("/status/phase", json!("Failed")), ["an agent does not change a pod's status"]);
}

#[test]
fn others_are_not_bound() {
    let request = json!({ "operation": "UPDATE", "userInfo": { "username": "system:node:node1" } });
    assert_eq!(verdict("agent-pods.yaml", &request, &pod(&json!({})), &pod(&json!({ "a": "b" }))), None);
    assert_eq!(verdict("agent-events.yaml", &request, &json!(null), &json!({})), None);
}

#[test]
fn events_are_of_the_agents_own_node() {
    let event = |node: &str, kind: &str| {
        json!({ "reportingInstance": node, "source": { "component": "fairlead-agent", "host": node },
            "involvedObject": { "kind": kind, "name": "p" } })
    };
    let verdict = |node: Option<&str>, event: &Value| {
        verdict("agent-events.yaml", &agent(node), &json!(null), event).unwrap()
    };
    assert_eq!(verdict(Some("node1"), &event("node1", "Pod")), Vec::<String>::new());
    assert_eq!(
        verdict(Some("node2"), &event("node1", "Pod")),
        ["an agent tells events of its own node only"]
    );
    assert_eq!(verdict(None, &event("node1", "Pod")).len(), 1);
    assert_eq!(verdict(Some("node1"), &event("node1", "Node")), ["an agent tells events of pods only"]);
}
