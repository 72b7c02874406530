//! What a client may ask before it knows anything: versions, groups, resources, health.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::kinds::{KINDS, Kind};

const GROUP: &str = "k8s.cni.cncf.io";

/// The answer, when the path is one of these.
pub(super) fn answer(path: &str) -> Option<Response> {
    let answer = match path.trim_end_matches('/') {
        "/healthz" | "/livez" | "/readyz" => return Some("ok".into_response()),
        "/version" => {
            json!({ "major": "1", "minor": "33", "gitVersion": crate::VERSION, "platform": "linux/amd64" })
        }
        "/api" => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        "/apis" => json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group()] }),
        "/apis/k8s.cni.cncf.io" => group(),
        "/api/v1" => resources("", "v1"),
        "/apis/k8s.cni.cncf.io/v1" => resources(GROUP, "k8s.cni.cncf.io/v1"),
        _ => return None,
    };
    Some(Json(answer).into_response())
}

fn group() -> Value {
    let version = json!({ "groupVersion": format!("{GROUP}/v1"), "version": "v1" });
    json!({ "kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version })
}

fn resources(group: &str, group_version: &str) -> Value {
    let resources: Vec<Value> = KINDS.iter().filter(|k| k.group == group).flat_map(resource).collect();
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources })
}

fn resource(kind: &Kind) -> Vec<Value> {
    let entry = |name: &str, verbs: &[&str]| json!({ "name": name, "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs });
    let mut main = entry(kind.plural, &["create", "delete", "get", "list", "patch", "update", "watch"]);
    main["singularName"] = json!(kind.kind.to_ascii_lowercase());
    main["shortNames"] = json!(kind.short_names);
    let mut resources = vec![main];
    if kind.has_status {
        resources.push(entry(&format!("{}/status", kind.plural), &["get", "patch", "update"]));
    }
    resources
}
