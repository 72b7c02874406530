//! Which sandboxes others have notes of: Multus, or the library of the runtime.

use std::{collections::BTreeMap, path::Path};

use super::{Cache, CniError, is_ours, names, read_caches};
use crate::protocol::env::check_identifier;

/// What is noted of one sandbox; nothing where Multus has its list only.
#[derive(Default)]
pub(in crate::meta) struct Noted {
    /// By Multus.
    pub(in crate::meta) multus: Vec<Cache>,
    /// By the runtime's library.
    pub(in crate::meta) runtime: Vec<Cache>,
}

impl Noted {
    /// Every entry.
    pub(in crate::meta) fn caches(&self) -> impl Iterator<Item = &Cache> {
        self.multus.iter().chain(&self.runtime)
    }
}

/// What Multus' folder and the runtime's have, by container ID.
///
/// # Errors
/// When a folder cannot be read.
pub(in crate::meta) fn noted(multus: &Path, runtime: &Path) -> Result<BTreeMap<String, Noted>, CniError> {
    let mut all: BTreeMap<String, Noted> = BTreeMap::new();
    for container_id in lists(multus)? {
        all.entry(container_id).or_default();
    }
    for (cache, container_id) in all_caches(multus)? {
        all.entry(container_id).or_default().multus.push(cache);
    }
    for (cache, container_id) in all_caches(runtime)? {
        // What we made is undone by our records, whether the runtime still calls us for it or, since another configuration came
        // before ours, keeps this note for good.
        if !cache.network().is_some_and(|network| is_ours(&network)) {
            all.entry(container_id).or_default().runtime.push(cache);
        }
    }
    all.retain(|container_id, _| check_identifier("container ID", container_id).is_ok());
    Ok(all)
}

/// The sandboxes that Multus has a list of.
fn lists(dir: &Path) -> Result<Vec<String>, CniError> {
    let mut names = names(dir)?;
    names.retain(|name| dir.join(name).is_file());
    Ok(names)
}

/// Every entry of a cache that tells whose it is, with its sandbox.
fn all_caches(dir: &Path) -> Result<Vec<(Cache, String)>, CniError> {
    let mut found = read_caches(dir, "")?;
    found.retain(|(_, container)| !container.is_empty());
    Ok(found)
}
