//! Pods from YAML to their end: API server, scheduler and kubelet, over a container runtime that runs nothing.
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use fairlead_kubelet_api::device_plugin::DevicePluginOptions;
use fairlead_testbed::cri::v1::ContainerState;
use serde_json::{Value, json};

use support::{
    Cluster, eventually, is_empty,
    plugin::{Asked, FakePlugin, device},
};

const R: &str = "intel.com/sriov_dpdk";

fn wants(count: u32) -> Value {
    json!({ "containers": [{ "name": "c", "image": "image:1", "resources": { "limits": { R: count.to_string() } } }] })
}

async fn plugin(cluster: &Cluster, count: usize, pre_start: bool) -> FakePlugin {
    let devices = ["a", "b", "c", "d"].iter().take(count).map(|id| device(id, true, None)).collect();
    let options = DevicePluginOptions { pre_start_required: pre_start, ..DevicePluginOptions::default() };
    let plugin = FakePlugin::serve(&cluster.root(), R, options, devices);
    plugin.register().await.unwrap();
    cluster.allocatable(R, &count.to_string()).await;
    plugin
}

/// The runtime's calls whose text starts like this.
fn calls(cluster: &Cluster, start: &str) -> Vec<String> {
    cluster.runtime.state().calls.iter().filter(|c| c.starts_with(start)).cloned().collect()
}

#[tokio::test]
async fn a_pod_runs_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    cluster.create("p", json!({ "volumes": [{ "name": "v", "emptyDir": {} }] })).await;
    let pod = cluster.phase("p", "Running").await;
    let status = pod.status.unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some("10.9.8.7"));
    let container = &status.container_statuses.unwrap()[0];
    assert!(container.ready && container.container_id.as_ref().unwrap().starts_with("containerd://c"));
    let conditions = status.conditions.unwrap();
    assert!(conditions.iter().all(|c| c.status == "True"), "{conditions:?}");
    assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("node1"));
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        cluster.event("p", reason).await;
    }
    assert!(!is_empty(&cluster.root().join("pods")));

    cluster.delete("p", 3).await;
    cluster.gone("p").await;
    let state = cluster.runtime.state();
    assert!(state.sandboxes.is_empty() && state.containers.is_empty());
    let order: Vec<&str> = state.calls.iter().map(|c| c.split(' ').next().unwrap()).collect();
    assert_eq!(order[..3], ["RunPodSandbox", "CreateContainer", "StartContainer"]);
    assert_eq!(order[3..5], ["StopContainer", "StopPodSandbox"]);
    assert_eq!(order.last(), Some(&"RemovePodSandbox"));
    assert!(
        state.calls.iter().any(|c| c.starts_with("StopContainer") && c.ends_with(" 3")),
        "the grace that was asked for"
    );
    assert!(is_empty(&cluster.root().join("pods")) && is_empty(&cluster.folder.path().join("logs")));
}

#[tokio::test]
async fn devices_reach_the_container() {
    let cluster = Cluster::start().await;
    let plugin = plugin(&cluster, 2, true).await;
    cluster.create("p", wants(2)).await;
    cluster.phase("p", "Running").await;
    let config = cluster.runtime.container("c").unwrap();
    let env = config.envs.iter().find(|e| e.key == "DEVICES").unwrap();
    assert_eq!(env.value.len(), "a,b".len());
    assert_eq!(config.devices[0].container_path, "/dev/fake");
    assert_eq!(config.cdi_devices.len(), 2);
    assert_eq!(config.annotations["fake"], "yes");
    let asked = plugin.asked();
    assert!(matches!(asked[..], [Asked::Allocate(_), Asked::PreStart(_)]), "{asked:?}");
    // A restart is prepared again, and not allocated again.
    cluster.runtime.exit("c", 1);
    eventually("restarted", async || if plugin.asked().len() == 3 { Ok(()) } else { Err(plugin.asked()) })
        .await;
    assert!(matches!(plugin.asked()[2], Asked::PreStart(_)));
}

#[tokio::test]
async fn a_pod_without_room_waits_for_it() {
    let cluster = Cluster::start().await;
    let _plugin = plugin(&cluster, 2, false).await;
    cluster.create("first", wants(2)).await;
    cluster.phase("first", "Running").await;
    cluster.create("second", wants(1)).await;
    let event = cluster.event("second", "FailedScheduling").await;
    let text = "0/1 nodes are available: 1 Insufficient intel.com/sriov_dpdk.";
    assert_eq!(event.message.as_deref(), Some(text));
    let waiting = cluster.pods().get("second").await.unwrap();
    let conditions = waiting.status.unwrap().conditions.unwrap();
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled").unwrap();
    assert_eq!((scheduled.status.as_str(), scheduled.reason.as_deref()), ("False", Some("Unschedulable")));
    cluster.delete("first", 1).await;
    cluster.phase("second", "Running").await;
}

#[tokio::test]
async fn a_pod_for_this_node_without_room_is_refused() {
    let cluster = Cluster::start().await;
    let _plugin = plugin(&cluster, 2, false).await;
    cluster.create("first", wants(2)).await;
    cluster.phase("first", "Running").await;
    let mut spec = wants(1);
    spec["nodeName"] = json!("node1");
    cluster.create("second", spec).await;
    let status = cluster.phase("second", "Failed").await.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("OutOfintel.com/sriov_dpdk"));
    let text = "Pod was rejected: Node didn't have enough resource: intel.com/sriov_dpdk, requested: 1, used: 2, capacity: 2";
    assert_eq!(status.message.as_deref(), Some(text));
    cluster.event("second", "OutOfintel.com/sriov_dpdk").await;
    cluster.delete("second", 0).await;
    cluster.gone("second").await;
}

#[tokio::test]
async fn a_plugin_that_refuses_is_heard() {
    let cluster = Cluster::start().await;
    let plugin = plugin(&cluster, 1, false).await;
    plugin.fail("wrong driver");
    cluster.create("p", wants(1)).await;
    let status = cluster.phase("p", "Failed").await.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("UnexpectedAdmissionError"));
    let text = "Pod was rejected: Allocate failed due to rpc error: code = Unknown desc = wrong driver, which is unexpected";
    assert_eq!(status.message.as_deref(), Some(text));
}

#[tokio::test]
async fn a_sandbox_that_fails_is_tried_again() {
    let cluster = Cluster::start().await;
    cluster.runtime.fail("RunPodSandbox", 2, "failed to setup network");
    cluster.create("p", json!({})).await;
    let event = cluster.event("p", "FailedCreatePodSandBox").await;
    let text = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network";
    assert_eq!(event.message.as_deref(), Some(text));
    cluster.phase("p", "Running").await;
    let state = cluster.runtime.state();
    let attempts: Vec<u32> =
        state.sandboxes.values().map(|s| s.config.metadata.clone().unwrap().attempt).collect();
    assert_eq!(attempts, [2], "the third is the first to last");
}

#[tokio::test]
async fn a_pod_can_be_deleted_while_its_sandbox_is_made() {
    let cluster = Cluster::start().await;
    cluster.runtime.state().sandbox_delay = Duration::from_secs(3600);
    cluster.create("p", json!({})).await;
    cluster.event("p", "Scheduled").await;
    cluster.delete("p", 30).await;
    cluster.gone("p").await;
}

#[tokio::test]
async fn a_sandbox_is_stopped_until_it_is() {
    let cluster = Cluster::start().await;
    cluster.create("p", json!({})).await;
    cluster.phase("p", "Running").await;
    cluster.runtime.fail("StopPodSandbox", 2, "DEL failed");
    cluster.delete("p", 1).await;
    let event = cluster.event("p", "FailedKillPod").await;
    assert!(
        event
            .message
            .unwrap()
            .contains("KillPodSandboxError: \"rpc error: code = Unknown desc = DEL failed\"")
    );
    cluster.gone("p").await;
    assert!(calls(&cluster, "StopPodSandbox").len() >= 3);
    assert!(cluster.runtime.state().sandboxes.is_empty());
}

#[tokio::test]
async fn a_pod_that_ends_gives_its_devices_back() {
    let cluster = Cluster::start().await;
    let _plugin = plugin(&cluster, 1, false).await;
    let mut spec = wants(1);
    spec["restartPolicy"] = json!("Never");
    cluster.create("p", spec).await;
    cluster.phase("p", "Running").await;
    cluster.runtime.exit("c", 3);
    let status = cluster.phase("p", "Failed").await.status.unwrap();
    let terminated = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(terminated.exit_code, 3);
    cluster.create("next", wants(1)).await;
    cluster.phase("next", "Running").await;
    assert_eq!(cluster.pods().get("p").await.unwrap().status.unwrap().phase.as_deref(), Some("Failed"));
    cluster.delete("p", 1).await;
    cluster.gone("p").await;
}

#[tokio::test]
async fn containers_restart_at_once_then_more_slowly() {
    let cluster = Cluster::start().await;
    cluster.create("p", json!({})).await;
    cluster.phase("p", "Running").await;
    cluster.runtime.exit("c", 1);
    let pods = cluster.pods();
    eventually("restarted", async || {
        let status = pods.get("p").await.unwrap().status.unwrap().container_statuses.unwrap().remove(0);
        if status.restart_count == 1 && status.ready { Ok(()) } else { Err(status) }
    })
    .await;
    cluster.runtime.exit("c", 1);
    eventually("backing off", async || {
        let status = pods.get("p").await.unwrap().status.unwrap().container_statuses.unwrap().remove(0);
        let reason = status.state.clone().and_then(|s| s.waiting).and_then(|w| w.reason);
        if reason.as_deref() == Some("CrashLoopBackOff") { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(cluster.pods().get("p").await.unwrap().status.unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test]
async fn what_is_not_done_is_refused() {
    let cluster = Cluster::start().await;
    cluster.create("p", json!({ "volumes": [{ "name": "v", "configMap": { "name": "x" } }] })).await;
    let status = cluster.phase("p", "Failed").await.status.unwrap();
    assert!(status.message.unwrap().contains("spec.volumes[0].configMap"));
    cluster.create("q", json!({ "containers": [{ "name": "c", "image": "none:1" }] })).await;
    let event = cluster.event("q", "Failed").await;
    assert!(event.message.unwrap().contains("none:1"));
    let status = cluster.pods().get("q").await.unwrap().status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[tokio::test]
async fn running_pods_survive_a_restart_of_kubelet() {
    let mut cluster = Cluster::start().await;
    let first = plugin(&cluster, 2, false).await;
    cluster.create("p", wants(1)).await;
    cluster.create("q", wants(1)).await;
    cluster.phase("p", "Running").await;
    cluster.phase("q", "Running").await;
    cluster.kubelet = None;
    drop(first);
    // One of them is deleted by force while nobody looks.
    cluster.delete("q", 0).await;
    cluster.start_kubelet(2).await;
    eventually("q has ended", async || {
        let state = cluster.runtime.state();
        let pods: Vec<_> =
            state.sandboxes.values().map(|s| s.config.metadata.clone().unwrap().name).collect();
        if pods == ["p"] { Ok(()) } else { Err(pods) }
    })
    .await;
    let second = plugin(&cluster, 2, false).await;
    let mut spec = wants(2);
    spec["nodeName"] = json!("node1");
    cluster.create("greedy", spec).await;
    let status = cluster.phase("greedy", "Failed").await.status.unwrap();
    assert!(status.message.unwrap().contains("requested: 2, used: 1, capacity: 2"));
    cluster.create("modest", wants(1)).await;
    cluster.phase("modest", "Running").await;
    let Asked::Allocate(given) = second.asked().remove(0) else { panic!("Allocate comes first") };
    let held = cluster.kubelet.as_ref().unwrap().devices().holders();
    let of_p = held.values().find(|h| h.name == "p").unwrap();
    assert!(!of_p.allocations[0].devices.contains_key(&given[0]), "p keeps its own");
    let state = cluster.runtime.state();
    let running = state.containers.values().filter(|c| c.state == ContainerState::ContainerRunning).count();
    assert_eq!(running, 2);
    assert_eq!(state.calls.iter().filter(|c| *c == "RunPodSandbox p").count(), 1, "p was left alone");
}

#[tokio::test]
async fn a_sandbox_that_dies_is_replaced() {
    let cluster = Cluster::start().await;
    cluster.create("p", json!({})).await;
    cluster.phase("p", "Running").await;
    {
        let mut state = cluster.runtime.state();
        state.sandboxes.values_mut().for_each(|s| s.ready = false);
        for container in state.containers.values_mut() {
            (container.state, container.exit_code) = (ContainerState::ContainerExited, 137);
        }
    }
    let pods = cluster.pods();
    eventually("replaced", async || {
        let status = pods.get("p").await.unwrap().status.unwrap();
        let container = status.container_statuses.unwrap().remove(0);
        if container.ready && container.restart_count == 1 { Ok(()) } else { Err(container) }
    })
    .await;
    assert_eq!(calls(&cluster, "RunPodSandbox").len(), 2);
    assert_eq!(cluster.runtime.state().sandboxes.len(), 1);
}
