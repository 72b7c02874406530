//! The pods of this node.

use std::sync::Arc;

use fairlead_cni::{
    agent_protocol::PodRef,
    networks::annotation::{DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION},
    status::STATUS_ANNOTATION,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
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

/// On the API server's image of a static pod: the UID under which kubelet and the runtime know it.
pub(crate) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// What is needed of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KnownPod {
    /// UID of the object in the API server.
    pub(crate) uid: String,
    /// UID under which the runtime knows it, when that is another.
    mirrors: Option<String>,
    /// The networks that it asks for.
    pub(crate) networks: Option<String>,
    /// The primary network that it asks for.
    pub(crate) default_network: Option<String>,
    /// The networks of the interfaces that it has, by its network-status.
    pub(crate) attached: Box<[String]>,
}

impl KnownPod {
    /// Whether this is the pod that the runtime means; without a UID the name must do.
    fn is(&self, pod: &PodRef) -> bool {
        pod.uid.is_empty() || self.uid == pod.uid || self.mirrors.as_deref() == Some(&pod.uid)
    }
}

/// The pod did not come into view in time.
#[derive(Debug, Error)]
#[error("pod {pod} (UID {}) is not known yet; {cache}", if pod.uid.is_empty() { "not given" } else { &pod.uid })]
pub(crate) struct UnknownPod {
    pod: PodRef,
    cache: String,
}

/// The order of a pod's containers is not known.
#[derive(Debug, Error)]
#[error(
    "kubelet's checkpoint does not tell the order of the containers of pod {pod}, which have devices of one resource, and \
     asking the API server for it failed: {reason}"
)]
pub(crate) struct UnknownOrder {
    pod: PodRef,
    reason: String,
}

/// The pods of this node.
pub(crate) struct Pods {
    client: Client,
    node: String,
    cache: Cache<KnownPod>,
}

impl Pods {
    pub(crate) fn new(client: Client, node: String, metrics: Metrics) -> Self {
        Self { client, node, cache: Cache::new("pods of this node", "pods", metrics) }
    }

    /// For metrics.
    pub(crate) fn state(&self) -> CacheState {
        self.cache.state_now()
    }

    /// Every pod that is known.
    pub(crate) fn all(&self) -> Vec<(Key, Arc<KnownPod>)> {
        self.cache.all()
    }

    /// The name of this node.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Keeps the cache up to date; never ends.
    pub(crate) async fn follow(&self) {
        let api: Api<PartialObjectMeta<Pod>> = Api::all(self.client.clone());
        // One that has ended gets no sandbox any more.
        let fields = format!("spec.nodeName={},status.phase!=Succeeded,status.phase!=Failed", self.node);
        let config = watcher::Config::default().fields(&fields);
        self.cache.follow(watcher(api, config).default_backoff(), reduce).await;
    }

    /// Waits until all have been listed once; whether that is so by then.
    pub(crate) async fn synced(&self, until: Instant) -> bool {
        self.cache.synced(until).await
    }

    /// What keeps the cache from being complete, if it is not.
    pub(crate) fn missing(&self) -> Option<String> {
        self.cache.missing()
    }

    /// Waits until the pod is known.
    pub(crate) async fn wait(&self, pod: &PodRef, deadline: Instant) -> Result<Arc<KnownPod>, UnknownPod> {
        self.cache
            .wait(&key(pod), deadline, |known| known.is(pod))
            .await
            .ok_or_else(|| UnknownPod { pod: pod.clone(), cache: self.cache.state_text() })
    }

    /// The names of a pod's containers in its order. This asks the API server: only metadata is kept of pods.
    pub(crate) async fn containers(
        &self,
        pod: &PodRef,
        deadline: Instant,
    ) -> Result<Vec<String>, UnknownOrder> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let failed = |reason: String| UnknownOrder { pod: pod.clone(), reason };
        let object = match timeout_at(deadline, api.get(&pod.name)).await {
            Ok(Ok(object)) => object,
            Ok(Err(error)) => return Err(failed(errors::api(&error))),
            Err(_) => return Err(failed("the API server did not answer in time".into())),
        };
        let spec = object.spec.unwrap_or_default();
        let all = spec.init_containers.unwrap_or_default().into_iter().chain(spec.containers);
        Ok(all.map(|container| container.name).collect())
    }

    /// The UID that the API server knows the pod by: that of the runtime, except for a static pod. Empty when unknown.
    pub(crate) fn api_uid(&self, pod: &PodRef) -> String {
        let known = self.cache.get(&key(pod)).filter(|known| known.is(pod));
        known.map_or_else(|| pod.uid.clone(), |known| known.uid.clone())
    }
}

fn key(pod: &PodRef) -> Key {
    (pod.namespace.clone(), pod.name.clone())
}

fn reduce(object: PartialObjectMeta<Pod>) -> Option<(Key, KnownPod)> {
    let metadata = object.metadata;
    let mut annotations = metadata.annotations.unwrap_or_default();
    let known = KnownPod {
        uid: metadata.uid.unwrap_or_default(),
        mirrors: annotations.remove(MIRROR_ANNOTATION),
        networks: annotations.remove(NETWORKS_ANNOTATION),
        default_network: annotations.remove(DEFAULT_NETWORK_ANNOTATION),
        attached: annotations.remove(STATUS_ANNOTATION).map(|text| attached(&text)).unwrap_or_default(),
    };
    Some(((metadata.namespace?, metadata.name?), known))
}

/// The networks of a network-status annotation. Others may write it, and may write nonsense.
fn attached(text: &str) -> Box<[String]> {
    #[derive(Deserialize)]
    struct Entry {
        name: String,
    }
    let entries: Vec<Entry> = serde_json::from_str(text).unwrap_or_default();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_its_uid_and_a_static_one_by_its_mirror() {
        let object = serde_json::from_str(
            r#"{"metadata":{"namespace":"a","name":"b","uid":"1","managedFields":[],"annotations":{
            "kubernetes.io/config.mirror":"2","k8s.v1.cni.cncf.io/networks":"x","v1.multus-cni.io/default-network":"z"}}}"#,
        )
        .unwrap();
        let (key, known) = reduce(object).unwrap();
        assert_eq!(key, ("a".into(), "b".into()));
        assert_eq!((known.networks.as_deref(), known.default_network.as_deref()), (Some("x"), Some("z")));
        let pod = |uid: &str| PodRef { namespace: "a".into(), name: "b".into(), uid: uid.into() };
        assert!(known.is(&pod("1")) && known.is(&pod("2")) && known.is(&pod("")));
        assert!(!known.is(&pod("3")));
    }
}
