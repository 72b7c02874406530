//! Learning from kubelet which devices pods have.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fairlead_kubelet_api::checkpoint::{self, CheckpointError};
use fairlead_kubelet_api::pod_resources as api;
use fairlead_kubelet_api::pod_resources::pod_resources_lister_client::PodResourcesListerClient;
use fairlead_resource_config::error_text;
use fairlead_resource_config::pools::DeviceId;
use tokio::time::{self, Instant};
use tonic::transport::Channel;

use crate::Stop;
use crate::in_use::ByResource;
use crate::kubelet_error::KubeletError;
use crate::shared::Shared;

/// How often kubelet is asked.
const POLL: Duration = Duration::from_secs(10);

/// How long after an allocation, when kubelet has noted it.
const AFTER_ALLOCATION: Duration = Duration::from_secs(2);

/// How long kubelet may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The longest answer: nodes have many pods, and 4 MiB, the usual limit, is not enough for all.
const LONGEST: usize = 16 << 20;

/// Reads the checkpoint, for the time before kubelet is asked for the first time.
pub(crate) fn first(shared: &Shared) {
    if let Ok(told) = from_checkpoint(&shared.options.node.device_plugins()) {
        shared.in_use().tell(told, Instant::now());
    }
}

/// Asks kubelet again and again, until told to stop.
pub(crate) async fn follow(shared: Arc<Shared>, stop: Stop) {
    let mut client = None;
    let mut failing = None;
    while !stop.is_stopped() {
        let asked = Instant::now();
        let told = match time::timeout(ANSWER, list(&shared, &mut client)).await {
            Ok(Ok(told)) => Ok(told),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error.into()),
        };
        let told = match told {
            Ok(told) => {
                failing = None;
                Some(told)
            }
            Err(error) => {
                client = None;
                let text = error_text(&error);
                if failing.as_ref() != Some(&text) {
                    tracing::debug!(error = text, "kubelet does not list its pods; reading its checkpoint");
                    failing = Some(text);
                }
                from_checkpoint(&shared.options.node.device_plugins()).ok()
            }
        };
        if let Some(told) = told
            && shared.in_use().tell(told, asked)
        {
            shared.look_again.notify_one();
        }
        tokio::select! {
            () = time::sleep(POLL) => {}
            () = shared.allocated.notified() => {
                tokio::select! {
                    () = time::sleep(AFTER_ALLOCATION) => {}
                    () = stop.stopped() => {}
                }
            }
            () = stop.stopped() => {}
        }
    }
}

async fn list(
    shared: &Shared,
    client: &mut Option<PodResourcesListerClient<Channel>>,
) -> Result<ByResource, KubeletError> {
    let client = match client {
        Some(client) => client,
        None => {
            let socket = shared.options.node.kubelet_root.join("pod-resources/kubelet.sock");
            let connected = PodResourcesListerClient::connect(format!("unix://{}", socket.display())).await?;
            client.insert(connected.max_decoding_message_size(LONGEST))
        }
    };
    let answer = client.list(api::ListPodResourcesRequest {}).await?.into_inner();
    let mut told = ByResource::new();
    let containers = answer.pod_resources.into_iter().flat_map(|pod| pod.containers);
    for devices in containers.flat_map(|container| container.devices) {
        let ids = devices.device_ids.iter().filter_map(|id| id.parse::<DeviceId>().ok());
        told.entry(devices.resource_name).or_default().extend(ids);
    }
    Ok(told)
}

fn from_checkpoint(dir: &Path) -> Result<ByResource, CheckpointError> {
    let mut told = ByResource::new();
    for entry in checkpoint::read(dir)? {
        let ids = entry.ids.iter().filter_map(|id| id.parse::<DeviceId>().ok());
        told.entry(entry.resource).or_default().extend(ids);
    }
    Ok(told)
}
