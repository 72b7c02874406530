//! What all parts of the running plugin share.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Options;
use crate::cdi::Specs;
use crate::in_use::InUse;
use crate::metrics::Metrics;
use crate::register::Contact;

/// What all parts share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) metrics: Metrics,
    /// CDI specifications, where device nodes are handed over so.
    pub(crate) specs: Option<Specs>,
    /// Tells that devices have been allocated.
    pub(crate) allocated: Notify,
    /// Tells that the pools have to be decided anew.
    pub(crate) look_again: Notify,
    in_use: Mutex<InUse>,
    /// Contacts with kubelet, by the full name of the resource.
    contacts: Mutex<BTreeMap<String, [Contact; 2]>>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            specs: options.cdi.then(|| Specs::new(options.cdi_dir.clone())),
            options,
            metrics: Metrics::default(),
            allocated: Notify::new(),
            look_again: Notify::new(),
            in_use: Mutex::default(),
            contacts: Mutex::default(),
        }
    }

    pub(crate) fn in_use(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contacts(&self) -> MutexGuard<'_, BTreeMap<String, [Contact; 2]>> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pool is served from now on.
    pub(crate) fn serves(&self, resource: String, contacts: [Contact; 2]) {
        self.contacts().insert(resource, contacts);
    }

    /// A pool is not served any more.
    pub(crate) fn serves_no_more(&self, resource: &str) {
        self.contacts().remove(resource);
    }

    /// The pools whose lists kubelet does not have open; `None` before there is any pool.
    pub(crate) fn unwatched(&self) -> Option<Vec<String>> {
        let contacts = self.contacts();
        let is_unwatched = |contacts: &[Contact; 2]| !contacts.iter().any(Contact::is_open);
        let names = contacts.iter().filter(|(_, pair)| is_unwatched(pair)).map(|(name, _)| name.clone());
        (!contacts.is_empty()).then(|| names.collect())
    }
}
