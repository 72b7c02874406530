//! The shadow of an agent: it plans for pods that run already.

use std::time::Duration;

use fairlead_cni::{
    agent_protocol::{PodRef, Resolve},
    meta::config::MetaConfig,
    status::{NetworkStatus, STATUS_ANNOTATION},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use tokio::time::Instant;

use super::Agent;
use crate::{
    errors::{self, chain},
    pods::MIRROR_ANNOTATION,
    resolve::{self, Sources},
    shadow::{PodShadow, Shadow, compare},
};

/// How long the plan of one pod may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The name that runtimes give to the primary interface.
const PRIMARY: &str = "eth0";

impl Agent {
    /// Keeps only the cache of networks up to date, and writes nothing; never ends.
    pub async fn watch_networks(&self) {
        self.nads.follow().await;
    }

    /// Waits until all networks are known, or until this time; what is missing then.
    pub async fn knows_networks(&self, until: Instant) -> Option<String> {
        self.nads.synced(until).await;
        self.nads.missing()
    }

    /// Plans the networks of every running pod of this node, by the options of `section`, and compares with its network-status. The
    /// API server and kubelet are only read.
    ///
    /// # Errors
    /// When the pods cannot be listed.
    pub async fn shadow(&self, section: &MetaConfig) -> Result<Shadow, String> {
        let api: Api<Pod> = Api::all(self.client.clone());
        let of_node = ListParams::default().fields(&format!("spec.nodeName={}", self.pods.node()));
        let pods = api.list(&of_node).await.map_err(|error| {
            format!("the pods of node {} cannot be listed: {}", self.pods.node(), errors::api(&error))
        })?;
        let mut shadow = Shadow::default();
        for pod in pods.items.into_iter().filter(has_networks) {
            shadow.add(self.shadow_of(pod, section).await);
        }
        Ok(shadow)
    }

    async fn shadow_of(&self, pod: Pod, section: &MetaConfig) -> PodShadow {
        let metadata = pod.metadata;
        let annotations = metadata.annotations.unwrap_or_default();
        let reference = PodRef {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: annotations.get(MIRROR_ANNOTATION).cloned().or(metadata.uid).unwrap_or_default(),
        };
        let name = reference.to_string();
        let differs =
            |text: String| PodShadow { pod: name.clone(), differences: vec![text], notes: Vec::new() };
        let status = annotations.get(STATUS_ANNOTATION).cloned();
        let call = Resolve {
            policy: section.policy_for(&reference.namespace),
            pod: reference,
            container_id: String::new(),
            annotations: Some(annotations),
            interface: PRIMARY.into(),
            deadline_ms: 0,
        };
        let sources = Sources { nads: &self.nads, pods: &self.pods, kubelet: &self.kubelet };
        let plan = match resolve::resolve(&sources, &call, Instant::now() + LIMIT).await {
            Ok(plan) => plan,
            Err(error) => {
                return differs(format!("it has no plan, and would not be started: {}", chain(&error)));
            }
        };
        let Some(status) = status else {
            return match plan.attachments.len() {
                0 => PodShadow { pod: name, ..PodShadow::default() },
                planned => differs(format!(
                    "{planned} networks are planned, and it has no network-status to compare with"
                )),
            };
        };
        match serde_json::from_str::<Vec<NetworkStatus>>(&status) {
            Ok(status) => compare(name, &plan, &status),
            Err(error) => differs(format!("its network-status cannot be read: {error}")),
        }
    }
}

/// Whether a pod runs, in a network namespace of its own.
fn has_networks(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let of_host = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    phase == Some("Running") && !of_host
}
