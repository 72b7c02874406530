//! Objects of the API server, kept up to date by a watch and reduced to what is needed of them.
//!
//! kube's own store keeps whole objects and can only be polled; this one keeps a value of ours for each and wakes whoever
//! waits for one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fairlead_kernel::give_back_memory;
use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    errors,
    metrics::{CacheState, Metrics},
};

/// How long after a list it has let go of what it took: many times what is kept.
const LET_GO: Duration = Duration::from_secs(1);

/// Namespace and name of an object.
pub(crate) type Key = (String, String);

/// What is known of one kind of object.
pub(crate) struct Cache<V> {
    what: &'static str,
    /// Its name in metrics.
    name: &'static str,
    metrics: Metrics,
    state: Mutex<State<V>>,
    changed: watch::Sender<()>,
}

struct State<V> {
    items: HashMap<Key, Arc<V>>,
    /// What a running list has brought so far; replaces `items` when it is complete.
    listed: HashMap<Key, Arc<V>>,
    synced: bool,
    /// Why the last list or watch failed, until one succeeds.
    error: Option<String>,
    /// When the API server told anything last.
    heard: Instant,
}

impl<V> Cache<V> {
    /// An empty cache; `what` names its objects in texts, `name` in metrics.
    pub(crate) fn new(what: &'static str, name: &'static str, metrics: Metrics) -> Self {
        let state = State {
            items: HashMap::new(),
            listed: HashMap::new(),
            synced: false,
            error: None,
            heard: Instant::now(),
        };
        Self { what, name, metrics, state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    /// Applies what a watch tells, as long as it runs.
    pub(crate) async fn follow<K>(
        &self,
        events: impl Stream<Item = watcher::Result<Event<K>>>,
        reduce: impl Fn(K) -> Option<(Key, V)>,
    ) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.apply(event, &reduce),
                Err(error) => self.failed(errors::watch(&error)),
            }
        }
    }

    fn apply<K>(&self, event: Event<K>, reduce: impl Fn(K) -> Option<(Key, V)>) {
        let mut guard = self.state();
        let state = &mut *guard;
        // Before the first part of a list nobody has answered yet.
        if !matches!(event, Event::Init) {
            if state.error.take().is_some() {
                tracing::info!(what = self.what, "the API server is followed again");
            }
            state.heard = Instant::now();
        }
        match event {
            Event::Init => state.listed = HashMap::new(),
            Event::InitApply(object) => {
                state.listed.extend(reduce(object).map(|(key, value)| (key, Arc::new(value))));
            }
            Event::InitDone => {
                state.items = std::mem::take(&mut state.listed);
                if !state.synced {
                    tracing::info!(what = self.what, count = state.items.len(), "cache is complete");
                }
                state.synced = true;
                tokio::spawn(async {
                    sleep(LET_GO).await;
                    give_back_memory();
                });
            }
            Event::Apply(object) => {
                state.items.extend(reduce(object).map(|(key, value)| (key, Arc::new(value))));
            }
            Event::Delete(object) => {
                if let Some((key, _)) = reduce(object) {
                    state.items.remove(&key);
                }
            }
        }
        drop(guard);
        self.changed.send_replace(());
    }

    fn failed(&self, error: String) {
        self.metrics.cache_failed(self.name);
        let mut state = self.state();
        if state.error.as_ref() != Some(&error) {
            tracing::warn!(what = self.what, error, "cannot follow the API server, trying on");
        }
        state.error = Some(error);
    }

    /// The object of that name now.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.state().items.get(key).cloned()
    }

    /// Waits until there is an acceptable object of that name; `None` when there is none by then.
    pub(crate) async fn wait(
        &self,
        key: &Key,
        until: Instant,
        accept: impl Fn(&V) -> bool,
    ) -> Option<Arc<V>> {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(value) = self.get(key).filter(|value| accept(value)) {
                return Some(value);
            }
            timeout_at(until, changed.changed()).await.ok()?.ok()?;
        }
    }

    /// Waits until all objects have been listed once; whether that is so by then.
    pub(crate) async fn synced(&self, until: Instant) -> bool {
        let mut changed = self.changed.subscribe();
        while !self.state().synced {
            if !matches!(timeout_at(until, changed.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }

    /// Why not all objects have been listed once, if they have not.
    pub(crate) fn missing(&self) -> Option<String> {
        let synced = self.state().synced;
        (!synced).then(|| self.state_text())
    }

    /// For metrics.
    pub(crate) fn state_now(&self) -> CacheState {
        let state = self.state();
        CacheState {
            name: self.name,
            is_synced: state.synced,
            objects: state.items.len(),
            age: state.heard.elapsed(),
        }
    }

    /// Every object now.
    pub(crate) fn all(&self) -> Vec<(Key, Arc<V>)> {
        self.state().items.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Why the cache may lack an object, for texts.
    pub(crate) fn state_text(&self) -> String {
        let state = self.state();
        match (state.synced, &state.error) {
            (false, None) => format!("the agent has not yet received the {} from the API server", self.what),
            (_, Some(error)) => {
                format!("the agent cannot follow the {} of the API server: {error}", self.what)
            }
            (true, None) => format!("the agent follows the {} of the API server", self.what),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("default".into(), name.into())
    }

    fn reduce((name, value): (&'static str, u32)) -> Option<(Key, u32)> {
        Some((key(name), value))
    }

    fn values(cache: &Cache<u32>, names: [&str; 3]) -> [Option<u32>; 3] {
        names.map(|name| cache.get(&key(name)).map(|value| *value))
    }

    #[tokio::test]
    async fn a_new_list_replaces_the_old_one_only_when_it_is_complete() {
        let cache = Cache::new("things", "things", Metrics::default());
        for event in [Event::Init, Event::InitApply(("a", 1)), Event::InitApply(("b", 2))] {
            cache.apply(event, reduce);
        }
        assert!(!cache.synced(Instant::now()).await);
        assert_eq!(values(&cache, ["a", "b", "c"]), [None, None, None]);
        for event in [Event::InitDone, Event::Apply(("c", 3)), Event::Delete(("b", 2))] {
            cache.apply(event, reduce);
        }
        assert!(cache.synced(Instant::now()).await);
        assert_eq!(values(&cache, ["a", "b", "c"]), [Some(1), None, Some(3)]);
        cache.apply(Event::Init, reduce);
        cache.apply(Event::InitApply(("b", 4)), reduce);
        assert_eq!(values(&cache, ["a", "b", "c"]), [Some(1), None, Some(3)]);
        cache.apply(Event::InitDone, reduce);
        assert_eq!(values(&cache, ["a", "b", "c"]), [None, Some(4), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_is_woken_by_an_acceptable_object() {
        let cache = Arc::new(Cache::new("things", "things", Metrics::default()));
        let until = Instant::now() + Duration::from_secs(5);
        let waiter = {
            let cache = cache.clone();
            tokio::spawn(async move { cache.wait(&key("a"), until, |value| *value == 2).await })
        };
        for value in [1, 2] {
            sleep(Duration::from_secs(1)).await;
            cache.apply(Event::Apply(("a", value)), reduce);
        }
        assert_eq!(waiter.await.unwrap().as_deref(), Some(&2));
        assert!(cache.wait(&key("b"), until, |_| true).await.is_none());
        assert_eq!(Instant::now(), until);
    }

    #[tokio::test]
    async fn a_failed_watch_is_part_of_the_text_until_it_works() {
        let cache = Cache::<u32>::new("things", "things", Metrics::default());
        assert!(cache.state_text().contains("has not yet received the things"));
        cache.failed("refused".into());
        assert!(cache.state_text().ends_with("refused"));
        cache.apply(Event::<(&str, u32)>::Init, reduce);
        cache.apply(Event::<(&str, u32)>::InitDone, reduce);
        assert_eq!(cache.state_text(), "the agent follows the things of the API server");
    }
}
