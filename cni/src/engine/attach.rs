//! Making an attachment, step by step, each recorded before it is taken.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

use fairlead_resource_config::PciAddress;
use serde_json::Value;

use super::{
    DEVICE_LIMIT, Engine, Evidence, How, Planned, PlannedStep, Sandbox, addresses, device_lock, neighbours,
    plugin_env,
    takeover::free_of_upstream,
    undo::{is_alive, undo_locked},
};
use crate::{
    config::Fields,
    drivers::{Outcome, Pod, Spec, Work, kernel},
    exec::run,
    history::What,
    lock::{Lock, holding_process, wait_for},
    protocol::{
        env::Verb,
        error::{CniError, code},
        result::CniResult,
    },
    record::{Phase, Record, SCHEMA, Step},
    say::about,
};

/// Makes one attachment and returns its record. On failure the record stays, for [`super::undo_all`].
///
/// # Errors
/// What failed, led by network and interface.
pub fn attach(
    mut planned: Planned,
    sandbox: &Sandbox,
    engine: &mut Engine,
    pod: &mut Pod,
) -> Result<Record, CniError> {
    let start = Instant::now();
    let wish = planned.wish();
    let label = format!("network {} for interface {}", wish.network, wish.interface);
    let _about = about(format_args!("pod {}, {label}", sandbox.pod));
    let mut record = new_record(&planned, sandbox, engine);
    make(&mut planned, &mut record, engine, pod).map_err(|error| match sandbox.alone {
        // As in plan().
        Some(_) => error,
        None => error.context(label),
    })?;
    engine.history.note(What::Add, &record, None, start);
    Ok(record)
}

fn make(
    planned: &mut Planned,
    record: &mut Record,
    engine: &mut Engine,
    pod: &mut Pod,
) -> Result<(), CniError> {
    record.result = planned.previous.take();
    let makes = !planned.steps.first().is_some_and(PlannedStep::is_chained);
    if makes && pod.route.link_by_name(&record.interface).map_err(kernel)?.is_some() {
        let text = format!("the pod has an interface {} already", record.interface);
        return Err(CniError::new(code::OTHER, text));
    }
    if let Some(info) = &planned.wish.device_info {
        engine.store.save(record, false)?;
        info.copy()?;
    }
    for step in std::mem::take(&mut planned.steps) {
        let start = Instant::now();
        let result = match &step.how {
            How::Execute(binary) => {
                let work = Work::Executed { binary: binary.clone() };
                push(record, &step, work);
                engine.store.save(record, true)?;
                execute(record, &step.fields, binary)?
            }
            How::BuiltIn(spec) => {
                if let Some(device) = spec.device() {
                    planned.locks.push(claim(&device, record, engine)?);
                }
                let _lock = match spec.takes_tables() {
                    true => Some(lock_tables(record, pod)?),
                    false => None,
                };
                build(spec, &step, record, engine, pod)?
            }
        };
        record.result = Some(result);
        engine.took(&record.network, &step.kind, start);
    }
    record.phase = Phase::Attached;
    engine.store.save(record, false)
}

fn new_record(planned: &Planned, sandbox: &Sandbox, engine: &Engine) -> Record {
    let wish = planned.wish();
    Record {
        schema: SCHEMA,
        boot_id: engine.boot_id.clone(),
        runtime_network: sandbox.runtime_network.clone(),
        container_id: sandbox.container_id.clone(),
        interface: wish.interface.clone(),
        network: wish.network.clone(),
        order: wish.order,
        pod: sandbox.pod.clone(),
        netns_path: sandbox.netns_path.clone(),
        netns: sandbox.netns,
        args: wish.args.to_string(),
        path: sandbox.path.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":"),
        cni_version: wish.config.version.to_owned(),
        alone: sandbox.alone.clone(),
        phase: Phase::Adding,
        steps: Vec::new(),
        result: None,
        device_info: wish.device_info.as_ref().map(|info| info.to.clone()),
    }
}

fn push(record: &mut Record, step: &PlannedStep, work: Work) {
    let (kind, config) = (step.kind.clone(), step.fields.clone());
    record.steps.push(Step { kind, config, work, ipam: None });
}

/// Adds to the last step who is asked for its addresses.
fn name_holder(record: &mut Record, step: &PlannedStep) {
    if let Some(recorded) = record.steps.last_mut() {
        recorded.ipam = step.ipam.as_ref().map(super::ipam::Source::holder);
    }
}

/// Executes a plugin; it gets the result so far.
fn execute(record: &Record, fields: &Fields, binary: &std::path::Path) -> Result<CniResult, CniError> {
    let mut input = fields.clone();
    if let Some(previous) = &record.result {
        input.set("prevResult", previous.render(&record.cni_version)?);
    }
    let env = plugin_env(record, record.netns_path.display().to_string());
    let output = run(binary, Verb::Add, &env, &Value::Object(input.0))?;
    CniResult::parse(&output.unwrap_or_default(), &record.cni_version)
}

/// Does a step in process: the driver's part, then addresses.
fn build(
    spec: &Spec,
    step: &PlannedStep,
    record: &mut Record,
    engine: &mut Engine,
    pod: &mut Pod,
) -> Result<CniResult, CniError> {
    let previous = record.result.clone().unwrap_or_default();
    let work = spec.prepare(&mut engine.host, pod, &previous)?;
    push(record, step, work.clone());
    if step.is_intended {
        name_holder(record, step);
    }
    engine.store.save(record, false)?;
    pod.ipv6 = step.ipv6;
    let outcome = spec
        .attach(&work, &mut engine.host, pod, &previous)
        .map_err(|error| neighbours::explain(error, step, &work, record, engine))?;
    let attached = match outcome {
        Outcome::Made(attached) => attached,
        Outcome::Changed(result) => {
            addresses::announce_again(pod, &record.interface, &result);
            return Ok(result);
        }
    };
    let mut result = CniResult { interfaces: attached.interfaces, ..CniResult::default() };
    if let Some(ipam) = &step.ipam {
        // Not in the record any earlier, unless it was to be told of the step anyway: undoing a step that never came to its IPAM must
        // not release anything.
        if !step.is_intended {
            name_holder(record, step);
            engine.store.save(record, true)?;
        }
        let start = Instant::now();
        let found = ipam.add(&step.fields, record, engine)?;
        engine.took(&record.network, "ipam", start);
        result.ips = found.ips;
        result.routes = found.routes;
        result.dns = found.dns;
    } else if spec.follows() {
        (result.ips, result.routes, result.dns) = (previous.ips, previous.routes, previous.dns);
    }
    if !result.ips.is_empty() {
        result.ips.iter_mut().for_each(|ip| ip.interface = Some(attached.main));
        spec.complete(&mut result)?;
        if let Some(link) = attached.link {
            addresses::apply(pod, link, &record.interface, &result)?;
        }
    }
    spec.finish(&work, &mut result, &mut engine.host, pod)?;
    if let Some(dns) = step.fields.object("dns")?.filter(|dns| !dns.0.is_empty()) {
        result.dns = dns.0;
    }
    Ok(result)
}

/// Keeps others from looking for a free routing table of the pod, upstream's sbr too: the lock is on the namespace itself,
/// whatever path leads there.
pub(super) fn lock_tables(record: &Record, pod: &Pod) -> Result<File, CniError> {
    let path = pod.netns.path();
    let failed = |error: std::io::Error| CniError::new(code::IO, format!("lock {}: {error}", path.display()));
    // Opened anew, since closing it is to free the lock.
    let file = File::open(format!("/proc/self/fd/{}", pod.netns.as_fd().as_raw_fd())).map_err(failed)?;
    wait_for(file, DEVICE_LIMIT).map_err(failed)?.ok_or_else(|| {
        let text = format!(
            "the routing tables of pod {} (sandbox {}) are held by {} for longer than {} s; the runtime will try again",
            record.pod,
            record.container_id,
            holding_process(path),
            DEVICE_LIMIT.as_secs()
        );
        CniError::new(code::TRY_AGAIN, text)
    })
}

/// Takes the lock of a device and makes sure that no other sandbox has it. What a dead sandbox left is undone first.
fn claim(device: &str, record: &Record, engine: &mut Engine) -> Result<Lock, CniError> {
    let holder = format!("ADD of pod {} (sandbox {})", record.pod, record.container_id);
    let lock = Lock::take(&engine.locks, &device_lock(device), &holder, DEVICE_LIMIT)?;
    if let Some(owner) = engine.store.owner_of_device(device, &engine.boot_id)? {
        if is_alive(&owner, engine) {
            // Upstream's words, which others look for.
            let what = if device.parse::<PciAddress>().is_ok() { "pci address" } else { "device" };
            let text = format!(
                "{what} {device} is already allocated: it is still attached to pod {} as {} (sandbox {})",
                owner.pod, owner.interface, owner.container_id
            );
            return Err(CniError::new(code::TRY_AGAIN, text));
        }
        let label = format!("device {device} was left by pod {}", owner.pod);
        let own = engine.timings.len();
        undo_locked(owner, Evidence::Records, engine, None).map_err(|error| error.context(label))?;
        engine.timings.truncate(own);
    }
    free_of_upstream(device, engine)?;
    engine.store.claim_device(device, record)?;
    Ok(lock)
}
