//! Reports that the API server has not taken yet: their pods have started, and their status follows.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fairlead_cni::agent_protocol::{PodRef, Report};
use kube::Client;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    cache::Key,
    metrics::Metrics,
    report::{self, ReportError},
};

/// How many reports wait; more are dropped, and said. A node has fewer pods.
const ROOM: usize = 1024;
/// Pauses between two rounds.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How long one report may take in a round.
const EACH: Duration = Duration::from_secs(5);

/// A report with the UID that the API server knows the pod by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Late {
    pub(crate) report: Report,
    pub(crate) uid: String,
}

/// See above.
#[derive(Default)]
pub(crate) struct Pending {
    waiting: Mutex<HashMap<Key, Late>>,
    added: Notify,
    metrics: Metrics,
}

impl Pending {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// What waits.
    pub(crate) fn all(&self) -> Vec<Late> {
        self.waiting().values().cloned().collect()
    }

    /// Has a report published as soon as the API server takes it. A newer one of the same pod takes its place.
    pub(crate) fn add(&self, report: Report, uid: String) {
        let key = key(&report.pod);
        let mut waiting = self.waiting();
        if waiting.len() >= ROOM && !waiting.contains_key(&key) {
            tracing::warn!(pod = %report.pod, "too many reports wait for the API server: network-status is dropped");
            self.metrics.reported("dropped");
            return;
        }
        waiting.insert(key, Late { report, uid });
        drop(waiting);
        self.added.notify_one();
    }

    /// A pod's report is void: there is a newer one.
    pub(crate) fn forget(&self, pod: &PodRef) {
        self.waiting().remove(&key(pod));
    }

    /// A sandbox's report is void: its interfaces are gone.
    pub(crate) fn forget_sandbox(&self, pod: &PodRef, container_id: &str) {
        let mut waiting = self.waiting();
        if waiting.get(&key(pod)).is_some_and(|late| late.report.container_id == container_id) {
            waiting.remove(&key(pod));
        }
    }

    /// Publishes what waits; never ends. `published` is told of each.
    pub(crate) async fn run(&self, client: &Client, published: impl Fn(&Late)) {
        let mut pause = FIRST;
        loop {
            let round = self.all();
            if round.is_empty() {
                self.added.notified().await;
                pause = FIRST;
                continue;
            }
            sleep(pause).await;
            let mut progress = false;
            for late in round {
                progress |= self.publish(client, &late, &published).await;
            }
            pause = if progress { FIRST } else { (pause * 2).min(LONGEST) };
        }
    }

    /// Whether the report need not be published any more.
    async fn publish(&self, client: &Client, late: &Late, published: impl Fn(&Late)) -> bool {
        if !self.is_current(late) {
            return true;
        }
        let pod = &late.report.pod;
        let result = report::publish(client, &late.report, &late.uid, Instant::now() + EACH).await;
        match result {
            Ok(()) => {
                tracing::info!(%pod, interfaces = late.report.networks.len(), "published late");
                self.metrics.reported("late");
                published(late);
            }
            Err(error) if error.may_pass() => {
                tracing::debug!(%pod, %error, "network-status waits on");
                return false;
            }
            Err(error) => {
                self.metrics.reported(error.outcome());
                if !matches!(error, ReportError::Gone(_) | ReportError::Replaced(_)) {
                    tracing::warn!(%pod, %error, "not published");
                }
            }
        }
        if self.is_current(late) {
            self.forget(pod);
        }
        true
    }

    fn is_current(&self, late: &Late) -> bool {
        self.waiting().get(&key(&late.report.pod)) == Some(late)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, Late>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(pod: &PodRef) -> Key {
    (pod.namespace.clone(), pod.name.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::testing::{Asked, api, pod, status};

    fn report(container: &str) -> Report {
        Report {
            pod: pod(),
            container_id: container.into(),
            networks: Vec::new(),
            warnings: Vec::new(),
            timings: Vec::new(),
            deadline_ms: 0,
        }
    }

    /// Runs with an API server that is away for so many requests; the containers whose reports were published by the end.
    async fn published(away: usize, prepare: impl Fn(&Pending)) -> Vec<String> {
        let mut asked = 0;
        let respond = move |_: &Asked| {
            asked += 1;
            Some(if asked > away {
                (200, json!({"metadata": {"name": "router"}}))
            } else {
                status(503, "away")
            })
        };
        let (client, _) = api(respond);
        let pending = Pending::default();
        prepare(&pending);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = |late: &Late| told.lock().unwrap().push(late.report.container_id.clone());
        let run = pending.run(&client, tell);
        assert!(tokio::time::timeout(Duration::from_secs(600), run).await.is_err());
        assert!(pending.waiting().is_empty());
        told.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_follows_when_the_api_server_is_back_and_the_newest_only() {
        let told = published(20, |pending| {
            pending.add(report("old"), "u".into());
            pending.add(report("new"), "u".into());
        });
        assert_eq!(told.await, ["new"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_void_is_not_published() {
        let told = published(0, |pending| {
            pending.add(report("c"), "u".into());
            pending.forget_sandbox(&pod(), "another");
            pending.forget_sandbox(&pod(), "c");
        });
        assert!(told.await.is_empty());
    }
}
