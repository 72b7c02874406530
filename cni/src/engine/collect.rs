//! GC: what records of ours own and no live attachment does is undone, and the plugins on disk that we execute are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Engine, Evidence, sandbox_lock,
    undo::{forget_vain_notes, join, undo_all},
};
use crate::{
    config::Fields,
    drivers::Work,
    exec::tell,
    lock::Lock,
    protocol::{env::Verb, error::CniError, gc::AttachmentId, version},
    record::{IpamHolder, Record},
};

/// Undoes the attachments that the runtime made through network `network` and that are of no valid sandbox, and has the
/// plugins that were executed for any attachment of it let go of theirs. All is tried.
///
/// # Errors
/// All failures as one error.
pub fn collect(network: &str, valid: &[AttachmentId], engine: &mut Engine) -> Result<(), CniError> {
    let records = of_network(network, engine)?;
    let live: BTreeSet<&str> = valid.iter().map(|id| id.container_id.as_str()).collect();
    let dead: BTreeSet<&str> = records
        .iter()
        .map(|record| record.container_id.as_str())
        .filter(|container| !live.contains(container))
        .collect();
    let mut errors = Vec::new();
    for container in dead {
        if let Err(error) = undo_sandbox(container, engine) {
            errors.push(error.context(format_args!("sandbox {container}")));
        }
    }
    errors.extend(forget_vain_notes(engine).err());
    let left = of_network(network, engine)?;
    for ((binary, _), config) in delegates(&records) {
        let attachments: Vec<AttachmentId> =
            left.iter().filter(|record| has(record, &binary, &config)).map(id_of).collect();
        let path = records.first().map(|record| record.path.clone()).unwrap_or_default();
        errors.extend(forward(&binary, config, &attachments, path).err());
    }
    join(errors)
}

fn of_network(network: &str, engine: &Engine) -> Result<Vec<Record>, CniError> {
    let mut records = engine.store.all()?;
    records.retain(|record| record.alone.is_none() && record.runtime_network == network);
    Ok(records)
}

fn undo_sandbox(container_id: &str, engine: &mut Engine) -> Result<(), CniError> {
    let holder = "GC";
    let _lock = Lock::take(&engine.locks, &sandbox_lock(container_id), holder, Duration::ZERO)?;
    let records = engine.store.of_sandbox(container_id)?;
    undo_all(records, Evidence::Records, engine)
}

/// The plugins on disk that know GC, by file and network, each with the configuration that it had last.
fn delegates(records: &[Record]) -> BTreeMap<(PathBuf, String), Fields> {
    let mut delegates = BTreeMap::new();
    for record in records.iter().filter(|record| version::allows(&record.cni_version, Verb::Gc).is_ok()) {
        for step in &record.steps {
            let Some(binary) = executed(&step.work, step.ipam.as_ref()) else { continue };
            delegates.insert((binary.to_owned(), network_of(&step.config)), step.config.clone());
        }
    }
    delegates
}

fn executed<'a>(work: &'a Work, ipam: Option<&'a IpamHolder>) -> Option<&'a Path> {
    match (work, ipam) {
        (Work::Executed { binary }, _) | (_, Some(IpamHolder::Executed(binary))) => Some(binary),
        _ => None,
    }
}

fn network_of(config: &Fields) -> String {
    config.text("name").ok().flatten().unwrap_or_default().to_owned()
}

fn has(record: &Record, binary: &Path, config: &Fields) -> bool {
    record.steps.iter().any(|step| {
        executed(&step.work, step.ipam.as_ref()) == Some(binary)
            && network_of(&step.config) == network_of(config)
    })
}

fn id_of(record: &Record) -> AttachmentId {
    AttachmentId { container_id: record.container_id.clone(), interface: record.interface.clone() }
}

/// Tells a plugin on disk which attachments are valid.
///
/// # Errors
/// The plugin's own.
pub fn forward(
    binary: &Path,
    mut config: Fields,
    valid: &[AttachmentId],
    path: String,
) -> Result<(), CniError> {
    let list: Vec<Value> =
        valid.iter().map(|id| json!({"containerID": id.container_id, "ifname": id.interface})).collect();
    // The specification's key, and the one that the reference library had.
    config.set("cni.dev/valid-attachments", json!(list));
    config.set("cni.dev/attachments", json!(list));
    tell(binary, Verb::Gc, path, config)
}
