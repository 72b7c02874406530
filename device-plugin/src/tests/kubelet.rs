//! A kubelet for tests: the registration service, and a client as kubelet's device manager uses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_kubelet_api::device_plugin::device_plugin_client::DevicePluginClient;
use fairlead_kubelet_api::device_plugin::registration_server::{Registration, RegistrationServer};
use fairlead_kubelet_api::pod_resources as pods;
use fairlead_kubelet_api::pod_resources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

/// Waits for something that has to happen, but not for ever.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it has not happened")
}

/// Waits until something is so.
pub(crate) async fn eventually(check: impl Fn() -> bool) {
    within(async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) struct FakeKubelet {
    dir: PathBuf,
    pub(crate) registrations: mpsc::UnboundedReceiver<api::RegisterRequest>,
    server: JoinHandle<()>,
}

impl FakeKubelet {
    /// Starts as kubelet does: whatever sockets are in its folder go, then it makes its own.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_refusing(dir, 0)
    }

    /// Refuses that many registrations before it accepts any.
    pub(crate) fn start_refusing(dir: &Path, refusals: u32) -> Self {
        for entry in fs::read_dir(dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        Self::serve(dir, refusals)
    }

    /// Starts without removing anything, as newer kubelets may.
    pub(crate) fn join(dir: &Path) -> Self {
        Self::serve(dir, 0)
    }

    fn serve(dir: &Path, refusals: u32) -> Self {
        let (sender, registrations) = mpsc::unbounded_channel();
        let service = Service { dir: dir.to_owned(), sender, refusals: Arc::new(AtomicU32::new(refusals)) };
        let listener = UnixListener::bind(dir.join("kubelet.sock")).unwrap();
        let serving = Server::builder()
            .add_service(RegistrationServer::new(service))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { dir: dir.to_owned(), registrations, server }
    }

    /// The next registrations, sorted by resource.
    pub(crate) async fn registered(&mut self, count: usize) -> Vec<api::RegisterRequest> {
        let mut requests = Vec::new();
        while requests.len() < count {
            requests.push(within(self.registrations.recv()).await.unwrap());
        }
        requests.sort_by(|a, b| a.resource_name.cmp(&b.resource_name));
        requests
    }

    pub(crate) async fn dial(&self, endpoint: &str) -> DevicePluginClient<Channel> {
        within(dial(&self.dir, endpoint)).await.unwrap()
    }

    /// Opens a pool's list.
    pub(crate) async fn watch(&self, endpoint: &str) -> Lists {
        let stream = within(self.dial(endpoint).await.list_and_watch(api::Empty {})).await.unwrap();
        Lists(stream.into_inner())
    }

    /// Ends without a trace but its socket, as when killed.
    pub(crate) fn kill(self) {
        self.server.abort();
    }
}

/// A pool's list as it comes in.
pub(crate) struct Lists(Streaming<api::ListAndWatchResponse>);

impl Lists {
    /// The next list; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<api::Device>> {
        within(self.0.message()).await.unwrap().map(|list| list.devices)
    }

    /// The IDs of the next list.
    pub(crate) async fn next_ids(&mut self) -> Vec<String> {
        self.next().await.unwrap().into_iter().map(|device| device.id).collect()
    }
}

async fn dial(dir: &Path, endpoint: &str) -> Result<DevicePluginClient<Channel>, tonic::transport::Error> {
    DevicePluginClient::connect(format!("unix://{}", dir.join(endpoint).display())).await
}

struct Service {
    dir: PathBuf,
    sender: mpsc::UnboundedSender<api::RegisterRequest>,
    refusals: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl Registration for Service {
    async fn register(&self, request: Request<api::RegisterRequest>) -> Result<Response<api::Empty>, Status> {
        let request = request.into_inner();
        let refuse = self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if refuse.is_ok() {
            return Err(Status::unavailable("not now"));
        }
        // The real one answers only after it has reached the plugin.
        let client = dial(&self.dir, &request.endpoint).await;
        let mut client = client.map_err(|error| Status::internal(error.to_string()))?;
        client.get_device_plugin_options(api::Empty {}).await?;
        self.sender.send(request).unwrap();
        Ok(Response::new(api::Empty {}))
    }
}

/// kubelet's list of what pods have: one pod of one container.
#[derive(Clone, Default)]
pub(crate) struct FakePods {
    devices: Arc<Mutex<Vec<pods::ContainerDevices>>>,
    asked: Arc<AtomicU32>,
}

impl FakePods {
    pub(crate) fn start(root: &Path) -> Self {
        let dir = root.join("pod-resources");
        fs::create_dir_all(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("kubelet.sock")).unwrap();
        let this = Self::default();
        let serving = Server::builder()
            .add_service(PodResourcesListerServer::new(this.clone()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(serving);
        this
    }

    /// Gives devices to the pod, in rows as by NUMA node.
    pub(crate) fn give(&self, resource: &str, ids: &[&str]) {
        let row = |id: &&str| pods::ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: vec![(*id).to_owned()],
            topology: None,
        };
        self.devices.lock().unwrap().extend(ids.iter().map(row));
    }

    /// Waits until the plugin has asked once more, and a little.
    pub(crate) async fn asked(&self) {
        eventually(|| self.asked.load(Ordering::Relaxed) > 0).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tonic::async_trait]
impl PodResourcesLister for FakePods {
    async fn list(
        &self,
        _: Request<pods::ListPodResourcesRequest>,
    ) -> Result<Response<pods::ListPodResourcesResponse>, Status> {
        let devices = self.devices.lock().unwrap().clone();
        let container = pods::ContainerResources { name: "c".to_owned(), devices, ..Default::default() };
        let pod =
            pods::PodResources { name: "p".to_owned(), containers: vec![container], ..Default::default() };
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(pods::ListPodResourcesResponse { pod_resources: vec![pod] }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<pods::AllocatableResourcesRequest>,
    ) -> Result<Response<pods::AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get(
        &self,
        _: Request<pods::GetPodResourcesRequest>,
    ) -> Result<Response<pods::GetPodResourcesResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}
