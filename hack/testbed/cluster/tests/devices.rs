//! The device manager and PodResources against a device plugin in this process.
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use fairlead_kubelet_api::{
    device_plugin::DevicePluginOptions,
    pod_resources::{
        AllocatableResourcesRequest, ContainerDevices, GetPodResourcesRequest, ListPodResourcesRequest,
        pod_resources_lister_client::PodResourcesListerClient,
    },
};
use fairlead_testbed::{
    kubelet::devices::{Count, DeviceManager},
    random::Random,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use support::{
    Cluster, eventually,
    plugin::{Asked, FakePlugin, device},
};

const R: &str = "intel.com/sriov";

struct Setup {
    root: TempDir,
    manager: Arc<DeviceManager>,
    _stop: watch::Sender<()>,
}

fn setup(seed: u64) -> Setup {
    let root = tempfile::tempdir().unwrap();
    let (stop, stopped) = watch::channel(());
    let manager = DeviceManager::new(root.path(), Random::new(seed)).unwrap();
    manager.serve(stopped).unwrap();
    Setup { root, manager, _stop: stop }
}

fn options(pre_start: bool, preferred: bool) -> DevicePluginOptions {
    DevicePluginOptions { pre_start_required: pre_start, get_preferred_allocation_available: preferred }
}

fn pod(uid: &str, containers: &[(&str, usize)]) -> Pod {
    let container = |(name, count): &(&str, usize)| json!({ "name": name, "resources": { "limits": { R: count.to_string(), "cpu": "1" } } });
    let containers: Vec<_> = containers.iter().map(container).collect();
    serde_json::from_value(json!({
        "metadata": { "uid": uid, "name": uid, "namespace": "default" }, "spec": { "containers": containers },
    }))
    .unwrap()
}

async fn count(manager: &DeviceManager, capacity: usize, allocatable: usize) {
    let wanted = Some(Count { capacity, allocatable });
    eventually(&format!("{wanted:?}"), async || {
        let found = manager.counts().get(R).copied();
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

fn healthy(ids: &[&str]) -> Vec<fairlead_kubelet_api::device_plugin::Device> {
    ids.iter().map(|id| device(id, true, None)).collect()
}

/// The IDs of all Allocate calls.
fn allocated(plugin: &FakePlugin) -> Vec<Vec<String>> {
    let ids = |asked| match asked {
        Asked::Allocate(ids) => Some(ids),
        _ => None,
    };
    plugin.asked().into_iter().filter_map(ids).collect()
}

#[tokio::test]
async fn a_plugin_comes_reports_and_goes() {
    let setup = setup(1);
    let devices = vec![device("x", true, None), device("y", false, None)];
    let mut plugin = FakePlugin::serve(setup.root.path(), R, options(false, false), devices);
    assert!(setup.manager.counts().is_empty());
    plugin.register().await.unwrap();
    count(&setup.manager, 2, 1).await;
    plugin.report(healthy(&["x", "y", "z"]));
    count(&setup.manager, 3, 3).await;
    plugin.report(Vec::new());
    count(&setup.manager, 0, 0).await;
    plugin.report(healthy(&["x"]));
    count(&setup.manager, 1, 1).await;
    plugin.hang_up();
    count(&setup.manager, 1, 0).await;
    assert!(plugin.authorities().iter().all(|a| a == "localhost"), "{:?}", plugin.authorities());
}

#[tokio::test]
async fn the_end_of_an_earlier_plugin_takes_the_later_one_with_it() {
    let setup = setup(1);
    let mut first = FakePlugin::serve(setup.root.path(), R, options(false, false), healthy(&["old"]));
    first.register().await.unwrap();
    count(&setup.manager, 1, 1).await;
    let second =
        FakePlugin::serve_on(setup.root.path(), R, "second", options(false, false), healthy(&["a", "b"]));
    second.register().await.unwrap();
    count(&setup.manager, 2, 2).await;
    setup.manager.allocate(&pod("p", &[("c", 2)])).await.unwrap();
    assert_eq!(allocated(&second).len(), 1, "the later one is asked");
    first.report(healthy(&["old", "older", "oldest"]));
    count(&setup.manager, 3, 3).await;
    first.hang_up();
    count(&setup.manager, 3, 0).await;
    second.register().await.unwrap();
    count(&setup.manager, 2, 2).await;
}

#[tokio::test]
async fn a_socket_in_the_registry_is_found_and_missed() {
    let setup = setup(1);
    let plugin = FakePlugin::serve(setup.root.path(), R, options(false, false), healthy(&["a", "b"]));
    let registry = setup.root.path().join("plugins_registry");
    let told = plugin.announce(&registry.join("fake.sock"), "DevicePlugin");
    count(&setup.manager, 2, 2).await;
    assert_eq!(told.lock().unwrap().as_slice(), [(true, String::new())]);
    let other = plugin.announce(&registry.join("other.sock"), "CSIPlugin");
    eventually("a refusal", async || match other.lock().unwrap().first() {
        Some((false, why)) if why.contains("no handler registered for plugin type: CSIPlugin") => Ok(()),
        told => Err(told.cloned()),
    })
    .await;
    std::fs::remove_file(registry.join("fake.sock")).unwrap();
    count(&setup.manager, 2, 0).await;
}

#[tokio::test]
async fn a_plugin_must_serve_before_it_registers() {
    let setup = setup(1);
    let mut plugin = FakePlugin::serve(setup.root.path(), R, options(false, false), Vec::new());
    plugin.hang_up();
    let socket = setup.root.path().join("device-plugins/intel.com_sriov-fake.sock");
    std::fs::remove_file(socket).unwrap();
    let status = plugin.register().await.unwrap_err();
    assert!(status.message().contains("dial"), "{status:?}");
    let bad = FakePlugin::serve(setup.root.path(), "cpu", options(false, false), Vec::new());
    assert!(bad.register().await.unwrap_err().message().contains("is invalid"));
}

#[tokio::test]
async fn devices_are_counted_out_and_back() {
    let setup = setup(1);
    let plugin = FakePlugin::serve(setup.root.path(), R, options(false, false), healthy(&["a", "b", "c"]));
    plugin.register().await.unwrap();
    count(&setup.manager, 3, 3).await;
    setup.manager.allocate(&pod("p", &[("one", 1), ("two", 1)])).await.unwrap();
    let calls = allocated(&plugin);
    assert_eq!(calls.len(), 2, "one call for each container");
    assert_ne!(calls[0], calls[1]);
    setup.manager.allocate(&pod("p", &[("one", 1), ("two", 1)])).await.unwrap();
    assert_eq!(allocated(&plugin).len(), 2, "what a pod has is not allocated again");
    let why = setup.manager.allocate(&pod("q", &[("c", 2)])).await.unwrap_err();
    assert_eq!(
        why,
        "requested number of devices unavailable for intel.com/sriov. Requested: 2, Available: 1"
    );
    setup.manager.release("p");
    setup.manager.allocate(&pod("q", &[("c", 3)])).await.unwrap();
    assert_eq!(setup.manager.edits("q", "c").envs["DEVICES"].split(',').count(), 3);
    assert_eq!(setup.manager.edits("q", "c").cdi_devices.len(), 3);
    assert!(setup.manager.edits("p", "one").envs.is_empty());
}

#[tokio::test]
async fn a_refusal_comes_in_the_plugins_words() {
    let setup = setup(1);
    let plugin = FakePlugin::serve(setup.root.path(), R, options(false, false), healthy(&["a"]));
    plugin.register().await.unwrap();
    count(&setup.manager, 1, 1).await;
    plugin.fail("the VF is on the wrong driver");
    let why = setup.manager.allocate(&pod("p", &[("c", 1)])).await.unwrap_err();
    assert_eq!(why, "rpc error: code = Unknown desc = the VF is on the wrong driver");
}

#[tokio::test]
async fn a_plugin_that_cannot_tell_what_it_prefers_fails_the_pod() {
    let setup = setup(1);
    let plugin = FakePlugin::serve(setup.root.path(), R, options(false, true), healthy(&["a"]));
    plugin.register().await.unwrap();
    count(&setup.manager, 1, 1).await;
    plugin.fail("none");
    let why = setup.manager.allocate(&pod("p", &[("c", 1)])).await.unwrap_err();
    assert_eq!(
        why,
        "device plugin GetPreferredAllocation rpc failed with err: rpc error: code = Unknown desc = none"
    );
}

#[tokio::test]
async fn preferences_and_preparation() {
    let setup = setup(1);
    let plugin = FakePlugin::serve(setup.root.path(), R, options(true, true), healthy(&["a", "b", "c"]));
    plugin.register().await.unwrap();
    count(&setup.manager, 3, 3).await;
    setup.manager.allocate(&pod("p", &[("c", 2)])).await.unwrap();
    setup.manager.pre_start("p", "c").await.unwrap();
    let asked = plugin.asked();
    assert!(matches!(&asked[0], Asked::Preferred(ids, 2) if ids.len() == 3), "{asked:?}");
    let set = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<_>>();
    let wanted = set(&["b".into(), "c".into()]);
    assert!(matches!(&asked[1], Asked::Allocate(ids) if set(ids) == wanted), "{asked:?}");
    assert!(matches!(&asked[2], Asked::PreStart(ids) if set(ids) == wanted), "{asked:?}");
}

/// The order in which eight devices are given out.
async fn order(seed: u64) -> Vec<String> {
    let setup = setup(seed);
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let plugin = FakePlugin::serve(setup.root.path(), R, options(false, false), healthy(&ids));
    plugin.register().await.unwrap();
    count(&setup.manager, 8, 8).await;
    setup.manager.allocate(&pod("p", &[("c", 8)])).await.unwrap();
    allocated(&plugin).remove(0)
}

#[tokio::test]
async fn order_is_random_and_can_be_repeated() {
    let (first, again, other) = (order(1).await, order(1).await, order(2).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    let mut sorted = first.clone();
    sorted.sort();
    assert_ne!(first, sorted, "not by name");
}

#[tokio::test]
async fn what_pods_hold_survives_a_restart() {
    let setup = setup(1);
    let plugin = FakePlugin::serve(setup.root.path(), R, options(false, false), healthy(&["a", "b"]));
    plugin.register().await.unwrap();
    count(&setup.manager, 2, 2).await;
    setup.manager.track(&pod("p", &[("c", 1)]));
    setup.manager.allocate(&pod("p", &[("c", 1)])).await.unwrap();
    let before = setup.manager.edits("p", "c");
    setup.manager.close();
    let again = DeviceManager::new(setup.root.path(), Random::new(2)).unwrap();
    let sockets = std::fs::read_dir(setup.root.path().join("device-plugins")).unwrap();
    let left: Vec<_> = sockets.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        left,
        ["kubelet_internal_checkpoint"],
        "stale sockets are removed, so that plugins register again"
    );
    let uids: Vec<_> = again.holders().into_keys().collect();
    assert_eq!(uids, ["p"]);
    let none = Count { capacity: 0, allocatable: 0 };
    assert_eq!(again.counts()[R], none, "known, but not there until its plugin is");
    assert_eq!(again.edits("p", "c"), before);
    again.forget("p");
    assert!(again.holders().is_empty());
}

async fn lister(root: &Path) -> PodResourcesListerClient<tonic::transport::Channel> {
    let socket = root.join("pod-resources/kubelet.sock");
    PodResourcesListerClient::connect(format!("unix://{}", socket.display())).await.unwrap()
}

fn ids(rows: &[ContainerDevices]) -> Vec<(String, Option<i64>)> {
    let node = |row: &ContainerDevices| row.topology.as_ref().map(|t| t.nodes[0].id);
    let mut all: Vec<_> = rows.iter().map(|row| (row.device_ids.join("+"), node(row))).collect();
    all.sort();
    all
}

#[tokio::test]
async fn pod_resources_tell_who_holds_what() {
    let cluster = Cluster::start().await;
    let devices = vec![
        device("a", true, Some(&[0])),
        device("b", true, Some(&[1])),
        device("c", true, None),
        device("d", false, None),
    ];
    let plugin = FakePlugin::serve(&cluster.root(), R, options(false, false), devices);
    plugin.register().await.unwrap();
    cluster.allocatable(R, "3").await;
    let mut lister = lister(&cluster.root()).await;
    let all = lister.get_allocatable_resources(AllocatableResourcesRequest {}).await.unwrap().into_inner();
    assert_eq!(ids(&all.devices), [("a".into(), Some(0)), ("b".into(), Some(1)), ("c".into(), None)]);

    let limits = json!({ "containers": [{ "name": "c", "image": "image:1", "resources": { "limits": { R: "3" } } }, { "name": "side", "image": "image:1" }] });
    // It appears with its devices before its sandbox exists: the network is attached in between.
    cluster.runtime.fail("RunPodSandbox", 1, "no network");
    cluster.create("p", limits).await;
    cluster.event("p", "FailedCreatePodSandBox").await;
    let request = GetPodResourcesRequest { pod_name: "p".into(), pod_namespace: "default".into() };
    let got = lister.get(request.clone()).await.unwrap().into_inner().pod_resources.unwrap();
    assert_eq!(ids(&got.containers[0].devices), ids(&all.devices), "one row for each device and node");
    assert!(got.containers[1].devices.is_empty());
    let list = lister.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    assert_eq!((list.len(), list[0].name.as_str()), (1, "p"));

    cluster.phase("p", "Running").await;
    cluster.delete("p", 1).await;
    cluster.gone("p").await;
    assert!(lister.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources.is_empty());
    assert!(lister.get(request).await.unwrap_err().message().contains("pod p in namespace default"));
}
