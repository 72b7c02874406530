//! DEL of a pod: from its records alone. Neither agent nor API server nor configuration is needed.

use std::{path::Path, time::Instant};

use serde_json::Value;

use super::{config::MetaConfig, inherited::Inherited, open_engine, pod_of, primary, report};
use crate::{
    config::Injection,
    engine::{Engine, Evidence, forget, join, sweep_dead, undo_all, undo_upstream},
    exec::{PluginEnv, find, run},
    lock::sweep,
    protocol::{
        env::{Call, Verb},
        error::CniError,
    },
};

pub(super) fn del(call: &Call, config: &MetaConfig) -> Result<(), CniError> {
    let start = Instant::now();
    let mut engine = open_engine(config)?;
    let holder = format!("DEL of pod {} (sandbox {})", pod_of(call, config), call.container_id);
    let lock = engine.lock_sandbox(&call.container_id, &holder)?;
    engine.took("", "lock", start);
    let records = engine.store.of_sandbox(&call.container_id)?;
    if records.is_empty() {
        forget(&call.container_id, &engine)?;
        del_unrecorded(call, config, &mut engine)?;
        drop(lock);
        let swept = sweep_dead(&mut engine);
        report::swept(config, &pod_of(call, config), &call.container_id, swept);
    } else {
        let undoing = Instant::now();
        let undone = undo_all(records.clone(), Evidence::Runtime(call.netns_path()), &mut engine);
        drop(lock);
        engine.took("", "detach", undoing);
        engine.took("", "total", start);
        let timings = std::mem::take(&mut engine.timings);
        // What this call could not do is not the reason to leave other things lying about.
        let swept = sweep_dead(&mut engine);
        report::removed(config, &records, undone.as_ref().err(), timings, swept);
        undone?;
    }
    sweep(&engine.locks);
    Ok(())
}

/// Without a record the pod is not ours, or all is done. What Multus or the runtime noted of it is undone.
fn del_unrecorded(call: &Call, config: &MetaConfig, engine: &mut Engine) -> Result<(), CniError> {
    let netns = call.netns_path().filter(|path| engine.sandbox_netns(path).is_ok());
    let inherited = Inherited::read(call, config)?;
    let path = netns.unwrap_or(Path::new(""));
    if inherited.is_empty() {
        undo_upstream(&call.container_id, None, netns, engine)?;
        del_primary(call, config, path)?;
        return inherited.undo(call, path, config);
    }
    // Upstream's sriov-cni needs its own notes for that; what is left of them after it is ours to do.
    let undone = inherited.undo(call, path, config);
    join(
        [undone.err(), undo_upstream(&call.container_id, None, netns, engine).err()]
            .into_iter()
            .flatten()
            .collect(),
    )
}

/// The primary network's plugins are asked even where nobody noted anything, as the runtime would without us: whatever they
/// hold for the sandbox is to be let go. When there is no primary network, nobody can hold any.
fn del_primary(call: &Call, config: &MetaConfig, netns: &Path) -> Result<(), CniError> {
    let Ok(network) = primary::load(config) else { return Ok(()) };
    let env = PluginEnv {
        container_id: call.container_id.clone(),
        netns: netns.display().to_string(),
        interface: call.interface.clone(),
        args: call.args.to_string(),
        path: call.path_text(),
    };
    let injection = Injection { capability_args: config.runtime_config.clone(), ..Injection::default() };
    for plugin in network.plugins.iter().rev() {
        let binary = find(&plugin.kind, &call.path)?;
        let fields = injection.apply(&network, plugin)?;
        run(&binary, Verb::Del, &env, &Value::Object(fields.0))?;
    }
    Ok(())
}
