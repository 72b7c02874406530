//! Reports that the API server has not taken yet: their pods have started, and their status follows.

mod folder;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fairlead_cni::agent_protocol::{Late, PodRef, Report};
use kube::Client;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    cache::Key,
    metrics::Metrics,
    report::{self, ReportError},
};

use self::folder::Folder;

/// How many reports wait; more are dropped, and said. A node has fewer pods.
const ROOM: usize = 1024;
/// Pauses between two rounds.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How often is looked for reports of an agent that this one has replaced: it may have been at a call still.
const LOOK: Duration = Duration::from_secs(30);
/// How long one report may take in a round.
const EACH: Duration = Duration::from_secs(5);

/// See above.
#[derive(Default)]
pub(crate) struct Pending {
    waiting: Mutex<HashMap<Key, Late>>,
    added: Notify,
    folder: Folder,
    metrics: Metrics,
}

impl Pending {
    /// Reports are kept in `folder`, so that the next agent has them.
    pub(crate) fn new(folder: PathBuf, metrics: Metrics) -> Self {
        Self { folder: Folder::new(folder), metrics, ..Self::default() }
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
        let late = Late { report, uid };
        self.folder.keep(&late);
        let before = waiting.insert(key, late.clone());
        drop(waiting);
        if let Some(before) = before.filter(|before| before.report.container_id != late.report.container_id) {
            self.folder.forget(&before.report.container_id);
        }
        self.added.notify_one();
    }

    /// A pod's report is void: there is a newer one.
    pub(crate) fn forget(&self, pod: &PodRef) {
        // An earlier agent may have kept one.
        self.take_over();
        if let Some(late) = self.waiting().remove(&key(pod)) {
            self.folder.forget(&late.report.container_id);
        }
    }

    /// A sandbox's report is void: its interfaces are gone.
    pub(crate) fn forget_sandbox(&self, pod: &PodRef, container_id: &str) {
        let is_its = |late: &Late| late.report.container_id == container_id;
        if self.waiting().get(&key(pod)).is_some_and(is_its) {
            self.forget(pod);
        }
        // One that an earlier agent kept.
        self.folder.forget(container_id);
    }

    /// Takes over what an earlier agent has kept. What came since is newer.
    fn take_over(&self) {
        let mut waiting = self.waiting();
        for late in self.folder.all(ROOM) {
            let key = key(&late.report.pod);
            match waiting.get(&key) {
                Some(newer) if newer.report.container_id != late.report.container_id => {
                    self.folder.forget(&late.report.container_id);
                }
                None if waiting.len() < ROOM => {
                    tracing::info!(pod = %late.report.pod, "network-status was not published without this agent");
                    waiting.insert(key, late);
                }
                _ => {}
            }
        }
    }

    /// Publishes what waits; never ends. `published` is told of each; `uid_of` tells what the API server knows a pod by.
    pub(crate) async fn run(
        &self,
        client: &Client,
        uid_of: impl Fn(&PodRef) -> String,
        published: impl Fn(&Late),
    ) {
        let mut pause = FIRST;
        loop {
            self.take_over();
            let round = self.all();
            if round.is_empty() {
                let _ = timeout(LOOK, self.added.notified()).await;
                pause = FIRST;
                continue;
            }
            sleep(pause).await;
            let mut progress = false;
            for late in round {
                progress |= self.publish(client, &late, &uid_of, &published).await;
            }
            pause = if progress { FIRST } else { (pause * 2).min(LONGEST) };
        }
    }

    /// Whether the report need not be published any more.
    async fn publish(
        &self,
        client: &Client,
        late: &Late,
        uid_of: impl Fn(&PodRef) -> String,
        published: impl Fn(&Late),
    ) -> bool {
        if !self.is_current(late) {
            return true;
        }
        let pod = &late.report.pod;
        let uid = if late.uid.is_empty() { uid_of(pod) } else { late.uid.clone() };
        let result = report::publish(client, &late.report, &uid, Instant::now() + EACH).await;
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
    use std::{path::Path, sync::Arc};

    use serde_json::{Value, json};

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
        let pending = Pending::default();
        prepare(&pending);
        let mut asked = 0;
        let told = run(&pending, move |_| {
            asked += 1;
            if asked > away { (200, json!({"metadata": {"name": "router"}})) } else { status(503, "away") }
        });
        let told = told.await;
        assert!(pending.waiting().is_empty());
        told
    }

    /// Runs for ten minutes; the containers whose reports were published.
    async fn run(
        pending: &Pending,
        mut respond: impl FnMut(&Asked) -> (u16, Value) + Send + 'static,
    ) -> Vec<String> {
        let (client, _) = api(move |asked| Some(respond(asked)));
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = |late: &Late| told.lock().unwrap().push(late.report.container_id.clone());
        let run = pending.run(&client, |pod| pod.uid.clone(), tell);
        assert!(timeout(Duration::from_secs(600), run).await.is_err());
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

    /// Names of what a folder has.
    fn files(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn other(name: &str, container: &str) -> Report {
        Report { pod: PodRef { name: name.into(), ..pod() }, ..report(container) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_agent_publishes_what_one_that_was_killed_had_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pending");
        let agent = || Pending::new(folder.clone(), Metrics::default());
        let killed = agent();
        for late in [report("c1"), other("gone", "c2"), other("again", "c3"), other("removed", "c4")] {
            killed.add(late, "u".into());
        }
        // As the executable leaves one.
        killed.add(other("left", "c6"), String::new());
        killed.add(report("c5"), "u".into());
        assert!(run(&killed, |_| status(503, "away")).await.is_empty());
        assert_eq!(files(&folder), ["c2.json", "c3.json", "c4.json", "c5.json", "c6.json"]);
        drop(killed);

        let next = agent();
        next.forget_sandbox(&other("removed", "c4").pod, "c4");
        let respond = |asked: &Asked| match (asked.line.contains("/gone/"), asked.line.contains("/again")) {
            (true, _) => status(404, "gone"),
            (_, true) if asked.line.starts_with("PATCH") => status(409, "another UID"),
            (_, true) => (200, json!({"metadata": {"name": "again", "uid": "another"}})),
            _ => {
                assert_eq!(asked.body["metadata"]["uid"], "u");
                (200, json!({"metadata": {"name": "router"}}))
            }
        };
        let mut told = run(&next, respond).await;
        told.sort();
        assert_eq!(told, ["c5", "c6"]);
        assert!(next.waiting().is_empty() && files(&folder).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_of_an_agent_that_is_about_to_go_is_found_later_and_a_newer_one_comes_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let agent = || Pending::new(dir.path().into(), Metrics::default());
        let (old, new) = (agent(), agent());
        let adding = async {
            sleep(Duration::from_secs(100)).await;
            old.add(report("c1"), "u".into());
            old.add(other("b", "c2"), "u".into());
            new.add(report("c3"), "u".into());
        };
        let running = run(&new, |_| (200, json!({"metadata": {"name": "router"}})));
        let (mut told, ()) = tokio::join!(running, adding);
        told.sort();
        assert_eq!(told, ["c2", "c3"]);
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn what_is_no_report_is_removed_and_no_name_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pending");
        let pending = Pending::new(folder.clone(), Metrics::default());
        pending.add(report("c1"), "u".into());
        pending.add(other("odd", "../odd"), "u".into());
        pending.add(Report { warnings: vec!["x".repeat(300_000)], ..other("large", "c2") }, "u".into());
        assert_eq!((files(dir.path()), files(&folder)), (vec!["pending".into()], vec!["c1.json".into()]));
        std::fs::write(folder.join("torn.json"), "{").unwrap();
        std::fs::write(folder.join("large.json"), "x".repeat(300_000)).unwrap();
        std::fs::write(folder.join(".c9.json"), "{").unwrap();
        std::fs::write(folder.join("README"), "").unwrap();
        let next = Pending::new(folder.clone(), Metrics::default());
        next.take_over();
        assert_eq!(next.all(), [Late { report: report("c1"), uid: "u".into() }]);
        assert_eq!(files(&folder), [".c9.json", "README", "c1.json"]);
    }
}
