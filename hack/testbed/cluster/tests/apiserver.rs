//! kube's own client against the stand-in API server.
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::SocketAddr, time::Duration};

use fairlead_testbed::apiserver::{ApiServer, Options};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use kube::{
    Api, Client, Config, Error,
    api::{
        DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
        WatchParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind, PartialObjectMeta},
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde_json::{Value, json};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn start() -> (ApiServer, Client) {
    let server = ApiServer::start(loopback()).await.unwrap();
    let client = client(&server).await;
    (server, client)
}

/// Through the kubeconfig, as any client comes.
async fn client(server: &ApiServer) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn pods(client: &Client) -> Api<Pod> {
    Api::namespaced(client.clone(), "default")
}

fn networks(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition");
    let resource = ApiResource::from_gvk_with_plural(&kind, "network-attachment-definitions");
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn network(name: &str, config: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": name }, "spec": { "config": config },
    }))
    .unwrap()
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "containers": [{ "name": "c", "image": "i", "resources": { "limits": { "a/b": "1" } } }] },
    }))
    .unwrap()
}

async fn create(client: &Client, name: &str) -> Pod {
    pods(client).create(&PostParams::default(), &pod(name)).await.unwrap()
}

async fn bind(client: &Client, name: &str, node: &str) -> kube::Result<Value> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name }, "target": { "kind": "Node", "name": node },
    });
    pods(client).create_subresource("binding", name, &PostParams::default(), &binding).await
}

/// Code and reason of a request that must fail.
fn failure<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String, String) {
    match result.unwrap_err() {
        Error::Api(status) => (status.code, status.reason, status.message),
        other => panic!("no answer of the server: {other}"),
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_ref().unwrap().parse().unwrap()
}

#[tokio::test]
async fn objects_are_created_read_changed_and_deleted() {
    let (_server, client) = start().await;
    let api = pods(&client);
    let made = create(&client, "a").await;
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(made.status.as_ref().unwrap().phase.as_deref(), Some("Pending"));
    let requests = made.spec.as_ref().unwrap().containers[0].resources.clone().unwrap().requests.unwrap();
    assert_eq!(requests["a/b"].0, "1", "requests are the limits where not given");

    let (code, reason, message) = failure(api.create(&PostParams::default(), &pod("a")).await);
    assert_eq!(
        (code, reason.as_str(), message.as_str()),
        (409, "AlreadyExists", "pods \"a\" already exists")
    );
    let (code, reason, message) = failure(api.get("b").await);
    assert_eq!((code, reason.as_str(), message.as_str()), (404, "NotFound", "pods \"b\" not found"));
    let (code, reason, _) = failure(api.create(&PostParams::default(), &pod("Bad_Name")).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    let elsewhere: Api<Pod> = Api::namespaced(client.clone(), "nowhere");
    let (code, _, message) = failure(elsewhere.create(&PostParams::default(), &pod("a")).await);
    assert_eq!((code, message.as_str()), (404, "namespaces \"nowhere\" not found"));

    let mut changed = made.clone();
    changed.metadata.labels.get_or_insert_default().insert("x".into(), "y".into());
    let changed = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert!(version(&changed) > version(&made));
    let again = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(version(&again), version(&changed), "no change, no version");
    let (code, reason, _) = failure(api.replace("a", &PostParams::default(), &made).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"), "a stale version is refused");

    let gone = api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(gone.left().unwrap().metadata.uid, made.metadata.uid, "a pod on no node goes at once");
    assert_eq!(failure(api.get("a").await).0, 404);
}

#[tokio::test]
async fn generated_names_and_events() {
    let (_server, client) = start().await;
    let events: Api<Event> = Api::namespaced(client, "default");
    let mut event: Event = serde_json::from_value(json!({
        "metadata": {}, "involvedObject": { "kind": "Pod", "name": "a" }, "reason": "Failed", "message": "m", "type": "Warning",
    }))
    .unwrap();
    event.metadata.generate_name = Some("a.".into());
    let first = events.create(&PostParams::default(), &event).await.unwrap();
    let second = events.create(&PostParams::default(), &event).await.unwrap();
    assert!(first.metadata.name.as_ref().unwrap().starts_with("a."));
    assert_ne!(first.metadata.name, second.metadata.name);
    let about = ListParams::default().fields("involvedObject.name=a,reason=Failed");
    assert_eq!(events.list(&about).await.unwrap().items.len(), 2);
    assert_eq!(
        events.list(&ListParams::default().fields("involvedObject.name=b")).await.unwrap().items.len(),
        0
    );
}

#[tokio::test]
async fn lists_are_narrowed_by_selectors() {
    let (_server, client) = start().await;
    create(&client, "a").await;
    create(&client, "b").await;
    bind(&client, "b", "node1").await.unwrap();
    let names = async |list: ListParams| -> Vec<String> {
        let all: Api<Pod> = Api::all(client.clone());
        all.list(&list).await.unwrap().items.into_iter().filter_map(|p| p.metadata.name).collect()
    };
    assert_eq!(names(ListParams::default()).await, ["a", "b"]);
    assert_eq!(names(ListParams::default().labels("app=b")).await, ["b"]);
    assert_eq!(names(ListParams::default().fields("spec.nodeName=node1")).await, ["b"]);
    assert_eq!(names(ListParams::default().fields("status.phase=Pending,metadata.name=a")).await, ["a"]);
    let all: Api<Pod> = Api::all(client.clone());
    assert_eq!(failure(all.list(&ListParams::default().fields("spec.image=i")).await).0, 400);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let (_server, client) = start().await;
    let api = pods(&client);
    let made = create(&client, "a").await;
    let merge = |patch: Value| Patch::Merge(patch);
    let parameters = PatchParams::default();

    // As the agent does: network-status through the status subresource.
    let patch = json!({ "metadata": { "uid": made.metadata.uid, "annotations": { "k8s.v1.cni.cncf.io/network-status": "[]" } } });
    let patched = api.patch_status("a", &parameters, &merge(patch)).await.unwrap();
    assert_eq!(patched.metadata.annotations.unwrap()["k8s.v1.cni.cncf.io/network-status"], "[]");

    let patch = json!({ "status": { "phase": "Running" }, "spec": { "hostNetwork": true } });
    let patched = api.patch_status("a", &parameters, &merge(patch)).await.unwrap();
    assert_eq!(patched.status.unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(patched.spec.unwrap().host_network, None, "a status patch leaves the spec alone");

    let patch = json!({ "status": { "phase": "Failed" }, "metadata": { "labels": { "app": null } } });
    let patched = api.patch("a", &parameters, &merge(patch)).await.unwrap();
    assert_eq!(patched.status.unwrap().phase.as_deref(), Some("Running"), "a patch leaves the status alone");
    assert_eq!(patched.metadata.labels.unwrap_or_default().get("app"), None, "null removes");

    let (code, reason, _) =
        failure(api.patch("a", &parameters, &merge(json!({ "spec": { "hostNetwork": true } }))).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"), "a pod's spec is fixed");
    let (code, reason, message) =
        failure(api.patch_status("a", &parameters, &merge(json!({ "metadata": { "uid": "other" } }))).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("UID in precondition: other"), "{message}");
    let (code, _, _) = failure(api.patch_status("b", &parameters, &merge(json!({}))).await);
    assert_eq!(code, 404);
}

#[tokio::test]
async fn patches_of_other_kinds() {
    let (_server, client) = start().await;
    let api = pods(&client);
    create(&client, "a").await;
    let operations = json!([{ "op": "add", "path": "/metadata/labels/x", "value": "y" }]);
    let patch = Patch::Json::<()>(serde_json::from_value(operations).unwrap());
    let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.metadata.labels.unwrap()["x"], "y");
    let strategic = api.patch("a", &PatchParams::default(), &Patch::Strategic(json!({}))).await;
    assert_eq!(failure(strategic).0, 415);
    let apply = api.patch("a", &PatchParams::apply("me"), &Patch::Apply(json!({}))).await;
    assert_eq!(failure(apply).0, 415);
    let wrong = api
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({ "metadata": { "annotations": { "n": 1 } } })),
        )
        .await;
    assert_eq!(failure(wrong).0, 400, "annotations are text");
}

#[tokio::test]
async fn networks_are_custom_objects() {
    let (_server, client) = start().await;
    let api = networks(&client);
    let made = api.create(&PostParams::default(), &network("n", "{}")).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let patch = json!({ "metadata": { "annotations": { "k8s.v1.cni.cncf.io/resourceName": "a/b" } } });
    let patched = api.patch("n", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert_eq!(patched.metadata.generation, Some(1), "metadata does not count");
    let patch = json!({ "spec": { "config": "{\"type\":\"x\"}" } });
    let patched = api.patch("n", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert_eq!(patched.metadata.generation, Some(2));
    let (code, reason, _) = failure(
        api.patch("n", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "config": {} } }))).await,
    );
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(
        failure(api.patch_status("n", &PatchParams::default(), &Patch::Merge(json!({}))).await).0,
        404
    );
    let gone = api.delete("n", &DeleteParams::default()).await.unwrap();
    assert!(gone.right().unwrap().is_success(), "of these a Status comes back");
    let (code, _, message) = failure(api.get("n").await);
    assert_eq!(
        (code, message.as_str()),
        (404, "network-attachment-definitions.k8s.cni.cncf.io \"n\" not found")
    );
}

#[tokio::test]
async fn metadata_alone() {
    let (_server, client) = start().await;
    create(&client, "a").await;
    let one = pods(&client).get_metadata("a").await.unwrap();
    assert_eq!(one.types.unwrap().kind, "PartialObjectMetadata");
    assert_eq!(one.metadata.labels.unwrap()["app"], "a");
    let list = pods(&client).list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let metadata: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), "default");
    let mut events = Box::pin(watcher(metadata, watcher::Config::default()).applied_objects());
    let first = timeout(LIMIT, events.try_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.metadata.name.as_deref(), Some("a"));
    create(&client, "b").await;
    let second = timeout(LIMIT, events.try_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(second.metadata.name.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_pod_on_a_node_is_deleted_gracefully() {
    let (_server, client) = start().await;
    let api = pods(&client);
    let made = create(&client, "a").await;
    bind(&client, "a", "node1").await.unwrap();
    let (code, _, message) = failure(bind(&client, "a", "node2").await);
    assert_eq!(code, 409);
    assert!(message.contains("already assigned to node \"node1\""), "{message}");

    let marked = api.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert!(marked.metadata.deletion_timestamp.is_some());
    let shorter = api.delete("a", &DeleteParams::default().grace_period(2)).await.unwrap().left().unwrap();
    assert_eq!(shorter.metadata.deletion_grace_period_seconds, Some(2));
    let longer = api.delete("a", &DeleteParams::default().grace_period(9)).await.unwrap().left().unwrap();
    assert_eq!(longer.metadata.deletion_grace_period_seconds, Some(2), "grace only shrinks");

    let only = |uid: Option<String>| {
        DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions { uid, ..Preconditions::default() })
    };
    assert_eq!(failure(api.delete("a", &only(Some("other".into()))).await).0, 409);
    api.delete("a", &only(made.metadata.uid)).await.unwrap();
    assert_eq!(failure(api.get("a").await).0, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let (_server, client) = start().await;
    let api = networks(&client);
    let mut held = network("n", "{}");
    held.metadata.finalizers = Some(vec!["a/b".into()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    let marked = api.delete("n", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    let patch = json!({ "metadata": { "finalizers": null } });
    api.patch("n", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert_eq!(failure(api.get("n").await).0, 404);
}

#[tokio::test]
async fn a_namespace_goes_with_what_is_in_it() {
    let (_server, client) = start().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("x".into());
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let inside: Api<Pod> = Api::namespaced(client.clone(), "x");
    let made = inside.create(&PostParams::default(), &pod("a")).await.unwrap();
    let binding = json!({ "metadata": { "name": "a" }, "target": { "name": "node1" } });
    let _: Value = inside.create_subresource("binding", "a", &PostParams::default(), &binding).await.unwrap();
    namespaces.delete("x", &DeleteParams::default()).await.unwrap();
    let (code, reason, _) = failure(inside.create(&PostParams::default(), &pod("b")).await);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(inside.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    assert_eq!(inside.get("a").await.unwrap().metadata.uid, made.metadata.uid);
    inside.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(failure(namespaces.get("x").await).0, 404);
}

#[tokio::test]
async fn nodes_have_status_of_their_own() {
    let (_server, client) = start().await;
    let nodes: Api<Node> = Api::all(client);
    let node: Node = serde_json::from_value(json!({ "metadata": { "name": "n" } })).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let patch = json!({ "status": { "capacity": { "a/b": "2" } } });
    nodes.patch_status("n", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let capacity = nodes.get("n").await.unwrap().status.unwrap().capacity.unwrap();
    assert_eq!(capacity["a/b"].0, "2");
}

/// The next event of a raw watch.
async fn next(
    events: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<Pod>>> + Unpin),
) -> WatchEvent<Pod> {
    timeout(LIMIT, events.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn watches_see_what_matches_their_selector() {
    let (_server, client) = start().await;
    let api = pods(&client);
    create(&client, "a").await;
    let from = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let ours = WatchParams::default().fields("spec.nodeName=node1");
    let mut events = Box::pin(api.watch(&ours, &from).await.unwrap());
    bind(&client, "a", "node1").await.unwrap();
    assert!(
        matches!(next(&mut events).await, WatchEvent::Added(p) if p.metadata.name.as_deref() == Some("a"))
    );
    let patch = json!({ "metadata": { "labels": { "x": "y" } } });
    api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert!(matches!(next(&mut events).await, WatchEvent::Modified(_)));
    api.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    let WatchEvent::Deleted(gone) = next(&mut events).await else { panic!("a deletion comes next") };
    assert!(version(&gone) > from.parse().unwrap(), "the deletion's own version");
}

#[tokio::test]
async fn bookmarks_say_how_far_a_watch_is() {
    let options = Options { bookmark_every: Duration::from_millis(50), ..Options::at(loopback()) };
    let server = ApiServer::start_with(options).await.unwrap();
    let client = client(&server).await;
    let api = pods(&client);
    let other = networks(&client).create(&PostParams::default(), &network("n", "{}")).await.unwrap();
    let mut events = Box::pin(api.watch(&WatchParams::default().timeout(1), "1").await.unwrap());
    let WatchEvent::Bookmark(bookmark) = next(&mut events).await else { panic!("a bookmark comes") };
    assert_eq!(Some(bookmark.metadata.resource_version), other.metadata.resource_version);
    let rest: Vec<_> = timeout(LIMIT, events.collect()).await.unwrap();
    assert!(rest.iter().all(|e| matches!(e, Ok(WatchEvent::Bookmark(_)))), "and then the watch ends in time");
}

#[tokio::test]
async fn a_watch_from_too_long_ago_is_refused() {
    let (server, client) = start().await;
    let made = create(&client, "a").await;
    server.forget_history();
    let from = made.metadata.resource_version.unwrap();
    let mut events = Box::pin(pods(&client).watch(&WatchParams::default(), &from).await.unwrap());
    let WatchEvent::Error(status) = next(&mut events).await else { panic!("an error comes") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(status.message.starts_with("too old resource version"));
}

#[tokio::test]
async fn a_short_history_forgets() {
    let server = ApiServer::start_with(Options { history: 3, ..Options::at(loopback()) }).await.unwrap();
    let client = client(&server).await;
    let first = create(&client, "a").await;
    for name in ["b", "c", "d", "e"] {
        create(&client, name).await;
    }
    let from = first.metadata.resource_version.unwrap();
    let mut events = Box::pin(pods(&client).watch(&WatchParams::default(), &from).await.unwrap());
    assert!(matches!(next(&mut events).await, WatchEvent::Error(status) if status.code == 410));
}

/// Drives a reflector until its store holds just these names.
async fn until<S>(events: &mut S, store: &reflector::Store<Pod>, wanted: &[&str])
where
    S: futures::Stream<Item = Result<watcher::Event<Pod>, watcher::Error>> + Unpin,
{
    let names = || {
        let mut names: Vec<String> = store.state().iter().filter_map(|p| p.metadata.name.clone()).collect();
        names.sort();
        names
    };
    timeout(LIMIT, async {
        while names() != wanted {
            let _ = events.next().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("the store has {:?} and not {wanted:?}", names()));
}

#[tokio::test]
async fn a_reflector_survives_relists() {
    let (server, client) = start().await;
    create(&client, "a").await;
    create(&client, "b").await;
    let (store, writer) = reflector::store();
    let stream = reflector(writer, watcher(pods(&client), watcher::Config::default())).default_backoff();
    let mut events = Box::pin(stream);
    until(&mut events, &store, &["a", "b"]).await;
    create(&client, "c").await;
    pods(&client).delete("a", &DeleteParams::default()).await.unwrap();
    until(&mut events, &store, &["b", "c"]).await;
    // While nobody listens one goes and one comes, and the history of that is lost.
    server.close_watches();
    pods(&client).delete("b", &DeleteParams::default()).await.unwrap();
    create(&client, "d").await;
    server.forget_history();
    until(&mut events, &store, &["c", "d"]).await;
}

#[tokio::test]
async fn streaming_lists() {
    let (_server, client) = start().await;
    create(&client, "a").await;
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().streaming_lists();
    let mut events = Box::pin(reflector(writer, watcher(pods(&client), config)));
    until(&mut events, &store, &["a"]).await;
    create(&client, "b").await;
    until(&mut events, &store, &["a", "b"]).await;
}

#[tokio::test]
async fn discovery() {
    let (_server, client) = start().await;
    assert_eq!(client.apiserver_version().await.unwrap().minor, "33");
    let groups = client.list_api_groups().await.unwrap();
    assert_eq!(groups.groups[0].name, "k8s.cni.cncf.io");
    let core = client.list_core_api_resources("v1").await.unwrap();
    assert!(core.resources.iter().any(|r| r.name == "pods/status"));
}

#[tokio::test]
async fn a_list_comes_in_pages_and_a_page_of_an_older_state_is_expired() {
    let (_server, client) = start().await;
    let networks = networks(&client);
    for name in ["a", "b", "c", "d", "e"] {
        networks.create(&PostParams::default(), &network(name, "{}")).await.unwrap();
    }
    let mut names = Vec::new();
    let mut page = networks.list(&ListParams::default().limit(2)).await.unwrap();
    let mut left = Vec::new();
    loop {
        names.extend(page.items.into_iter().filter_map(|one| one.metadata.name));
        left.push(page.metadata.remaining_item_count);
        let Some(token) = page.metadata.continue_ else { break };
        page = networks.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    }
    assert_eq!(
        (names, left),
        (["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(), vec![Some(3), Some(1), None])
    );
    let first = networks.list(&ListParams::default().limit(2)).await.unwrap();
    networks.create(&PostParams::default(), &network("f", "{}")).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let error = networks.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap_err();
    assert!(matches!(error, Error::Api(status) if status.code == 410));
}
