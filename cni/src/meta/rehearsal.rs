//! An ADD as far as it goes without touching anything: what operators' tools ask before there is a pod.

use std::path::PathBuf;

use fairlead_kernel::NetnsId;

use super::{add::wish_of, config::MetaConfig, networks::Wanted};
use crate::{
    agent_protocol::{PlannedAttachment, PodRef},
    engine::{self, Engine, Sandbox},
    ipam::Left,
    protocol::{
        env::{Call, CniArgs, Verb},
        error::CniError,
    },
};

/// Stands for the sandbox that there is not.
const SANDBOX: &str = "rehearsal";

/// What an attachment would come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rehearsed {
    /// Its plugins' types.
    pub plugins: Vec<String>,
    /// What the pod asks for and no plugin takes.
    pub vain: Option<String>,
    /// The addresses that are left for it, by set of ranges.
    pub left: Vec<Left>,
}

/// Checks an attachment as an ADD does before it begins: configuration, devices, plugins. `path` has the folders of plugins.
///
/// # Errors
/// What an ADD would say.
pub fn rehearse(
    planned: PlannedAttachment,
    order: usize,
    pod: &PodRef,
    config: &MetaConfig,
    path: &[PathBuf],
    engine: &mut Engine,
) -> Result<Rehearsed, CniError> {
    let wanted = Wanted::of(planned, config)?;
    let call = Call {
        verb: Verb::Add,
        container_id: SANDBOX.into(),
        netns: None,
        interface: wanted.planned.interface.clone(),
        args: CniArgs::default(),
        path: path.to_vec(),
        own_netns: false,
    };
    let sandbox = Sandbox {
        container_id: SANDBOX.into(),
        pod: pod.clone(),
        netns_path: PathBuf::new(),
        netns: NetnsId { dev: 0, inode: 0, cookie: None },
        path: path.to_vec(),
        runtime_network: config.name.clone(),
        alone: None,
    };
    let wish = wish_of(&wanted, order, &call, config);
    let left = engine::rehearse(wish, &sandbox, engine, |kind| wanted.is_in_process(kind, config))?;
    let plugins = wanted.config.plugins.iter().map(|plugin| plugin.kind.clone()).collect();
    Ok(Rehearsed { plugins, vain: wanted.vain_requests(), left })
}
