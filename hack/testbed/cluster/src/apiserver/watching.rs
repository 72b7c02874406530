//! One watch: initial state when asked for, then changes, bookmarks, and an end.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use futures::stream;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    errors::{ApiError, Result},
    kinds::Kind,
    selectors::Selector,
    store::{Seen, Store},
    views::View,
};

/// What a watch was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) kind: &'static Kind,
    pub(super) selector: Selector,
    pub(super) view: View,
    /// Changes after this version; absent or 0: the present state first.
    pub(super) from: Option<u64>,
    pub(super) bookmarks: bool,
    /// The present state first, then a bookmark that says so.
    pub(super) initial_events: bool,
    pub(super) timeout: Duration,
}

struct Watch {
    wanted: Wanted,
    store: Arc<Store>,
    version: u64,
    latest: watch::Receiver<u64>,
    closing: watch::Receiver<u64>,
    bookmark_every: Duration,
    next_bookmark: Instant,
    end: Instant,
    ready: VecDeque<Value>,
    done: bool,
}

/// The body of a watch's response: one event per line.
pub(super) fn body(
    store: Arc<Store>,
    closing: watch::Receiver<u64>,
    wanted: Wanted,
    bookmark_every: Duration,
) -> Body {
    let now = Instant::now();
    let mut watch = Watch {
        latest: store.subscribe(),
        version: wanted.from.unwrap_or(0),
        end: now + wanted.timeout,
        next_bookmark: now + bookmark_every,
        bookmark_every,
        store,
        closing,
        wanted,
        ready: VecDeque::new(),
        done: false,
    };
    watch.begin();
    Body::from_stream(stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(format!("{event}\n")), watch))
    }))
}

impl Watch {
    fn begin(&mut self) {
        if !self.wanted.initial_events && self.version > 0 {
            return;
        }
        let (objects, version) = self.store.list(self.wanted.kind, &self.wanted.selector);
        self.version = version;
        for object in objects {
            self.ready.push_back(json!({ "type": "ADDED", "object": self.wanted.view.object(&object) }));
        }
        if self.wanted.initial_events {
            self.ready.push_back(self.bookmark(true));
        }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.catch_up() {
                // As the real one: a version that is too old is an event, not a failed request.
                self.done = true;
                return Some(json!({ "type": "ERROR", "object": error.status() }));
            }
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    fn catch_up(&mut self) -> Result<(), ApiError> {
        self.latest.mark_unchanged();
        let (changes, version) = self.store.changes_after(self.wanted.kind, self.version)?;
        self.version = version;
        for change in changes {
            let view = self.wanted.view;
            let event = match change.seen(&self.wanted.selector) {
                Some(Seen::Added(object)) => json!({ "type": "ADDED", "object": view.object(&object) }),
                Some(Seen::Modified(object)) => json!({ "type": "MODIFIED", "object": view.object(&object) }),
                Some(Seen::Deleted(object)) => json!({ "type": "DELETED", "object": view.object(&object) }),
                None => continue,
            };
            self.ready.push_back(event);
        }
        Ok(())
    }

    async fn wait(&mut self) {
        tokio::select! {
            changed = self.latest.changed() => self.done = changed.is_err(),
            _ = self.closing.changed() => self.done = true,
            () = sleep_until(self.end) => {
                self.done = true;
                if self.wanted.bookmarks {
                    self.ready.push_back(self.bookmark(false));
                }
            }
            () = sleep_until(self.next_bookmark), if self.wanted.bookmarks => {
                self.next_bookmark = Instant::now() + self.bookmark_every;
                self.ready.push_back(self.bookmark(false));
            }
        }
    }

    fn bookmark(&self, initial_events_end: bool) -> Value {
        let kind = self.wanted.kind;
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let mut object = json!({ "kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata });
        if kind.kind == "Pod" {
            // Typed clients decode it as the kind watched.
            object["spec"] = json!({ "containers": [] });
        }
        json!({ "type": "BOOKMARK", "object": self.wanted.view.object(&object) })
    }
}
