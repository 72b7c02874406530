//! The executable as the runtime's network: the pod's primary network and all others that it asks for.

pub mod config;
pub mod multus;
pub mod orphans;
pub mod primary;
pub mod rehearsal;

mod add;
mod check;
mod default_route;
mod del;
mod files;
mod gc;
mod inherited;
mod networks;
mod readiness;
mod report;
mod status;

use crate::{
    agent_protocol::PodRef,
    engine::Engine,
    protocol::{
        env::{Call, Verb},
        error::CniError,
        version,
    },
    say::{say, to_system_log},
};

use self::config::MetaConfig;
pub use self::inherited::{NotedAttachment, NotedSandbox, survey};

/// Does one call, for a runtime that takes us for Multus or knows who we are. What is returned goes to standard output.
///
/// # Errors
/// What the runtime is to be told.
pub fn handle(call: &Call, stdin: &str, is_multus: bool) -> Result<Option<String>, CniError> {
    let mut config = if is_multus { multus::parse(stdin)? } else { MetaConfig::parse(stdin)? };
    version::allows(config.version, call.verb)?;
    if is_multus && call.verb == Verb::Add {
        multus::without_effect(stdin).iter().for_each(say);
    }
    let call = &config.take_over(call);
    if config.system_log {
        to_system_log(about(call, &config));
    }
    match call.verb {
        Verb::Add => {
            readiness::wait(config.readiness_file.as_deref(), readiness::LIMIT)?;
            add::add(call, &config).map(Some)
        }
        Verb::Del => del::del(call, &config).map(|()| None),
        Verb::Status => status::status(call, &config).map(|()| None),
        Verb::Check => check::check(call, &config).map(|()| None),
        Verb::Gc => gc::gc(call, &config).map(|()| None),
        Verb::Version => Ok(None),
    }
}

/// The pod of a call, from what Kubernetes runtimes put into `CNI_ARGS`. A container of another runtime that has networks all
/// the same is taken for a pod of its ID in namespace `default`.
fn pod_of(call: &Call, config: &MetaConfig) -> PodRef {
    let mut pod = PodRef::of(&call.args);
    if config.asked.is_some() {
        for (part, otherwise) in [(&mut pod.namespace, "default"), (&mut pod.name, &call.container_id)] {
            if part.is_empty() {
                otherwise.clone_into(part);
            }
        }
    }
    pod
}

/// What lines in the system's log are about, as long as they are about no network of the pod.
fn about(call: &Call, config: &MetaConfig) -> String {
    match call.container_id.is_empty() {
        true => format!("{} of network {}", call.verb, config.name),
        false => format!("{} of pod {} (sandbox {})", call.verb, pod_of(call, config), call.container_id),
    }
}

fn open_engine(config: &MetaConfig) -> Result<Engine, CniError> {
    Engine::open(&config.state_dir, &config.run_dir)
}
