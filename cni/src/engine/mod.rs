//! The attachment engine: every attachment of a pod goes through here, whether we make it or a plugin on disk does.
//!
//! All attachments are validated before the first is made; each step is recorded before it is taken; whatever fails is undone
//! from the records, by the same code that serves DEL and the sweep after a crash.

mod addresses;
mod attach;
mod check;
mod collect;
pub mod device_info;
mod ipam;
mod neighbours;
mod takeover;
mod undo;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fairlead_kernel::{Netns, NetnsId};

use crate::{
    agent_protocol::{PodRef, Timing},
    boot,
    config::{Fields, Injection, NetworkConfig},
    disk::failed,
    drivers::{Host, Ipv6, Pass, Request, Spec, kernel, sriov::States, takes},
    exec::{PluginEnv, find},
    history::History,
    ipam::Left,
    lock::{self, Lock},
    protocol::{
        env::CniArgs,
        error::{CniError, code},
        result::CniResult,
    },
    record::{Holding, Intents, Record, Store},
    say::say,
};

pub use attach::attach;
pub use check::check;
pub use collect::{collect, forward};
pub use device_info::DeviceInfo;
pub use takeover::undo_upstream;
pub use undo::{
    Evidence, forget, forget_vain_notes, is_gone, join, roll_back, sweep_all, sweep_dead, undo_all,
};

/// How long a call waits for a device or sandbox that another call works on.
const DEVICE_LIMIT: Duration = Duration::from_secs(20);

/// Name of a device's lock.
fn device_lock(device: &str) -> String {
    format!("device-{device}")
}

/// Name of a sandbox's lock.
fn sandbox_lock(container_id: &str) -> String {
    format!("sandbox-{container_id}")
}

/// Who works on an attachment right now, if anybody.
pub fn worker_on(record: &Record, engine: &Engine) -> Option<String> {
    let name = match &record.alone {
        Some(kind) => alone_lock(kind, &record.container_id, &record.interface),
        None => sandbox_lock(&record.container_id),
    };
    lock::holder(&engine.locks, &name)
}

/// Name of the lock of an interface that a plugin makes by itself.
fn alone_lock(kind: &str, container_id: &str, interface: &str) -> String {
    format!("{kind}-{container_id}-{interface}")
}

/// What all attachments of a call share.
pub struct Engine {
    /// The host's side.
    pub host: Host,
    /// Records.
    pub store: Store,
    /// Folder of locks.
    pub locks: PathBuf,
    /// ID of this boot.
    pub boot_id: String,
    /// What upstream's sriov-cni noted.
    pub sriov_cni: States,
    /// What happened, for people.
    pub history: History,
    /// Whether nothing may be changed, not even what a dead sandbox left.
    pub rehearses: bool,
    /// Whether a sandbox may be the host's own namespace (`CNI_NETNS_OVERRIDE`).
    pub own_netns: bool,
    /// How long the parts of this call took.
    pub timings: Vec<Timing>,
}

impl Engine {
    /// An engine for this node.
    ///
    /// # Errors
    /// When the kernel refuses a socket or tells no boot ID.
    pub fn open(state_dir: &Path, run_dir: &Path) -> Result<Self, CniError> {
        let boot_id = boot::id().map_err(|error| failed("read", Path::new(boot::ID), &error))?;
        Ok(Self {
            host: Host::open()?,
            store: Store::new(state_dir),
            locks: run_dir.join("locks"),
            boot_id: boot_id.to_owned(),
            sriov_cni: States::default(),
            history: History::new(state_dir),
            rehearses: false,
            own_netns: false,
            timings: Vec::new(),
        })
    }

    /// Keeps other calls away from a sandbox: the runtime makes one at a time, but may kill one whose plugins still work.
    ///
    /// # Errors
    /// Code 11 when another call holds it for too long.
    pub fn lock_sandbox(&self, container_id: &str, holder: &str) -> Result<Lock, CniError> {
        Lock::take(&self.locks, &sandbox_lock(container_id), holder, DEVICE_LIMIT)
    }

    /// Notes how long a part of the call took; `network` is empty for one of the whole call.
    pub fn took(&mut self, network: &str, step: &str, since: Instant) {
        let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.timings.push(Timing { network: network.to_owned(), step: step.to_owned(), us });
    }

    /// As [`Engine::lock_sandbox`], for one interface that a plugin makes by itself.
    ///
    /// # Errors
    /// As there.
    pub fn lock_alone(
        &self,
        kind: &str,
        container_id: &str,
        interface: &str,
        holder: &str,
    ) -> Result<Lock, CniError> {
        Lock::take(&self.locks, &alone_lock(kind, container_id, interface), holder, DEVICE_LIMIT)
    }

    /// Opens and checks the namespace that the runtime named.
    ///
    /// # Errors
    /// Code 8 when it is missing, no network namespace, or the host's own.
    pub fn sandbox_netns(&self, path: &Path) -> Result<(Netns, NetnsId), CniError> {
        let invalid = |text: String| CniError::new(code::INVALID_NETNS, text);
        let netns =
            Netns::open(path).map_err(|error| invalid(format!("CNI_NETNS: {}", kernel(error).msg)))?;
        let id = netns.id().map_err(kernel)?;
        if !self.own_netns && id == self.host.netns.id().map_err(kernel)? {
            return Err(invalid(format!(
                "CNI_NETNS {} is the host's own network namespace: pods with hostNetwork get no networks",
                path.display()
            )));
        }
        Ok((netns, id))
    }
}

/// What the attachments of one ADD share.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its ID.
    pub container_id: String,
    /// The pod in it.
    pub pod: PodRef,
    /// Path of its network namespace.
    pub netns_path: PathBuf,
    /// The namespace.
    pub netns: NetnsId,
    /// Folders of plugins.
    pub path: Vec<PathBuf>,
    /// Name of the network that the runtime called for.
    pub runtime_network: String,
    /// The plugin that is called by itself, under its upstream name.
    pub alone: Option<String>,
}

/// One attachment to be made.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Network as users know it.
    pub network: String,
    /// Interface inside the pod.
    pub interface: String,
    /// Place in the order of ADD.
    pub order: usize,
    /// Its plugins.
    pub config: NetworkConfig,
    /// What is put into the plugins' configurations.
    pub injection: Injection,
    /// `CNI_ARGS` of the plugins.
    pub args: CniArgs,
    /// Device-information file, where it has a device.
    pub device_info: Option<DeviceInfo>,
    /// What its first plugin goes on from, where that is said by us; what a plugin that is called by itself gets from the
    /// runtime is in its configuration.
    pub previous: Option<CniResult>,
}

/// One attachment, validated.
#[derive(Debug)]
pub struct Planned {
    wish: Wish,
    steps: Vec<PlannedStep>,
    /// Result of a plugin outside of this attachment, where its first step goes on from one.
    previous: Option<CniResult>,
    /// Devices that this attachment needs for itself, locked from here on.
    locks: Vec<Lock>,
}

impl Planned {
    /// What was asked for.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }
}

/// One plugin of an attachment.
#[derive(Debug)]
struct PlannedStep {
    kind: String,
    fields: Fields,
    how: How,
    /// The IPAM plugin of a step that is done in process.
    ipam: Option<ipam::Source>,
    /// What that may come to hold is on disk already.
    is_intended: bool,
    ipv6: Ipv6,
}

impl PlannedStep {
    /// Whether it is done in process and changes what the steps before it made.
    fn is_chained(&self) -> bool {
        matches!(&self.how, How::BuiltIn(spec) if spec.is_chained())
    }

    /// Whether it is done in process and may go on from the result of the steps before it.
    fn follows(&self) -> bool {
        matches!(&self.how, How::BuiltIn(spec) if spec.follows())
    }
}

/// Who does a step.
#[derive(Debug)]
enum How {
    Execute(PathBuf),
    BuiltIn(Spec),
}

/// Validates an attachment: its configuration, its devices, the plugins that it needs. Nothing of the pod or of a device is
/// touched. `built_in` says which plugin types are done in process.
///
/// # Errors
/// What is wrong, led by network and interface.
pub fn plan(
    wish: Wish,
    sandbox: &Sandbox,
    engine: &mut Engine,
    built_in: impl Fn(&str) -> bool,
) -> Result<Planned, CniError> {
    let context = |error: CniError| match sandbox.alone {
        // Whoever called the plugin knows, and may look for upstream's words.
        Some(_) => error,
        None => error.context(format_args!("network {} for interface {}", wish.network, wish.interface)),
    };
    let mut steps = Vec::new();
    for plugin in &wish.config.plugins {
        let fields = wish.injection.apply(&wish.config, plugin).map_err(context)?;
        steps.push(plan_step(&plugin.kind, fields, &wish, sandbox, engine, &built_in).map_err(context)?);
    }
    let previous = previous(&wish, &steps).map_err(context)?;
    Ok(Planned { wish, steps, previous, locks: Vec::new() })
}

/// Notes what in-process IPAM plugins may come to hold for attachments that are about to be made, so that not each of them waits
/// for the disk.
///
/// # Errors
/// Code 5, naming the file.
pub fn intend(planned: &mut [Planned], sandbox: &Sandbox, engine: &Engine) -> Result<(), CniError> {
    let mut intents = Intents { boot_id: engine.boot_id.clone(), holdings: Vec::new() };
    for attachment in planned.iter_mut() {
        for step in &mut attachment.steps {
            let Some(kind) = step.ipam.as_ref().and_then(ipam::Source::in_process) else { continue };
            let (interface, config) = (attachment.wish.interface.clone(), step.fields.clone());
            intents.holdings.push(Holding { interface, kind, config });
            step.is_intended = true;
        }
    }
    if intents.holdings.is_empty() {
        return Ok(());
    }
    engine.store.intend(&sandbox.container_id, (sandbox.netns, &sandbox.netns_path), &intents)
}

/// Validates an attachment that is not to be made: the addresses that are left for it.
///
/// # Errors
/// As [`plan`].
pub fn rehearse(
    wish: Wish,
    sandbox: &Sandbox,
    engine: &mut Engine,
    built_in: impl Fn(&str) -> bool,
) -> Result<Vec<Left>, CniError> {
    engine.rehearses = true;
    let planned = plan(wish, sandbox, engine, built_in)?;
    let mut left = Vec::new();
    for source in planned.steps.iter().filter_map(|step| step.ipam.as_ref()) {
        left.extend(source.left()?);
    }
    Ok(left)
}

/// The result that the first step changes, or goes on from: a plugin that is called by itself gets it from the runtime.
fn previous(wish: &Wish, steps: &[PlannedStep]) -> Result<Option<CniResult>, CniError> {
    if wish.previous.is_some() {
        return Ok(wish.previous.clone());
    }
    let Some(first) = steps.first().filter(|step| step.is_chained() || step.follows()) else {
        return Ok(None);
    };
    match first.fields.get("prevResult") {
        Some(result) => CniResult::parse(result, wish.config.version).map(Some),
        None if first.follows() => Ok(None),
        None => {
            let details =
                format!("{} changes an interface, so it comes after the plugin that makes it", first.kind);
            Err(CniError::new(code::INVALID_CONFIG, without_previous(&first.kind)).details(details))
        }
    }
}

/// Upstream's words.
fn without_previous(kind: &str) -> &'static str {
    match kind {
        "sbr" => "This plugin must be called as chained plugin",
        "vrf" => "missing prevResult from earlier plugin",
        _ => "Required prevResult missing",
    }
}

fn plan_step(
    kind: &str,
    fields: Fields,
    wish: &Wish,
    sandbox: &Sandbox,
    engine: &mut Engine,
    built_in: impl Fn(&str) -> bool,
) -> Result<PlannedStep, CniError> {
    let pass = if built_in(kind) { takes(kind, &fields).err() } else { Some(Pass::NoDriver) };
    if let Some(pass) = pass {
        let binary = find(kind, &sandbox.path).map_err(|error| match pass {
            Pass::Key(key) => error.context(format_args!("key \"{key}\" is not done in process")),
            Pass::NoDriver => error,
        })?;
        let (kind, ipv6) = (kind.to_owned(), Ipv6::default());
        return Ok(PlannedStep {
            kind,
            fields,
            how: How::Execute(binary),
            ipam: None,
            is_intended: false,
            ipv6,
        });
    }
    let request = Request { fields: &fields, interface: &wish.interface, args: &wish.args };
    let spec = validate(kind, request, engine)?;
    let ipam = match spec.is_chained() {
        true => None,
        false => ipam::plan(&fields, &wish.args, wish.config.version, sandbox, built_in)?,
    };
    let ipv6 = Ipv6::parse(&fields).map_err(|error| error.context(kind))?;
    Ok(PlannedStep { kind: kind.to_owned(), fields, how: How::BuiltIn(spec), ipam, is_intended: false, ipv6 })
}

/// Validates a step. A device that a dead sandbox still has is fetched home for it, one that a live one has is said to be its.
fn validate(kind: &str, request: Request<'_>, engine: &mut Engine) -> Result<Spec, CniError> {
    let error = match Spec::validate(kind, request, &mut engine.host) {
        Err(error) if error.code == code::TRY_AGAIN && !engine.rehearses => error,
        validated => return validated,
    };
    let Some(owner) = neighbours::holder(request.fields, engine)? else { return Err(error) };
    if !is_gone(&owner, &engine.boot_id) {
        return Err(error.details(format!(
            "it is still attached to pod {} as {} (sandbox {})",
            owner.pod, owner.interface, owner.container_id
        )));
    }
    for failure in sweep_all(engine) {
        say(failure);
    }
    Spec::validate(kind, request, &mut engine.host)
}

/// The environment of an attachment's plugins.
fn plugin_env(record: &Record, netns: String) -> PluginEnv {
    PluginEnv {
        container_id: record.container_id.clone(),
        netns,
        interface: record.interface.clone(),
        args: record.args.clone(),
        path: record.path.clone(),
    }
}
