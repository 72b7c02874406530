//! Which devices kubelet allocated to pods: from its PodResources service, whose rows have no UID, and its checkpoint, which
//! has nothing but UIDs.

mod held;
mod listing;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fairlead_cni::{agent_protocol::PodRef, networks::devices::ContainerDevices};
use fairlead_kubelet_api::{
    checkpoint::{self, Entry},
    pod_resources::{
        GetPodResourcesRequest, ListPodResourcesRequest, PodResources,
        pod_resources_lister_client::PodResourcesListerClient,
    },
};
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{backoff::Backoff, errors, metrics::Metrics};

pub use self::held::Held;
use self::{
    held::{Checked, check},
    listing::{Listed, Listing},
};

/// The service's socket below kubelet's root.
const SOCKET: &str = "pod-resources/kubelet.sock";
/// The folder of the checkpoint there.
const CHECKPOINT: &str = "device-plugins";
/// Upper bound of an answer in bytes, as other readers set it: a full `List` of a large node exceeds tonic's 4 MiB.
const LARGEST_ANSWER: usize = 16 << 20;
/// So many pods are asked for one by one at a time; if there are more, the list of all costs kubelet less.
const SINGLE: usize = 4;
/// A list that is refused for the number of calls is asked for again this often, for all who wait, with this pause.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// A pod's devices are not known.
#[derive(Debug, Error)]
pub enum KubeletError {
    /// The socket path cannot be used.
    #[error("kubelet's root {0} cannot be part of a socket address: give another --kubelet-root")]
    Path(PathBuf, #[source] tonic::transport::Error),
    /// There is no socket.
    #[error(
        "kubelet's PodResources socket {0} does not exist, and its checkpoint does not tell, so the devices of pod {1} are not \
         known: mount kubelet's root into the agent, or name it with --kubelet-root"
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
    /// Kubelet lists devices that its checkpoint has for another UID, or for none.
    #[error(
        "kubelet's PodResources tells devices of an earlier pod of the name {0}, by its checkpoint; that one must go first"
    )]
    Earlier(PodRef),
}

impl KubeletError {
    /// Whether the same question may be answered later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Path(..) => false,
            Self::Refused { busy, .. } => *busy,
            Self::NoSocket(..)
            | Self::Late(_)
            | Self::UnknownPod(_)
            | Self::Ambiguous(_)
            | Self::Earlier(_) => true,
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
    root: PathBuf,
    socket: PathBuf,
    client: PodResourcesListerClient<Channel>,
    /// Cleared while kubelet says that it has no `Get`.
    has_get: AtomicBool,
    single: Semaphore,
    listing: Listing,
    metrics: Metrics,
}

impl Kubelet {
    /// The service of the kubelet whose files are at `root`; connects when first asked. Needs a tokio runtime.
    ///
    /// # Errors
    /// When `root` cannot be part of an address.
    pub(crate) fn new(root: &Path, metrics: Metrics) -> Result<Self, KubeletError> {
        let socket = root.join(SOCKET);
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(|source| KubeletError::Path(root.to_owned(), source))?;
        let client =
            PodResourcesListerClient::new(endpoint.connect_lazy()).max_decoding_message_size(LARGEST_ANSWER);
        Ok(Self {
            root: root.to_owned(),
            socket,
            client,
            has_get: AtomicBool::new(true),
            single: Semaphore::new(SINGLE),
            listing: Listing::default(),
            metrics,
        })
    }

    /// The devices of a pod. Asks again, with pauses, while kubelet is busy, away, or does not list the pod yet, or lists an
    /// earlier one of its name. Without the socket the checkpoint must do, which does not tell the containers' order.
    ///
    /// # Errors
    /// When kubelet has not answered by `deadline` or refuses.
    pub async fn devices(&self, pod: &PodRef, deadline: Instant) -> Result<Held, KubeletError> {
        let mut backoff = Backoff::until(deadline);
        // Whoever has to ask again does so with all others: single questions would use up what kubelet allows.
        let (mut may_be_single, mut last) = (true, None);
        loop {
            match timeout_at(deadline, self.ask(pod, may_be_single)).await {
                Ok(Ok(held)) => return Ok(held),
                Ok(Err(error)) => last = Some(bear(error, pod, &mut backoff).await?),
                Err(_) => return Err(last.unwrap_or_else(|| KubeletError::Late(pod.clone()))),
            }
            may_be_single = false;
        }
    }

    /// The devices that other pods have, each with who has it. Where there is no kubelet, nobody has any by it.
    ///
    /// # Errors
    /// As [`Kubelet::devices`].
    pub async fn others(
        &self,
        pod: &PodRef,
        deadline: Instant,
    ) -> Result<BTreeMap<String, String>, KubeletError> {
        if !self.root.exists() {
            return Ok(BTreeMap::new());
        }
        let mut backoff = Backoff::until(deadline);
        let mut last = None;
        loop {
            match timeout_at(deadline, self.ask_others(pod)).await {
                Ok(Ok(others)) => return Ok(others),
                Ok(Err(error)) => last = Some(bear(error, pod, &mut backoff).await?),
                Err(_) => return Err(last.unwrap_or_else(|| KubeletError::Late(pod.clone()))),
            }
        }
    }

    async fn ask_others(&self, pod: &PodRef) -> Result<BTreeMap<String, String>, KubeletError> {
        if self.socket.exists() {
            return Ok(held::by_others(pod, &self.list(pod).await?));
        }
        match self.checkpoint() {
            Some(entries) if !pod.uid.is_empty() => Ok(held::by_other_uids(pod, entries)),
            _ => Err(KubeletError::NoSocket(self.socket.clone(), pod.clone())),
        }
    }

    async fn ask(&self, pod: &PodRef, may_be_single: bool) -> Result<Held, KubeletError> {
        // Kubelet writes it when it admits the pod, before there is a sandbox.
        let own: Option<Vec<Entry>> = self.checkpoint().filter(|_| !pod.uid.is_empty()).map(|mut entries| {
            entries.retain(|entry| entry.pod_uid == pod.uid);
            entries
        });
        if !self.socket.exists() {
            return match own {
                Some(entries) if !entries.is_empty() => Ok(Held::by_checkpoint(entries)),
                _ => Err(KubeletError::NoSocket(self.socket.clone(), pod.clone())),
            };
        }
        match check(self.listed(pod, may_be_single).await?, own.as_deref()) {
            Checked::Good(held) => Ok(held),
            Checked::Unknown => Err(KubeletError::UnknownPod(pod.clone())),
            Checked::Ambiguous => Err(KubeletError::Ambiguous(pod.clone())),
            Checked::Earlier => Err(KubeletError::Earlier(pod.clone())),
        }
    }

    /// The containers of the pods of this name.
    async fn listed(
        &self,
        pod: &PodRef,
        may_be_single: bool,
    ) -> Result<Vec<Vec<ContainerDevices>>, KubeletError> {
        if may_be_single
            && self.has_get.load(Ordering::Relaxed)
            && let Ok(_single) = self.single.try_acquire()
            && let Some(found) = self.get(pod).await?
        {
            return Ok(vec![Listed::from(found).containers]);
        }
        let all = self.list(pod).await?;
        let of_name = all.iter().filter(|one| one.name == pod.name && one.namespace == pod.namespace);
        Ok(of_name.map(|one| one.containers.clone()).collect())
    }

    /// Kubelet's checkpoint, where it can be read.
    fn checkpoint(&self) -> Option<Vec<Entry>> {
        match checkpoint::read(&self.root.join(CHECKPOINT)) {
            Ok(entries) => Some(entries),
            Err(error) => {
                tracing::debug!(error = errors::chain(&error), "kubelet's checkpoint does not help");
                None
            }
        }
    }

    /// `None` when `List` must be asked: kubelet has no `Get`, is asked too often, or gives an error that does not tell whether it knows the pod.
    async fn get(&self, pod: &PodRef) -> Result<Option<PodResources>, KubeletError> {
        let request =
            GetPodResourcesRequest { pod_name: pod.name.clone(), pod_namespace: pod.namespace.clone() };
        match self.measured("get", self.client.clone().get(request)).await {
            Ok(answer) => Ok(answer.into_inner().pod_resources),
            // One list for all who are refused for their number is what kubelet can do.
            Err(status) if status.code() == Code::ResourceExhausted => Ok(None),
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

    /// A call, counted.
    async fn measured<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let start = Instant::now();
        let answer = call.await;
        let result = match &answer {
            Ok(_) => "ok",
            Err(status) if is_busy(status.code()) => "busy",
            Err(_) => "failed",
        };
        self.metrics.kubelet(method, result, start.elapsed());
        answer
    }

    /// All pods, with others who ask at the same time.
    async fn list(&self, pod: &PodRef) -> Result<Arc<[Listed]>, KubeletError> {
        let call = async || {
            let mut tries = 1;
            loop {
                let answer =
                    self.measured("list", self.client.clone().list(ListPodResourcesRequest {})).await;
                match answer {
                    // All who wait would come back at the same time, and the first of them would take what the others need.
                    Err(status) if status.code() == Code::ResourceExhausted && tries < TRIES => {
                        tries += 1;
                        sleep(PAUSE).await;
                    }
                    answer => return answer.map(|answer| answer.into_inner().pod_resources),
                }
            }
        };
        self.listing.get(call).await.map_err(|status| {
            if status.code() == Code::Unavailable {
                // Kubelet restarts, perhaps as a newer version.
                self.has_get.store(true, Ordering::Relaxed);
            }
            KubeletError::refused(pod, "List", &status)
        })
    }
}

/// Waits until kubelet may be asked again; an error that stays is given back as one.
async fn bear(
    error: KubeletError,
    pod: &PodRef,
    backoff: &mut Backoff,
) -> Result<KubeletError, KubeletError> {
    if !error.may_pass() || !backoff.pause().await {
        return Err(error);
    }
    tracing::debug!(%pod, %error, "asking kubelet again");
    Ok(error)
}

/// Kubelet limits the rate of calls and is away while it restarts.
fn is_busy(code: Code) -> bool {
    matches!(code, Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

#[cfg(test)]
mod tests;
