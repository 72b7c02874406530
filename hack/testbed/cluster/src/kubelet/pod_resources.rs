//! The PodResources socket: which pod holds which devices, in the disorder that the real one shows.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fairlead_kubelet_api::pod_resources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
    NumaNode, PodResources, TopologyInfo,
    pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::{
    Stop,
    devices::{DeviceManager, Holder, registration::listen},
    stopped,
};
use crate::random::Random;

/// Kubelet answers this many calls of PodResources at once, and then one each pause (100 a second).
const BURST: u32 = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// Serves `root`/pod-resources/kubelet.sock until `stop`'s sender is gone.
pub(super) fn serve(root: &Path, devices: Arc<DeviceManager>, random: Random, stop: Stop) -> io::Result<()> {
    let folder = root.join("pod-resources");
    std::fs::create_dir_all(&folder)?;
    let listener = listen(&folder.join("kubelet.sock"))?;
    let limiter = Limiter::new(Instant::now());
    let limited = move |request| match limiter.allows(Instant::now()) {
        true => Ok(request),
        false => Err(Status::resource_exhausted("rejected by rate limit")),
    };
    let lister = PodResourcesListerServer::with_interceptor(Lister { devices, random }, limited);
    let server = Server::builder().add_service(lister);
    tokio::spawn(async move {
        let incoming = UnixListenerStream::new(listener);
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped(stop)).await {
            tracing::error!(target: "devices", "PodResources socket: {error}");
        }
    });
    Ok(())
}

/// Limits the rate of calls, all methods and clients together.
#[derive(Clone)]
struct Limiter(Arc<Mutex<Tokens>>);

/// What is left of the burst, and up to when it has been filled up.
struct Tokens {
    left: u32,
    filled: Instant,
}

impl Limiter {
    fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Tokens { left: BURST, filled: now })))
    }

    fn allows(&self, now: Instant) -> bool {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tokens.left < BURST && tokens.filled + PAUSE <= now {
            tokens.left += 1;
            tokens.filled += PAUSE;
        }
        if tokens.left == BURST {
            tokens.filled = now;
        }
        match tokens.left.checked_sub(1) {
            Some(left) => {
                tokens.left = left;
                true
            }
            None => false,
        }
    }
}

struct Lister {
    devices: Arc<DeviceManager>,
    random: Random,
}

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let mut pods: Vec<PodResources> = self
            .devices
            .holders()
            .values()
            .filter(|h| !h.name.is_empty())
            .map(|h| pod(h, &self.random))
            .collect();
        self.random.shuffle(&mut pods);
        Ok(Response::new(ListPodResourcesResponse { pod_resources: pods }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let mut rows: Vec<ContainerDevices> = self
            .devices
            .allocatable()
            .iter()
            .flat_map(|(resource, devices)| rows(resource, devices))
            .collect();
        self.random.shuffle(&mut rows);
        Ok(Response::new(AllocatableResourcesResponse { devices: rows, ..Default::default() }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        let GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let holders = self.devices.holders();
        let found = holders.values().find(|h| h.name == pod_name && h.namespace == pod_namespace);
        let Some(holder) = found else {
            return Err(Status::unknown(format!("pod {pod_name} in namespace {pod_namespace} not found")));
        };
        Ok(Response::new(GetPodResourcesResponse { pod_resources: Some(pod(holder, &self.random)) }))
    }
}

fn pod(holder: &Holder, random: &Random) -> PodResources {
    let containers = holder.containers.iter().map(|name| {
        let held = holder.allocations.iter().filter(|a| a.container == *name);
        let mut devices: Vec<ContainerDevices> = held.flat_map(|a| rows(&a.resource, &a.devices)).collect();
        random.shuffle(&mut devices);
        ContainerResources { name: name.clone(), devices, ..Default::default() }
    });
    PodResources {
        name: holder.name.clone(),
        namespace: holder.namespace.clone(),
        containers: containers.collect(),
        ..Default::default()
    }
}

/// One row for each device and each of its NUMA nodes: that is how far the real one splits. A device whose topology
/// names no node has no row at all.
fn rows(resource: &str, devices: &BTreeMap<String, Option<Vec<i64>>>) -> Vec<ContainerDevices> {
    let row = |id: &String, topology| ContainerDevices {
        resource_name: resource.into(),
        device_ids: vec![id.clone()],
        topology,
    };
    let mut rows = Vec::new();
    for (id, numa) in devices {
        match numa {
            None => rows.push(row(id, None)),
            Some(nodes) => rows.extend(
                nodes.iter().map(|node| row(id, Some(TopologyInfo { nodes: vec![NumaNode { id: *node }] }))),
            ),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_rate() {
        let start = Instant::now();
        let limiter = Limiter::new(start);
        let allowed = |at: Instant| (0..20).filter(|_| limiter.allows(at)).count();
        assert_eq!(allowed(start), 10);
        assert_eq!(allowed(start + PAUSE / 2), 0);
        assert_eq!(allowed(start + PAUSE * 3), 3);
        assert_eq!(allowed(start + PAUSE * 1000), 10);
    }
}
