//! A connection to one device plugin.

use std::{path::Path, time::Duration};

use fairlead_kubelet_api::device_plugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, DevicePluginOptions, Empty, ListAndWatchResponse,
    PreStartContainerRequest, PreferredAllocationRequest, device_plugin_client::DevicePluginClient,
};
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint, Uri},
};

/// How long kubelet waits for a plugin's socket.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long PreStartContainer may take.
const PRE_START_TIMEOUT: Duration = Duration::from_secs(30);

/// A plugin that has answered.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    client: DevicePluginClient<Channel>,
    pub(super) options: DevicePluginOptions,
}

impl Plugin {
    /// Dials the plugin's socket and asks for its options.
    pub(super) async fn connect(socket: &Path) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(|error| Status::invalid_argument(format!("{}: {error}", socket.display())))?
            // As kubelet: gRPC servers refuse an authority that is a path.
            .origin(Uri::from_static("http://localhost"))
            .connect_timeout(DIAL_TIMEOUT);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Status::unavailable(format!("dial {}: {error}", socket.display())))?;
        let mut client = DevicePluginClient::new(channel);
        let options = client.get_device_plugin_options(Empty {}).await?.into_inner();
        Ok(Self { client, options })
    }

    pub(super) async fn list_and_watch(&self) -> Result<Streaming<ListAndWatchResponse>, Status> {
        Ok(self.client.clone().list_and_watch(Empty {}).await?.into_inner())
    }

    pub(super) async fn preferred(&self, free: &[String], needed: usize) -> Result<Vec<String>, Status> {
        let request = ContainerPreferredAllocationRequest {
            available_device_i_ds: free.to_vec(),
            must_include_device_i_ds: Vec::new(),
            allocation_size: i32::try_from(needed).unwrap_or(i32::MAX),
        };
        let request = PreferredAllocationRequest { container_requests: vec![request] };
        let answer = self.client.clone().get_preferred_allocation(request).await?.into_inner();
        Ok(answer.container_responses.into_iter().next().map(|r| r.device_i_ds).unwrap_or_default())
    }

    pub(super) async fn allocate(&self, ids: &[String]) -> Result<ContainerAllocateResponse, Status> {
        let request = ContainerAllocateRequest { devices_ids: ids.to_vec() };
        let request = AllocateRequest { container_requests: vec![request] };
        let answer = self.client.clone().allocate(request).await?.into_inner();
        match answer.container_responses.into_iter().next() {
            Some(response) => Ok(response),
            None => Err(Status::unknown("no containers return in allocation response")),
        }
    }

    pub(super) async fn pre_start(&self, ids: &[String]) -> Result<(), Status> {
        let mut request = Request::new(PreStartContainerRequest { devices_ids: ids.to_vec() });
        request.set_timeout(PRE_START_TIMEOUT);
        self.client.clone().pre_start_container(request).await.map(drop)
    }
}

/// A gRPC failure in kubelet's words, which are those of Go's gRPC.
pub fn rpc_text(status: &Status) -> String {
    let code = match status.code() {
        Code::Cancelled => "Canceled".to_string(),
        Code::Ok => "OK".to_string(),
        other => format!("{other:?}"),
    };
    format!("rpc error: code = {code} desc = {}", status.message())
}
