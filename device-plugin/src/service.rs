//! The device plugin service of one pool.

use std::sync::Arc;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_resource_config::pools::DeviceId;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::pool::{Listing, Pool};
use crate::register::{Contact, OpenList};
use crate::shared::Shared;
use crate::{Stop, allocate, prefer, prestart};

/// What the plugin wants to be asked.
pub(crate) const OPTIONS: api::DevicePluginOptions =
    api::DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: true };

/// Answers kubelet on one socket.
pub(crate) struct Service {
    pool: Arc<Pool>,
    shared: Arc<Shared>,
    contact: Contact,
    /// Ends the streams.
    pub(crate) stop: Stop,
}

impl Service {
    pub(crate) fn new(pool: Arc<Pool>, shared: Arc<Shared>, contact: Contact) -> Self {
        Self { pool, shared, contact, stop: Stop::default() }
    }

    /// Says in the log, and remembers, that devices were given out.
    fn allocated(&self, ids: &[&String], listing: &Listing) {
        let resource = self.pool.name.to_string();
        let (now, mut in_use) = (Instant::now(), self.shared.in_use());
        let again: Vec<&str> = ids
            .iter()
            .filter(|id| listing.member(id).is_some_and(|member| in_use.contains(&resource, member.id())))
            .map(|id| id.as_str())
            .collect();
        if !again.is_empty() {
            // kubelet gives the devices of an init container to the containers after it: it alone can know.
            tracing::info!(resource, devices = again.join(","), "allocated again while in use");
        }
        in_use.allocate(&resource, ids.iter().filter_map(|id| id.parse::<DeviceId>().ok()), now);
        drop(in_use);
        self.shared.allocated.notify_one();
    }
}

type ListResult = Result<api::ListAndWatchResponse, Status>;

#[tonic::async_trait]
impl api::device_plugin_server::DevicePlugin for Service {
    type ListAndWatchStream = ReceiverStream<ListResult>;

    async fn get_device_plugin_options(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<api::DevicePluginOptions>, Status> {
        Ok(Response::new(OPTIONS))
    }

    async fn list_and_watch(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        tracing::info!(resource = %self.pool.name, "kubelet watches the pool");
        let listings = self.pool.subscribe();
        tokio::spawn(send_lists(listings, sender, self.stop.clone(), self.contact.opened()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<api::PreferredAllocationRequest>,
    ) -> Result<Response<api::PreferredAllocationResponse>, Status> {
        let listing = self.pool.listing();
        let answer = |request: api::ContainerPreferredAllocationRequest| {
            let size = usize::try_from(request.allocation_size).unwrap_or_default();
            let device_i_ds = prefer::preferred(
                &listing,
                &request.available_device_i_ds,
                &request.must_include_device_i_ds,
                size,
            );
            api::ContainerPreferredAllocationResponse { device_i_ds }
        };
        let container_responses = request.into_inner().container_requests.into_iter().map(answer).collect();
        Ok(Response::new(api::PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<api::AllocateRequest>,
    ) -> Result<Response<api::AllocateResponse>, Status> {
        let start = Instant::now();
        let (listing, request) = (self.pool.listing(), request.into_inner());
        let (node, specs) = (&self.shared.options.node, self.shared.specs.as_ref());
        let answer = |request: &api::ContainerAllocateRequest| {
            allocate::container(&listing, &request.devices_ids, node, specs)
        };
        let ids: Vec<&String> = request.container_requests.iter().flat_map(|c| &c.devices_ids).collect();
        let devices = ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(",");
        let resource = &self.pool.name;
        let answers: Result<Vec<_>, _> = request.container_requests.iter().map(answer).collect();
        self.shared.metrics.allocation(resource, answers.is_ok(), start.elapsed());
        match answers {
            Ok(container_responses) => {
                tracing::info!(%resource, devices, "allocated");
                self.allocated(&ids, &listing);
                Ok(Response::new(api::AllocateResponse { container_responses }))
            }
            Err(error) => {
                let status = Status::from(error);
                tracing::warn!(%resource, devices, reason = status.message(), "allocation refused");
                Err(status)
            }
        }
    }

    async fn pre_start_container(
        &self,
        request: Request<api::PreStartContainerRequest>,
    ) -> Result<Response<api::PreStartContainerResponse>, Status> {
        let ids = request.into_inner().devices_ids;
        let (node, specs) = (&self.shared.options.node, self.shared.specs.as_ref());
        if let Err(error) = prestart::check(&self.pool.listing(), &ids, node, specs) {
            let status = Status::from(error);
            let (resource, devices) = (&self.pool.name, ids.join(","));
            tracing::warn!(%resource, devices, reason = status.message(), "container must not start");
            return Err(status);
        }
        Ok(Response::new(api::PreStartContainerResponse {}))
    }
}

/// Sends the list of devices now and after every change, until kubelet goes or the server stops.
async fn send_lists(
    mut listings: watch::Receiver<Listing>,
    sender: mpsc::Sender<ListResult>,
    stop: Stop,
    _open: OpenList,
) {
    let mut sent: Option<Listing> = None;
    loop {
        let listing = listings.borrow_and_update().clone();
        if !sent.as_ref().is_some_and(|sent| sent.looks_like(&listing)) {
            // A kubelet that does not read must not keep the server from ending.
            tokio::select! {
                result = sender.send(Ok(listing.answer())) => if result.is_err() { return },
                () = stop.stopped() => return,
            }
        }
        sent = Some(listing);
        tokio::select! {
            changed = listings.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            () = stop.stopped() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture::Fixture;
    use crate::tests::kubelet::within;

    #[tokio::test]
    async fn a_kubelet_that_does_not_read_keeps_no_server_from_ending() {
        let (sender, mut lists) = mpsc::channel(1);
        sender.try_send(Err(Status::aborted("not read yet"))).unwrap();
        let listing = watch::Sender::new(Fixture::new().listings().remove(0));
        let (stop, contact) = (Stop::default(), Contact::default());
        let sending = tokio::spawn(send_lists(listing.subscribe(), sender, stop.clone(), contact.opened()));
        tokio::task::yield_now().await;
        assert!(contact.is_open());
        stop.stop();
        within(sending).await.unwrap();
        assert!(!contact.is_open());
        assert!(lists.recv().await.unwrap().is_err() && lists.recv().await.is_none());
    }
}
