//! Registration through kubelet's plugin watcher: it finds the socket in `plugins_registry`, and asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fairlead_kubelet_api::device_plugin::VERSION;
use fairlead_kubelet_api::plugin_registration as api;
use fairlead_resource_config::error_text;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::folder::Changes;
use super::listening::{Listening, Place, Way};
use super::retry::Retry;
use super::{Contact, POLL, Server, wait};
use crate::Stop;
use crate::service::Service;

/// The longest time between two sockets for a kubelet that refuses or has lost the plugin.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The pool's entry in kubelet's list of plugins.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    server: Arc<str>,
    contact: Contact,
    metrics: crate::metrics::Metrics,
    name: fairlead_resource_config::config::ResourceName,
    refusal: Arc<Mutex<Option<String>>>,
}

impl Entry {
    fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl api::registration_server::Registration for Entry {
    async fn get_info(&self, _: Request<api::InfoRequest>) -> Result<Response<api::PluginInfo>, Status> {
        tracing::debug!(resource = %self.server, "kubelet asks what the socket is");
        Ok(Response::new(api::PluginInfo {
            r#type: api::DEVICE_PLUGIN.to_owned(),
            name: self.server.to_string(),
            // Empty means this socket, wherever kubelet's root is.
            endpoint: String::new(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<api::RegistrationStatus>,
    ) -> Result<Response<api::RegistrationStatusResponse>, Status> {
        let api::RegistrationStatus { plugin_registered, error } = request.into_inner();
        self.metrics.registration(&self.name, "watcher", plugin_registered);
        let refusal = if plugin_registered {
            tracing::info!(resource = %self.server, "registered by kubelet's plugin watcher");
            self.contact.registered();
            None
        } else {
            Some(if error.is_empty() { "it does not say why".to_owned() } else { error })
        };
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        self.contact.told();
        Ok(Response::new(api::RegistrationStatusResponse {}))
    }
}

impl Server {
    /// Serves in `plugins_registry`, where there is such a folder, until told to stop.
    pub(super) async fn watcher(&self, mut changes: watch::Receiver<Changes>, stop: &Stop) {
        let resource = self.resource();
        let dir = self.shared.options.node.plugins_registry();
        let mut binding = Retry::new(POLL);
        // For new sockets to a kubelet that does not take the one that is there.
        let mut again = Retry::new(LAST_RETRY);
        while !stop.is_stopped() {
            if !dir.is_dir() {
                wait(POLL, &mut changes, &self.at_watcher, stop).await;
                continue;
            }
            let entry = Entry {
                server: resource.to_string().into(),
                contact: self.at_watcher.clone(),
                metrics: self.shared.metrics.clone(),
                name: resource.clone(),
                refusal: Arc::default(),
            };
            let service = Service::new(self.pool.clone(), self.shared.clone(), self.at_watcher.clone());
            match Listening::start(&dir, &self.socket_name(), service, Way::Watcher(entry.clone())) {
                Ok(listening) => {
                    binding.succeeded();
                    self.keep_in_registry(&listening, &entry, &mut changes, &mut again, stop).await;
                    listening.finish().await;
                }
                Err(error) => {
                    if binding.is_news(&error_text(&error)) {
                        tracing::warn!(%resource, error = error_text(&error), "cannot serve yet");
                    }
                    wait(binding.next(), &mut changes, &self.at_watcher, stop).await;
                }
            }
        }
    }

    /// Returns when a new socket is needed: this one is gone, or kubelet refuses it or has lost the plugin.
    async fn keep_in_registry(
        &self,
        listening: &Listening,
        entry: &Entry,
        changes: &mut watch::Receiver<Changes>,
        again: &mut Retry,
        stop: &Stop,
    ) {
        let resource = self.resource();
        let mut anew_at: Option<Instant> = None;
        while !stop.is_stopped() {
            changes.mark_unchanged();
            match listening.place().await {
                Place::Ours => {}
                Place::Gone => {
                    tracing::info!(%resource, "the socket in plugins_registry is gone; serving anew");
                    return;
                }
                Place::Taken => {
                    if again.is_news("taken") {
                        tracing::info!(%resource, "another plugin serves the pool; leaving it to that one");
                    }
                    wait(POLL, changes, &self.at_watcher, stop).await;
                    continue;
                }
            }
            if self.at_watcher.is_open() {
                again.succeeded();
                anew_at = None;
            } else if let Some(refusal) = entry.refusal() {
                if again.is_news(&refusal) {
                    tracing::warn!(%resource, refusal, "kubelet refuses the plugin; trying on");
                }
                anew_at.get_or_insert_with(|| Instant::now() + again.next());
            } else if let Some(lost_at) = self.at_watcher.lost_at().filter(|_| !self.at_classic.is_open()) {
                anew_at.get_or_insert_with(|| lost_at + again.next());
            }
            let left = anew_at.map(|time| time.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                // kubelet sees a new socket and asks again.
                self.at_watcher.forget();
                return;
            }
            wait(left.unwrap_or(POLL).min(POLL), changes, &self.at_watcher, stop).await;
        }
    }
}
