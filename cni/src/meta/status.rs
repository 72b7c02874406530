//! STATUS: whether an ADD could succeed. The agent does not count: when it is restarted, the node must not become unready.

use std::{path::Path, time::Duration};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, access},
};

use super::{config::MetaConfig, primary, readiness};
use crate::{
    config::Injection,
    drivers::takes,
    exec::{find, tell},
    protocol::{
        env::{Call, Verb},
        error::{CniError, code},
        version,
    },
};

pub(super) fn status(call: &Call, config: &MetaConfig) -> Result<(), CniError> {
    let checked = readiness::wait(config.readiness_file.as_deref(), Duration::ZERO)
        .and_then(|()| primary_network(call, config))
        .and_then(|()| primary::auxiliary_chain(config).map(drop))
        .and_then(|()| records(&config.state_dir));
    checked.map_err(|error| CniError { code: code::NOT_AVAILABLE, ..error })
}

/// Whether there is a primary network whose plugins are there, and say that they are ready if they know the verb.
fn primary_network(call: &Call, config: &MetaConfig) -> Result<(), CniError> {
    // A name may be that of a definition, which only the agent knows.
    if config.policy.cluster_network.as_ref().is_some_and(|reference| !reference.contains('/')) {
        return Ok(());
    }
    let network = primary::load(config)?;
    let injection = Injection { capability_args: config.runtime_config.clone(), ..Injection::default() };
    for plugin in &network.plugins {
        let fields = injection.apply(&network, plugin)?;
        if config.is_listed(&plugin.kind) && takes(&plugin.kind, &fields).is_ok() {
            continue;
        }
        let label = |error: CniError| error.context(format_args!("primary network {}", network.name));
        let binary = find(&plugin.kind, &call.path).map_err(label)?;
        if version::allows(network.version, Verb::Status).is_err() {
            continue;
        }
        tell(&binary, Verb::Status, call.path_text(), fields).map_err(label)?;
    }
    Ok(())
}

/// Whether records can be written: in the folder, or where it would be made.
fn records(state_dir: &Path) -> Result<(), CniError> {
    let Some(there) = state_dir.ancestors().find(|dir| dir.exists()) else { return Ok(()) };
    let checked = if there.is_dir() { access(there, AccessFlags::W_OK) } else { Err(Errno::ENOTDIR) };
    checked.map_err(|errno| {
        let text =
            format!("records cannot be written to {}: {}: {errno}", state_dir.display(), there.display());
        CniError::new(code::IO, text)
    })
}
