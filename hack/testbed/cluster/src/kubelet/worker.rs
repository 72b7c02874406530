//! One pod's life on the node: admitted, kept running, ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    Shared, admission,
    amounts::pod_requests,
    devices::rpc_text,
    events::Severity,
    finish,
    observed::{Observed, Seen},
    plan::{BackOff, Step, ended, plan, restarts},
    relist::Relist,
    sandbox_config::PodId,
    scheduler::is_over,
    start,
    status::{self, Context, Waiting},
};
use crate::time;

/// When nothing calls for it earlier, a pod is looked at this often.
const RESYNC: Duration = Duration::from_secs(60);
/// The longest pause between tries to make a sandbox or a container, in seconds.
const LONGEST_RETRY: u64 = 10;
/// Restarts of a container that keeps ending: the first pause and the longest, in seconds.
const CRASH_BACK_OFF: (u64, u64) = (10, 300);

/// The pod as the API server has it.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub(super) pod: Arc<Pod>,
    /// It is no longer in the API.
    pub(super) gone: bool,
}

impl Update {
    fn ends(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Seconds that containers have to end.
    fn grace(&self) -> i64 {
        let spec = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        self.pod.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30).max(1)
    }
}

/// Looks after one pod.
pub(super) struct Worker {
    shared: Arc<Shared>,
    id: PodId,
    updates: watch::Receiver<Update>,
    relist: watch::Receiver<Arc<Relist>>,
    /// The number of the next sandbox, at least.
    attempt: u32,
    /// The number of each container's next try, at least.
    attempts: BTreeMap<String, u32>,
    retry: BackOff,
    crashes: BTreeMap<String, u64>,
    waiting: Waiting,
    start: Time,
    reported: Option<PodStatus>,
}

/// How a pod stands after a look at it.
enum Standing {
    /// Look again after this, or when something changes.
    Lives(Duration),
    /// Every container has ended for good.
    Over,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, updates: watch::Receiver<Update>) -> Self {
        let pod = updates.borrow().pod.clone();
        let start = pod.status.as_ref().and_then(|s| s.start_time.clone()).unwrap_or_else(time::typed_now);
        Self {
            id: PodId::of(&pod),
            relist: shared.relist.subscribe(),
            shared,
            updates,
            attempt: 0,
            attempts: BTreeMap::new(),
            retry: BackOff::default(),
            crashes: BTreeMap::new(),
            waiting: Waiting::new(),
            start,
            reported: None,
        }
    }

    /// Runs until nothing of the pod is left on the node.
    pub(super) async fn run(mut self) {
        if self.admit().await {
            self.live().await;
        }
        // Ended or refused: it stays in the API until somebody deletes it.
        let _ = self.updates.wait_for(Update::ends).await;
        self.terminate().await;
    }

    fn pod(&self) -> Arc<Pod> {
        self.updates.borrow().pod.clone()
    }

    /// True when the pod is to run here.
    async fn admit(&mut self) -> bool {
        let pod = self.pod();
        if self.updates.borrow().ends() {
            return false;
        }
        if is_over(&pod) {
            self.over(&pod).await;
            return false;
        }
        // Whoever is here already was admitted by an earlier run.
        let seen = Seen::look(&self.shared.runtime, &self.id.uid).await;
        let adopted = seen.is_ok_and(|seen| !seen.sandboxes.is_empty());
        self.shared.devices.track(&pod);
        if adopted {
            tracing::info!(target: "kubelet", "{}: already on the node", self.id.text());
            self.shared.admitted.lock().await.insert(self.id.uid.clone(), pod_requests(&pod));
            return true;
        }
        match admission::admit(&self.shared, &pod).await {
            Ok(()) => true,
            Err(rejection) => {
                self.release().await;
                let (reason, message) = (&rejection.reason, &rejection.message);
                self.shared.recorder.pod(&pod, Severity::Warning, reason, message).await;
                let status = status::rejected(&pod, reason, message);
                while let Err(error) = self.write(&status).await {
                    tracing::warn!(target: "kubelet", "{}: status: {error}", self.id.text());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                false
            }
        }
    }

    /// Keeps the pod running until it is deleted or has ended by itself.
    async fn live(&mut self) {
        loop {
            let mut end = self.updates.clone();
            let before = self.relist.borrow_and_update().get(&self.id.uid).cloned();
            self.updates.mark_unchanged();
            let standing = tokio::select! {
                biased;
                // Whatever is under way is given up, a sandbox that is being made too.
                _ = end.wait_for(Update::ends) => return,
                standing = self.sync() => standing,
            };
            let wait = match standing {
                Ok(Standing::Over) => return,
                Ok(Standing::Lives(wait)) => wait,
                Err(why) => {
                    tracing::warn!(target: "kubelet", "{}: {why}", self.id.text());
                    Duration::from_secs(2)
                }
            };
            let uid = &self.id.uid;
            tokio::select! {
                _ = self.updates.changed() => {}
                _ = self.relist.wait_for(|now| now.get(uid) != before.as_ref()) => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One look: does what is to be done next, and reports.
    async fn sync(&mut self) -> Result<Standing, String> {
        let pod = self.pod();
        let mut seen = self.look().await?;
        let mut wait = RESYNC;
        if let Step::NewSandbox { end, attempt } = plan(&pod, &seen, self.attempt) {
            let pause = self.retry.remaining(SANDBOX, now());
            if pause > 0 {
                wait = Duration::from_secs(pause);
            } else {
                self.report(&pod, &seen, false).await?;
                self.renew_sandbox(&pod, &end, attempt).await?;
                seen = self.look().await?;
            }
        }
        match plan(&pod, &seen, self.attempt) {
            Step::Finish => {
                // Only then the last phase: whoever reads it may count on room and devices.
                self.over(&pod).await;
                let seen = self.look().await?;
                self.report(&pod, &seen, false).await?;
                return Ok(Standing::Over);
            }
            Step::Start(list) if !list.is_empty() => {
                if let Some(pause) = self.start(&pod, &seen, list).await {
                    wait = wait.min(Duration::from_secs(pause.max(1)));
                }
                seen = self.look().await?;
            }
            Step::Start(_) | Step::NewSandbox { .. } => {}
        }
        self.report(&pod, &seen, false).await?;
        Ok(Standing::Lives(wait))
    }

    async fn look(&mut self) -> Result<Seen, String> {
        let seen = Seen::look(&self.shared.runtime, &self.id.uid).await.map_err(|s| rpc_text(&s))?;
        for container in &seen.containers {
            let next = self.attempts.entry(container.name.clone()).or_default();
            *next = (*next).max(container.attempt + 1);
        }
        Ok(seen)
    }

    /// Ends what is left of earlier sandboxes and makes a new one.
    async fn renew_sandbox(&mut self, pod: &Pod, end: &[String], attempt: u32) -> Result<(), String> {
        for id in end {
            finish::stop_sandbox(&self.shared, pod, id).await;
            finish::remove_sandbox(&self.shared, id).await;
        }
        self.attempt = attempt + 1;
        match start::sandbox(&self.shared, pod, attempt).await {
            Ok(()) => {
                self.retry.clear(SANDBOX);
                Ok(())
            }
            Err(why) => {
                let pause = self.retry.failed(SANDBOX, now(), 1, LONGEST_RETRY);
                tracing::info!(target: "kubelet", "{}: next sandbox in {pause} s", self.id.text());
                Err(why)
            }
        }
    }

    /// Starts containers whose time has come; returns the shortest time, in seconds, until another's.
    async fn start(&mut self, pod: &Pod, seen: &Seen, list: Vec<(String, u32)>) -> Option<u64> {
        let sandbox = seen.ready_sandbox()?;
        let mut next: Option<u64> = None;
        for (name, attempt) in list {
            let spec = pod.spec.iter().flat_map(|s| &s.containers).find(|c| c.name == name)?;
            let last = seen.latest().get(name.as_str()).copied();
            let pause = self.pause(pod, &name, last);
            if pause > 0 {
                next = Some(next.map_or(pause, |n| n.min(pause)));
                continue;
            }
            let attempt = attempt.max(self.attempts.get(&name).copied().unwrap_or(0));
            let place = (sandbox.id.as_str(), sandbox.attempt);
            match start::container(&self.shared, pod, spec, place, &seen.ips, attempt).await {
                Ok(()) => {
                    self.retry.clear(&name);
                    self.waiting.remove(&name);
                    self.remove_old(seen, &name).await;
                }
                Err(failure) => {
                    let pause = self.retry.failed(&name, now(), 1, LONGEST_RETRY);
                    next = Some(next.map_or(pause, |n| n.min(pause)));
                    let text = format!("Error: {}", failure.message);
                    self.shared.recorder.pod(pod, Severity::Warning, "Failed", &text).await;
                    self.waiting.insert(name, (failure.reason.into(), failure.message));
                }
            }
        }
        next
    }

    /// Seconds until a container may be tried again.
    fn pause(&mut self, pod: &Pod, name: &str, last: Option<&Observed>) -> u64 {
        let retry = self.retry.remaining(name, now());
        let crashed = last.filter(|c| ended(c) && restarts(pod, c.status.exit_code));
        let Some(crashed) = crashed.filter(|_| retry == 0) else { return retry };
        // As the real one: at once for the first time, then counted from the end of the last run.
        let wait = self.crashes.get(name).copied().unwrap_or(0);
        let finished = u64::try_from(crashed.status.finished_at / 1_000_000_000).unwrap_or(0);
        let pause = (finished + wait).saturating_sub(now());
        if pause > 0 {
            let message =
                format!("back-off {wait}s restarting failed container={name} pod={}", self.id.text());
            self.waiting.insert(name.into(), ("CrashLoopBackOff".into(), message));
        } else {
            let next = if wait == 0 { CRASH_BACK_OFF.0 } else { (wait * 2).min(CRASH_BACK_OFF.1) };
            self.crashes.insert(name.into(), next);
        }
        pause
    }

    /// Of a container's earlier runs only the last is kept.
    async fn remove_old(&self, seen: &Seen, name: &str) {
        let latest = seen.latest().get(name).map(|c| c.id.clone());
        for old in seen.containers.iter().filter(|c| c.name == name && Some(&c.id) != latest.as_ref()) {
            if let Err(status) = self.shared.runtime.remove_container(&old.id).await {
                tracing::warn!(target: "kubelet", "remove container {}: {}", old.id, rpc_text(&status));
            }
        }
    }

    /// The pod has ended by itself: its network and devices are free, its containers stay to be looked at.
    async fn over(&mut self, pod: &Pod) {
        if let Ok(seen) = self.look().await {
            for sandbox in seen.sandboxes.iter().filter(|s| s.ready) {
                finish::stop_sandbox(&self.shared, pod, &sandbox.id).await;
            }
        }
        self.release().await;
    }

    async fn release(&self) {
        self.shared.admitted.lock().await.remove(&self.id.uid);
        self.shared.devices.release(&self.id.uid);
    }

    /// Ends the pod and removes everything of it, from the node and then from the API.
    async fn terminate(&mut self) {
        let pod = self.pod();
        tracing::info!(target: "kubelet", "{}: ending", self.id.text());
        self.stop_containers().await;
        let seen = self.look_until_seen().await;
        for sandbox in &seen.sandboxes {
            finish::stop_sandbox(&self.shared, &pod, &sandbox.id).await;
        }
        self.release().await;
        if !self.updates.borrow().gone && !is_over(&pod) {
            let last = self.look_until_seen().await;
            if let Err(why) = self.report(&pod, &last, true).await {
                tracing::warn!(target: "kubelet", "{}: {why}", self.id.text());
            }
        }
        self.remove_sandboxes(&pod).await;
        finish::leftovers(&self.shared, &pod).await;
        self.shared.devices.forget(&self.id.uid);
        self.delete_from_api().await;
        tracing::info!(target: "kubelet", "{}: gone", self.id.text());
    }

    /// Until the runtime has none: one that was given up while it was being made may appear late.
    async fn remove_sandboxes(&mut self, pod: &Pod) {
        loop {
            let seen = self.look_until_seen().await;
            if seen.sandboxes.is_empty() {
                return;
            }
            for sandbox in &seen.sandboxes {
                finish::stop_sandbox(&self.shared, pod, &sandbox.id).await;
                finish::remove_sandbox(&self.shared, &sandbox.id).await;
            }
        }
    }

    /// Stops containers; a later deletion with less grace shortens it.
    async fn stop_containers(&mut self) {
        loop {
            let seen = self.look_until_seen().await;
            if seen.running().next().is_none() {
                return;
            }
            let grace = self.updates.borrow_and_update().grace();
            if grace > 1 {
                let message = seen.running().map(|c| c.name.clone()).collect::<Vec<_>>().join(", ");
                self.shared
                    .recorder
                    .pod(&self.pod(), Severity::Normal, "Killing", &format!("Stopping container {message}"))
                    .await;
            }
            tokio::select! {
                () = finish::containers(&self.shared, &seen, grace) => {}
                _ = self.updates.wait_for(|update| update.grace() < grace) => {}
            }
        }
    }

    async fn look_until_seen(&mut self) -> Seen {
        loop {
            match self.look().await {
                Ok(seen) => return seen,
                Err(why) => tracing::warn!(target: "kubelet", "{}: {why}", self.id.text()),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn delete_from_api(&self) {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.id.namespace);
        let only_this = Preconditions { uid: Some(self.id.uid.clone()), ..Preconditions::default() };
        let parameters = DeleteParams::default().grace_period(0).preconditions(only_this);
        finish::until_done("delete from the API", &self.id.text(), || async {
            match api.delete(&self.id.name, &parameters).await {
                Ok(_) => Ok(()),
                // Gone already, or another pod has the name by now.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Writes the status when it has changed.
    async fn report(&mut self, pod: &Pod, seen: &Seen, terminated: bool) -> Result<(), String> {
        let context = Context {
            host_ip: &self.shared.machine.ip,
            start: &self.start,
            waiting: &self.waiting,
            terminated,
        };
        let status = status::status(pod, seen, &context);
        if self.reported.as_ref() == Some(&status) {
            return Ok(());
        }
        self.write(&status).await.map_err(|error| format!("status: {error}"))
    }

    async fn write(&mut self, status: &PodStatus) -> kube::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.id.namespace);
        let patch = json!({ "metadata": { "uid": self.id.uid }, "status": status });
        match api.patch_status(&self.id.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
            other => drop(other?),
        }
        let summary = summary(status);
        if self.reported.as_ref().map(self::summary).as_ref() != Some(&summary) {
            tracing::info!(target: "kubelet", "{}: {summary}", self.id.text());
        }
        self.reported = Some(status.clone());
        Ok(())
    }
}

const SANDBOX: &str = "/sandbox";

fn now() -> u64 {
    u64::try_from(time::now_seconds()).unwrap_or_default()
}

/// A status in one line.
fn summary(status: &PodStatus) -> String {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let ready = containers.iter().filter(|c| c.ready).count();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut line = format!("{} {ready}/{} {}", text(&status.phase), containers.len(), text(&status.pod_ip));
    for part in [&status.reason, &status.message].into_iter().flatten() {
        line = format!("{line} {part}");
    }
    line.trim_end().to_string()
}
