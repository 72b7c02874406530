//! Taking over from upstream's sriov-cni on a node where its pods still run: what it noted is undone as ours is.

use std::path::Path;

use fairlead_kernel::Netns;

use super::{DEVICE_LIMIT, Engine, device_lock, join};
use crate::{
    drivers::{Pod, Work, kernel, sriov::State},
    lock::Lock,
    protocol::error::{CniError, code},
};

/// Undoes what upstream noted for a sandbox: for one of its interfaces, or for all. `netns` is its namespace, if it still
/// exists. Addresses are not released here: upstream does not note its IPAM plugin's configuration.
///
/// # Errors
/// What could not be undone; its note stays for the next call.
pub fn undo_upstream(
    container_id: &str,
    interface: Option<&str>,
    netns: Option<&Path>,
    engine: &mut Engine,
) -> Result<(), CniError> {
    let states = engine.sriov_cni.of_sandbox(container_id, interface)?;
    let undone = states.iter().map(|state| {
        let device = state.original.address.to_string();
        let holder = format!("DEL of {}", state.file.display());
        let _lock = Lock::take(&engine.locks, &device_lock(&device), &holder, DEVICE_LIMIT)?;
        if is_others(state, &device, netns, engine)? {
            state.remove()
        } else {
            undo(state, &device, netns, engine)
        }
    });
    join(undone.filter_map(Result::err).collect())
}

/// Makes sure that no pod of upstream's has a device, whose lock the caller holds. What it left with a namespace that is gone
/// is undone.
///
/// # Errors
/// Code 11 when a pod has it.
pub(super) fn free_of_upstream(device: &str, engine: &mut Engine) -> Result<(), CniError> {
    let Some(path) = engine.sriov_cni.holder(device) else { return Ok(()) };
    if Netns::open(&path).is_ok() {
        let text = format!(
            "pci address {device} is already allocated: upstream's sriov-cni gave it to network namespace {}",
            path.display()
        );
        return Err(CniError::new(code::TRY_AGAIN, text));
    }
    for state in engine.sriov_cni.of_device(device)? {
        undo(&state, device, None, engine)
            .map_err(|error| error.context(format_args!("left by {}", state.file.display())))?;
    }
    engine.sriov_cni.release(device)
}

/// Whether a device has been given to somebody else since: by us, or by upstream.
fn is_others(state: &State, device: &str, netns: Option<&Path>, engine: &Engine) -> Result<bool, CniError> {
    if engine.store.owner_of_device(device, &engine.boot_id)?.is_some() {
        return Ok(true);
    }
    let Some(holder) = engine.sriov_cni.holder(device).and_then(|path| Netns::open(&path).ok()) else {
        return Ok(false);
    };
    match netns.map(Netns::open) {
        Some(Ok(own)) => Ok(own.id().map_err(kernel)? != holder.id().map_err(kernel)?),
        // The namespace that has it cannot be told from ours, which is gone: another note of the device tells.
        _ => Ok(engine.sriov_cni.of_device(device)?.iter().any(|other| other.file != state.file)),
    }
}

fn undo(state: &State, device: &str, netns: Option<&Path>, engine: &mut Engine) -> Result<(), CniError> {
    let netns = netns.and_then(|path| Netns::open(path).ok());
    let mut pod = netns.map(Pod::open).transpose()?;
    let work = Work::Sriov(state.original.clone());
    join(work.detach(&mut engine.host, pod.as_mut()))?;
    engine.sriov_cni.release(device)?;
    state.remove()
}
