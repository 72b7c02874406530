//! Ending what a pod has on the node.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tonic::Status;

use super::{
    Shared,
    devices::rpc_text,
    events::Severity,
    observed::Seen,
    sandbox_config::{PodId, cgroup_parent},
    volumes,
};
use crate::files::absent_is_fine;

/// The first pause between tries, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Stops containers that run, giving each `grace` seconds.
pub(super) async fn containers(shared: &Shared, seen: &Seen, grace: i64) {
    let stops = seen.running().map(|c| async {
        tracing::debug!(target: "kubelet", "stopping container {} ({}) with {grace} s grace", c.name, c.id);
        if let Err(status) = shared.runtime.stop_container(&c.id, grace).await {
            tracing::warn!(target: "kubelet", "stop container {}: {}", c.id, rpc_text(&status));
        }
    });
    join_all(stops).await;
}

/// Stops a sandbox, however often it takes: until then its network is not given back. Failures are events.
pub(super) async fn stop_sandbox(shared: &Shared, pod: &Pod, id: &str) {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut pause = PAUSE.0;
    while let Err(status) = shared.runtime.stop_sandbox(id).await {
        let text = format!(
            "error killing pod: failed to \"KillPodSandbox\" for \"{uid}\" with KillPodSandboxError: \"{}\"",
            rpc_text(&status)
        );
        shared.recorder.pod(pod, Severity::Warning, "FailedKillPod", &text).await;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Removes a sandbox that was stopped, however often it takes.
pub(super) async fn remove_sandbox(shared: &Shared, id: &str) {
    until_done("remove sandbox", id, || async {
        shared.runtime.remove_sandbox(id).await.map_err(|status: Status| rpc_text(&status))
    })
    .await;
}

/// Volumes, control groups, logs: what is left once the sandboxes are gone.
pub(super) async fn leftovers(shared: &Arc<Shared>, pod: &Pod) {
    let id = PodId::of(pod);
    until_done("remove volumes", &id.uid, || async {
        let (root, uid) = (shared.config.root.clone(), id.uid.clone());
        let done = tokio::task::spawn_blocking(move || volumes::tear_down(&root, &uid)).await;
        done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    })
    .await;
    if let Err(error) = remove_cgroups(Path::new("/sys/fs/cgroup"), &cgroup_parent(pod)) {
        tracing::warn!(target: "kubelet", "control groups of {}: {error}", id.text());
    }
    if let Err(error) = absent_is_fine(fs::remove_dir_all(id.log_folder(&shared.config.log_root))) {
        tracing::warn!(target: "kubelet", "logs of {}: {error}", id.text());
    }
}

/// Removes the pod's control group, and any that are left in it.
fn remove_cgroups(root: &Path, parent: &str) -> io::Result<()> {
    let folder = root.join(parent.trim_start_matches('/'));
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if entry.file_type()?.is_dir() {
            absent_is_fine(fs::remove_dir(entry.path()))?;
        }
    }
    absent_is_fine(fs::remove_dir(&folder))
}

/// Repeats something that must happen in the end, with growing pauses.
pub(super) async fn until_done<F: Future<Output = Result<(), String>>>(
    what: &str,
    which: &str,
    act: impl Fn() -> F,
) {
    let mut pause = PAUSE.0;
    while let Err(why) = act().await {
        tracing::warn!(target: "kubelet", "{what} {which}: {why}; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
