//! GC of the runtime's network: what no live attachment owns is let go of, by us and by the primary network's plugins.

use super::{config::MetaConfig, open_engine, primary};
use crate::{
    config::Injection,
    engine::{collect, forward, join},
    exec::find,
    protocol::{
        env::{Call, Verb},
        error::CniError,
        gc::AttachmentId,
        version,
    },
};

/// Without a list of valid attachments nobody may be taken for dead, and nothing is done.
pub(super) fn gc(call: &Call, config: &MetaConfig) -> Result<(), CniError> {
    let Some(valid) = &config.valid_attachments else { return Ok(()) };
    let mut engine = open_engine(config)?;
    let mut errors = Vec::new();
    errors.extend(collect(&config.name, valid, &mut engine).err());
    errors.extend(forward_to_primary(call, config, valid).err());
    join(errors)
}

/// The primary network's plugins may hold what no record of ours tells. Without a primary network nobody holds any.
fn forward_to_primary(call: &Call, config: &MetaConfig, valid: &[AttachmentId]) -> Result<(), CniError> {
    let Ok(network) = primary::load(config) else { return Ok(()) };
    if version::allows(network.version, Verb::Gc).is_err() {
        return Ok(());
    }
    let mut errors = Vec::new();
    for plugin in &network.plugins {
        let told = find(&plugin.kind, &call.path).and_then(|binary| {
            let fields = Injection::default().apply(&network, plugin)?;
            forward(&binary, fields, valid, call.path_text())
        });
        errors.extend(told.err());
    }
    join(errors)
}
