//! The `Report` call: the pod's interfaces become its network-status annotation.

use fairlead_cni::{
    agent_protocol::{PodRef, Report},
    status::{NetworkStatus, STATUS_ANNOTATION},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde::Serialize;
use serde_json::{Value, json, ser::PrettyFormatter};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::{backoff::Backoff, errors};

/// The interfaces could not be published.
#[derive(Debug, Error)]
pub(crate) enum ReportError {
    /// The pod is not there any more.
    #[error("pod {0} is gone: its network-status was not written")]
    Gone(PodRef),
    /// Another pod has its name now.
    #[error("pod {0} is gone and another of this name is there: network-status was not written")]
    Replaced(PodRef),
    /// The API server does not take the annotation.
    #[error("the API server refuses network-status of pod {pod}: {reason}")]
    Refused {
        /// The pod.
        pod: PodRef,
        /// What it says.
        reason: String,
    },
    /// The API server could not be reached, or did not take it for now.
    #[error("network-status of pod {pod} could not be written yet: {reason}")]
    Unreachable {
        /// The pod.
        pod: PodRef,
        /// What it or the way to it says.
        reason: String,
    },
}

impl ReportError {
    /// Whether the same report may be published later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// For metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Gone(_) | Self::Replaced(_) => "gone",
            Self::Refused { .. } => "refused",
            Self::Unreachable { .. } => "pending",
        }
    }
}

/// Writes network-status of a pod that the API server knows by `uid`, if that is not empty; tries again until `deadline`.
pub(crate) async fn publish(
    client: &Client,
    report: &Report,
    uid: &str,
    deadline: Instant,
) -> Result<(), ReportError> {
    let pod = &report.pod;
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), &pod.namespace);
    let status = annotation(&report.networks)
        .map_err(|error| ReportError::Refused { pod: pod.clone(), reason: error.to_string() })?;
    let patch = patch(&status, uid);
    let mut backoff = Backoff::until(deadline);
    loop {
        let late = || unreachable(pod, "the API server did not answer in time");
        let error = match timeout_at(deadline, write(&api, pod, &patch, uid)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => return Err(late()),
        };
        if !error.may_pass() || !backoff.pause().await {
            return Err(error);
        }
        tracing::debug!(%pod, %error, "writing network-status again");
    }
}

/// Touches nothing but the annotation, so that fields which this build does not know survive; the UID makes the API server
/// refuse it for another pod of the same name.
fn patch(status: &str, uid: &str) -> Value {
    let mut patch = json!({ "metadata": { "annotations": { STATUS_ANNOTATION: status } } });
    if !uid.is_empty() {
        patch["metadata"]["uid"] = uid.into();
    }
    patch
}

async fn write(
    api: &Api<PartialObjectMeta<Pod>>,
    pod: &PodRef,
    patch: &Value,
    uid: &str,
) -> Result<(), ReportError> {
    // The status subresource takes metadata too, and the right to it does not include changing a pod's image.
    let error = match api.patch_status(&pod.name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Err(unreachable(pod, errors::api(&error))),
    };
    match error.code {
        404 => Err(ReportError::Gone(pod.clone())),
        // Another UID is a conflict or an invalid change of an immutable field, depending on the API server's version.
        409 | 422 => {
            same_pod(api, pod, uid).await?;
            let code = error.code;
            let reason = errors::api(&kube::Error::Api(error));
            Err(if code == 409 { unreachable(pod, reason) } else { refused(pod, reason) })
        }
        400 | 405 | 413 | 415 => Err(refused(pod, errors::api(&kube::Error::Api(error)))),
        // 401 and 403 too: rights and tokens may still be on their way.
        _ => Err(unreachable(pod, errors::api(&kube::Error::Api(error)))),
    }
}

async fn same_pod(api: &Api<PartialObjectMeta<Pod>>, pod: &PodRef, uid: &str) -> Result<(), ReportError> {
    match api.get(&pod.name).await {
        Ok(now) if !uid.is_empty() && now.metadata.uid.as_deref() != Some(uid) => {
            Err(ReportError::Replaced(pod.clone()))
        }
        Ok(_) => Ok(()),
        Err(error) if errors::is_missing(&error) => Err(ReportError::Gone(pod.clone())),
        Err(error) => Err(unreachable(pod, errors::api(&error))),
    }
}

fn refused(pod: &PodRef, reason: String) -> ReportError {
    ReportError::Refused { pod: pod.clone(), reason }
}

fn unreachable(pod: &PodRef, reason: impl Into<String>) -> ReportError {
    ReportError::Unreachable { pod: pod.clone(), reason: reason.into() }
}

/// The annotation's text, laid out as upstream does: elements indented by four spaces, with nothing but commas between.
fn annotation(networks: &[NetworkStatus]) -> serde_json::Result<String> {
    let elements = networks.iter().map(indented).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[{}]", elements.join(",")))
}

fn indented(network: &NetworkStatus) -> serde_json::Result<String> {
    let mut text = Vec::new();
    network.serialize(&mut serde_json::Serializer::with_formatter(
        &mut text,
        PrettyFormatter::with_indent(b"    "),
    ))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests;
