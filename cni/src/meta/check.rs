//! CHECK of a pod: each attachment is compared with its record.

use super::{config::MetaConfig, open_engine, pod_of};
use crate::{
    engine,
    protocol::{
        env::Call,
        error::{CniError, code},
    },
    say::say,
};

/// Every difference is said on standard error. Only what is lost or somebody else's fails the call, or, with key
/// `strictCheck`, any.
pub(super) fn check(call: &Call, config: &MetaConfig) -> Result<(), CniError> {
    let mut engine = open_engine(config)?;
    let holder = format!("CHECK of pod {} (sandbox {})", pod_of(call, config), call.container_id);
    let _lock = engine.lock_sandbox(&call.container_id, &holder)?;
    let records = engine.store.of_sandbox(&call.container_id)?;
    if records.is_empty() {
        let text = format!("sandbox {} has no attachment that was made here", call.container_id);
        return Err(CniError::new(code::UNKNOWN_CONTAINER, text));
    }
    let netns = call.netns.clone().unwrap_or_default();
    let mut failures = Vec::new();
    for record in &records {
        for difference in engine::check(record, &netns, &mut engine)? {
            let text = format!("network {}, interface {}: {difference}", record.network, record.interface);
            say(&text);
            if difference.is_fatal || config.strict_check {
                failures.push(text);
            }
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(CniError::new(code::OTHER, failures.join("; "))),
    }
}
