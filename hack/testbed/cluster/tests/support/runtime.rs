//! A container runtime that runs nothing: it keeps what it was asked for, and does as it is told.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use fairlead_testbed::cri::v1::{
    image_service_server::{ImageService, ImageServiceServer},
    runtime_service_server::{RuntimeService, RuntimeServiceServer},
    *,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A sandbox as it was asked for, and its state.
#[derive(Debug, Clone)]
pub(crate) struct FakeSandbox {
    pub(crate) config: PodSandboxConfig,
    pub(crate) ready: bool,
    pub(crate) created: i64,
}

/// A container as it was asked for, and its state.
#[derive(Debug, Clone)]
pub(crate) struct FakeContainer {
    pub(crate) sandbox: String,
    pub(crate) config: ContainerConfig,
    pub(crate) state: ContainerState,
    pub(crate) exit_code: i32,
    pub(crate) created: i64,
    pub(crate) finished: i64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) sandboxes: BTreeMap<String, FakeSandbox>,
    pub(crate) containers: BTreeMap<String, FakeContainer>,
    /// Calls that change something, in order: method and pod, container or sandbox.
    pub(crate) calls: Vec<String>,
    /// How many of the next calls of a method fail, with this text.
    pub(crate) failures: HashMap<&'static str, (usize, String)>,
    pub(crate) images: Vec<String>,
    /// RunPodSandbox takes so long.
    pub(crate) sandbox_delay: Duration,
    next: u32,
}

/// A running fake; what it holds can be looked at and changed.
#[derive(Debug, Clone)]
pub(crate) struct FakeRuntime(Arc<Mutex<State>>);

impl FakeRuntime {
    /// Serves on a socket.
    pub(crate) fn serve(socket: &Path) -> Self {
        let fake = Self(Arc::default());
        fake.state().images.push("image:1".into());
        let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let server = Server::builder()
            .add_service(RuntimeServiceServer::new(fake.clone()))
            .add_service(ImageServiceServer::new(fake.clone()));
        tokio::spawn(async move { server.serve_with_incoming(listener).await.unwrap() });
        fake
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Has the next calls of a method fail.
    pub(crate) fn fail(&self, method: &'static str, times: usize, text: &str) {
        self.state().failures.insert(method, (times, text.into()));
    }

    /// Ends a running container by itself.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let mut state = self.state();
        let now = now();
        let running = |c: &&mut FakeContainer| {
            c.state == ContainerState::ContainerRunning && c.config.metadata.as_ref().unwrap().name == name
        };
        let container = state.containers.values_mut().find(running).expect("no such container runs");
        container.state = ContainerState::ContainerExited;
        (container.exit_code, container.finished) = (code, now);
    }

    /// The configuration of the newest container of a name.
    pub(crate) fn container(&self, name: &str) -> Option<ContainerConfig> {
        let state = self.state();
        let named = state.containers.values().filter(|c| c.config.metadata.as_ref().unwrap().name == name);
        named.max_by_key(|c| c.created).map(|c| c.config.clone())
    }

    fn call(&self, method: &'static str, about: &str) -> Result<MutexGuard<'_, State>, Status> {
        let mut state = self.state();
        state.calls.push(format!("{method} {about}"));
        if let Some((times, text)) = state.failures.get_mut(method).filter(|(times, _)| *times > 0) {
            *times -= 1;
            return Err(Status::unknown(text.clone()));
        }
        Ok(state)
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

fn selected(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl RuntimeService for FakeRuntime {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let condition =
            |kind: &str| RuntimeCondition { r#type: kind.into(), status: true, ..Default::default() };
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        Ok(Response::new(StatusResponse { status: Some(RuntimeStatus { conditions }) }))
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap();
        let delay = self.state().sandbox_delay;
        tokio::time::sleep(delay).await;
        let mut state = self.call("RunPodSandbox", &config.metadata.as_ref().unwrap().name)?;
        state.next += 1;
        let id = format!("s{}", state.next);
        state.sandboxes.insert(id.clone(), FakeSandbox { config, ready: true, created: now() });
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.call("StopPodSandbox", &id)?;
        if let Some(sandbox) = state.sandboxes.get_mut(&id) {
            sandbox.ready = false;
        }
        for container in state.containers.values_mut().filter(|c| c.sandbox == id) {
            if container.state == ContainerState::ContainerRunning {
                container.state = ContainerState::ContainerExited;
                (container.exit_code, container.finished) = (137, now());
            }
        }
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.call("RemovePodSandbox", &id)?;
        state.sandboxes.remove(&id);
        state.containers.retain(|_, c| c.sandbox != id);
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let state = self.state();
        let sandbox = state.sandboxes.get(&id).ok_or_else(|| Status::not_found(id.clone()))?;
        let network = PodSandboxNetworkStatus { ip: "10.9.8.7".into(), ..Default::default() };
        let status = PodSandboxStatus {
            id,
            metadata: sandbox.config.metadata.clone(),
            network: Some(network),
            ..Default::default()
        };
        Ok(Response::new(PodSandboxStatusResponse { status: Some(status) }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.state();
        let items = state.sandboxes.iter().filter(|(_, s)| selected(&s.config.labels, &wanted));
        let item = |(id, s): (&String, &FakeSandbox)| PodSandbox {
            id: id.clone(),
            metadata: s.config.metadata.clone(),
            state: if s.ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
                .into(),
            created_at: s.created,
            labels: s.config.labels.clone(),
        };
        Ok(Response::new(ListPodSandboxResponse { items: items.map(item).collect() }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config.unwrap();
        let mut state = self.call("CreateContainer", &config.metadata.as_ref().unwrap().name)?;
        if !state.sandboxes.get(&request.pod_sandbox_id).is_some_and(|s| s.ready) {
            return Err(Status::unknown(format!("sandbox {} is not running", request.pod_sandbox_id)));
        }
        state.next += 1;
        let id = format!("c{}", state.next);
        let container = FakeContainer {
            sandbox: request.pod_sandbox_id,
            config,
            state: ContainerState::ContainerCreated,
            exit_code: 0,
            created: now(),
            finished: 0,
        };
        state.containers.insert(id.clone(), container);
        Ok(Response::new(CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.call("StartContainer", &id)?;
        state.containers.get_mut(&id).unwrap().state = ContainerState::ContainerRunning;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        let mut state =
            self.call("StopContainer", &format!("{} {}", request.container_id, request.timeout))?;
        let container = state.containers.get_mut(&request.container_id).unwrap();
        container.state = ContainerState::ContainerExited;
        container.finished = now();
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.call("RemoveContainer", &id)?.containers.remove(&id);
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.state();
        let found = state.containers.iter().filter(|(_, c)| selected(&c.config.labels, &wanted));
        let container = |(id, c): (&String, &FakeContainer)| Container {
            id: id.clone(),
            pod_sandbox_id: c.sandbox.clone(),
            metadata: c.config.metadata.clone(),
            state: c.state.into(),
            created_at: c.created,
            labels: c.config.labels.clone(),
            ..Default::default()
        };
        Ok(Response::new(ListContainersResponse { containers: found.map(container).collect() }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let state = self.state();
        let container = state.containers.get(&id).ok_or_else(|| Status::not_found(id.clone()))?;
        let status = ContainerStatus {
            id,
            metadata: container.config.metadata.clone(),
            state: container.state.into(),
            created_at: container.created,
            started_at: container.created,
            finished_at: container.finished,
            exit_code: container.exit_code,
            ..Default::default()
        };
        Ok(Response::new(ContainerStatusResponse { status: Some(status) }))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        let stdout = request.cmd.join(" ").into_bytes();
        Ok(Response::new(ExecSyncResponse { stdout, stderr: Vec::new(), exit_code: 5 }))
    }
}

#[tonic::async_trait]
impl ImageService for FakeRuntime {
    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        let known = self.state().images.contains(&name);
        let image = known.then(|| Image { id: format!("sha256:{name}"), ..Default::default() });
        Ok(Response::new(ImageStatusResponse { image }))
    }
}
