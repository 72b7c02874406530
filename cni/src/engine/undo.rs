//! Undoing attachments from their records alone: for DEL, for the rollback of an ADD, and for what a dead sandbox left.

use std::time::{Duration, Instant};

use fairlead_kernel::Netns;
use serde_json::Value;

use super::{
    DEVICE_LIMIT, Engine, attach::lock_tables, device_info, device_lock, ipam, plugin_env, sandbox_lock,
};
use crate::{
    drivers::{LINK_GROUP, Pod, Work},
    exec::{PluginEnv, run},
    history::What,
    lock::{Lock, sweep as sweep_locks},
    protocol::{
        env::Verb,
        error::{CniError, code},
        version,
    },
    record::{Phase, Record, Step},
    say::{about, say},
};

/// What is known of the sandbox's namespace besides the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence<'a> {
    /// Nothing: the path in the record is tried.
    Records,
    /// The runtime named this path, or none because the namespace is gone.
    Runtime(Option<&'a std::path::Path>),
}

/// Undoes all attachments of a sandbox, last one first. Everything is tried; what failed stays recorded for the next call.
///
/// # Errors
/// All failures as one error.
pub fn undo_all(
    mut records: Vec<Record>,
    evidence: Evidence<'_>,
    engine: &mut Engine,
) -> Result<(), CniError> {
    records.sort_by_key(|record| record.order);
    let Some(first) = records.first() else { return Ok(()) };
    let container_id = first.container_id.clone();
    let mut pod = open_pod(first, evidence, engine)?;
    if let Some(pod) = pod.as_mut() {
        remove_group(&records, pod);
    }
    let mut errors = Vec::new();
    for record in records.into_iter().rev() {
        if let Err(error) = undo(record, evidence, engine, pod.as_mut()) {
            errors.push(error);
        }
    }
    join(errors)?;
    forget(&container_id, engine)
}

/// Forgets a sandbox whose attachments are undone. When the node was booted since they were made, a crash may have taken some
/// records: what in-process IPAM plugins were about to hold is given back all the same.
///
/// # Errors
/// When something cannot be given back; then it stays noted.
pub fn forget(container_id: &str, engine: &Engine) -> Result<(), CniError> {
    if let Some(intents) = engine.store.intents(container_id)?
        && intents.boot_id != engine.boot_id
    {
        let released =
            intents.holdings.iter().filter_map(|holding| ipam::give_back(holding, container_id).err());
        join(released.collect())?;
    }
    engine.store.forget_intents(container_id)?;
    engine.store.forget_sandbox(container_id)
}

/// As [`undo_all`], for an ADD of a sandbox that failed: what its attachments made for others too, such as a bridge, goes if
/// nobody uses it.
///
/// # Errors
/// As there.
pub fn roll_back(
    container_id: &str,
    mut records: Vec<Record>,
    netns: &std::path::Path,
    engine: &mut Engine,
) -> Result<(), CniError> {
    // None of them counts as complete.
    records.iter_mut().for_each(|record| record.phase = Phase::Adding);
    undo_all(records, Evidence::Runtime(Some(netns)), engine)?;
    // It is noted before its first record.
    forget(container_id, engine)
}

/// How many dead sandboxes one call cleans up after: its own pod is waiting.
const SWEEP_LIMIT: usize = 4;

/// Undoes what is left of sandboxes that are gone: containerd (1.7) asks for no DEL of a sandbox whose ADD never ended well,
/// and an ADD may be killed after all is attached, before the runtime is told. A DEL that comes yet finds nothing to do.
/// What fails is said, and left for the next call. How many were cleaned up after.
pub fn sweep_dead(engine: &mut Engine) -> u32 {
    let (swept, failures) = sweep(engine, SWEEP_LIMIT);
    failures.iter().for_each(say);
    swept
}

/// As [`sweep_dead`], for all sandboxes; what fails is returned.
pub fn sweep_all(engine: &mut Engine) -> Vec<CniError> {
    sweep(engine, usize::MAX).1
}

fn sweep(engine: &mut Engine, limit: usize) -> (u32, Vec<CniError>) {
    let own = engine.timings.len();
    let mut swept = 0;
    let mut failures: Vec<CniError> = forget_vain_claims(engine).err().into_iter().collect();
    let candidates = match engine.store.perhaps_dead(&engine.boot_id) {
        Ok(candidates) => candidates,
        Err(error) => {
            failures.push(error);
            return (swept, failures);
        }
    };
    for id in candidates.iter().take(limit) {
        // Somebody works on it when it is locked: then it is not left behind.
        let Ok(_lock) =
            Lock::take(&engine.locks, &sandbox_lock(id), "sweep of dead sandboxes", Duration::ZERO)
        else {
            continue;
        };
        match undo_dead(id, engine) {
            Ok(is_dead) => swept += u32::from(is_dead),
            Err(error) => failures.push(error.context(format_args!("dead sandbox {id}"))),
        }
    }
    // They are nothing of the call's own sandbox.
    engine.timings.truncate(own);
    (swept, failures)
}

/// Forgets sandboxes whose call was killed before there was a record, and removes the locks of killed calls. Nobody may be at
/// work on an attachment meanwhile, as runtimes see to when they call for GC.
///
/// # Errors
/// When a note cannot be read or removed.
pub fn forget_vain_notes(engine: &Engine) -> Result<(), CniError> {
    for id in engine.store.noted_in_vain()? {
        let lock = Lock::take(&engine.locks, &sandbox_lock(&id), "GC", Duration::ZERO);
        if lock.is_ok() && engine.store.all_of_sandbox(&id)?.is_empty() {
            forget(&id, engine)?;
        }
    }
    forget_vain_claims(engine)?;
    sweep_locks(&engine.locks);
    Ok(())
}

/// Removes the notes of devices whose claimer was killed before it had a record.
fn forget_vain_claims(engine: &Engine) -> Result<(), CniError> {
    for (device, key) in engine.store.claimed_in_vain()? {
        // A device that is locked is being attached: its record is about to come.
        let lock = Lock::take(&engine.locks, &device_lock(&device), "sweep of devices", Duration::ZERO);
        // It may have come since.
        if lock.is_ok() && engine.store.claimed_in_vain()?.contains(&(device.clone(), key.clone())) {
            engine.store.release_devices(&[device], &key)?;
        }
    }
    Ok(())
}

/// Undoes what is left of a sandbox, if it is gone for certain; whether it was.
fn undo_dead(container_id: &str, engine: &mut Engine) -> Result<bool, CniError> {
    let records = engine.store.all_of_sandbox(container_id)?;
    if !records.iter().all(|record| is_gone(record, &engine.boot_id)) {
        return Ok(false);
    }
    undo_all(records, Evidence::Runtime(None), engine)?;
    forget(container_id, engine).map(|()| true)
}

/// Undoes one attachment under the locks of its devices. `pod` is its namespace where the caller has it open already.
fn undo(
    record: Record,
    evidence: Evidence<'_>,
    engine: &mut Engine,
    pod: Option<&mut Pod>,
) -> Result<(), CniError> {
    let holder = format!("DEL of pod {} (sandbox {})", record.pod, record.container_id);
    let mut locks = Vec::new();
    for device in record.devices() {
        locks.push(Lock::take(&engine.locks, &device_lock(&device), &holder, DEVICE_LIMIT)?);
    }
    // Whoever had the lock before may have undone the attachment, and the device may have a new owner by now.
    let current = if locks.is_empty() { Some(record) } else { engine.store.again(&record)? };
    match current {
        Some(record) => undo_locked(record, evidence, engine, pod),
        None => Ok(()),
    }
}

/// Undoes one attachment whose devices the caller has locked.
pub(super) fn undo_locked(
    mut record: Record,
    evidence: Evidence<'_>,
    engine: &mut Engine,
    pod: Option<&mut Pod>,
) -> Result<(), CniError> {
    let start = Instant::now();
    let is_unfinished = record.phase == Phase::Adding;
    let what = if is_unfinished { What::Undo } else { What::Del };
    let label = format!("interface {} of pod {} (network {})", record.interface, record.pod, record.network);
    let _about = about(&label);
    record.phase = Phase::Removing;
    let whole = record.clone();
    let devices: Vec<String> = record.devices().collect();
    let mut own = match pod {
        Some(_) => None,
        None => open_pod(&record, evidence, engine)?,
    };
    let mut pod = pod.or(own.as_mut());
    let same_boot = record.boot_id == engine.boot_id;
    let mut errors = Vec::new();
    let mut left = Vec::new();
    while let Some(step) = record.steps.pop() {
        let start = Instant::now();
        let mut failures = match same_boot {
            true => detach(&step.work, &record, engine, pod.as_deref_mut()),
            false => Vec::new(),
        };
        if same_boot && is_unfinished && failures.is_empty() {
            failures.extend(step.work.unmake(&mut engine.host).err());
        }
        // Links go first: an address that is still on one must not be given to anybody else.
        if failures.is_empty() {
            failures.extend(undo_outside(&step, &record, pod.is_some()));
        }
        engine.took(&record.network, &step.kind, start);
        if !failures.is_empty() {
            errors.append(&mut failures);
            left.push(step);
        }
    }
    if let Some(file) = record.device_info.as_ref().filter(|_| left.is_empty()) {
        errors.extend(device_info::remove(file).err());
    }
    if errors.is_empty() {
        // Told before it is forgotten: a call that is killed in between is done, and told, again.
        engine.history.note(what, &whole, None, start);
        engine.history.flush();
        engine.store.remove(&record)?;
        return engine.store.release_devices(&devices, &record.key());
    }
    record.steps = left.into_iter().rev().collect();
    if let Err(error) = engine.store.save(&record, false) {
        errors.push(error);
    }
    join(errors).map_err(|error| {
        engine.history.note(what, &whole, Some(&error), start);
        error.context(label)
    })
}

/// Undoes a driver's step.
fn detach(work: &Work, record: &Record, engine: &mut Engine, pod: Option<&mut Pod>) -> Vec<CniError> {
    let lock = match &pod {
        Some(pod) if work.takes_tables() => lock_tables(record, pod).map(Some),
        _ => Ok(None),
    };
    match lock {
        Ok(_lock) => work.detach(&mut engine.host, pod),
        Err(error) => vec![error],
    }
}

/// Has those outside the kernel who hold something for the step let go of it: the executed plugin, or the IPAM plugin.
fn undo_outside(step: &Step, record: &Record, netns_lives: bool) -> Vec<CniError> {
    let netns = if netns_lives { record.netns_path.display().to_string() } else { String::new() };
    let done = match (&step.work, &step.ipam) {
        (Work::Executed { binary }, _) => execute_del(binary, step, record, &plugin_env(record, netns)),
        (_, Some(holder)) => ipam::release(holder, step, record, netns),
        (_, None) => Ok(()),
    };
    done.err().into_iter().collect()
}

fn execute_del(
    binary: &std::path::Path,
    step: &Step,
    record: &Record,
    env: &PluginEnv,
) -> Result<(), CniError> {
    let mut input = step.config.clone();
    if let Some(result) = record.result.as_ref().filter(|_| version::at_least(&record.cni_version, "0.4.0")) {
        input.set("prevResult", result.render(&record.cni_version)?);
    }
    run(binary, Verb::Del, env, &Value::Object(input.0)).map(drop)
}

/// Whether the sandbox of a record still exists: its namespace is at its path, and is the same one.
pub(super) fn is_alive(record: &Record, engine: &Engine) -> bool {
    record.boot_id == engine.boot_id && same_netns(record, &record.netns_path).is_some()
}

/// Whether the sandbox of a record is gone for certain. A namespace that cannot be examined, say for want of file
/// descriptors, may live: [`is_alive`] is not the opposite. So may all of them where the folder is not that they are in, as in a
/// container that sees the node's records but not its `/run`.
pub fn is_gone(record: &Record, boot_id: &str) -> bool {
    if record.boot_id != boot_id {
        return true;
    }
    match Netns::open(&record.netns_path) {
        Ok(netns) => netns.id().is_ok_and(|id| id != record.netns),
        Err(error) => error.is_gone() && is_visible(&record.netns_path),
    }
}

/// Whether a namespace would be seen at its path, if it were there. A process that has ended takes its folder with it.
fn is_visible(netns: &std::path::Path) -> bool {
    netns.starts_with("/proc") || netns.parent().is_some_and(std::path::Path::is_dir)
}

/// Opens the namespace of a record for work, if it is still there. A path that leads to another namespace by now is not it.
fn open_pod(record: &Record, evidence: Evidence<'_>, engine: &Engine) -> Result<Option<Pod>, CniError> {
    if record.boot_id != engine.boot_id {
        return Ok(None);
    }
    let path = match evidence {
        Evidence::Runtime(None) => return Ok(None),
        Evidence::Runtime(Some(path)) => path,
        Evidence::Records => &record.netns_path,
    };
    same_netns(record, path).map(Pod::open).transpose()
}

fn same_netns(record: &Record, path: &std::path::Path) -> Option<Netns> {
    let netns = Netns::open(path).ok()?;
    (netns.id().ok()? == record.netns).then_some(netns)
}

/// Removes the virtual links that we made in the pod with one request, when there is more than one. It may fail, say because
/// somebody put a link into the group that cannot be removed: the links are then removed one by one.
fn remove_group(records: &[Record], pod: &mut Pod) {
    let grouped =
        records.iter().flat_map(|record| &record.steps).filter(|step| step.work.is_grouped()).count();
    if grouped > 1 {
        let _ = pod.route.delete_group(LINK_GROUP);
    }
}

/// Many failures as one error.
///
/// # Errors
/// When there is any.
pub fn join(mut errors: Vec<CniError>) -> Result<(), CniError> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        count => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(CniError::new(code::OTHER, format!("{count} failures: {}", texts.join("; "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::sample;

    fn in_own_netns() -> Record {
        let mut record = sample("c1", "eth0", 0);
        record.netns_path = "/proc/thread-self/ns/net".into();
        record.netns = Netns::open(&record.netns_path).unwrap().id().unwrap();
        record
    }

    #[test]
    fn a_sandbox_is_gone_when_its_namespace_is_whatever_phase_its_attachment_is_in() {
        let dir = tempfile::tempdir().unwrap();
        let unseen = Record { netns_path: dir.path().join("other/missing"), ..in_own_netns() };
        assert!(!is_gone(&unseen, "b"), "nobody could see it");
        let left_behind = dir.path().join("unmounted");
        std::fs::write(&left_behind, "").unwrap();
        for path in [dir.path().join("missing"), left_behind] {
            for phase in [Phase::Adding, Phase::Attached, Phase::Removing] {
                let record = Record { netns_path: path.clone(), phase, ..in_own_netns() };
                assert!(is_gone(&record, "b"), "{} {phase:?}", path.display());
            }
        }
        let mut another = in_own_netns();
        another.netns.inode += 1;
        assert!(is_gone(&another, "b"), "the path leads to another namespace");
        assert!(is_gone(&in_own_netns(), "later boot"));
    }

    #[test]
    fn a_sandbox_that_may_live_is_not_gone() {
        assert!(!is_gone(&in_own_netns(), "b"));
        // A name that is too long cannot be opened: that says nothing about the namespace.
        let unknown = Record { netns_path: Path::new("/").join("x".repeat(300)), ..in_own_netns() };
        assert!(!is_gone(&unknown, "b"));
    }
}
