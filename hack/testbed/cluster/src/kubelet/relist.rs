//! Notices what changes in the runtime: everything is listed once a second, as the real kubelet does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::cri::{POD_UID, Runtime};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// By pod UID: the IDs and states of its sandboxes and containers.
pub(super) type Relist = BTreeMap<String, Vec<(String, i32)>>;

/// Lists until the task is ended.
pub(super) async fn keep(runtime: Runtime, seen: watch::Sender<Arc<Relist>>) {
    let mut down = false;
    loop {
        match list(&runtime).await {
            Ok(now) => {
                down = false;
                seen.send_if_modified(|before| {
                    let changed = **before != now;
                    if changed {
                        *before = Arc::new(now);
                    }
                    changed
                });
            }
            Err(status) if !down => {
                down = true;
                tracing::warn!(target: "kubelet", "the container runtime does not answer: {}", status.message());
            }
            Err(_) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn list(runtime: &Runtime) -> Result<Relist, tonic::Status> {
    let mut all = Relist::new();
    let mut note = |uid: Option<&String>, id: String, state: i32| {
        if let Some(uid) = uid {
            all.entry(uid.clone()).or_default().push((id, state));
        }
    };
    for sandbox in runtime.sandboxes(None).await? {
        note(sandbox.labels.get(POD_UID), sandbox.id, sandbox.state);
    }
    for container in runtime.containers(None).await? {
        note(container.labels.get(POD_UID), container.id, container.state);
    }
    for entries in all.values_mut() {
        entries.sort();
    }
    Ok(all)
}
