//! Events on pods: what was attached, and why something was not.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fairlead_cni::agent_protocol::PodRef;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::errors;

/// Events that wait to be written; more are dropped, since a pod must not wait for them.
const WAITING: usize = 256;
/// How long one event may take to be written.
const WRITE: Duration = Duration::from_secs(5);
/// A failure is not told again within this time.
const QUIET: Duration = Duration::from_secs(60);
/// How many failures are remembered for that.
const REMEMBERED: usize = 256;
/// Upper bound of a message in bytes, set by the API.
const LONGEST: usize = 1024;

/// One event.
#[derive(Debug)]
struct Note {
    pod: PodRef,
    type_: &'static str,
    reason: &'static str,
    message: String,
}

/// Takes events; never waits.
pub(crate) struct Events {
    sender: mpsc::Sender<Note>,
    told: Mutex<HashMap<(PodRef, String), Instant>>,
}

/// Writes events to the API server.
pub(crate) struct Writer {
    receiver: mpsc::Receiver<Note>,
    client: Client,
    node: String,
}

/// The two ends: where events are given, and what writes them.
pub(crate) fn channel(client: Client, node: String) -> (Events, Writer) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Events { sender, told: Mutex::default() }, Writer { receiver, client, node })
}

impl Events {
    /// Something that people expect.
    pub(crate) fn normal(&self, pod: &PodRef, reason: &'static str, message: String) {
        self.send(Note { pod: pod.clone(), type_: "Normal", reason, message });
    }

    /// A failure. Kubelet tries again and again, so the same one is told only once in a while.
    pub(crate) fn warning(&self, pod: &PodRef, reason: &'static str, message: String) {
        if self.is_news(pod, &message) {
            self.send(Note { pod: pod.clone(), type_: "Warning", reason, message });
        }
    }

    fn is_news(&self, pod: &PodRef, message: &str) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.duration_since(*at) < QUIET);
        let key = (pod.clone(), message.to_owned());
        if told.contains_key(&key) || told.len() >= REMEMBERED {
            return false;
        }
        told.insert(key, now);
        true
    }

    fn send(&self, note: Note) {
        if let Err(error) = self.sender.try_send(note) {
            tracing::debug!(%error, "event dropped");
        }
    }
}

impl Writer {
    /// Writes events as they come; ends when nobody can give any more.
    pub(crate) async fn run(mut self) {
        while let Some(note) = self.receiver.recv().await {
            let api: Api<Event> = Api::namespaced(self.client.clone(), &note.pod.namespace);
            let event = self.event(&note);
            let pod = &note.pod;
            match timeout(WRITE, api.create(&PostParams::default(), &event)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%pod, error = errors::api(&error), "event not written"),
                Err(_) => tracing::warn!(%pod, "event not written in time"),
            }
        }
    }

    fn event(&self, note: &Note) -> Event {
        let component = "fairlead-agent".to_owned();
        let now = Timestamp::now();
        let uid = Some(note.pod.uid.clone()).filter(|uid| !uid.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", note.pod.name, now.as_nanosecond())),
                namespace: Some(note.pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(note.pod.name.clone()),
                namespace: Some(note.pod.namespace.clone()),
                uid,
                ..ObjectReference::default()
            },
            type_: Some(note.type_.into()),
            reason: Some(note.reason.into()),
            message: Some(shortened(&note.message).to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource { component: Some(component.clone()), host: Some(self.node.clone()) }),
            reporting_component: Some(component),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        }
    }
}

fn shortened(message: &str) -> &str {
    &message[..message.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{client, pod};

    #[tokio::test(start_paused = true)]
    async fn the_same_failure_is_told_once_in_a_while() {
        let (client, _server) = client();
        let (events, mut writer) = channel(client, "node".into());
        for message in ["a", "a", "b", "a"] {
            events.warning(&pod(), "Reason", message.into());
        }
        tokio::time::advance(QUIET).await;
        events.warning(&pod(), "Reason", "a".into());
        drop(events);
        let mut messages = Vec::new();
        while let Some(note) = writer.receiver.recv().await {
            messages.push(note.message);
        }
        assert_eq!(messages, ["a", "b", "a"]);
    }

    #[tokio::test]
    async fn more_events_than_can_wait_are_dropped_without_waiting() {
        let (client, _server) = client();
        let (events, mut writer) = channel(client, "node".into());
        for number in 0..2 * WAITING {
            events.normal(&pod(), "Reason", number.to_string());
        }
        drop(events);
        let mut count = 0;
        while writer.receiver.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, WAITING);
    }

    #[tokio::test]
    async fn an_event_names_pod_node_and_reason() {
        let (client, _server) = client();
        let (_events, writer) = channel(client, "node".into());
        let note =
            Note { pod: pod(), type_: "Warning", reason: "NetworkPlanFailed", message: "ä".repeat(1000) };
        let event = writer.event(&note);
        assert_eq!(event.involved_object.uid.as_deref(), Some("u"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.source.unwrap().host.as_deref(), Some("node"));
        assert_eq!(event.message.unwrap(), "ä".repeat(512));
    }
}
