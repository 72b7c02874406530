use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

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
    let (agent, background) = Agent::new(client, "node-1".into(), root.path()).unwrap();
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
        deadline_ms: 1000,
    });
    assert_eq!(running.ask(call, 30_000).await, Answer::Published);
    let added = |text: &str| ("AddedInterface".to_owned(), text.to_owned());
    assert_eq!(
        running.events(2).await,
        [added("Add net1 [10.1.1.2 fd00::2] from default/vf"), added("Add net2 from default/dpdk")]
    );
}
