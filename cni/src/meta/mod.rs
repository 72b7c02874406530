//! The executable as the runtime's network: the pod's primary network and all others that it asks for.

pub mod config;
pub mod primary;

mod add;
mod check;
mod default_route;
mod del;
mod files;
mod gc;
mod networks;
mod report;

use crate::{
    agent_protocol::PodRef,
    engine::Engine,
    protocol::{
        env::{Call, Verb},
        error::{CniError, code},
        version,
    },
};

use self::config::MetaConfig;

/// Does one call. What is returned goes to standard output.
///
/// # Errors
/// What the runtime is to be told.
pub fn handle(call: &Call, stdin: &str) -> Result<Option<String>, CniError> {
    let config = MetaConfig::parse(stdin)?;
    version::allows(config.version, call.verb)?;
    match call.verb {
        Verb::Add => add::add(call, &config).map(Some),
        Verb::Del => del::del(call, &config).map(|()| None),
        Verb::Status => status(&config).map(|()| None),
        Verb::Check => check::check(call, &config).map(|()| None),
        Verb::Gc => gc::gc(call, &config).map(|()| None),
        Verb::Version => Ok(None),
    }
}

/// Whether an ADD could succeed: is there a primary network? The agent does not count: when it is restarted, the node must not
/// become unready.
fn status(config: &MetaConfig) -> Result<(), CniError> {
    // A name may be that of a definition, which only the agent knows.
    if config.policy.cluster_network.as_ref().is_some_and(|reference| !reference.contains('/')) {
        return Ok(());
    }
    primary::load(config).map(drop).map_err(|error| CniError { code: code::NOT_AVAILABLE, ..error })
}

/// The pod of a call, from what Kubernetes runtimes put into `CNI_ARGS`.
fn pod_of(call: &Call) -> PodRef {
    let arg = |key: &str| call.args.get(key).unwrap_or_default().to_owned();
    PodRef { namespace: arg("K8S_POD_NAMESPACE"), name: arg("K8S_POD_NAME"), uid: arg("K8S_POD_UID") }
}

fn open_engine(config: &MetaConfig) -> Result<Engine, CniError> {
    Engine::open(&config.state_dir, &config.run_dir)
}
