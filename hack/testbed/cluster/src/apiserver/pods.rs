//! What the API server does for pods in particular: defaults, validation, what may change, graceful deletion.

use serde_json::{Map, Value, json};

/// Fills in what the API server fills in, as far as the stand-ins read it.
pub(super) fn set_defaults(pod: &mut Value) {
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    spec.entry("restartPolicy").or_insert_with(|| json!("Always"));
    spec.entry("terminationGracePeriodSeconds").or_insert_with(|| json!(30));
    spec.entry("dnsPolicy").or_insert_with(|| json!("ClusterFirst"));
    spec.entry("schedulerName").or_insert_with(|| json!("default-scheduler"));
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            default_requests(container);
        }
    }
    pod["status"] = json!({ "phase": "Pending" });
}

/// Requests that are not given are the limits.
fn default_requests(container: &mut Value) {
    let Some(limits) = container["resources"]["limits"].as_object().cloned() else { return };
    let resources = &mut container["resources"];
    if !resources["requests"].is_object() {
        resources["requests"] = json!({});
    }
    if let Some(requests) = resources["requests"].as_object_mut() {
        for (name, amount) in limits {
            requests.entry(name).or_insert(amount);
        }
    }
}

/// What is wrong with a new pod, each with the field's path.
pub(super) fn problems(pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let containers = pod["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        problems.push("spec.containers: Required value".into());
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let path = format!("spec.containers[{i}]");
        let name = container["name"].as_str().unwrap_or_default();
        if !super::names::is_label(name) {
            problems.push(super::names::bad_label(&format!("{path}.name"), name));
        }
        if names.contains(&name) {
            problems.push(format!("{path}.name: Duplicate value: \"{name}\""));
        }
        names.push(name);
        if container["image"].as_str().unwrap_or_default().is_empty() {
            problems.push(format!("{path}.image: Required value"));
        }
        resource_problems(&path, &container["resources"], &mut problems);
    }
    problems
}

/// Extended resources and huge pages cannot be overcommitted; huge pages need cpu or memory beside them.
fn resource_problems(path: &str, resources: &Value, problems: &mut Vec<String>) {
    let empty = Map::new();
    let map = |key: &str| resources[key].as_object().unwrap_or(&empty);
    let (requests, limits) = (map("requests"), map("limits"));
    for (name, amount) in requests {
        let fixed = name.contains('/') || name.starts_with("hugepages-");
        if fixed && limits.get(name) != Some(amount) {
            let rule = if limits.contains_key(name) { "must be equal to" } else { "Limit must be set for" };
            problems.push(format!(
                "{path}.resources.requests: Invalid value: \"{}\": {rule} {name} limit",
                amount.as_str().map_or_else(|| amount.to_string(), Into::into)
            ));
        }
    }
    let huge = requests.keys().any(|name| name.starts_with("hugepages-"));
    if huge && !requests.contains_key("cpu") && !requests.contains_key("memory") {
        problems.push(format!(
            "{path}.resources: Forbidden: HugePages require cpu or memory request to be specified"
        ));
    }
}

/// A pod's spec is fixed once made, but for a few fields.
pub(super) fn spec_change_problem(before: &Value, after: &Value) -> Option<String> {
    let comparable = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
        if let Some(spec) = spec.as_object_mut() {
            for free in ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations"] {
                spec.remove(free);
            }
        }
        spec
    };
    (comparable(before) != comparable(after)).then(|| {
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
         `spec.activeDeadlineSeconds`,`spec.tolerations`,`spec.terminationGracePeriodSeconds`"
            .into()
    })
}

/// How long a deletion of this pod leaves it to end, in seconds; 0 removes the object at once.
pub(super) fn grace_period(pod: &Value, asked: Option<i64>) -> i64 {
    let unbound = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unbound || finished {
        return 0;
    }
    let period = asked.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
    // Negative means one second.
    if period < 0 { 1 } else { period }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: &Value) -> Value {
        json!({ "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } })
    }

    #[test]
    fn limits_become_requests() {
        let mut pod = pod(&json!({ "limits": { "a/b": "1", "cpu": "2" }, "requests": { "cpu": "1" } }));
        set_defaults(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({ "cpu": "1", "a/b": "1" }));
        assert_eq!(pod["status"]["phase"], "Pending");
        assert_eq!(problems(&pod), Vec::<String>::new());
    }

    #[test]
    fn extended_resources_cannot_be_overcommitted() {
        let found = problems(&pod(&json!({ "limits": { "a/b": "2" }, "requests": { "a/b": "1" } })));
        assert_eq!(
            found,
            ["spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to a/b limit"]
        );
        assert_eq!(problems(&pod(&json!({ "requests": { "a/b": "1" } }))).len(), 1);
    }

    #[test]
    fn huge_pages_need_cpu_or_memory() {
        let huge = json!({ "hugepages-2Mi": "4Mi" });
        assert_eq!(problems(&pod(&json!({ "limits": huge, "requests": huge }))).len(), 1);
    }

    #[test]
    fn names_of_containers() {
        let bad = json!({ "spec": { "containers": [{ "name": "A", "image": "i" }, { "name": "b" }, { "name": "b", "image": "i" }] } });
        assert_eq!(problems(&bad).len(), 3);
        assert_eq!(problems(&json!({ "spec": {} })), ["spec.containers: Required value"]);
    }

    #[test]
    fn only_some_of_the_spec_changes() {
        let before = pod(&json!({}));
        let mut after = before.clone();
        after["spec"]["containers"][0]["image"] = json!("other");
        assert_eq!(spec_change_problem(&before, &after), None);
        after["spec"]["hostNetwork"] = json!(true);
        assert!(spec_change_problem(&before, &after).is_some());
    }

    #[test]
    fn grace() {
        let bound = json!({ "spec": { "nodeName": "n", "terminationGracePeriodSeconds": 7 } });
        assert_eq!(grace_period(&bound, None), 7);
        assert_eq!(grace_period(&bound, Some(0)), 0);
        assert_eq!(grace_period(&bound, Some(-1)), 1);
        assert_eq!(grace_period(&json!({ "spec": {} }), None), 0, "not on a node");
        let done = json!({ "spec": { "nodeName": "n" }, "status": { "phase": "Failed" } });
        assert_eq!(grace_period(&done, Some(30)), 0);
    }
}
