//! A pool's servers over the life of the plugin: on their sockets, and known to whichever kubelet is there.
//!
//! There are two ways to kubelet, and which one it takes depends on what is mounted: registration at its own socket
//! ([`classic`]), and its plugin watcher, which finds the socket by itself ([`watcher`]).

mod authority;
mod classic;
mod contact;
mod listening;
mod retry;
mod watcher;

pub(crate) mod folder;

use std::sync::Arc;
use std::time::Duration;

use fairlead_resource_config::config::ResourceName;
use tokio::sync::watch;
use tokio::time;

pub(crate) use self::contact::{Contact, OpenList};

use self::folder::Changes;
use crate::Stop;
use crate::pool::Pool;
use crate::shared::Shared;

/// How often a folder is looked at without being told of a change: the net below inotify.
const POLL: Duration = Duration::from_secs(5);

/// How the plugin makes itself known to kubelet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Registration {
    /// Through the plugin watcher where `plugins_registry` exists, as upstream's device plugin decides. A kubelet that does
    /// not come by soon is told at its own socket.
    #[default]
    Auto,
    /// At kubelet's own socket in `device-plugins`.
    Classic,
    /// Through the plugin watcher in `plugins_registry`.
    Watcher,
}

/// What happens in kubelet's folders.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) device_plugins: watch::Receiver<Changes>,
    pub(crate) plugins_registry: watch::Receiver<Changes>,
}

/// One pool's servers.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) pool: Arc<Pool>,
    pub(crate) shared: Arc<Shared>,
    /// Lists that kubelet has open at the socket in `device-plugins`.
    at_classic: Contact,
    /// Lists that kubelet has open at the socket in `plugins_registry`.
    at_watcher: Contact,
}

impl Server {
    pub(crate) fn new(pool: Arc<Pool>, shared: Arc<Shared>) -> Self {
        Self { pool, shared, at_classic: Contact::default(), at_watcher: Contact::default() }
    }

    /// Its contacts with kubelet.
    pub(crate) fn contacts(&self) -> [Contact; 2] {
        [self.at_classic.clone(), self.at_watcher.clone()]
    }

    /// Serves and registers, again and again as kubelet and the sockets come and go, until told to stop.
    pub(crate) async fn run(self, folders: Folders, stop: Stop) {
        let classic = async {
            if self.shared.options.registration != Registration::Watcher {
                self.classic(folders.device_plugins, &stop).await;
            }
        };
        let watcher = async {
            if self.shared.options.registration != Registration::Classic {
                self.watcher(folders.plugins_registry, &stop).await;
            }
        };
        tokio::join!(classic, watcher);
    }

    fn resource(&self) -> &ResourceName {
        &self.pool.name
    }

    /// The file name of the sockets, as upstream names them.
    fn socket_name(&self) -> String {
        format!("{}_{}.sock", self.pool.name.prefix(), self.pool.name.name())
    }
}

/// Waits for the end of `longest`, a change in the folder, a change in the contact with kubelet, or the end.
async fn wait(longest: Duration, changes: &mut watch::Receiver<Changes>, contact: &Contact, stop: &Stop) {
    tokio::select! {
        Ok(()) = changes.changed() => {}
        () = contact.changed() => {}
        () = time::sleep(longest) => {}
        () = stop.stopped() => {}
    }
}
