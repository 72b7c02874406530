//! The `Resolve` call: from a pod to its plan.

use fairlead_cni::{
    agent_protocol::{Plan, PodRef, Resolve},
    networks::{
        ask::{Annotations, AskError, Networks},
        plan::{Allocated, Definitions, PlanError, needs, plan},
    },
};
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    kubelet::{Kubelet, KubeletError},
    metrics::Reason,
    nads::{self, LookupError, Nads},
    pods::{Pods, UnknownOrder, UnknownPod},
};

/// A pod has no plan.
#[derive(Debug, Error)]
pub(crate) enum ResolveError {
    /// The pod did not come into view.
    #[error(transparent)]
    Pod(#[from] UnknownPod),
    /// What it asks for cannot be read, or is not for it.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A network could not be looked up.
    #[error("pod {0}")]
    Lookup(PodRef, #[source] LookupError),
    /// Its devices are not known.
    #[error(transparent)]
    Kubelet(#[from] KubeletError),
    /// Which of them comes first is not known.
    #[error(transparent)]
    Order(#[from] UnknownOrder),
    /// Its networks cannot be attached.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl ResolveError {
    /// Whether the same question may be answered later, with nobody changing anything.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Pod(_) | Self::Lookup(..) | Self::Order(_) => true,
            Self::Kubelet(error) => error.may_pass(),
            Self::Ask(_) | Self::Plan(_) => false,
        }
    }

    /// For metrics.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Pod(_) => Reason::PodUnknown,
            Self::Lookup(..) | Self::Order(_) => Reason::ApiServer,
            Self::Ask(_) => Reason::Annotation,
            Self::Kubelet(_) => Reason::Kubelet,
            Self::Plan(error) => reason_of(error),
        }
    }
}

/// Why there is no plan, for metrics.
pub(crate) fn reason_of(error: &PlanError) -> Reason {
    match error {
        PlanError::NoDefinition { .. } | PlanError::Config { .. } => Reason::Network,
        PlanError::DuplicateInterface { .. }
        | PlanError::PrimaryInterface { .. }
        | PlanError::DefaultRoutes { .. }
        | PlanError::DuplicateDevice { .. } => Reason::Annotation,
        PlanError::TooFewDevices { .. } | PlanError::NotAllocated { .. } | PlanError::OthersDevice { .. } => {
            Reason::Devices
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
    let networks = networks(sources.pods, call, deadline).await?;
    let definitions = definitions(sources.nads, pod, &networks, deadline).await?;
    let needs = needs(&networks, &definitions);
    let mut devices = Allocated::default();
    if needs.own {
        let held = sources.kubelet.devices(pod, deadline).await?;
        let order = match held.needs_order() {
            true => sources.pods.containers(pod, deadline).await?,
            false => Vec::new(),
        };
        devices.own = held.devices(&order);
    }
    if needs.others {
        devices.others = sources.kubelet.others(pod, deadline).await?;
    }
    Ok(plan(pod, &networks, &definitions, &devices)?)
}

/// The runtime's annotations are those of the sandbox being made; without them, the pod in view must be the right one.
async fn networks(pods: &Pods, call: &Resolve, deadline: Instant) -> Result<Networks, ResolveError> {
    let known;
    let annotations = match &call.annotations {
        Some(annotations) => Annotations::of(annotations),
        None => {
            known = pods.wait(&call.pod, deadline).await?;
            Annotations {
                networks: known.networks.as_deref(),
                default_network: known.default_network.as_deref(),
            }
        }
    };
    Ok(Networks::of(&call.pod, &call.interface, annotations, &call.policy)?)
}

async fn definitions(
    nads: &Nads,
    pod: &PodRef,
    networks: &Networks,
    deadline: Instant,
) -> Result<Definitions, ResolveError> {
    let found = nads.all_of(networks.definitions(), deadline).await;
    Ok(Definitions::new(nads::SOURCE, found.map_err(|source| ResolveError::Lookup(pod.clone(), source))?))
}
