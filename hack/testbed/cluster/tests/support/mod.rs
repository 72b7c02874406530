//! Fakes for both sides of the stand-in kubelet, and a cluster of one node made of them.
// Each test program uses a part of this.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod plugin;
pub(crate) mod runtime;

use std::{fmt::Debug, path::Path, time::Duration};

use fairlead_testbed::{
    apiserver::ApiServer,
    kubelet::{Config, Kubelet, client},
};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use self::runtime::FakeRuntime;

/// An API server, a runtime that runs nothing, and a stand-in kubelet over them.
pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    pub(crate) server: ApiServer,
    pub(crate) runtime: FakeRuntime,
    pub(crate) kubelet: Option<Kubelet>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc")).unwrap();
        std::fs::write(folder.path().join("proc/meminfo"), "MemTotal: 1048576 kB\n").unwrap();
        let server = ApiServer::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let runtime = FakeRuntime::serve(&folder.path().join("cri.sock"));
        let mut cluster = Self { folder, server, runtime, kubelet: None };
        cluster.start_kubelet(1).await;
        cluster
    }

    pub(crate) async fn start_kubelet(&mut self, seed: u64) {
        let folder = self.folder.path();
        let config = Config {
            root: folder.join("kubelet"),
            runtime: folder.join("cri.sock"),
            log_root: folder.join("logs"),
            machine_root: folder.into(),
            ..Config::usual("node1", &self.server.url(), seed)
        };
        std::fs::create_dir_all(&config.root).unwrap();
        self.kubelet = Some(Kubelet::start(config).await.unwrap());
    }

    pub(crate) fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("kubelet")
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(client(&self.server.url()).unwrap(), "default")
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(client(&self.server.url()).unwrap())
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) {
        let mut pod = json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "image:1" }] } });
        json_patch::merge(&mut pod["spec"], &spec);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    pub(crate) async fn delete(&self, name: &str, grace: u32) {
        self.pods().delete(name, &DeleteParams::default().grace_period(grace)).await.unwrap();
    }

    /// The pod once it is in a phase.
    pub(crate) async fn phase(&self, name: &str, phase: &str) -> Pod {
        let pods = self.pods();
        eventually(&format!("{name} {phase}"), async || {
            let pod = pods.get_opt(name).await.unwrap().ok_or("no such pod")?;
            if pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(phase) {
                Ok(pod)
            } else {
                Err(format!("{:?}", pod.status))
            }
        })
        .await
    }

    pub(crate) async fn gone(&self, name: &str) {
        let pods = self.pods();
        eventually(&format!("{name} gone"), async || match pods.get_opt(name).await.unwrap() {
            None => Ok(()),
            Some(pod) => Err(format!("{:?}", pod.metadata)),
        })
        .await;
    }

    /// The text of an event about a pod, once there is one of this reason.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> Event {
        let events: Api<Event> = Api::namespaced(client(&self.server.url()).unwrap(), "default");
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        eventually(&format!("event {reason}"), async || {
            let all = events.list(&about).await.unwrap().items;
            let reasons: Vec<_> = all.iter().map(|e| e.reason.clone()).collect();
            all.into_iter().find(|e| e.reason.as_deref() == Some(reason)).ok_or(reasons)
        })
        .await
    }

    /// The node's allocatable amount of a resource, once it is this.
    pub(crate) async fn allocatable(&self, resource: &str, amount: &str) {
        let nodes = self.nodes();
        eventually(&format!("{amount} {resource}"), async || {
            let node = nodes.get_opt("node1").await.unwrap().ok_or(None)?;
            let all = node.status.and_then(|s| s.allocatable).unwrap_or_default();
            let found = all.get(resource).map(|q| q.0.clone());
            if found.as_deref() == Some(amount) { Ok(()) } else { Err(found) }
        })
        .await;
    }
}

/// Tries until it succeeds, or fails the test with the last thing seen.
pub(crate) async fn eventually<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() > end => panic!("{what}: still {seen:?}"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Whether a folder is absent or empty.
pub(crate) fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}
