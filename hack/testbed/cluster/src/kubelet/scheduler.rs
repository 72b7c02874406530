//! The scheduler: pods without a node get one that has room, or are told why not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, reflector, reflector::Store, watcher},
};
use serde_json::json;

use super::{
    amounts::{Amounts, add, amounts, lacking, pod_requests},
    events::{Recorder, Severity},
    sandbox_config::PodId,
    status::condition,
};

/// What becomes of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Bind(String),
    /// With the scheduler's text.
    Unschedulable(String),
}

/// Decides for one pod. `pods` are all pods, `assumed` says which node a pod was given that the watch does not show yet.
pub(super) fn decide(
    pod: &Pod,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    assumed: &BTreeMap<String, String>,
) -> Decision {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        let obstacles = obstacles(pod, node, &in_use(&name, pods, assumed));
        if obstacles.is_empty() {
            return Decision::Bind(name);
        }
        for obstacle in obstacles {
            *reasons.entry(obstacle).or_default() += 1;
        }
    }
    let mut texts: Vec<String> =
        reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort();
    if nodes.is_empty() {
        return Decision::Unschedulable("no nodes available to schedule pods".into());
    }
    Decision::Unschedulable(format!("0/{} nodes are available: {}.", nodes.len(), texts.join(", ")))
}

/// What stands against a node, in the scheduler's words.
fn obstacles(pod: &Pod, node: &Node, used: &Amounts) -> Vec<String> {
    let ready = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == "Ready" && c.status == "True");
    if !ready {
        return vec!["node(s) had untolerated taint(s)".into()];
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        return vec!["node(s) were unschedulable".into()];
    }
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selector = pod.spec.as_ref().and_then(|s| s.node_selector.as_ref());
    if selector.into_iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return vec!["node(s) didn't match Pod's node affinity/selector".into()];
    }
    let allocatable = amounts(node.status.as_ref().and_then(|s| s.allocatable.as_ref()));
    let lacks = lacking(&allocatable, used, &pod_requests(pod));
    lacks
        .into_iter()
        .map(|lack| {
            if lack.resource == "pods" {
                "Too many pods".into()
            } else {
                format!("Insufficient {}", lack.resource)
            }
        })
        .collect()
}

/// What pods take of a node: all that are bound to it and have not ended.
pub(super) fn in_use(node: &str, pods: &[Arc<Pod>], assumed: &BTreeMap<String, String>) -> Amounts {
    let mut used = Amounts::new();
    for pod in pods.iter().filter(|p| !is_over(p)) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let bound = node_of(pod).or_else(|| assumed.get(uid).map(String::as_str));
        if bound == Some(node) {
            add(&mut used, &pod_requests(pod));
        }
    }
    used
}

pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

pub(super) fn is_over(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Schedules until the task is ended.
pub(super) async fn run(client: Client) {
    let (pods, pod_writer) = reflector::store();
    let (nodes, node_writer) = reflector::store();
    let all_pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let all_nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default());
    let changes = stream::select(
        reflector(pod_writer, all_pods.default_backoff()).map(|e| e.map(|e| (0, is_complete(&e)))),
        reflector(node_writer, all_nodes.default_backoff()).map(|e| e.map(|e| (1, is_complete(&e)))),
    );
    let mut changes = Box::pin(changes);
    let mut scheduler = Scheduler {
        recorder: Recorder::new(client.clone(), "default-scheduler", ""),
        client,
        pods,
        nodes,
        assumed: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    let mut retry = None;
    let mut listed = [false, false];
    loop {
        let change = match retry {
            Some(wait) => tokio::time::timeout(wait, changes.next()).await.ok(),
            None => Some(changes.next().await),
        };
        match change {
            Some(None) => return,
            Some(Some(Err(error))) => tracing::warn!(target: "scheduler", "watch: {error}"),
            Some(Some(Ok((which, complete)))) => listed[which] |= complete,
            None => {}
        }
        if listed == [true, true] {
            retry = scheduler.schedule_all().await;
        }
    }
}

fn is_complete<K>(event: &watcher::Event<K>) -> bool {
    matches!(event, watcher::Event::InitDone)
}

struct Scheduler {
    client: Client,
    recorder: Recorder,
    pods: Store<Pod>,
    nodes: Store<Node>,
    /// The nodes of pods that the watch does not show as bound yet, by UID.
    assumed: BTreeMap<String, String>,
    /// Why pods cannot be placed, as they were told last, by UID.
    told: BTreeMap<String, String>,
}

impl Scheduler {
    /// Goes over the pods without a node, the oldest first. Returns when to try again what failed for other reasons.
    async fn schedule_all(&mut self) -> Option<Duration> {
        let pods = self.pods.state();
        let nodes = self.nodes.state();
        let unbound =
            |uid: &String| pods.iter().any(|p| p.metadata.uid.as_ref() == Some(uid) && node_of(p).is_none());
        self.assumed.retain(|uid, _| unbound(uid));
        self.told.retain(|uid, _| unbound(uid));
        let mut waiting: Vec<&Arc<Pod>> = pods.iter().filter(|p| self.wants_node(p)).collect();
        waiting.sort_by_key(|p| {
            (p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.metadata.resource_version.clone())
        });
        let mut retry = None;
        for pod in waiting {
            let decision = decide(pod, &nodes, &pods, &self.assumed);
            if let Err(error) = self.carry_out(pod, decision).await {
                let id = PodId::of(pod);
                tracing::warn!(target: "scheduler", "pod {}/{}: {error}", id.namespace, id.name);
                retry = Some(Duration::from_secs(1));
            }
        }
        retry
    }

    fn wants_node(&self, pod: &Pod) -> bool {
        let ours = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()) == Some("default-scheduler");
        let assumed = self.assumed.contains_key(pod.metadata.uid.as_deref().unwrap_or_default());
        ours && !assumed
            && node_of(pod).is_none()
            && pod.metadata.deletion_timestamp.is_none()
            && !is_over(pod)
    }

    async fn carry_out(&mut self, pod: &Pod, decision: Decision) -> kube::Result<()> {
        let id = PodId::of(pod);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &id.namespace);
        match decision {
            Decision::Bind(node) => {
                let binding = json!({
                    "apiVersion": "v1", "kind": "Binding",
                    "metadata": { "name": id.name, "namespace": id.namespace },
                    "target": { "apiVersion": "v1", "kind": "Node", "name": node },
                });
                let _: serde_json::Value =
                    api.create_subresource("binding", &id.name, &PostParams::default(), &binding).await?;
                self.assumed.insert(id.uid.clone(), node.clone());
                let message = format!("Successfully assigned {}/{} to {node}", id.namespace, id.name);
                self.recorder.pod(pod, Severity::Normal, "Scheduled", &message).await;
            }
            Decision::Unschedulable(message) => {
                let before = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
                // The watch may not show it yet.
                if self.told.get(&id.uid) == Some(&message) {
                    return Ok(());
                }
                let mut conditions = before.clone();
                conditions.retain(|c| c.type_ != "PodScheduled");
                conditions.push(condition(
                    &before,
                    "PodScheduled",
                    false,
                    Some("Unschedulable"),
                    Some(message.clone()),
                ));
                let patch = json!({ "metadata": { "uid": id.uid }, "status": { "conditions": conditions } });
                api.patch_status(&id.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
                self.recorder.pod(pod, Severity::Warning, "FailedScheduling", &message).await;
                self.told.insert(id.uid, message);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn node(name: &str, devices: &str, ready: &str) -> Arc<Node> {
        let node = json!({
            "metadata": { "name": name, "labels": { "zone": name } },
            "status": {
                "allocatable": { "cpu": "2", "pods": "2", "a/b": devices },
                "conditions": [{ "type": "Ready", "status": ready }],
            },
        });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn pod(uid: &str, devices: &str, more: &Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": { "uid": uid },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "a/b": devices } } }] },
        });
        json_patch::merge(&mut pod, more);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn bound(uid: &str, phase: &str) -> Arc<Pod> {
        pod(uid, "1", &json!({ "spec": { "nodeName": "n" }, "status": { "phase": phase } }))
    }

    const NONE: BTreeMap<String, String> = BTreeMap::new();

    #[test]
    fn room_is_what_the_others_leave() {
        let nodes = [node("n", "2", "True")];
        let new = pod("new", "2", &json!({}));
        assert_eq!(decide(&new, &nodes, &[], &NONE), Decision::Bind("n".into()));
        let full = decide(&new, &nodes, &[bound("x", "Running")], &NONE);
        assert_eq!(full, Decision::Unschedulable("0/1 nodes are available: 1 Insufficient a/b.".into()));
        let ended = [bound("x", "Succeeded"), bound("y", "Failed")];
        assert_eq!(decide(&new, &nodes, &ended, &NONE), Decision::Bind("n".into()));
    }

    #[test]
    fn a_pod_just_bound_counts() {
        let nodes = [node("n", "2", "True")];
        let first = pod("first", "2", &json!({}));
        let assumed = BTreeMap::from([("first".to_string(), "n".to_string())]);
        let second = decide(&pod("second", "1", &json!({})), &nodes, &[first], &assumed);
        assert!(matches!(second, Decision::Unschedulable(_)));
    }

    #[test]
    fn every_obstacle_is_counted() {
        let nodes = [node("n", "0", "True"), node("m", "0", "True"), node("o", "9", "False")];
        let Decision::Unschedulable(text) = decide(&pod("p", "1", &json!({})), &nodes, &[], &NONE) else {
            panic!("there is no room")
        };
        assert_eq!(text, "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient a/b.");
        let other = pod("p", "0", &json!({ "spec": { "nodeSelector": { "zone": "x" } } }));
        let Decision::Unschedulable(text) = decide(&other, &nodes[..1], &[], &NONE) else {
            panic!("no such zone")
        };
        assert!(text.contains("node affinity/selector"), "{text}");
        let no_nodes = decide(&other, &[], &[], &NONE);
        assert_eq!(no_nodes, Decision::Unschedulable("no nodes available to schedule pods".into()));
    }

    #[test]
    fn too_many_pods() {
        let nodes = [node("n", "9", "True")];
        let others = [bound("x", "Running"), bound("y", "Running")];
        let text = "0/1 nodes are available: 1 Too many pods.";
        assert_eq!(
            decide(&pod("p", "1", &json!({})), &nodes, &others, &NONE),
            Decision::Unschedulable(text.into())
        );
    }
}
