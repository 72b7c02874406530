//! A family of metrics that others choose the labels of: it has so many members and no more.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::metrics::family::Family;

/// When a member would be one too many, the one that was not used for longest goes. Should it come again it counts from zero,
/// which monitoring takes for a restart.
#[derive(Clone, Debug)]
pub(super) struct Bounded<L, M> {
    room: usize,
    family: Family<L, M, fn() -> M>,
    used: Arc<Mutex<Used<L>>>,
}

#[derive(Debug)]
struct Used<L> {
    /// When each was used last.
    at: HashMap<L, u64>,
    now: u64,
}

impl<L: Clone + Eq + Hash, M: Clone> Bounded<L, M> {
    pub(super) fn new(room: usize, make: fn() -> M) -> Self {
        let used = Used { at: HashMap::new(), now: 0 };
        Self { room, family: Family::new_with_constructor(make), used: Arc::new(Mutex::new(used)) }
    }

    /// For the registry.
    pub(super) fn family(&self) -> Family<L, M, fn() -> M> {
        self.family.clone()
    }

    /// Uses a member.
    pub(super) fn with(&self, labels: L, act: impl FnOnce(&M)) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.now += 1;
        let now = used.now;
        act(&self.family.get_or_create(&labels));
        used.at.insert(labels, now);
        if used.at.len() > self.room {
            let oldest = used.at.iter().min_by_key(|(_, at)| **at).map(|(labels, _)| labels.clone());
            if let Some(oldest) = oldest {
                used.at.remove(&oldest);
                self.family.remove(&oldest);
            }
        }
    }
}
