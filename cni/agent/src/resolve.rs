//! The `Resolve` call: from a pod to its plan.

use fairlead_cni::{
    agent_protocol::{Plan, PodRef, Resolve},
    networks::{
        annotation::{self, AnnotationError, NETWORKS_ANNOTATION, NetworkSelection},
        devices::PodDevices,
        plan::{Definitions, PlanError, needs_devices, plan},
    },
};
use futures::future::try_join_all;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    kubelet::{Kubelet, KubeletError},
    nads::{self, LookupError, Nads},
    pods::{Pods, UnknownPod},
};

/// A pod has no plan.
#[derive(Debug, Error)]
pub(crate) enum ResolveError {
    /// The pod did not come into view.
    #[error(transparent)]
    Pod(#[from] UnknownPod),
    /// What it asks for cannot be read.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// A network could not be looked up.
    #[error("pod {0}")]
    Lookup(PodRef, #[source] LookupError),
    /// Its devices are not known.
    #[error(transparent)]
    Kubelet(#[from] KubeletError),
    /// Its networks cannot be attached.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl ResolveError {
    /// Whether the same question may be answered later, with nobody changing anything.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Pod(_) | Self::Lookup(..) => true,
            Self::Kubelet(error) => error.may_pass(),
            Self::Annotation(_) | Self::Plan(_) => false,
        }
    }
}

/// What a plan is made from.
pub(crate) struct Sources<'a> {
    pub(crate) nads: &'a Nads,
    pub(crate) pods: &'a Pods,
    pub(crate) kubelet: &'a Kubelet,
}

/// The plan of a pod.
pub(crate) async fn resolve(
    sources: &Sources<'_>,
    call: &Resolve,
    deadline: Instant,
) -> Result<Plan, ResolveError> {
    let pod = &call.pod;
    let selections = selections(sources.pods, call, deadline).await?;
    if selections.is_empty() {
        return Ok(Plan::default());
    }
    let definitions = definitions(sources.nads, pod, &selections, deadline).await?;
    let devices = if needs_devices(&selections, &definitions) {
        sources.kubelet.devices(pod, deadline).await?
    } else {
        PodDevices::default()
    };
    Ok(plan(pod, &selections, &definitions, &devices)?)
}

/// The runtime's annotations are those of the sandbox being made; without them, the pod in view must be the right one.
async fn selections(
    pods: &Pods,
    call: &Resolve,
    deadline: Instant,
) -> Result<Vec<NetworkSelection>, ResolveError> {
    let known;
    let text = match &call.annotations {
        Some(annotations) => annotations.get(NETWORKS_ANNOTATION),
        None => {
            known = pods.wait(&call.pod, deadline).await?;
            known.networks.as_ref()
        }
    };
    match text {
        Some(text) => Ok(annotation::parse(text, &call.pod)?),
        None => Ok(Vec::new()),
    }
}

async fn definitions(
    nads: &Nads,
    pod: &PodRef,
    selections: &[NetworkSelection],
    deadline: Instant,
) -> Result<Definitions, ResolveError> {
    let mut names: Vec<(&str, &str)> =
        selections.iter().map(|one| (one.namespace.as_str(), one.name.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    let lookups = names.into_iter().map(|(namespace, name)| nads.get(namespace, name, deadline));
    let found = try_join_all(lookups).await.map_err(|source| ResolveError::Lookup(pod.clone(), source))?;
    Ok(Definitions::new(nads::SOURCE, found.into_iter().flatten().map(|nad| (*nad).clone())))
}
