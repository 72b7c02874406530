//! Keeping the pools as the node and the configuration are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fairlead_resource_config::config::Config;
use fairlead_resource_config::error_text;
use fairlead_resource_config::inventory::{Inventory, InventoryError};
use fairlead_resource_config::pools::{self, Assignment, DeviceId};
use fairlead_resource_config::provision;
use fairlead_resource_config::watch::{Stopper, WatchError, Watcher};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};

use crate::member::Member;
use crate::plan::{self, Memory, Plan, View};
use crate::pool::{Listing, Pool};
use crate::register::{Folders, Server, folder};
use crate::shared::Shared;
use crate::{StartError, Stop, devinfo};

/// How long a pool that is configured no more goes on telling kubelet that it is empty.
const FAREWELL: Duration = Duration::from_secs(3);

type Seen = Result<Arc<Inventory>, WatchError>;

/// What follows the node, on a thread of its own: a scan of thousands of devices takes long enough to hold up an allocation. It
/// ends with this.
pub(crate) struct Following {
    pub(crate) seen: mpsc::Receiver<Seen>,
    stopper: Stopper,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

impl Following {
    pub(crate) fn start(watcher: Watcher) -> Result<Self, StartError> {
        let (sender, seen) = mpsc::channel(1);
        let stopper = watcher.stopper();
        let follow = move || {
            for item in watcher {
                if sender.blocking_send(item).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("node".to_owned()).spawn(follow).map_err(StartError::Thread)?;
        Ok(Self { seen, stopper })
    }

    /// The first look at the node.
    pub(crate) async fn first(&mut self) -> Result<Arc<Inventory>, StartError> {
        loop {
            match self.seen.recv().await {
                Some(Ok(inventory)) => return Ok(inventory),
                Some(Err(WatchError::Scan(error))) => return Err(StartError::Inventory(error)),
                Some(Err(error)) => tracing::warn!(error = error_text(&error), "the node is polled"),
                None => return Err(StartError::Watch),
            }
        }
    }
}

/// A pool that is served.
struct Running {
    pool: Arc<Pool>,
    task: JoinHandle<()>,
    stop: Stop,
    /// When it ends, for one that is configured no more.
    ends: Option<Instant>,
}

/// All pools.
pub(crate) struct Pools {
    shared: Arc<Shared>,
    folders: Folders,
    config: Config,
    inventory: Arc<Inventory>,
    memory: Memory,
    running: BTreeMap<String, Running>,
    /// Held by whoever writes files: they are written in order.
    files: Arc<Mutex<()>>,
    /// When to look again although nothing has changed by then.
    again: Option<Instant>,
    /// Whether there may be CDI specifications of pools that are configured no more.
    to_sweep: bool,
}

impl Pools {
    /// Decides and serves for the first time, and says what in the configuration is odd on this node.
    pub(crate) fn start(
        shared: Arc<Shared>,
        folders: Folders,
        config: Config,
        inventory: Arc<Inventory>,
    ) -> Self {
        let mut pools = Self {
            shared,
            folders,
            config,
            inventory,
            memory: Memory::default(),
            running: BTreeMap::new(),
            files: Arc::default(),
            again: None,
            to_sweep: false,
        };
        pools.decide(true);
        pools
    }

    /// Follows everything until told to stop, then ends all servers.
    pub(crate) async fn run(
        mut self,
        following: &mut Following,
        mut configs: mpsc::Receiver<Config>,
        stop: &Stop,
    ) -> Result<(), StartError> {
        let result = loop {
            let again = self.again;
            let pause = async {
                match again {
                    Some(time) => time::sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            let is_new_config = tokio::select! {
                () = stop.stopped() => break Ok(()),
                seen = following.seen.recv() => match seen {
                    Some(Ok(inventory)) => { self.inventory = inventory; false }
                    Some(Err(error)) => {
                        tracing::error!(error = error_text(&error), "the pools stay as they are");
                        continue;
                    }
                    None => break Err(StartError::Watch),
                },
                Some(config) = configs.recv() => { self.config = config; true }
                () = self.shared.look_again.notified() => false,
                () = pause => false,
            };
            self.decide(is_new_config);
        };
        self.finish().await;
        result
    }

    fn decide(&mut self, is_new_config: bool) {
        let assignment = pools::assign(&self.inventory, &self.config);
        if is_new_config {
            tell_oddities(&assignment);
        }
        let provisioning = provision::in_progress(&self.shared.options.node.run_dir);
        let now = Instant::now();
        let in_use = self.shared.in_use().clone();
        let view = View {
            inventory: &self.inventory,
            config: &self.config,
            in_use: &in_use,
            provisioning: &provisioning,
            now,
        };
        let Plan { pools, again } = plan::plan(&view, assignment, &mut self.memory);
        self.shared.metrics.pools(&pools);
        self.again =
            again.into_iter().chain((!provisioning.is_empty()).then(|| now + plan::PROVISIONING_POLL)).min();
        let old: Vec<String> =
            self.running.keys().filter(|name| !pools.contains_key(*name)).cloned().collect();
        for name in old {
            self.say_farewell(&name, now);
        }
        for (name, listing) in pools {
            self.serve(name, listing, is_new_config);
        }
        self.to_sweep |= is_new_config;
        if let Some(specs) = &self.shared.specs
            && self.to_sweep
            && in_use.is_known()
        {
            self.to_sweep = false;
            let served = self.running.values().map(|running| &running.pool.name);
            let is_in_use = |id: &DeviceId| in_use.resources().iter().any(|name| in_use.contains(name, id));
            if let Err(error) = specs.sweep(served, is_in_use) {
                tracing::warn!(error = error_text(&error), "an old CDI specification stays");
            }
        }
    }

    /// Brings a pool up to date, and serves it if it is new.
    fn serve(&mut self, name: String, listing: Listing, is_new_config: bool) {
        if is_new_config && listing.members.is_empty() {
            tracing::warn!(
                resource = name,
                "pool is empty; `fairlead-config explain` says why for each device"
            );
        }
        if let Some(running) = self.running.get_mut(&name) {
            running.ends = None;
            let (pool, before) = (running.pool.clone(), running.pool.listing());
            if !before.is_described_like(&listing) {
                self.write_files(Some(before), &listing);
            }
            pool.update(listing);
            return;
        }
        self.write_files(None, &listing);
        let pool = Arc::new(Pool::new(listing));
        let stop = Stop::default();
        let server = Server::new(pool.clone(), self.shared.clone());
        self.shared.serves(name.clone(), server.contacts());
        let task = tokio::spawn(server.run(self.folders.clone(), stop.clone()));
        self.running.insert(name, Running { pool, task, stop, ends: None });
    }

    /// Tells kubelet that a pool which is configured no more is empty, and after a while ends it.
    fn say_farewell(&mut self, name: &str, now: Instant) {
        let Some(running) = self.running.get_mut(name) else { return };
        match running.ends {
            None => {
                let resource = running.pool.listing().resource;
                running.pool.update(Listing { resource, members: Arc::default() });
                running.ends = Some(now + FAREWELL);
                self.again = Some(self.again.map_or(now + FAREWELL, |again| again.min(now + FAREWELL)));
            }
            Some(ends) if ends <= now => {
                tracing::info!(resource = name, "pool is served no more");
                running.stop.stop();
                self.shared.serves_no_more(name);
                self.running.remove(name);
            }
            Some(ends) => self.again = Some(self.again.map_or(ends, |again| again.min(ends))),
        }
    }

    /// Writes what others read about the devices of a pool: before kubelet hears of them what the runtime needs, and soon what
    /// meta plugins read, which an allocation makes sure of. `before` is what the pool was when this was done last.
    fn write_files(&self, before: Option<Listing>, listing: &Listing) {
        let (shared, listing, lock) = (self.shared.clone(), listing.clone(), self.files.clone());
        if let Some(specs) = &shared.specs
            && let Err(error) = specs.write(&listing, &shared.options.node)
        {
            tracing::error!(
                error = error_text(&error),
                "the container runtime cannot be told of the devices"
            );
        }
        tokio::spawn(async move {
            let _in_order = lock.lock_owned().await;
            let writing = tokio::task::spawn_blocking(move || {
                let before = before.filter(|before| before.resource == listing.resource);
                let is_written =
                    |member: &Member| before.as_ref().is_some_and(|before| before.has_like(member));
                for member in listing.members.iter().filter(|member| !is_written(member)) {
                    if let Err(error) =
                        devinfo::write(&shared.options.node.devinfo_dir, &listing.resource, member)
                    {
                        tracing::error!(device = %member.id(), error = error_text(&error), "device is not described");
                    }
                }
            });
            if let Err(error) = writing.await {
                tracing::error!(%error, "describing the devices failed");
            }
        });
    }

    async fn finish(self) {
        for running in self.running.values() {
            running.stop.stop();
        }
        for (resource, running) in self.running {
            if let Err(error) = running.task.await {
                tracing::error!(resource, %error, "a pool's server failed");
            }
        }
        drop(self.files.lock().await);
    }
}

/// Has the pools decided anew when the provisioning of a PF begins or ends: it is said in a folder, before the kernel has anything
/// to announce.
pub(crate) async fn follow_provisioning(shared: Arc<Shared>, stop: Stop) {
    let mut changes = folder::watch(shared.options.node.run_dir.clone(), stop.clone());
    loop {
        tokio::select! {
            Ok(()) = changes.changed() => shared.look_again.notify_one(),
            () = stop.stopped() => return,
        }
    }
}

fn tell_oddities(assignment: &Assignment) {
    for overlap in &assignment.overlaps {
        let also = overlap.also.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        tracing::warn!(device = %overlap.id, resource = %overlap.resource, also, "several pools select a device");
    }
    for device in &assignment.unassigned {
        for reason in &device.reasons {
            tracing::debug!(device = %device.id, %reason, "device is not in a pool");
        }
    }
}

impl From<InventoryError> for StartError {
    fn from(error: InventoryError) -> Self {
        Self::Inventory(error)
    }
}
