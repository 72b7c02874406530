//! The objects, one version counter over all of them, and the history that watches are served from.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    errors::{ApiError, Result},
    kinds::Kind,
    selectors::Selector,
};

/// Where an object is kept: plural and group, namespace (empty for cluster-wide kinds), name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    kind: (&'static str, &'static str),
    namespace: String,
    name: String,
}

impl Key {
    pub(super) fn new(kind: &Kind, namespace: Option<&str>, name: &str) -> Self {
        Self {
            kind: (kind.plural, kind.group),
            namespace: namespace.unwrap_or_default().into(),
            name: name.into(),
        }
    }
}

/// One change, as watches need it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: (&'static str, &'static str),
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

/// What a change is to one watch.
#[derive(Debug)]
pub(super) enum Seen {
    Added(Arc<Value>),
    Modified(Arc<Value>),
    Deleted(Value),
}

impl Change {
    /// An object that no longer matches is deleted as far as this watch can see, and the other way round.
    pub(super) fn seen(&self, selector: &Selector) -> Option<Seen> {
        let pick = |side: &Option<Arc<Value>>| side.clone().filter(|object| selector.matches(object));
        match (pick(&self.before), pick(&self.after)) {
            (None, Some(after)) => Some(Seen::Added(after)),
            (Some(_), Some(after)) => Some(Seen::Modified(after)),
            (Some(before), None) => {
                let mut last = Value::clone(&before);
                last["metadata"]["resourceVersion"] = json!(self.version.to_string());
                Some(Seen::Deleted(last))
            }
            (None, None) => None,
        }
    }
}

/// All state, behind one lock.
#[derive(Debug)]
pub(super) struct Store {
    inner: Mutex<Inner>,
    latest: watch::Sender<u64>,
    limit: usize,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// Changes up to this version are no longer in the history.
    forgotten: u64,
}

impl Store {
    /// `limit` is how many changes the history keeps.
    pub(super) fn new(limit: usize) -> Self {
        Self { inner: Mutex::default(), latest: watch::Sender::new(0), limit }
    }

    /// Runs `act` under the lock, then wakes the watches.
    pub(super) fn write<T>(&self, act: impl FnOnce(&mut Inner) -> Result<T>) -> Result<T> {
        let mut inner = self.lock();
        let result = act(&mut inner);
        while inner.history.len() > self.limit {
            if let Some(change) = inner.history.pop_front() {
                inner.forgotten = change.version;
            }
        }
        let version = inner.version;
        drop(inner);
        self.latest.send_if_modified(|latest| std::mem::replace(latest, version) != version);
        result
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.lock().objects.get(key).cloned()
    }

    /// The objects of a kind that match, and the version that this is the state of.
    pub(super) fn list(&self, kind: &Kind, selector: &Selector) -> (Vec<Arc<Value>>, u64) {
        let inner = self.lock();
        (inner.of_kind(kind).filter(|o| selector.matches(o)).cloned().collect(), inner.version)
    }

    /// Changes of a kind after `version`, and the version they lead up to.
    pub(super) fn changes_after(&self, kind: &Kind, version: u64) -> Result<(Vec<Change>, u64)> {
        let inner = self.lock();
        if version < inner.forgotten {
            return Err(ApiError::expired(version, inner.forgotten));
        }
        let wanted = (kind.plural, kind.group);
        let changes = inner.history.iter().filter(|c| c.version > version && c.kind == wanted);
        Ok((changes.cloned().collect(), inner.version.max(version)))
    }

    /// Tells when the version moves on.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Empties the history: a watch from any earlier version is too old.
    pub(super) fn forget_history(&self) {
        let mut inner = self.lock();
        inner.history.clear();
        // One more than was ever handed out, so that even a client that is up to date must list again.
        inner.version += 1;
        inner.forgotten = inner.version;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    pub(super) fn of_kind(&self, kind: &Kind) -> impl Iterator<Item = &Arc<Value>> {
        let wanted = (kind.plural, kind.group);
        self.objects.iter().filter(move |(key, _)| key.kind == wanted).map(|(_, object)| object)
    }

    /// Everything in a namespace, with where it is kept.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Key> {
        self.objects.keys().filter(|key| key.namespace == namespace).cloned().collect()
    }

    /// Stores an object under the next version and returns it as stored.
    pub(super) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let kind = key.kind;
        let before = self.objects.insert(key, object.clone());
        self.history.push_back(Change { version: self.version, kind, before, after: Some(object.clone()) });
        object
    }

    /// Removes an object and returns its last state.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        self.history.push_back(Change {
            version: self.version,
            kind: key.kind,
            before: Some(before.clone()),
            after: None,
        });
        Some(before)
    }
}

impl Key {
    pub(super) fn kind(&self) -> Option<&'static Kind> {
        super::kinds::KINDS.iter().find(|k| (k.plural, k.group) == self.kind)
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}
