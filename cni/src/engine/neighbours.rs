//! Who else is on an interface of the host, for when the kernel says no more than "busy".

use super::{Engine, PlannedStep};
use crate::{
    config::Fields,
    drivers::Work,
    protocol::error::CniError,
    record::{Record, Step},
};

/// Adds to a failure to make a link who keeps its master: one interface carries either macvlans or ipvlans, and a macvlan in
/// mode passthru is alone on it (the kernel has one handler of received frames for each interface).
pub(super) fn explain(
    error: CniError,
    step: &PlannedStep,
    work: &Work,
    record: &Record,
    engine: &Engine,
) -> CniError {
    let Ok(records) = engine.store.all() else { return error };
    let other = records.iter().filter(|other| other.key() != record.key()).find_map(|other| {
        other.steps.iter().find(|there| excludes(there, &step.fields, work)).map(|there| (other, there))
    });
    match other {
        Some((other, there)) => error.details(format!(
            "the master carries {} {} of pod {}, which this one cannot share it with",
            there.kind, other.interface, other.pod
        )),
        None => error,
    }
}

/// The attachment that has the device of the host that a configuration means.
pub(super) fn holder(fields: &Fields, engine: &Engine) -> Result<Option<Record>, CniError> {
    let has_it = |work: &Work| match work {
        Work::HostDevice(original) => original.is_meant_by(fields, &engine.host),
        _ => false,
    };
    let mut records = engine.store.all()?;
    let place = records.iter().position(|record| record.steps.iter().any(|step| has_it(&step.work)));
    Ok(place.map(|place| records.swap_remove(place)))
}

fn excludes(there: &Step, fields: &Fields, work: &Work) -> bool {
    let (Work::Link(made), Work::Link(wanted)) = (&there.work, work) else { return false };
    let is_alone = |fields: &Fields| fields.text("mode").ok().flatten() == Some("passthru");
    let both_receive = |kind: &str| matches!(kind, "macvlan" | "ipvlan");
    made.master.is_some()
        && !(made.master_in_pod || wanted.master_in_pod)
        && made.master == wanted.master
        && both_receive(&made.kind)
        && both_receive(&wanted.kind)
        && (made.kind != wanted.kind || is_alone(fields) || is_alone(&there.config))
}
