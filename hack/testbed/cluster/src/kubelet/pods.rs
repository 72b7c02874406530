//! The pods of this node: each gets a worker, which hears what the API server says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};

use super::{
    Shared, finish,
    sandbox_config::PodId,
    worker::{Update, Worker},
};
use crate::cri::{POD_NAME, POD_NAMESPACE, POD_UID};

/// Watches and dispatches until the task is ended; the workers end with it.
pub(super) async fn run(shared: Arc<Shared>) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let ours = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.config.node));
    let mut events = Box::pin(watcher(api, ours).default_backoff());
    let mut pods = Pods {
        shared,
        known: BTreeMap::new(),
        workers: JoinSet::new(),
        listed: BTreeSet::new(),
        first: true,
    };
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => pods.handle(event).await,
                Some(Err(error)) => tracing::warn!(target: "kubelet", "watch of pods: {error}"),
                None => return,
            },
            Some(ended) = pods.workers.join_next_with_id() => pods.ended(&ended.map(|(id, ())| id)),
        }
    }
}

struct Pods {
    shared: Arc<Shared>,
    /// By UID. Those whose worker has ended stay until the API server says that they are gone.
    known: BTreeMap<String, Known>,
    workers: JoinSet<()>,
    listed: BTreeSet<String>,
    first: bool,
}

struct Known {
    updates: watch::Sender<Update>,
    worker: Id,
}

impl Pods {
    async fn handle(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.apply(pod);
            }
            Event::InitDone => {
                let gone: Vec<String> =
                    self.known.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    self.gone(&uid);
                }
                if std::mem::take(&mut self.first) {
                    self.end_orphans().await;
                }
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.gone(uid);
                }
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let update = Update { pod: Arc::new(pod), gone: false };
        if let Some(known) = self.known.get(&uid) {
            known.updates.send_replace(update);
            return;
        }
        let (sender, receiver) = watch::channel(update);
        let worker = self.workers.spawn(Worker::new(self.shared.clone(), receiver).run()).id();
        self.known.insert(uid, Known { updates: sender, worker });
    }

    fn gone(&mut self, uid: &str) {
        if let Some(known) = self.known.remove(uid) {
            known.updates.send_modify(|update| update.gone = true);
        }
    }

    fn ended(&self, worker: &Result<Id, tokio::task::JoinError>) {
        if let Err(error) = worker {
            let uid = self.known.iter().find(|(_, k)| k.worker == error.id()).map(|(uid, _)| uid.as_str());
            tracing::error!(target: "kubelet", "the worker of pod {} failed: {error}", uid.unwrap_or_default());
        }
    }

    /// Ends what earlier runs left of pods that no longer exist.
    async fn end_orphans(&self) {
        let mut orphans: BTreeMap<String, (Pod, Vec<String>)> = BTreeMap::new();
        for sandbox in self.shared.runtime.sandboxes(None).await.unwrap_or_default() {
            let label = |key: &str| sandbox.labels.get(key).cloned();
            let Some(uid) = label(POD_UID).filter(|uid| !self.known.contains_key(uid)) else { continue };
            let mut pod = Pod::default();
            pod.metadata.uid = Some(uid.clone());
            pod.metadata.name = label(POD_NAME);
            pod.metadata.namespace = label(POD_NAMESPACE);
            orphans.entry(uid).or_insert((pod, Vec::new())).1.push(sandbox.id);
        }
        for uid in self.shared.devices.holders().into_keys() {
            if !orphans.contains_key(&uid) && !self.known.contains_key(&uid) {
                self.shared.devices.forget(&uid);
            }
        }
        for (pod, sandboxes) in orphans.into_values() {
            let shared = self.shared.clone();
            tokio::spawn(async move {
                let id = PodId::of(&pod);
                tracing::warn!(target: "kubelet", "{}: no longer in the API, ending it", id.text());
                for sandbox in &sandboxes {
                    finish::stop_sandbox(&shared, &pod, sandbox).await;
                    finish::remove_sandbox(&shared, sandbox).await;
                }
                finish::leftovers(&shared, &pod).await;
                shared.devices.forget(&id.uid);
            });
        }
    }
}
