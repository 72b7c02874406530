//! Comparing an attachment with its record, for CHECK and for operators. Nothing is changed.

use std::path::Path;

use fairlead_kernel::{Netns, route::MAIN_TABLE};
use serde_json::Value;

use super::{Engine, addresses, ipam, plugin_env};
use crate::{
    drivers::{Difference, Pod, Work, kernel},
    exec::run,
    protocol::{
        env::Verb,
        error::CniError,
        result::{CniResult, Interface, Route},
        version,
    },
    record::{Phase, Record, Step},
};

/// Everything that is not as the record says. `netns` is where the sandbox is supposed to be.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn check(record: &Record, netns: &Path, engine: &mut Engine) -> Result<Vec<Difference>, CniError> {
    let mut pod = match open(record, netns, engine)? {
        Ok(pod) => pod,
        Err(difference) => return Ok(vec![difference]),
    };
    let mut found = Vec::new();
    if record.phase != Phase::Attached {
        found.push(Difference::fatal(format!("it is unfinished: {}", record.phase)));
    }
    for device in record.devices() {
        let is_other = |owner: &&Record| owner.key() != record.key();
        let owner = engine.store.owner_of_device(&device, &engine.boot_id)?;
        if let Some(owner) = owner.as_ref().filter(is_other) {
            let text = format!("device {device} is {}'s of pod {} by now", owner.interface, owner.pod);
            found.push(Difference::fatal(text));
        }
    }
    for step in &record.steps {
        for difference in check_step(step, record, engine, &mut pod)? {
            // A step that changes an interface sees what the one that made it sees, too.
            if !found.contains(&difference) {
                found.push(difference);
            }
        }
    }
    found.extend(check_addresses(record, &mut pod)?);
    Ok(found)
}

/// The sandbox's namespace, or why it is not there.
fn open(record: &Record, netns: &Path, engine: &Engine) -> Result<Result<Pod, Difference>, CniError> {
    if record.boot_id != engine.boot_id {
        return Ok(Err(Difference::fatal("the node was booted since it was made".into())));
    }
    let namespace = match Netns::open(netns) {
        Ok(namespace) => namespace,
        Err(error) if error.is_gone() => return Ok(Err(Difference::fatal(kernel(error).msg))),
        Err(error) => return Err(kernel(error)),
    };
    if namespace.id().map_err(kernel)? != record.netns {
        let text = format!("{} is another network namespace than it was made in", netns.display());
        return Ok(Err(Difference::fatal(text)));
    }
    Pod::open(namespace).map(Ok)
}

fn check_step(
    step: &Step,
    record: &Record,
    engine: &mut Engine,
    pod: &mut Pod,
) -> Result<Vec<Difference>, CniError> {
    let mut found = match &step.work {
        Work::Executed { binary } => {
            let mut found = Vec::new();
            // Whatever its plugin thinks of it, without the interface there is no attachment, if it was ever to have one.
            let is_bare = record.result.as_ref().is_some_and(CniResult::is_bare);
            if !is_bare && pod.route.link_by_name(&record.interface).map_err(kernel)?.is_none() {
                found.push(Difference::fatal(format!("the pod has no interface {}", record.interface)));
            }
            found.extend(execute(binary, step, record).err().as_ref().map(Difference::from_error));
            found
        }
        work => step_differences(work, record, engine, pod)?,
    };
    if let Some(holder) = &step.ipam {
        let checked = ipam::check(holder, step, record, |binary| execute(binary, step, record));
        found.extend(checked.err().as_ref().map(Difference::from_error));
    }
    Ok(found)
}

fn step_differences(
    work: &Work,
    record: &Record,
    engine: &mut Engine,
    pod: &mut Pod,
) -> Result<Vec<Difference>, CniError> {
    let result = record.result.clone().unwrap_or_default();
    // One of the host may have the same name.
    let is_pods = |made: &&Interface| {
        made.name == record.interface && made.sandbox.as_ref().is_some_and(|s| !s.is_empty())
    };
    let made = result.interfaces.iter().find(is_pods);
    work.check(&made.cloned().unwrap_or_default(), &mut engine.host, pod)
}

/// Has a plugin on disk compare, if the version has CHECK.
fn execute(binary: &Path, step: &Step, record: &Record) -> Result<(), CniError> {
    if version::allows(&record.cni_version, Verb::Check).is_err() {
        return Ok(());
    }
    let mut input = step.config.clone();
    input.set("prevResult", record.result.clone().unwrap_or_default().render(&record.cni_version)?);
    let env = plugin_env(record, record.netns_path.display().to_string());
    run(binary, Verb::Check, &env, &Value::Object(input.0)).map(drop)
}

/// Addresses and routes that we put on the interface and that are not there any more.
fn check_addresses(record: &Record, pod: &mut Pod) -> Result<Vec<Difference>, CniError> {
    // Some steps move routes to tables of their own.
    let moved: Vec<u32> = record.steps.iter().flat_map(|step| step.work.tables()).collect();
    let ours = record.steps.iter().any(|step| !matches!(step.work, Work::Executed { .. }));
    let Some(result) = record.result.as_ref().filter(|_| ours) else { return Ok(Vec::new()) };
    // A device in user space has no link, and its addresses are only reported.
    let Some(link) = pod.route.link_by_name(&record.interface).map_err(kernel)? else {
        return Ok(Vec::new());
    };
    let addresses = pod.route.addresses(&link).map_err(kernel)?;
    let routes = pod.route.routes(&link).map_err(kernel)?;
    let lost_address = |ip: &&crate::protocol::result::Ip| {
        !addresses.iter().any(|there| there.net.addr() == ip.address.addr() && there.net == ip.address)
    };
    let lost_route = |route: &&Route| {
        let gateway = addresses::gateway(route, result);
        !routes.iter().any(|there| {
            there.dst.trunc() == route.dst.trunc()
                && (there.table == route.table.unwrap_or(MAIN_TABLE) || moved.contains(&there.table))
                && there.gateway == gateway
        })
    };
    let name = &record.interface;
    let address =
        result.ips_of(name).filter(lost_address).map(|ip| format!("{name} lost its address {}", ip.address));
    let route = result.routes.iter().filter(lost_route).map(|route| route_text(name, route, result));
    Ok(address.chain(route).map(Difference::other).collect())
}

fn route_text(name: &str, route: &Route, result: &CniResult) -> String {
    match addresses::gateway(route, result) {
        Some(gateway) => format!("{name} lost its route to {} through {gateway}", route.dst),
        None => format!("{name} lost its route to {}", route.dst),
    }
}
