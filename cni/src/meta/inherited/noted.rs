//! Which sandboxes others have notes of: Multus, or the library of the runtime.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Cache, CniError, failed, is_ours, read_caches};
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
    let files = entries(dir)?.into_iter().filter(|path| path.is_file());
    Ok(files.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
}

/// Every entry of a cache that tells whose it is, with its sandbox.
fn all_caches(dir: &Path) -> Result<Vec<(Cache, String)>, CniError> {
    let mut found = read_caches(dir, "")?;
    found.retain(|(_, container)| !container.is_empty());
    Ok(found)
}

/// What is in a folder; nothing where there is none.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, CniError> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("read", dir, &error)),
    }
}
