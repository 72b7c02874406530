//! What the tests share.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
};

use fairlead_cni::agent_protocol::PodRef;
use fairlead_kubelet_api::pod_resources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
    PodResources,
    pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::UnixListener, time::Instant};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use tower_test::mock::{self, Handle};

/// The other end of a client: what it asks, and where answers are given.
pub(crate) type Asker = Handle<http::Request<Body>, http::Response<Body>>;

/// A client whose requests the test answers.
pub(crate) fn client() -> (Client, Asker) {
    let (service, server) = mock::pair();
    (Client::new(service, "default"), server)
}

pub(crate) fn pod() -> PodRef {
    PodRef { namespace: "default".into(), name: "router".into(), uid: "u".into() }
}

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path with query.
    pub(crate) line: String,
    pub(crate) body: Value,
}

/// A client whose requests are answered by `respond` with status and body; without an answer the request hangs.
pub(crate) fn api(
    mut respond: impl FnMut(&Asked) -> Option<(u16, Value)> + Send + 'static,
) -> (Client, Arc<Mutex<Vec<Asked>>>) {
    let (client, mut server) = client();
    let log = Arc::new(Mutex::new(Vec::new()));
    let asked = log.clone();
    tokio::spawn(async move {
        let mut hanging = Vec::new();
        while let Some((request, send)) = server.next_request().await {
            let line = format!("{} {}", request.method(), request.uri());
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let one = Asked { line, body: serde_json::from_slice(&bytes).unwrap_or_default() };
            asked.lock().unwrap().push(one.clone());
            match respond(&one) {
                Some((status, body)) => send.send_response(
                    http::Response::builder()
                        .status(status)
                        .body(Body::from(body.to_string().into_bytes()))
                        .unwrap(),
                ),
                None => hanging.push(send),
            }
        }
    });
    (client, log)
}

/// The API server's Status of a failure.
pub(crate) fn status(code: u16, message: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}),
    )
}

/// Answers yet to be given.
pub(crate) type Answers<T> = Arc<Mutex<VecDeque<Result<T, Status>>>>;

/// Kubelet's PodResources as a test wants it.
#[derive(Clone, Default)]
pub(crate) struct FakeKubelet {
    /// Answers of `Get`, then unimplemented.
    pub(crate) gets: Answers<PodResources>,
    /// Answers of `List`, the last one again and again.
    pub(crate) lists: Answers<Vec<PodResources>>,
    /// What both answer from, when it is there.
    pub(crate) node: Arc<Mutex<Option<Vec<PodResources>>>>,
    /// Calls that may come at once; each comes again after a hundredth of a second, as in kubelet.
    pub(crate) burst: Option<f64>,
    pub(crate) spent: Arc<Mutex<(f64, Option<Instant>)>>,
    /// Methods that were called.
    pub(crate) calls: Arc<Mutex<Vec<&'static str>>>,
}

impl FakeKubelet {
    /// Serves below a new kubelet root until the test ends.
    pub(crate) fn serve(&self) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        self.serve_at(root.path());
        root
    }

    fn called(&self, method: &'static str) -> Result<(), Status> {
        self.calls.lock().unwrap().push(method);
        let Some(burst) = self.burst else { return Ok(()) };
        let mut spent = self.spent.lock().unwrap();
        let back = spent.1.map_or(0.0, |at| at.elapsed().as_secs_f64() * 100.0);
        *spent = ((spent.0 - back).max(0.0) + 1.0, Some(Instant::now()));
        if spent.0 <= burst {
            return Ok(());
        }
        spent.0 -= 1.0;
        Err(Status::resource_exhausted("rejected by rate limit"))
    }

    pub(crate) fn serve_at(&self, root: &Path) {
        let folder = root.join("pod-resources");
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("kubelet.sock")).unwrap();
        let server = Server::builder().add_service(PodResourcesListerServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    }
}

#[tonic::async_trait]
impl PodResourcesLister for FakeKubelet {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.called("List")?;
        if let Some(pod_resources) = self.node.lock().unwrap().clone() {
            return Ok(Response::new(ListPodResourcesResponse { pod_resources }));
        }
        let mut lists = self.lists.lock().unwrap();
        let answer = if lists.len() > 1 { lists.pop_front() } else { lists.front().cloned() };
        let pod_resources = answer.unwrap_or_else(|| Ok(Vec::new()))?;
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.called("Get")?;
        if let Some(pods) = self.node.lock().unwrap().as_ref() {
            let found = pods.iter().find(|pod| pod.name == request.get_ref().pod_name).cloned();
            let found = found.ok_or_else(|| Status::unknown("no such pod"))?;
            return Ok(Response::new(GetPodResourcesResponse { pod_resources: Some(found) }));
        }
        let answer = self.gets.lock().unwrap().pop_front();
        let resources = answer.unwrap_or_else(|| Err(Status::unimplemented("unknown method Get")))?;
        Ok(Response::new(GetPodResourcesResponse { pod_resources: Some(resources) }))
    }
}

/// What kubelet says of the pod with these rows for its only container.
pub(crate) fn resources(rows: &[(&str, &[&str])]) -> PodResources {
    let row = |(resource, ids): &(&str, &[&str])| ContainerDevices {
        resource_name: (*resource).into(),
        device_ids: ids.iter().map(|id| (*id).into()).collect(),
        topology: None,
    };
    PodResources {
        name: pod().name,
        namespace: pod().namespace,
        containers: vec![ContainerResources {
            name: "main".into(),
            devices: rows.iter().map(row).collect(),
            ..ContainerResources::default()
        }],
        ..PodResources::default()
    }
}
