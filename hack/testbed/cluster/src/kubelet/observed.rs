//! What the runtime has of one pod.

use std::collections::BTreeMap;

use tonic::Status;

use crate::cri::{
    Runtime,
    v1::{ContainerState, ContainerStatus, PodSandboxState},
};

/// One sandbox of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) attempt: u32,
    pub(super) ready: bool,
    pub(super) created: i64,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observed {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) sandbox: String,
    pub(super) attempt: u32,
    pub(super) status: ContainerStatus,
}

impl Observed {
    pub(super) fn state(&self) -> ContainerState {
        self.status.state()
    }
}

/// Sandboxes, the newest first, and containers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) sandboxes: Vec<Sandbox>,
    pub(super) containers: Vec<Observed>,
    /// The newest sandbox's addresses, when it is ready.
    pub(super) ips: Vec<String>,
}

impl Seen {
    /// Asks the runtime.
    pub(super) async fn look(runtime: &Runtime, uid: &str) -> Result<Self, Status> {
        let mut sandboxes: Vec<Sandbox> = runtime
            .sandboxes(Some(uid))
            .await?
            .into_iter()
            .map(|s| Sandbox {
                ready: s.state() == PodSandboxState::SandboxReady,
                attempt: s.metadata.map_or(0, |m| m.attempt),
                created: s.created_at,
                id: s.id,
            })
            .collect();
        sandboxes.sort_by_key(|s| std::cmp::Reverse((s.attempt, s.created)));
        let mut containers = Vec::new();
        for container in runtime.containers(Some(uid)).await? {
            let status = match runtime.container_status(&container.id).await {
                Ok(status) => status,
                // Removed between the two calls.
                Err(status) if status.code() == tonic::Code::NotFound => continue,
                Err(status) => return Err(status),
            };
            let metadata = container.metadata.unwrap_or_default();
            containers.push(Observed {
                id: container.id,
                name: metadata.name,
                sandbox: container.pod_sandbox_id,
                attempt: metadata.attempt,
                status,
            });
        }
        let ips = match sandboxes.first().filter(|s| s.ready) {
            Some(sandbox) => addresses(runtime, &sandbox.id).await?,
            None => Vec::new(),
        };
        Ok(Self { sandboxes, containers, ips })
    }

    pub(super) fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|s| s.ready)
    }

    /// The newest try of each container, by name.
    pub(super) fn latest(&self) -> BTreeMap<&str, &Observed> {
        let mut latest: BTreeMap<&str, &Observed> = BTreeMap::new();
        for container in &self.containers {
            let entry = latest.entry(&container.name).or_insert(container);
            if container.attempt > entry.attempt {
                *entry = container;
            }
        }
        latest
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Observed> {
        self.containers.iter().filter(|c| c.state() == ContainerState::ContainerRunning)
    }
}

async fn addresses(runtime: &Runtime, sandbox: &str) -> Result<Vec<String>, Status> {
    let network = runtime.sandbox_status(sandbox).await?.network.unwrap_or_default();
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|i| i.ip));
    Ok(all.filter(|ip| !ip.is_empty()).collect())
}
