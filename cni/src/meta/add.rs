//! ADD of a pod: plan all, validate all, attach all or none.

use std::time::Instant;

use super::{
    config::MetaConfig,
    default_route,
    networks::{self, Networks, Wanted},
    open_engine, pod_of, report,
};
use crate::{
    config::Injection,
    drivers::Pod,
    engine::{self, DeviceInfo, Engine, Evidence, Planned, Sandbox, Wish, attach, plan, undo_all},
    protocol::{
        env::Call,
        error::{CniError, code},
    },
    record::{Phase, Record},
    say::say,
};

pub(super) fn add(call: &Call, config: &MetaConfig) -> Result<String, CniError> {
    let start = Instant::now();
    let pod = pod_of(call, config);
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
    let mut is_told = false;
    let made = engine.lock_sandbox(&call.container_id, &holder).and_then(|_lock| {
        clear_unfinished(&sandbox, &mut engine)?;
        engine.timings.clear();
        engine.took("", "lock", start);
        let resolving = Instant::now();
        let networks = networks::find(call, config, &sandbox)?;
        engine.took("", "resolve", resolving);
        is_told = networks.is_told;
        make(&networks, call, config, &sandbox, &mut engine, Pod::open(netns)?)
    });
    engine.took("", "total", start);
    let (pod, container) = (&sandbox.pod, sandbox.container_id.as_str());
    if let Err(error) = &made {
        engine.history.failed(pod, container, error, start);
    }
    engine.history.flush();
    // Published before the runtime is told, so that the annotation is there when containers start. The sandbox's lock is free
    // meanwhile: nothing of the node is touched any more.
    match made {
        Ok(made) => {
            if is_told {
                let timings = std::mem::take(&mut engine.timings);
                report::publish(config, &sandbox, made.records.as_slice(), made.warnings, timings, start);
            }
            Ok(made.document)
        }
        Err(error) => {
            if is_told {
                report::add_failed(config, pod, container, &error);
            }
            Err(error)
        }
    }
}

/// A pod's attachments, made.
struct Made {
    records: Vec<Record>,
    /// What the pod asked for in vain.
    warnings: Vec<String>,
    /// The result for the runtime.
    document: String,
}

/// Validates all, then attaches all or nothing.
fn make(
    networks: &Networks,
    call: &Call,
    config: &MetaConfig,
    sandbox: &Sandbox,
    engine: &mut Engine,
    mut pod: Pod,
) -> Result<Made, CniError> {
    let warnings: Vec<String> = networks.all.iter().filter_map(Wanted::vain_requests).collect();
    if let Some(text) = warnings.first().filter(|_| config.strict) {
        return Err(CniError::new(code::UNSUPPORTED_FIELD, text.clone()));
    }
    warnings.iter().for_each(say);
    let validating = Instant::now();
    let mut planned = Vec::new();
    for (place, wanted) in networks.all.iter().enumerate() {
        let wish = wish_of(wanted, place, call, config);
        planned.push(plan(wish, sandbox, engine, |kind| wanted.is_in_process(kind, config))?);
    }
    engine.took("", "validate", validating);
    let attaching = Instant::now();
    let intended = engine::intend(&mut planned, sandbox, engine);
    let done =
        intended.and_then(|()| attach_all(planned, sandbox, engine, &mut pod)).and_then(|mut records| {
            let wishes: Vec<_> = networks.all.iter().map(|one| one.planned.default_route.clone()).collect();
            default_route::settle(&mut records, &wishes, &mut pod, &engine.store)?;
            let result = records.first().and_then(|record| record.result.clone()).unwrap_or_default();
            // The oldest versions cannot tell every result.
            let document = result.render(config.version)?.to_string();
            engine.took("", "attach", attaching);
            Ok((records, document))
        });
    match done {
        Ok((records, document)) => Ok(Made { records, warnings, document }),
        Err(error) => Err(roll_back(error, sandbox, engine)),
    }
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

pub(super) fn wish_of(wanted: &Wanted, order: usize, call: &Call, meta: &MetaConfig) -> Wish {
    let planned = &wanted.planned;
    let mut capability_args = planned.capability_args.clone();
    let device_info = planned.device_id.as_ref().map(|device| {
        let resource = planned.resource_name.as_deref();
        DeviceInfo::of(
            &meta.devinfo_dir,
            resource,
            device,
            &planned.network,
            &call.container_id,
            &planned.interface,
        )
    });
    if let Some(info) = &device_info {
        capability_args.insert("CNIDeviceInfoFile".into(), info.to.display().to_string().into());
    }
    let mut args = call.args.clone();
    if !wanted.is_nodes() {
        args.set("IgnoreUnknown", "1");
        // The older way to ask for addresses, which many plugins know only.
        if let Some(mac) = planned.capability_args.get("mac").and_then(|mac| mac.as_str()) {
            args.set("MAC", mac);
        }
        if let Some(ips) = planned.capability_args.get("ips").and_then(|ips| ips.as_array()) {
            let ips: Vec<&str> = ips.iter().filter_map(|ip| ip.as_str()).collect();
            args.set("IP", &ips.join(","));
        }
    }
    Wish {
        network: planned.network.clone(),
        interface: planned.interface.clone(),
        order,
        config: wanted.config.clone(),
        injection: Injection {
            capability_args,
            cni_args: planned.cni_args.clone(),
            device_id: planned.device_id.clone(),
        },
        args,
        device_info,
        previous: wanted.previous.clone(),
    }
}

/// Attaches everything in order, as far as it goes.
fn attach_all(
    planned: Vec<Planned>,
    sandbox: &Sandbox,
    engine: &mut Engine,
    pod: &mut Pod,
) -> Result<Vec<Record>, CniError> {
    planned.into_iter().map(|attachment| attach(attachment, sandbox, engine, pod)).collect()
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
