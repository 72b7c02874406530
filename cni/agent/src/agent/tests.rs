mod metrics;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use fairlead_cni::agent_protocol::{PlannedAttachment, Policy};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::testing::{self, Asked, FakeKubelet, resources, status};

const NADS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions?";
const PODS: &str = "/api/v1/pods?";

/// An agent whose caches run, and what its API server was asked.
struct Running {
    agent: Arc<Agent>,
    log: Arc<Mutex<Vec<Asked>>>,
    kubelet: FakeKubelet,
    _root: TempDir,
}

fn start(respond: impl FnMut(&Asked) -> Option<(u16, Value)> + Send + 'static) -> Running {
    let (client, log) = testing::api(respond);
    let kubelet = FakeKubelet::default();
    let root = kubelet.serve();
    let (agent, background) =
        Agent::new(client, "node-1".into(), root.path(), &root.path().join("agent")).unwrap();
    let agent = Arc::new(agent);
    let running = agent.clone();
    tokio::spawn(async move { background.run(&running).await });
    Running { agent, log, kubelet, _root: root }
}

fn nad(name: &str, resource: Option<&str>) -> Value {
    let annotations = resource.map(|resource| json!({ "k8s.v1.cni.cncf.io/resourceName": resource }));
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": { "namespace": "default", "name": name, "uid": name, "resourceVersion": "1",
            "annotations": annotations },
        "spec": { "config": json!({ "type": "sriov", "vlan": 100 }).to_string() },
    })
}

fn pod_object(uid: &str, networks: &str) -> Value {
    json!({ "metadata": { "namespace": "default", "name": "router", "uid": uid,
        "annotations": { "k8s.v1.cni.cncf.io/networks": networks } } })
}

fn list(items: &[Value]) -> Option<(u16, Value)> {
    Some((
        200,
        json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "5" }, "items": items }),
    ))
}

/// An API server with these objects, whose watches bring nothing.
fn with(nads: Vec<Value>, pods: Vec<Value>) -> impl FnMut(&Asked) -> Option<(u16, Value)> + Send + 'static {
    move |asked| {
        let path = asked.line.split_once(' ').unwrap().1;
        match asked.line.as_str() {
            line if line.contains("watch=true") => None,
            _ if path.starts_with(NADS) => list(&nads),
            _ if path.starts_with(PODS) => list(&pods),
            line if line.starts_with("POST") => Some((201, asked.body.clone())),
            _ => Some(status(404, "not found")),
        }
    }
}

fn resolve(annotation: Option<&str>, deadline_ms: u64) -> Call {
    Call::Resolve(Resolve {
        pod: testing::pod(),
        container_id: "c".into(),
        annotations: annotation
            .map(|text| BTreeMap::from([("k8s.v1.cni.cncf.io/networks".to_owned(), text.to_owned())])),
        interface: "eth0".into(),
        policy: Policy::default(),
        deadline_ms,
    })
}

impl Running {
    async fn ask(&self, call: Call, milliseconds: u64) -> Answer {
        self.agent.handle(call, Instant::now() + Duration::from_millis(milliseconds)).await
    }

    async fn resolve(&self, annotation: &str) -> Answer {
        self.ask(resolve(Some(annotation), 30_000), 30_000).await
    }

    fn asked(&self, part: &str) -> Vec<Asked> {
        self.log.lock().unwrap().iter().filter(|asked| asked.line.contains(part)).cloned().collect()
    }

    /// The events' reasons and messages once there are `count`.
    async fn events(&self, count: usize) -> Vec<(String, String)> {
        while self.asked("/events").len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let text = |asked: &Asked, key: &str| asked.body[key].as_str().unwrap().to_owned();
        self.asked("/events").iter().map(|asked| (text(asked, "reason"), text(asked, "message"))).collect()
    }
}

#[track_caller]
fn planned(answer: Answer) -> Vec<(String, String, Option<String>)> {
    match answer {
        Answer::Plan(plan) => {
            plan.attachments.into_iter().map(|one| (one.network, one.interface, one.device_id)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn expected(rows: &[(&str, &str, Option<&str>)]) -> Vec<(String, String, Option<String>)> {
    rows.iter().map(|(a, b, c)| ((*a).into(), (*b).into(), c.map(Into::into))).collect()
}

#[tokio::test]
async fn networks_and_devices_come_together_from_memory_and_kubelet() {
    let running = start(with(vec![nad("vf", Some("intel.com/sriov")), nad("macvlan", None)], vec![]));
    let rows = resources(&[("intel.com/sriov", &["0000:01:10.2", "0000:01:10.0"])]);
    running.kubelet.lists.lock().unwrap().push_back(Ok(vec![rows]));
    assert_eq!(
        planned(running.resolve("vf,macvlan,vf").await),
        expected(&[
            ("default/vf", "net1", Some("0000:01:10.0")),
            ("default/macvlan", "net2", None),
            ("default/vf", "net3", Some("0000:01:10.2")),
        ])
    );
    assert_eq!(planned(running.resolve("macvlan").await).len(), 1);
    assert_eq!(*running.kubelet.calls.lock().unwrap(), ["Get", "List"]);
    assert!(running.asked("namespaces/default").is_empty(), "asked the API server for a pod");
}

#[tokio::test]
async fn a_pod_without_networks_needs_nothing() {
    let running = start(|_| None);
    assert_eq!(running.resolve(" ").await, Answer::Plan(fairlead_cni::agent_protocol::Plan::default()));
    let mut call = resolve(None, 100);
    if let Call::Resolve(call) = &mut call {
        call.annotations = Some(BTreeMap::new());
    }
    assert!(planned(running.ask(call, 100).await).is_empty());
}

#[tokio::test]
async fn without_annotations_the_pod_with_the_right_uid_is_waited_for() {
    let running = start(with(vec![nad("macvlan", None)], vec![pod_object("u", "macvlan")]));
    assert_eq!(
        planned(running.ask(resolve(None, 30_000), 30_000).await),
        expected(&[("default/macvlan", "net1", None)])
    );
    assert!(!running.asked("spec.nodeName%3Dnode-1").is_empty());
    let running = start(with(vec![nad("macvlan", None)], vec![pod_object("earlier", "macvlan")]));
    let failure = failed(running.ask(resolve(None, 100), 100).await);
    assert!(failure.retry);
    assert!(failure.message.starts_with("pod default/router (UID u) is not known yet"), "{failure:?}");
}

#[tokio::test]
async fn a_network_that_the_watch_has_not_brought_is_asked_for_once() {
    let mut rest = with(vec![], vec![]);
    let running = start(move |asked| {
        let live = asked.line.ends_with("/namespaces/default/network-attachment-definitions/new");
        if live { Some((200, nad("new", None))) } else { rest(asked) }
    });
    assert_eq!(planned(running.resolve("new").await), expected(&[("default/new", "net1", None)]));
}

#[tokio::test]
async fn definitions_are_told_as_they_are_known() {
    let ask = || Call::Definitions {
        networks: ["default/vf", "default/gone"].map(str::to_owned).to_vec(),
        deadline_ms: 5000,
    };
    let running = start(with(vec![nad("vf", Some("intel.com/sriov")), nad("macvlan", None)], vec![]));
    let Answer::Definitions { found } = running.ask(ask(), 5000).await else { panic!("another answer") };
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["default/vf"]);
    assert_eq!(found[0].resource_name.as_deref(), Some("intel.com/sriov"));
    let running = start(|_| Some(status(503, "apiserver is starting")));
    assert!(failed(running.ask(ask(), 100).await).retry);
}

#[tokio::test]
async fn a_network_that_does_not_exist_is_final_and_told_on_the_pod() {
    let running = start(with(vec![], vec![]));
    let failure = failed(running.resolve("gone").await);
    assert!(!failure.retry);
    assert!(failure.message.contains("network default/gone, but there is no such"), "{}", failure.message);
    assert!(failed(running.resolve("gone").await).message.contains("gone"));
    assert_eq!(running.events(1).await, [("NetworkPlanFailed".to_owned(), failure.message)]);
    let event = &running.asked("/events")[0].body;
    assert_eq!(event["involvedObject"]["uid"], "u");
    assert_eq!(event["type"], "Warning");
}

#[tokio::test]
async fn without_the_api_server_the_failure_may_pass_and_says_why() {
    let running = start(|_| Some(status(503, "apiserver is starting")));
    let failure = failed(running.ask(resolve(Some("vf"), 1000), 1000).await);
    assert!(failure.retry);
    assert!(failure.message.contains("network default/vf is not known yet"), "{}", failure.message);
    assert!(failure.message.contains("apiserver is starting"), "{}", failure.message);
    let hanging = start(|_| None);
    let failure = failed(hanging.ask(resolve(Some("vf"), 200), 200).await);
    assert!(failure.retry && failure.message.contains("did not answer in time"), "{}", failure.message);
}

#[tokio::test]
async fn mistakes_in_the_annotation_are_final() {
    let running = start(with(vec![], vec![]));
    let failure = failed(running.resolve("a,,b").await);
    assert!(!failure.retry && failure.message.contains("network 2"), "{}", failure.message);
}

#[tokio::test]
async fn a_report_is_published_and_told_on_the_pod() {
    let mut rest = with(vec![], vec![]);
    let running =
        start(
            move |asked| {
                if asked.line.starts_with("PATCH") { Some((200, pod_object("u", ""))) } else { rest(asked) }
            },
        );
    let network = |name: &str, interface: &str, ips: &[&str], default| NetworkStatus {
        name: name.into(),
        interface: interface.into(),
        ips: ips.iter().map(|ip| (*ip).into()).collect(),
        default,
        dns: Map::new(),
        ..NetworkStatus::default()
    };
    let call = Call::Report(Report {
        pod: testing::pod(),
        container_id: "c".into(),
        networks: vec![
            network("bridge", "eth0", &["10.0.0.2"], true),
            network("default/vf", "net1", &["10.1.1.2", "fd00::2"], false),
            network("default/dpdk", "net2", &[], false),
        ],
        warnings: Vec::new(),
        timings: Vec::new(),
        deadline_ms: 1000,
    });
    assert_eq!(running.ask(call, 30_000).await, Answer::Published);
    let added = |text: &str| ("AddedInterface".to_owned(), text.to_owned());
    assert_eq!(
        running.events(2).await,
        [added("Add net1 [10.1.1.2 fd00::2] from default/vf"), added("Add net2 from default/dpdk")]
    );
}

/// The answer to a GET, from its status line on.
async fn probe(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// An agent's probes, on a port of their own.
async fn probes(agent: &Arc<Agent>) -> std::net::SocketAddr {
    // A port that was free a moment ago: the probes wait for one that is taken.
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    tokio::spawn(crate::http::serve(address, agent.clone()));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    address
}

#[tokio::test]
async fn an_agent_is_ready_when_its_caches_are_complete() {
    let running = start(with(vec![nad("a", None)], Vec::new()));
    let address = probes(&running.agent).await;
    assert!(probe(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    while !probe(address, "/readyz").await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.agent.missing(), Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_that_gets_no_lists_lives_and_says_what_it_lacks() {
    let running = start(|_| None);
    let address = probes(&running.agent).await;
    assert!(probe(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let text = probe(address, "/readyz").await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("NetworkAttachmentDefinitions"), "{text}");
    assert!(text.contains("pods of this node"), "{text}");
}

/// The plan of a pod with these annotations, under this policy.
async fn plan_of(running: &Running, annotations: &[(&str, &str)], policy: Policy) -> Answer {
    let annotations = annotations.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let call = Call::Resolve(Resolve {
        pod: testing::pod(),
        container_id: "c".into(),
        annotations: Some(annotations),
        interface: "eth0".into(),
        policy,
        deadline_ms: 30_000,
    });
    running.ask(call, 30_000).await
}

#[tokio::test]
async fn the_primary_network_of_an_annotation_shares_the_devices_and_the_operators_may_be_on_disk() {
    let running = start(with(vec![nad("vf", Some("intel.com/sriov"))], vec![]));
    let rows = resources(&[("intel.com/sriov", &["0000:01:10.2", "0000:01:10.0"])]);
    running.kubelet.lists.lock().unwrap().push_back(Ok(vec![rows]));
    let annotations =
        [("v1.multus-cni.io/default-network", "default/vf"), ("k8s.v1.cni.cncf.io/networks", "vf")];
    let policy = Policy {
        cluster_network: Some("cluster".into()),
        default_networks: vec!["storage".into()],
        ..Policy::default()
    };
    let Answer::Plan(plan) = plan_of(&running, &annotations, policy.clone()).await else { panic!("no plan") };
    let primary = plan.primary.unwrap();
    assert_eq!((primary.interface.as_str(), primary.device_id.as_deref()), ("eth0", Some("0000:01:10.0")));
    let summary =
        |one: &PlannedAttachment| (one.interface.clone(), one.device_id.clone(), one.on_disk.clone());
    let seen: Vec<_> = plan.attachments.iter().map(summary).collect();
    assert_eq!(
        seen,
        [("net1".into(), None, Some("storage".into())), ("net2".into(), Some("0000:01:10.2".into()), None),]
    );
    let Answer::Plan(plan) = plan_of(&running, &[], policy).await else { panic!("no plan") };
    assert_eq!(plan.primary.unwrap().on_disk.as_deref(), Some("cluster"));
    assert!(running.asked("namespaces/kube-system").is_empty(), "what may be on disk was asked for");
}

#[tokio::test]
async fn isolation_is_final_and_told_on_the_pod() {
    let running = start(with(vec![], vec![]));
    let policy = Policy { global_namespaces: Some(vec![]), ..Policy::default() };
    let annotations = [("v1.multus-cni.io/default-network", "other/vf")];
    let failure = failed(plan_of(&running, &annotations, policy).await);
    assert!(!failure.retry && failure.message.contains("namespaceIsolation"), "{}", failure.message);
    assert_eq!(running.events(1).await[0].1, failure.message);
}

#[tokio::test]
async fn a_device_that_an_author_named_is_refused_while_another_pod_has_it() {
    let mut fixed = nad("fixed", None);
    fixed["spec"]["config"] = json!({ "type": "sriov", "deviceID": "0000:01:10.0" }).to_string().into();
    let running = start(with(vec![fixed], vec![]));
    let mut other = resources(&[("intel.com/sriov", &["0000:01:10.0"])]);
    other.name = "holder".into();
    running.kubelet.lists.lock().unwrap().extend([Ok(vec![other]), Ok(vec![])]);
    let failure = failed(running.resolve("fixed").await);
    assert!(!failure.retry && failure.message.contains("pod default/holder"), "{}", failure.message);
    assert_eq!(planned(running.resolve("fixed").await), expected(&[("default/fixed", "net1", None)]));
}

#[tokio::test]
async fn without_the_socket_the_checkpoint_tells_and_the_api_server_the_order_where_it_matters() {
    let mut rest = with(vec![nad("vf", Some("intel.com/sriov"))], vec![]);
    let (client, log) = testing::api(move |asked| {
        let pod = json!({ "metadata": { "namespace": "default", "name": "router" },
            "spec": { "containers": [{ "name": "second" }, { "name": "first" }] } });
        if asked.line == "GET /api/v1/namespaces/default/pods/router" {
            Some((200, pod))
        } else {
            rest(asked)
        }
    });
    let root = tempfile::tempdir().unwrap();
    let (agent, background) =
        Agent::new(client, "node-1".into(), root.path(), &root.path().join("agent")).unwrap();
    let agent = Arc::new(agent);
    let follower = agent.clone();
    tokio::spawn(async move { background.run(&follower).await });
    let running = Running { agent, log, kubelet: FakeKubelet::default(), _root: root };
    let entry = |uid: &str, container: &str, id: &str| json!({ "PodUID": uid, "ContainerName": container, "ResourceName": "intel.com/sriov", "DeviceIDs": { "0": [id] } });
    let checkpoint = json!({ "Data": { "PodDeviceEntries": [
        entry("u", "first", "0000:01:10.0"), entry("earlier", "first", "0000:01:10.4"), entry("u", "second", "0000:01:10.2")
    ] }, "Checksum": 0 });
    let folder = running._root.path().join("device-plugins");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("kubelet_internal_checkpoint"), checkpoint.to_string()).unwrap();
    assert_eq!(
        planned(running.resolve("vf,vf").await),
        expected(&[
            ("default/vf", "net1", Some("0000:01:10.2")),
            ("default/vf", "net2", Some("0000:01:10.0")),
        ])
    );
}

#[tokio::test]
async fn what_happened_is_told_on_the_pod() {
    let running = start(with(vec![], vec![]));
    for (count, (what, reason)) in [
        (Happening::AddFailed, "FailedAddingInterface"),
        (Happening::Removed, "RemovedInterface"),
        (Happening::RemoveFailed, "FailedRemovingInterface"),
    ]
    .into_iter()
    .enumerate()
    {
        let notify = Notify {
            pod: testing::pod(),
            container_id: "c".into(),
            what,
            message: format!("why {count}"),
            code: 999,
            timings: Vec::new(),
            swept: 0,
            deadline_ms: 500,
        };
        assert_eq!(running.ask(Call::Notify(notify), 500).await, Answer::Taken);
        let events = running.events(count + 1).await;
        assert_eq!(events[count], (reason.to_owned(), format!("why {count}")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_starts_without_the_api_server_and_its_status_follows() {
    let mut rest = with(vec![], vec![]);
    let away = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_away = away.clone();
    let running = start(move |asked| match asked.line.starts_with("PATCH") {
        true if is_away.load(std::sync::atomic::Ordering::SeqCst) => Some(status(503, "away")),
        true => Some((200, pod_object("u", ""))),
        false => rest(asked),
    });
    let network =
        NetworkStatus { name: "default/vf".into(), interface: "net1".into(), ..NetworkStatus::default() };
    let report = Report {
        pod: testing::pod(),
        container_id: "c".into(),
        networks: vec![network],
        warnings: vec!["network default/vf: in vain".into()],
        timings: Vec::new(),
        deadline_ms: 30_000,
    };
    let before = Instant::now();
    let failure = failed(running.ask(Call::Report(report), 30_000).await);
    assert!(failure.retry && Instant::now() - before <= IN_PLACE, "{failure:?}");
    assert_eq!(running.events(1).await[0].0, "CapabilityNotTaken");
    away.store(false, std::sync::atomic::Ordering::SeqCst);
    let events = running.events(2).await;
    assert_eq!(events[1], ("AddedInterface".to_owned(), "Add net1 from default/vf".to_owned()));
}
