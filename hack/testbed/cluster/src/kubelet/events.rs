//! Events about pods and nodes. The same event again only raises its count, as the real recorders do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::{Event, ObjectReference, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::sandbox_config::PodId;
use crate::time;

/// What makes two events the same: whom they are about, reason, message.
type Sameness = (String, String, String);

/// Writes events in one component's name.
#[derive(Clone)]
pub(super) struct Recorder {
    client: Client,
    component: &'static str,
    node: String,
    known: Arc<Mutex<HashMap<Sameness, (String, i32)>>>,
}

/// `Normal` or `Warning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Normal,
    Warning,
}

impl Recorder {
    pub(super) fn new(client: Client, component: &'static str, node: &str) -> Self {
        Self { client, component, node: node.into(), known: Arc::default() }
    }

    /// Records an event about a pod. A failure is logged only: events are not worth more.
    pub(super) async fn pod(&self, pod: &Pod, severity: Severity, reason: &str, message: &str) {
        let id = PodId::of(pod);
        match severity {
            Severity::Normal => {
                tracing::info!(target: "events", "{}/{}: {reason}: {message}", id.namespace, id.name);
            }
            Severity::Warning => {
                tracing::warn!(target: "events", "{}/{}: {reason}: {message}", id.namespace, id.name);
            }
        }
        if let Err(error) = self.record(&id, severity, reason, message).await {
            tracing::debug!(target: "events", "event about {}/{} not recorded: {error}", id.namespace, id.name);
        }
    }

    async fn record(&self, id: &PodId, severity: Severity, reason: &str, message: &str) -> kube::Result<()> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &id.namespace);
        let key = (id.uid.clone(), reason.to_string(), message.to_string());
        let again = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get_mut(&key).map(|(name, count)| {
                *count += 1;
                (name.clone(), *count)
            })
        };
        if let Some((name, count)) = again {
            let patch = json!({ "count": count, "lastTimestamp": time::now() });
            match events.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = self.event(id, severity, reason, message);
        let created = events.create(&PostParams::default(), &event).await?;
        let name = created.metadata.name.unwrap_or_default();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (name, 1));
        Ok(())
    }

    fn event(&self, id: &PodId, severity: Severity, reason: &str, message: &str) -> Event {
        let mut event = Event {
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(id.name.clone()),
                namespace: Some(id.namespace.clone()),
                uid: Some(id.uid.clone()),
                ..ObjectReference::default()
            },
            type_: Some(format!("{severity:?}")),
            reason: Some(reason.into()),
            message: Some(message.into()),
            count: Some(1),
            first_timestamp: Some(time::typed_now()),
            last_timestamp: Some(time::typed_now()),
            ..Event::default()
        };
        event.metadata.generate_name = Some(format!("{}.", id.name));
        event.metadata.namespace = Some(id.namespace.clone());
        let source = event.source.get_or_insert_default();
        source.component = Some(self.component.into());
        source.host = Some(self.node.clone());
        event
    }
}
