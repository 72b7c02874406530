//! Which devices kubelet allocated to a pod, from its PodResources service.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use fairlead_cni::{
    agent_protocol::PodRef,
    networks::devices::{ContainerDevices, PodDevices},
};
use fairlead_kubelet_api::pod_resources::{
    GetPodResourcesRequest, ListPodResourcesRequest, PodResources,
    pod_resources_lister_client::PodResourcesListerClient,
};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{backoff::Backoff, errors};

/// The service's socket below kubelet's root.
const SOCKET: &str = "pod-resources/kubelet.sock";
/// Upper bound of an answer in bytes, as other readers set it: a full `List` of a large node exceeds tonic's 4 MiB.
const LARGEST_ANSWER: usize = 16 << 20;

/// A pod's devices are not known.
#[derive(Debug, Error)]
pub enum KubeletError {
    /// The socket path cannot be used.
    #[error("kubelet's root {0} cannot be part of a socket address: give another --kubelet-root")]
    Path(PathBuf, #[source] tonic::transport::Error),
    /// There is no socket.
    #[error(
        "kubelet's PodResources socket {0} does not exist, so the devices of pod {1} are not known: mount kubelet's root \
         into the agent, or name it with --kubelet-root"
    )]
    NoSocket(PathBuf, PodRef),
    /// Kubelet answered with an error.
    #[error("kubelet does not tell the devices of pod {pod}: {reason}")]
    Refused {
        /// The pod.
        pod: PodRef,
        /// Kubelet's code and text.
        reason: String,
        /// Whether kubelet may answer when asked again.
        busy: bool,
    },
    /// Kubelet gave no answer.
    #[error("kubelet did not tell the devices of pod {0} in time")]
    Late(PodRef),
    /// Kubelet does not list the pod.
    #[error("kubelet's PodResources does not list pod {0}, so its devices are not known")]
    UnknownPod(PodRef),
    /// Kubelet lists an earlier pod of the same name too, and rows have no UID.
    #[error("kubelet's PodResources lists pod {0} more than once; an earlier pod of this name must go first")]
    Ambiguous(PodRef),
}

impl KubeletError {
    /// Whether the same question may be answered later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Path(..) => false,
            Self::Refused { busy, .. } => *busy,
            Self::NoSocket(..) | Self::Late(_) | Self::UnknownPod(_) | Self::Ambiguous(_) => true,
        }
    }

    fn refused(pod: &PodRef, method: &str, status: &Status) -> Self {
        Self::Refused {
            pod: pod.clone(),
            reason: format!("{method}: {}", errors::chain(status)),
            busy: is_busy(status.code()),
        }
    }
}

/// Kubelet's PodResources service.
pub struct Kubelet {
    socket: PathBuf,
    client: PodResourcesListerClient<Channel>,
    /// Cleared while kubelet says that it has no `Get`.
    has_get: AtomicBool,
}

impl Kubelet {
    /// The service of the kubelet whose files are at `root`; connects when first asked. Needs a tokio runtime.
    ///
    /// # Errors
    /// When `root` cannot be part of an address.
    pub fn new(root: &Path) -> Result<Self, KubeletError> {
        let socket = root.join(SOCKET);
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(|source| KubeletError::Path(root.to_owned(), source))?;
        let client =
            PodResourcesListerClient::new(endpoint.connect_lazy()).max_decoding_message_size(LARGEST_ANSWER);
        Ok(Self { socket, client, has_get: AtomicBool::new(true) })
    }

    /// The devices of a pod in order. Asks again, with pauses, while kubelet is busy, away or does not list the pod yet.
    ///
    /// # Errors
    /// When kubelet has not answered by `deadline` or refuses.
    pub async fn devices(&self, pod: &PodRef, deadline: Instant) -> Result<PodDevices, KubeletError> {
        let mut backoff = Backoff::until(deadline);
        loop {
            let error = match timeout_at(deadline, self.ask(pod)).await {
                Ok(Ok(pod)) => return Ok(PodDevices::new(&rows(pod))),
                Ok(Err(error)) => error,
                Err(_) => return Err(KubeletError::Late(pod.clone())),
            };
            if !error.may_pass() || !backoff.pause().await {
                return Err(error);
            }
            tracing::debug!(%pod, %error, "asking kubelet again");
        }
    }

    async fn ask(&self, pod: &PodRef) -> Result<PodResources, KubeletError> {
        if !self.socket.exists() {
            return Err(KubeletError::NoSocket(self.socket.clone(), pod.clone()));
        }
        if self.has_get.load(Ordering::Relaxed)
            && let Some(resources) = self.get(pod).await?
        {
            return Ok(resources);
        }
        self.list(pod).await
    }

    /// `None` when `List` must be asked: kubelet has no `Get`, or gives an error that does not tell whether it knows the pod.
    async fn get(&self, pod: &PodRef) -> Result<Option<PodResources>, KubeletError> {
        let request =
            GetPodResourcesRequest { pod_name: pod.name.clone(), pod_namespace: pod.namespace.clone() };
        match self.client.clone().get(request).await {
            Ok(answer) => Ok(answer.into_inner().pod_resources),
            Err(status) if is_busy(status.code()) => Err(KubeletError::refused(pod, "Get", &status)),
            Err(status) => {
                // Kubelet before 1.27 lacks the method; later ones say "disabled" without their feature gate.
                if status.code() == Code::Unimplemented || status.message().contains("disabled") {
                    self.has_get.store(false, Ordering::Relaxed);
                }
                tracing::debug!(%pod, %status, "kubelet's Get does not help, asking List");
                Ok(None)
            }
        }
    }

    async fn list(&self, pod: &PodRef) -> Result<PodResources, KubeletError> {
        let answer = self.client.clone().list(ListPodResourcesRequest {}).await;
        let pods = match answer {
            Ok(answer) => answer.into_inner().pod_resources,
            Err(status) => {
                if status.code() == Code::Unavailable {
                    // Kubelet restarts, perhaps as a newer version.
                    self.has_get.store(true, Ordering::Relaxed);
                }
                return Err(KubeletError::refused(pod, "List", &status));
            }
        };
        let mut found = pods.into_iter().filter(|one| one.name == pod.name && one.namespace == pod.namespace);
        match (found.next(), found.next()) {
            (Some(resources), None) => Ok(resources),
            (Some(_), Some(_)) => Err(KubeletError::Ambiguous(pod.clone())),
            (None, _) => Err(KubeletError::UnknownPod(pod.clone())),
        }
    }
}

/// Kubelet limits the rate of calls and is away while it restarts.
fn is_busy(code: Code) -> bool {
    matches!(code, Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

fn rows(pod: PodResources) -> Vec<ContainerDevices> {
    pod.containers
        .into_iter()
        .map(|container| ContainerDevices {
            container: container.name,
            rows: container.devices.into_iter().map(|row| (row.resource_name, row.device_ids)).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
