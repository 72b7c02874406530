//! The cluster's networks.

use std::{borrow::Cow, sync::Arc, time::Duration};

use fairlead_cni::networks::nad::{NetworkAttachmentDefinition, RESOURCE_ANNOTATION};
use futures::future::try_join_all;
use kube::{
    Api, Client, Resource,
    core::{NamespaceResourceScope, ObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::{
    cache::{Cache, Key},
    errors,
    metrics::{CacheState, Metrics},
};

/// How long a network that the cache lacks is waited for before the API server is asked: an object that was created just
/// before the pod arrives within this time.
const CATCH_UP: Duration = Duration::from_millis(500);

/// Where networks are looked for, for error texts.
pub(crate) const SOURCE: &str = "in the API server";

/// A NetworkAttachmentDefinition as the API server gives it, without what is not needed.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Object {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    config: Option<String>,
}

impl Resource for Object {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "NetworkAttachmentDefinition".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "k8s.cni.cncf.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "network-attachment-definitions".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A network could not be looked up.
#[derive(Debug, Error)]
pub(crate) enum LookupError {
    /// The API server was asked and gave no answer.
    #[error("network {network} is not known yet, and asking the API server for it failed: {reason}")]
    Api {
        /// `namespace/name` of the network.
        network: String,
        /// What the API server or the way to it says.
        reason: String,
    },
    /// There was no time to wait for an answer.
    #[error("network {network} is not known yet, and the API server did not answer in time ({cache})")]
    Late {
        /// `namespace/name` of the network.
        network: String,
        /// What the cache is like.
        cache: String,
    },
}

/// All networks of the cluster.
pub(crate) struct Nads {
    client: Client,
    cache: Cache<NetworkAttachmentDefinition>,
}

impl Nads {
    pub(crate) fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, cache: Cache::new("NetworkAttachmentDefinitions", "networks", metrics) }
    }

    /// For metrics.
    pub(crate) fn state(&self) -> CacheState {
        self.cache.state_now()
    }

    /// Keeps the cache up to date; never ends.
    pub(crate) async fn follow(&self) {
        let api: Api<Object> = Api::all(self.client.clone());
        let events = watcher(api, watcher::Config::default()).default_backoff();
        self.cache
            .follow(events, |object| reduce(object).map(|nad| (key(&nad.namespace, &nad.name), nad)))
            .await;
    }

    /// Waits until all have been listed once; whether that is so by then.
    pub(crate) async fn synced(&self, until: Instant) -> bool {
        self.cache.synced(until).await
    }

    /// What keeps the cache from being complete, if it is not.
    pub(crate) fn missing(&self) -> Option<String> {
        self.cache.missing()
    }

    /// The network of that name, `None` when the API server says that there is none. One that may well be missing is taken for
    /// missing when a complete cache lacks it: it would be waited for at each pod.
    pub(crate) async fn get(
        &self,
        namespace: &str,
        name: &str,
        optional: bool,
        deadline: Instant,
    ) -> Result<Option<Arc<NetworkAttachmentDefinition>>, LookupError> {
        // At the start half of the time is for the first list, the other half for asking.
        let half = Instant::now() + (deadline - Instant::now()) / 2;
        let synced = self.cache.synced(half).await;
        if synced && optional {
            return Ok(self.cache.get(&key(namespace, name)));
        }
        let until = if synced { deadline.min(Instant::now() + CATCH_UP) } else { half };
        match self.cache.wait(&key(namespace, name), until, |_| true).await {
            Some(nad) => Ok(Some(nad)),
            None => self.ask(namespace, name, deadline).await,
        }
    }

    /// Those of the networks that there are, each as by [`Nads::get`] and all at once.
    pub(crate) async fn all_of(
        &self,
        names: impl IntoIterator<Item = (&str, &str, bool)>,
        deadline: Instant,
    ) -> Result<Vec<NetworkAttachmentDefinition>, LookupError> {
        let names = names.into_iter();
        let lookups = names.map(|(namespace, name, optional)| self.get(namespace, name, optional, deadline));
        let found = try_join_all(lookups).await?;
        Ok(found.into_iter().flatten().map(|nad| (*nad).clone()).collect())
    }

    async fn ask(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<Arc<NetworkAttachmentDefinition>>, LookupError> {
        let api: Api<Object> = Api::namespaced(self.client.clone(), namespace);
        let network = format!("{namespace}/{name}");
        match timeout_at(deadline, api.get(name)).await {
            Ok(Ok(object)) => Ok(reduce(object).map(Arc::new)),
            Ok(Err(error)) if errors::is_missing(&error) => Ok(None),
            Ok(Err(error)) => Err(LookupError::Api { network, reason: errors::api(&error) }),
            Err(_) => Err(LookupError::Late { network, cache: self.cache.state_text() }),
        }
    }
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

fn reduce(object: Object) -> Option<NetworkAttachmentDefinition> {
    let mut annotations = object.metadata.annotations.unwrap_or_default();
    Some(NetworkAttachmentDefinition {
        namespace: object.metadata.namespace?,
        name: object.metadata.name?,
        config: object.spec.and_then(|spec| spec.config).unwrap_or_default(),
        resource_name: annotations.remove(RESOURCE_ANNOTATION).filter(|resource| !resource.is_empty()),
    })
}
