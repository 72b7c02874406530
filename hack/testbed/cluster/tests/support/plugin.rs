//! A device plugin that does as it is told.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use fairlead_kubelet_api::device_plugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec, Empty, HEALTHY,
    ListAndWatchResponse, NumaNode, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest, TopologyInfo, UNHEALTHY,
    VERSION,
    device_plugin_server::{DevicePlugin, DevicePluginServer},
    registration_client::RegistrationClient,
};
use fairlead_kubelet_api::plugin_registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_server::{Registration, RegistrationServer},
};
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::{
    StreamExt,
    wrappers::{UnixListenerStream, WatchStream},
};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{Context, Poll, Service, http},
    server::NamedService,
    transport::Server,
};

/// What the plugin was asked, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Available devices and how many are wanted.
    Preferred(Vec<String>, i32),
    Allocate(Vec<String>),
    PreStart(Vec<String>),
}

struct Inner {
    options: DevicePluginOptions,
    devices: watch::Receiver<Vec<Device>>,
    asked: Mutex<Vec<Asked>>,
    /// What Allocate and GetPreferredAllocation fail with.
    failure: Mutex<Option<String>>,
    authorities: Mutex<Vec<String>>,
}

/// A running plugin; it ends when this is dropped.
pub(crate) struct FakePlugin {
    inner: Arc<Inner>,
    devices: Option<watch::Sender<Vec<Device>>>,
    folder: PathBuf,
    resource: String,
    stop: watch::Sender<()>,
}

/// A device: name, health, NUMA nodes.
pub(crate) fn device(id: &str, healthy: bool, numa: Option<&[i64]>) -> Device {
    Device {
        id: id.into(),
        health: if healthy { HEALTHY } else { UNHEALTHY }.into(),
        topology: numa
            .map(|nodes| TopologyInfo { nodes: nodes.iter().map(|id| NumaNode { id: *id }).collect() }),
    }
}

impl FakePlugin {
    /// Serves a resource on its own socket, without registering.
    pub(crate) fn serve(
        root: &Path,
        resource: &str,
        options: DevicePluginOptions,
        devices: Vec<Device>,
    ) -> Self {
        Self::serve_on(root, resource, "fake", options, devices)
    }

    /// The same, with a word that makes the socket's name another.
    pub(crate) fn serve_on(
        root: &Path,
        resource: &str,
        word: &str,
        options: DevicePluginOptions,
        devices: Vec<Device>,
    ) -> Self {
        let folder = root.join("device-plugins");
        let (sender, receiver) = watch::channel(devices);
        let inner = Arc::new(Inner {
            options,
            devices: receiver,
            asked: Mutex::default(),
            failure: Mutex::default(),
            authorities: Mutex::default(),
        });
        let name = format!("{}-{word}.sock", resource.replace('/', "_"));
        let listener = UnixListener::bind(folder.join(&name)).unwrap();
        let (stop, mut stopped) = watch::channel(());
        let service = Noted { service: DevicePluginServer::new(Fake(inner.clone())), inner: inner.clone() };
        tokio::spawn(async move {
            let ended = async move { while stopped.changed().await.is_ok() {} };
            let incoming = UnixListenerStream::new(listener);
            Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, ended)
                .await
                .unwrap();
        });
        Self { inner, devices: Some(sender), folder: folder.join(name), resource: resource.into(), stop }
    }

    /// Registers with the kubelet.
    pub(crate) async fn register(&self) -> Result<(), Status> {
        let kubelet = self.folder.with_file_name("kubelet.sock");
        let mut client = RegistrationClient::connect(format!("unix://{}", kubelet.display())).await.unwrap();
        let request = RegisterRequest {
            version: VERSION.into(),
            endpoint: self.folder.file_name().unwrap().to_str().unwrap().into(),
            resource_name: self.resource.clone(),
            options: None,
        };
        client.register(request).await.map(drop)
    }

    /// Serves a socket for kubelet's plugin watcher, which says where this plugin is; what kubelet tells it is noted.
    pub(crate) fn announce(&self, socket: &Path, kind: &str) -> Told {
        let listener = UnixListener::bind(socket).unwrap();
        let told = Told::default();
        let info = PluginInfo {
            r#type: kind.into(),
            name: self.resource.clone(),
            endpoint: self.folder.to_str().unwrap().into(),
            supported_versions: vec![VERSION.into()],
        };
        let service = RegistrationServer::new(Announced { info, told: told.clone() });
        let serving =
            Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(serving);
        told
    }

    /// Reports another list.
    pub(crate) fn report(&self, devices: Vec<Device>) {
        self.devices.as_ref().unwrap().send_replace(devices);
    }

    /// Ends ListAndWatch.
    pub(crate) fn hang_up(&mut self) {
        self.devices = None;
        self.stop = watch::Sender::new(());
    }

    /// Has Allocate and GetPreferredAllocation fail from now on.
    pub(crate) fn fail(&self, text: &str) {
        *self.inner.failure.lock().unwrap() = Some(text.into());
    }

    /// The authorities of all requests so far.
    pub(crate) fn authorities(&self) -> Vec<String> {
        self.inner.authorities.lock().unwrap().clone()
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }
}

/// Whether each registration was accepted, and kubelet's text.
pub(crate) type Told = Arc<Mutex<Vec<(bool, String)>>>;

struct Announced {
    info: PluginInfo,
    told: Told,
}

#[tonic::async_trait]
impl Registration for Announced {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        self.told.lock().unwrap().push((status.plugin_registered, status.error));
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

/// Notes the authority that requests come with.
#[derive(Clone)]
struct Noted<S> {
    service: S,
    inner: Arc<Inner>,
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Noted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        self.inner.authorities.lock().unwrap().push(authority);
        self.service.call(request)
    }
}

impl<S: NamedService> NamedService for Noted<S> {
    const NAME: &'static str = S::NAME;
}

struct Fake(Arc<Inner>);

impl Fake {
    fn note(&self, asked: Asked) {
        self.0.asked.lock().unwrap().push(asked);
    }

    fn check(&self) -> Result<(), Status> {
        self.0.failure.lock().unwrap().clone().map_or(Ok(()), |text| Err(Status::unknown(text)))
    }
}

#[tonic::async_trait]
impl DevicePlugin for Fake {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(self.0.options))
    }

    type ListAndWatchStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.0.devices.clone());
        Ok(Response::new(Box::pin(lists.map(|devices| Ok(ListAndWatchResponse { devices })))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let request = request.into_inner().container_requests.remove(0);
        self.note(Asked::Preferred(request.available_device_i_ds.clone(), request.allocation_size));
        self.check()?;
        // Prefers the last ones by name.
        let mut ids = request.available_device_i_ds;
        ids.sort();
        ids.reverse();
        ids.truncate(usize::try_from(request.allocation_size).unwrap());
        let response = ContainerPreferredAllocationResponse { device_i_ds: ids };
        Ok(Response::new(PreferredAllocationResponse { container_responses: vec![response] }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let mut requests = request.into_inner().container_requests;
        assert_eq!(requests.len(), 1, "one container at a time");
        let ids = requests.remove(0).devices_ids;
        self.note(Asked::Allocate(ids.clone()));
        self.check()?;
        let response = ContainerAllocateResponse {
            envs: [("DEVICES".to_string(), ids.join(","))].into(),
            devices: vec![DeviceSpec {
                container_path: "/dev/fake".into(),
                host_path: "/dev/null".into(),
                permissions: "rw".into(),
            }],
            annotations: [("fake".to_string(), "yes".to_string())].into(),
            cdi_devices: ids.iter().map(|id| CdiDevice { name: format!("fake.com/dev={id}") }).collect(),
            mounts: Vec::new(),
        };
        Ok(Response::new(AllocateResponse { container_responses: vec![response] }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        self.note(Asked::PreStart(request.into_inner().devices_ids));
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
