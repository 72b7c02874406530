//! Registration at kubelet's own socket.

use std::path::Path;
use std::time::Duration;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_kubelet_api::device_plugin::registration_client::RegistrationClient;
use fairlead_resource_config::error_text;
use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::folder::{Changes, KUBELET_SOCKET, Kubelet};
use super::listening::{Listening, Place, Way};
use super::retry::Retry;
use super::{POLL, Registration, Server, wait};
use crate::Stop;
use crate::kubelet_error::KubeletError;
use crate::service::{self, Service};

/// kubelet dials the plugin and asks for its options before it answers; ten seconds is its own limit for that.
const ANSWER: Duration = Duration::from_secs(15);

/// The longest time between two tries.
const LAST_RETRY: Duration = Duration::from_secs(5);

/// How long a kubelet may take to find the socket in `plugins_registry` before it is told otherwise. Its watcher looks every
/// second.
const WATCHER_GRACE: Duration = Duration::from_millis(1500);

impl Server {
    /// Serves in `device-plugins` and registers, until told to stop.
    pub(super) async fn classic(&self, mut changes: watch::Receiver<Changes>, stop: &Stop) {
        let resource = self.resource();
        let mut retry = Retry::new(LAST_RETRY);
        while !stop.is_stopped() {
            let dir = self.shared.options.node.device_plugins();
            let service = Service::new(self.pool.clone(), self.shared.clone(), self.at_classic.clone());
            match Listening::start(&dir, &self.socket_name(), service, Way::Classic) {
                Ok(listening) => {
                    retry.succeeded();
                    self.keep_registered(&listening, &mut changes, stop).await;
                    listening.finish().await;
                }
                Err(error) => {
                    if retry.is_news(&error_text(&error)) {
                        tracing::warn!(%resource, error = error_text(&error), "cannot serve yet");
                    }
                    wait(retry.next(), &mut changes, &self.at_classic, stop).await;
                }
            }
        }
    }

    /// Registers with each kubelet that appears, and again with one that has lost the plugin, until the socket is gone or the
    /// plugin stops.
    async fn keep_registered(
        &self,
        listening: &Listening,
        changes: &mut watch::Receiver<Changes>,
        stop: &Stop,
    ) {
        let resource = self.resource();
        let kubelet_socket = self.shared.options.node.device_plugins().join(KUBELET_SOCKET);
        let mut seen: Option<(Kubelet, Instant)> = None;
        let mut registered_with = None;
        let mut retry = Retry::new(LAST_RETRY);
        while !stop.is_stopped() {
            let kubelet = changes.borrow_and_update().kubelet;
            match listening.place().await {
                Place::Ours => {}
                Place::Gone => {
                    tracing::info!(%resource, "the socket is gone; serving anew");
                    return;
                }
                Place::Taken => {
                    if retry.is_news("taken") {
                        tracing::info!(%resource, "another plugin serves the pool; leaving it to that one");
                    }
                    wait(POLL, changes, &self.at_classic, stop).await;
                    continue;
                }
            }
            let Some(kubelet) = kubelet else {
                if retry.is_news("absent") {
                    tracing::info!(%resource, path = %kubelet_socket.display(), "waiting for kubelet");
                }
                wait(POLL, changes, &self.at_classic, stop).await;
                continue;
            };
            let since = match seen {
                Some((known, since)) if known == kubelet => since,
                _ => Instant::now(),
            };
            if seen.is_none_or(|(known, _)| known != kubelet) {
                seen = Some((kubelet, since));
                retry.soon();
            }
            let due = if registered_with == Some(kubelet) { self.lost_at() } else { Some(self.first(since)) };
            let Some(due) = due.filter(|_| !self.at_watcher.is_open()) else {
                wait(POLL, changes, &self.at_classic, stop).await;
                continue;
            };
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                wait(left.min(POLL), changes, &self.at_classic, stop).await;
                continue;
            }
            if registered_with == Some(kubelet) {
                tracing::info!(%resource, "kubelet watches the pool no more; registering again");
            }
            let registering = time::timeout(ANSWER, self.register(&kubelet_socket));
            let result = tokio::select! {
                result = registering => result.map_err(KubeletError::from).flatten(),
                () = stop.stopped() => return,
            };
            self.shared.metrics.registration(resource, "classic", result.is_ok());
            match result {
                Ok(()) => {
                    tracing::info!(%resource, "registered with kubelet");
                    registered_with = Some(kubelet);
                    self.at_classic.registered();
                    retry.succeeded();
                }
                Err(error) => {
                    if retry.is_news(&error_text(&error)) {
                        tracing::warn!(%resource, error = error_text(&error), "not registered; trying on");
                    }
                    wait(retry.next(), changes, &self.at_classic, stop).await;
                }
            }
        }
    }

    /// When a kubelet that appeared at `since` is to be told of the plugin.
    fn first(&self, since: Instant) -> Instant {
        let has_watcher = self.shared.options.registration == Registration::Auto
            && self.shared.options.node.plugins_registry().is_dir();
        if has_watcher { since + WATCHER_GRACE } else { since }
    }

    /// When a kubelet that was told of the plugin is to be told again.
    fn lost_at(&self) -> Option<Instant> {
        self.at_classic.lost_at()
    }

    async fn register(&self, kubelet_socket: &Path) -> Result<(), KubeletError> {
        let uri = format!("unix://{}", kubelet_socket.display());
        let mut client = RegistrationClient::connect(uri).await?;
        let request = api::RegisterRequest {
            version: api::VERSION.to_owned(),
            endpoint: self.socket_name(),
            resource_name: self.resource().to_string(),
            options: Some(service::OPTIONS),
        };
        client.register(request).await?;
        Ok(())
    }
}
