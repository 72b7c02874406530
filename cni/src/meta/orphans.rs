//! Sandboxes that Multus, or the runtime's library, noted and nobody ever deleted: their notes outlive them, and what their IPAM
//! plugins reserved stays reserved.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use fairlead_kernel::Netns;
use serde::Serialize;
use serde_json::json;

use super::{
    config::MetaConfig,
    inherited::{Inherited, Noted, noted},
};
use crate::{
    agent_protocol::PodRef,
    engine::{Engine, join, undo_upstream},
    protocol::{
        env::{Call, CniArgs, Verb},
        error::CniError,
    },
};

/// Where others note things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Multus' folder (`cniDir`).
    pub multus: PathBuf,
    /// That of the runtime's library.
    pub runtime: PathBuf,
    /// Where plugins are.
    pub plugins: Vec<PathBuf>,
    /// Our state.
    pub state: PathBuf,
    /// Our locks.
    pub run: PathBuf,
}

/// What is certain of a sandbox whose namespace is not known to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its namespace is gone, and the runtime does not know it any more: no DEL will come.
    Dead,
    /// Its namespace is gone, but the runtime may yet delete it.
    Known,
    /// Nobody noted its namespace, or there is nothing that tells what the runtime knows.
    Unclear,
}

/// One such sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Orphan {
    /// Its ID.
    pub container_id: String,
    /// The pod, as far as it was noted.
    pub pod: PodRef,
    /// Network and interface of each attachment.
    pub attachments: Vec<String>,
    /// What is certain.
    pub standing: Standing,
    /// The first interface.
    #[serde(skip)]
    interface: String,
}

impl Orphan {
    /// Whether it is for us to undo what it left.
    pub fn is_dead(&self) -> bool {
        self.standing == Standing::Dead
    }
}

impl std::fmt::Display for Orphan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pod = if self.pod.name.is_empty() { "unknown".into() } else { self.pod.to_string() };
        let what = if self.attachments.is_empty() { "unknown".into() } else { self.attachments.join(", ") };
        let standing = match self.standing {
            Standing::Dead => {
                "its sandbox is gone, and the runtime does not know it any more: `fairlead reconcile` undoes the rest"
            }
            Standing::Known => "its sandbox is gone, but the runtime still knows it, and is to delete it",
            Standing::Unclear => {
                "whether its sandbox exists cannot be told: if the runtime does not have it, remove its notes"
            }
        };
        write!(f, "left by others: pod {pod}, networks {what}, sandbox {}: {standing}", self.container_id)
    }
}

/// Every sandbox that others noted, except those that live and those that we have records of.
///
/// # Errors
/// When a folder cannot be read.
pub fn find(folders: &Folders, engine: &Engine) -> Result<Vec<Orphan>, CniError> {
    let ours: BTreeSet<String> = engine.store.all()?.into_iter().map(|record| record.container_id).collect();
    let mut noted = noted(&folders.multus, &folders.runtime)?;
    noted.retain(|container_id, _| !ours.contains(container_id));
    // A runtime that keeps its notes elsewhere has none here.
    let is_told = folders.runtime.join("results").is_dir();
    Ok(noted.into_iter().filter_map(|(id, noted)| orphan(id, noted, is_told)).collect())
}

/// `None` for a sandbox that lives, or may.
fn orphan(container_id: String, mut noted: Noted, is_told: bool) -> Option<Orphan> {
    noted.multus.sort_by_key(|cache| cache.made);
    let paths: Vec<&Path> = noted.caches().filter_map(|cache| cache.netns.as_deref()).collect();
    // One that cannot be examined may live.
    if paths.iter().any(|path| !Netns::open(path).is_err_and(|error| error.is_gone())) {
        return None;
    }
    // Where the folder is missing too, we may be somewhere that namespaces are not seen from.
    let is_certain = !paths.is_empty() && paths.iter().all(|path| path.parent().is_some_and(Path::is_dir));
    let standing = match (is_certain, noted.runtime.is_empty()) {
        (true, true) if is_told => Standing::Dead,
        (_, false) => Standing::Known,
        _ => Standing::Unclear,
    };
    let arg = |key: &str| noted.caches().find_map(|cache| cache.args.get(key)).unwrap_or_default().to_owned();
    let pod =
        PodRef { namespace: arg("K8S_POD_NAMESPACE"), name: arg("K8S_POD_NAME"), uid: arg("K8S_POD_UID") };
    let attachments = noted.caches().filter_map(|cache| Some((cache.network()?.name, &cache.interface)));
    let attachments = attachments.map(|(network, interface)| format!("{network} ({interface})")).collect();
    let interface = noted.caches().map(|cache| cache.interface.clone()).find(|name| !name.is_empty());
    Some(Orphan {
        container_id,
        pod,
        attachments,
        standing,
        interface: interface.unwrap_or_else(|| "eth0".into()),
    })
}

/// Does for one that is dead what a DEL would have done: its networks' plugins let go of what they hold, the last one first, and
/// its notes go.
///
/// # Errors
/// What failed; the notes stay then.
pub fn undo(orphan: &Orphan, folders: &Folders, engine: &mut Engine) -> Result<(), CniError> {
    let id = &orphan.container_id;
    let _lock = engine.lock_sandbox(id, "reconcile")?;
    // Somebody may have come to it meanwhile.
    if !find(folders, engine)?.contains(orphan) {
        return Ok(());
    }
    let config = json!({
        "cniVersion": "1.0.0", "name": "fairlead", "type": "fairlead", "cniDir": folders.multus,
        "cacheDir": folders.runtime, "stateDir": folders.state, "runDir": folders.run,
    });
    let config = MetaConfig::parse(&config.to_string())?;
    let call = Call {
        verb: Verb::Del,
        container_id: id.clone(),
        netns: None,
        interface: orphan.interface.clone(),
        args: CniArgs::default(),
        path: folders.plugins.clone(),
        own_netns: false,
    };
    let undone = Inherited::read(&call, &config)?.undo(&call, Path::new(""), &config);
    let upstream = undo_upstream(id, None, None, engine);
    join([undone.err(), upstream.err()].into_iter().flatten().collect())
        .map_err(|error| error.context(format_args!("left by others: pod {}, sandbox {id}", orphan.pod)))
}
