//! Advertises the pools of a node to kubelet.
//!
//! One gRPC server per pool on a unix socket in kubelet's folder; the pools' contents follow the node's devices and the
//! configuration file. [`run`] does it all until it is told to stop.

mod access;
mod allocate;
mod cdi;
mod devinfo;
mod env;
mod files;
mod follow;
mod health;
mod http;
mod in_use;
mod kubelet_error;
mod member;
mod metrics;
mod plan;
mod pods;
mod pool;
mod prefer;
mod prestart;
mod register;
mod reload;
mod service;
mod shared;
mod stop;
#[cfg(test)]
mod tests;

pub mod args;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairlead_resource_config::SysRoot;
use fairlead_resource_config::config::ConfigError;
use fairlead_resource_config::inventory::{InventoryError, Scanner};
use fairlead_resource_config::watch::{Timing, Watcher};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};

pub use register::Registration;
pub use reload::ConfigSource;
pub use stop::Stop;

use self::follow::{Following, Pools};
use self::register::{Folders, folder};
use self::shared::Shared;

/// What the plugin works on.
#[derive(Debug, Clone)]
pub struct Options {
    /// The pools.
    pub config: ConfigSource,
    /// The folders of the node.
    pub node: Node,
    /// Time between two scans of the node's devices when the kernel announces no change.
    pub rescan_interval: Duration,
    /// How kubelet learns of the plugin.
    pub registration: Registration,
    /// Whether device nodes are handed over through CDI.
    pub cdi: bool,
    /// Where CDI specifications go.
    pub cdi_dir: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub http: Option<SocketAddr>,
}

/// The folders of the node, as this process sees them.
#[derive(Debug, Clone)]
pub struct Node {
    /// kubelet's root; sockets are in `device-plugins` and `plugins_registry` below it.
    pub kubelet_root: PathBuf,
    /// Where sysfs is.
    pub sysfs: SysRoot,
    /// Where the proc file system is.
    pub proc: PathBuf,
    /// Where the host's device nodes are. kubelet is told their paths below `/dev` whatever this is.
    pub dev: PathBuf,
    /// Where device-information files go.
    pub devinfo_dir: PathBuf,
    /// Where `fairlead-config` says which PFs it is setting up.
    pub run_dir: PathBuf,
}

impl Node {
    /// The folder that kubelet and its device plugins put their sockets into.
    pub(crate) fn device_plugins(&self) -> PathBuf {
        self.kubelet_root.join("device-plugins")
    }

    /// The folder in which kubelet looks for plugins of any kind.
    pub(crate) fn plugins_registry(&self) -> PathBuf {
        self.kubelet_root.join("plugins_registry")
    }

    /// What tells of changes of the devices: the kernel, if this is the running system.
    fn watcher(&self, rescan: Duration) -> Result<Watcher, StartError> {
        let timing = Timing { rescan, ..Timing::default() };
        // Only a real sysfs counts what the kernel announces.
        let is_real = self.sysfs.path().join("kernel/uevent_seqnum").exists();
        let scanner = if is_real {
            Scanner::live(self.sysfs.clone(), &self.proc)
        } else {
            Scanner::sysfs(self.sysfs.path()).with_proc(&self.proc)
        };
        Ok(Watcher::new(scanner.for_pools(), timing)?)
    }
}

/// Why the plugin cannot start, or go on.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The node's devices cannot be read.
    #[error("cannot read the devices of this node")]
    Inventory(#[source] InventoryError),
    /// The process is out of file descriptors.
    #[error("cannot follow the devices of this node")]
    Monitor(#[from] fairlead_resource_config::watch::MonitorError),
    /// The process may not have another thread.
    #[error("cannot follow the devices of this node")]
    Thread(#[source] std::io::Error),
    /// Following them has ended unexpectedly.
    #[error("following the devices of this node has ended")]
    Watch,
}

/// Advertises the pools until `stop` is given, then ends all streams and removes the sockets. `reload` makes it read the
/// configuration at once.
///
/// A kubelet that is not there or refuses, and a socket that cannot be made, are retried for ever.
///
/// # Errors
/// The configuration or the node's devices cannot be read at the start.
pub async fn run(options: Options, stop: Stop, reload: Arc<Notify>) -> Result<(), StartError> {
    let mut following = Following::start(options.node.watcher(options.rescan_interval)?)?;
    let shared = Arc::new(Shared::new(options));
    let result = serve(&shared, &mut following, &stop, reload).await;
    // Also ends what was begun before an error.
    stop.stop();
    result
}

async fn serve(
    shared: &Arc<Shared>,
    following: &mut Following,
    stop: &Stop,
    reload: Arc<Notify>,
) -> Result<(), StartError> {
    let (config, follower) = reload::first(shared)?;
    pods::first(shared);
    let inventory = tokio::select! {
        inventory = following.first() => inventory?,
        () = stop.stopped() => return Ok(()),
    };
    let node = &shared.options.node;
    let folders = Folders {
        device_plugins: folder::watch(node.device_plugins(), stop.clone()),
        plugins_registry: folder::watch(node.plugins_registry(), stop.clone()),
    };
    let pools = Pools::start(shared.clone(), folders, config, inventory);
    let (sender, configs) = mpsc::channel(1);
    tokio::spawn(follower.run(reload, sender, stop.clone()));
    tokio::spawn(pods::follow(shared.clone(), stop.clone()));
    tokio::spawn(follow::follow_provisioning(shared.clone(), stop.clone()));
    if let Some(address) = shared.options.http {
        tokio::spawn(http::serve(address, shared.clone(), stop.clone()));
    }
    pools.run(following, configs, stop).await
}
