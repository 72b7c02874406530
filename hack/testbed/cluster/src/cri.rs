//! The container runtime interface: generated code and a client.

use std::{path::Path, time::Duration};

use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, Uri},
};

/// Messages, clients and servers made from `protos/cri.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, unused_qualifications)]
pub mod v1 {
    include!("generated/runtime.v1.rs");
}

use v1::{image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient};

/// How long kubelet lets an ordinary call take.
const CALL: Duration = Duration::from_secs(120);
/// Running a sandbox may take twice that.
const RUN_SANDBOX: Duration = Duration::from_secs(240);

/// A connection to the container runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

fn limited<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

impl Runtime {
    /// Connects to a socket, now and again whenever the connection is lost.
    pub fn at(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))?
            .origin(Uri::from_static("http://localhost"))
            .connect_lazy();
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
        })
    }

    /// Name and version of the runtime, such as `containerd://1.7.24`.
    pub async fn version(&self) -> Result<String, Status> {
        let answer = self.runtime.clone().version(limited(v1::VersionRequest::default(), CALL)).await?;
        let answer = answer.into_inner();
        Ok(format!("{}://{}", answer.runtime_name, answer.runtime_version))
    }

    /// RuntimeReady, NetworkReady.
    pub async fn conditions(&self) -> Result<Vec<v1::RuntimeCondition>, Status> {
        let answer = self.runtime.clone().status(limited(v1::StatusRequest::default(), CALL)).await?;
        Ok(answer.into_inner().status.map(|s| s.conditions).unwrap_or_default())
    }

    /// The image's ID, if the node has it.
    pub async fn image(&self, name: &str) -> Result<Option<String>, Status> {
        let spec = v1::ImageSpec { image: name.into(), ..Default::default() };
        let request = v1::ImageStatusRequest { image: Some(spec) };
        Ok(self.images.clone().image_status(limited(request, CALL)).await?.into_inner().image.map(|i| i.id))
    }

    /// Makes a sandbox: network attachment happens in here.
    pub async fn run_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String, Status> {
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let answer = self.runtime.clone().run_pod_sandbox(limited(request, RUN_SANDBOX)).await?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    /// Ends a sandbox: network detachment happens in here. May be repeated.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime.clone().stop_pod_sandbox(limited(request, CALL)).await.map(drop)
    }

    /// Removes a sandbox with its containers.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime.clone().remove_pod_sandbox(limited(request, CALL)).await.map(drop)
    }

    /// A sandbox's state and addresses.
    pub async fn sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus, Status> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let answer = self.runtime.clone().pod_sandbox_status(limited(request, CALL)).await?;
        answer.into_inner().status.ok_or_else(|| Status::unknown("PodSandboxStatus without a status"))
    }

    /// All sandboxes, or those of one pod.
    pub async fn sandboxes(&self, uid: Option<&str>) -> Result<Vec<v1::PodSandbox>, Status> {
        let filter = v1::PodSandboxFilter { label_selector: of_pod(uid), ..Default::default() };
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_pod_sandbox(limited(request, CALL)).await?.into_inner().items)
    }

    /// All containers, or those of one pod.
    pub async fn containers(&self, uid: Option<&str>) -> Result<Vec<v1::Container>, Status> {
        let filter = v1::ContainerFilter { label_selector: of_pod(uid), ..Default::default() };
        let request = v1::ListContainersRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_containers(limited(request, CALL)).await?.into_inner().containers)
    }

    /// A container's state, times and exit code.
    pub async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, Status> {
        let request = v1::ContainerStatusRequest { container_id: id.into(), verbose: false };
        let answer = self.runtime.clone().container_status(limited(request, CALL)).await?;
        answer.into_inner().status.ok_or_else(|| Status::unknown("ContainerStatus without a status"))
    }

    /// Makes a container in a sandbox.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.runtime.clone().create_container(limited(request, CALL)).await?.into_inner().container_id)
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &str) -> Result<(), Status> {
        let request = v1::StartContainerRequest { container_id: id.into() };
        self.runtime.clone().start_container(limited(request, CALL)).await.map(drop)
    }

    /// Asks a container to end, and kills it after `grace` seconds.
    pub async fn stop_container(&self, id: &str, grace: i64) -> Result<(), Status> {
        let limit = CALL + Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        let request = v1::StopContainerRequest { container_id: id.into(), timeout: grace };
        self.runtime.clone().stop_container(limited(request, limit)).await.map(drop)
    }

    /// Removes a container.
    pub async fn remove_container(&self, id: &str) -> Result<(), Status> {
        let request = v1::RemoveContainerRequest { container_id: id.into() };
        self.runtime.clone().remove_container(limited(request, CALL)).await.map(drop)
    }

    /// Runs a command in a container; `timeout` in seconds, 0 is none.
    pub async fn exec(
        &self,
        id: &str,
        cmd: Vec<String>,
        timeout: i64,
    ) -> Result<v1::ExecSyncResponse, Status> {
        let request = v1::ExecSyncRequest { container_id: id.into(), cmd, timeout };
        let mut request = Request::new(request);
        if timeout > 0 {
            request.set_timeout(CALL + Duration::from_secs(u64::try_from(timeout).unwrap_or_default()));
        }
        Ok(self.runtime.clone().exec_sync(request).await?.into_inner())
    }
}

/// The label that kubelet puts on everything of a pod.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The label with the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The label with the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The label with the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

fn of_pod(uid: Option<&str>) -> std::collections::HashMap<String, String> {
    uid.map(|uid| (POD_UID.to_string(), uid.to_string())).into_iter().collect()
}
