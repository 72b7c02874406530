//! The pods of this node.

use std::sync::Arc;

use fairlead_cni::{agent_protocol::PodRef, networks::annotation::NETWORKS_ANNOTATION};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use thiserror::Error;
use tokio::time::Instant;

use crate::cache::{Cache, Key};

/// On the API server's image of a static pod: the UID under which kubelet and the runtime know it.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// What is needed of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KnownPod {
    /// UID of the object in the API server.
    pub(crate) uid: String,
    /// UID under which the runtime knows it, when that is another.
    mirrors: Option<String>,
    /// The networks that it asks for.
    pub(crate) networks: Option<String>,
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

/// The pods of this node.
pub(crate) struct Pods {
    client: Client,
    node: String,
    cache: Cache<KnownPod>,
}

impl Pods {
    pub(crate) fn new(client: Client, node: String) -> Self {
        Self { client, node, cache: Cache::new("pods of this node") }
    }

    /// Keeps the cache up to date; never ends.
    pub(crate) async fn follow(&self) {
        let api: Api<PartialObjectMeta<Pod>> = Api::all(self.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node));
        self.cache.follow(watcher(api, config).default_backoff(), reduce).await;
    }

    /// Waits until the pod is known.
    pub(crate) async fn wait(&self, pod: &PodRef, deadline: Instant) -> Result<Arc<KnownPod>, UnknownPod> {
        self.cache
            .wait(&key(pod), deadline, |known| known.is(pod))
            .await
            .ok_or_else(|| UnknownPod { pod: pod.clone(), cache: self.cache.state_text() })
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
    };
    Some(((metadata.namespace?, metadata.name?), known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_its_uid_and_a_static_one_by_its_mirror() {
        let object = serde_json::from_str(
            r#"{"metadata":{"namespace":"a","name":"b","uid":"1","managedFields":[],"annotations":{
            "kubernetes.io/config.mirror":"2","k8s.v1.cni.cncf.io/networks":"x","other":"y"}}}"#,
        )
        .unwrap();
        let (key, known) = reduce(object).unwrap();
        assert_eq!(key, ("a".into(), "b".into()));
        assert_eq!(known.networks.as_deref(), Some("x"));
        let pod = |uid: &str| PodRef { namespace: "a".into(), name: "b".into(), uid: uid.into() };
        assert!(known.is(&pod("1")) && known.is(&pod("2")) && known.is(&pod("")));
        assert!(!known.is(&pod("3")));
    }
}
