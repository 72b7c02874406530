//! ADD of a pod: plan all, validate all, attach all or none.

use std::time::Instant;

use super::{config::MetaConfig, open_engine, pod_of, primary, report};
use crate::{
    agent_client,
    agent_protocol::{Answer, Call as AgentCall, PlannedAttachment, PodRef, Resolve},
    config::{Injection, NetworkConfig},
    drivers::Pod,
    engine::{self, Engine, Evidence, Planned, Sandbox, Wish, attach, plan, undo_all},
    networks::annotation::{DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION},
    protocol::{
        env::{Call, check_interface},
        error::{CniError, code},
    },
    record::{Phase, Record},
};

pub(super) fn add(call: &Call, config: &MetaConfig) -> Result<String, CniError> {
    let start = Instant::now();
    let pod = pod_of(call);
    let mut engine = open_engine(config)?;
    let netns_path = call.netns.clone().unwrap_or_default();
    let (netns, netns_id) = engine.sandbox_netns(&netns_path)?;
    let sandbox = Sandbox {
        container_id: call.container_id.clone(),
        netns_path,
        netns: netns_id,
        path: call.path.clone(),
        runtime_network: config.name.clone(),
        alone: None,
        pod,
    };
    let holder = format!("ADD of pod {} (sandbox {})", sandbox.pod, sandbox.container_id);
    let lock = engine.lock_sandbox(&call.container_id, &holder)?;
    clear_unfinished(&sandbox, &mut engine)?;

    let mut planned = vec![plan_primary(call, config, &sandbox, &mut engine)?];
    let wanted = secondary_networks(config, &sandbox)?;
    for (place, attachment) in wanted.iter().enumerate() {
        let wish = wish_of(attachment, place + 1, call)?;
        planned.push(plan(wish, &sandbox, &mut engine, |kind| config.is_built_in(kind))?);
    }

    let records = attach_all(planned, &sandbox, &mut engine, Pod::open(netns)?)?;
    let result = records.first().and_then(|record| record.result.clone()).unwrap_or_default();
    // The oldest versions cannot tell every result.
    let document = result.render(config.version).map_err(|error| roll_back(error, &sandbox, &mut engine))?;
    // Published before the runtime is told, so that the annotation is there when containers start. The sandbox's lock is free
    // meanwhile: nothing of the node is touched any more.
    drop(lock);
    if !wanted.is_empty() {
        report::publish(config, &sandbox.pod, &sandbox.container_id, &records, &wanted, start);
    }
    Ok(document.to_string())
}

/// What an ADD that was killed left for this sandbox is undone; what one made is not made again.
fn clear_unfinished(sandbox: &Sandbox, engine: &mut Engine) -> Result<(), CniError> {
    let records = engine.store.of_sandbox(&sandbox.container_id)?;
    if let Some(record) = records.iter().find(|record| record.phase == Phase::Attached) {
        let text = format!("sandbox {} has its interface {} already", sandbox.container_id, record.interface);
        return Err(CniError::new(code::OTHER, text));
    }
    undo_all(records, Evidence::Runtime(Some(&sandbox.netns_path)), engine)
}

/// The primary network gets the capabilities that the runtime passed. It is executed from disk, except for types that the
/// operator lists as built in.
fn plan_primary(
    call: &Call,
    config: &MetaConfig,
    sandbox: &Sandbox,
    engine: &mut Engine,
) -> Result<Planned, CniError> {
    let network = primary::load(config)?;
    let wish = Wish {
        network: network.name.clone(),
        interface: call.interface.clone(),
        order: 0,
        config: network,
        injection: Injection { capability_args: config.runtime_config.clone(), ..Injection::default() },
        args: call.args.clone(),
    };
    plan(wish, sandbox, engine, |kind| config.is_listed(kind))
}

/// Asks the agent what else the pod gets. A pod whose annotations ask for nothing never waits for it.
fn secondary_networks(config: &MetaConfig, sandbox: &Sandbox) -> Result<Vec<PlannedAttachment>, CniError> {
    let annotations = config.annotations()?;
    if annotations.as_ref().is_some_and(|all| all.contains_key(DEFAULT_NETWORK_ANNOTATION)) {
        let text = format!(
            "pod {}: annotation {DEFAULT_NETWORK_ANNOTATION} is not done by this version: remove it, or the pod would get \
             another primary network than it asks for",
            sandbox.pod
        );
        return Err(CniError::new(code::UNSUPPORTED_FIELD, text));
    }
    let asks = annotations
        .as_ref()
        .is_none_or(|all| all.get(NETWORKS_ANNOTATION).is_some_and(|text| !text.trim().is_empty()));
    if !asks || sandbox.pod == PodRef::default() {
        return Ok(Vec::new());
    }
    let resolve = Resolve {
        pod: sandbox.pod.clone(),
        container_id: sandbox.container_id.clone(),
        annotations,
        deadline_ms: 0,
    };
    let answer = agent_client::call(&config.agent_socket, &AgentCall::Resolve(resolve), config.agent_timeout)
        .map_err(|error| error.context(format_args!("networks of pod {}", sandbox.pod)))?;
    match answer {
        Answer::Plan(plan) => Ok(plan.attachments),
        other => {
            let text = format!("the agent answered something else than a plan: {other:?}");
            Err(CniError::new(code::OTHER, text))
        }
    }
}

fn wish_of(planned: &PlannedAttachment, order: usize, call: &Call) -> Result<Wish, CniError> {
    let label = |error: CniError| error.context(format_args!("network {}", planned.network));
    check_interface(&planned.interface).map_err(label)?;
    let config = NetworkConfig::parse(&planned.config).map_err(label)?;
    let mut args = call.args.clone();
    args.set("IgnoreUnknown", "1");
    // The older way to ask for addresses, which many plugins know only.
    if let Some(mac) = planned.capability_args.get("mac").and_then(|mac| mac.as_str()) {
        args.set("MAC", mac);
    }
    if let Some(ips) = planned.capability_args.get("ips").and_then(|ips| ips.as_array()) {
        let ips: Vec<&str> = ips.iter().filter_map(|ip| ip.as_str()).collect();
        args.set("IP", &ips.join(","));
    }
    Ok(Wish {
        network: planned.network.clone(),
        interface: planned.interface.clone(),
        order,
        config,
        injection: Injection {
            capability_args: planned.capability_args.clone(),
            cni_args: planned.cni_args.clone(),
            device_id: planned.device_id.clone(),
        },
        args,
    })
}

/// Attaches everything, or undoes everything.
fn attach_all(
    planned: Vec<Planned>,
    sandbox: &Sandbox,
    engine: &mut Engine,
    mut pod: Pod,
) -> Result<Vec<Record>, CniError> {
    let mut records = Vec::new();
    for attachment in planned {
        match attach(attachment, sandbox, engine, &mut pod) {
            Ok(record) => records.push(record),
            Err(error) => return Err(roll_back(error, sandbox, engine)),
        }
    }
    Ok(records)
}

/// Undoes what was attached. Where that fails, too, the records stay for the runtime's DEL, and the error says so.
fn roll_back(error: CniError, sandbox: &Sandbox, engine: &mut Engine) -> CniError {
    let undone = engine
        .store
        .of_sandbox(&sandbox.container_id)
        .and_then(|records| engine::roll_back(&sandbox.container_id, records, &sandbox.netns_path, engine));
    match undone {
        Ok(()) => error,
        Err(failed) => {
            error.details(format!("and undoing the pod's other interfaces failed for now: {failed}"))
        }
    }
}
