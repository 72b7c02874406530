//! The device manager: plugins register, report devices, and are asked to allocate them; who holds what is kept here.

mod merge;
mod plugin;
pub(crate) mod registration;
mod saved;
mod state;
mod watcher;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::watch, task::AbortHandle};
use tonic::Status;

pub use self::{
    merge::{Edits, merge},
    plugin::rpc_text,
    state::{Allocation, Count, Device, Holder},
};
use self::{
    plugin::Plugin,
    saved::Saved,
    state::{Resource, State},
};
use super::{Stop, amounts::container_limits};
use crate::random::Random;

/// A plugin that has been away for longer takes its resource with it.
const PLUGIN_GRACE: Duration = Duration::from_secs(5 * 60);

/// Keeps devices and who holds them.
#[derive(Debug)]
pub struct DeviceManager {
    root: PathBuf,
    random: Random,
    state: Mutex<State>,
    plugins: Mutex<BTreeMap<String, Connected>>,
    connections: AtomicU64,
    following: Mutex<Vec<AbortHandle>>,
    changed: watch::Sender<u64>,
    /// Kubelet admits one pod at a time.
    admission: tokio::sync::Mutex<()>,
}

/// The plugin that speaks for a resource: the one that registered last.
#[derive(Debug)]
struct Connected {
    number: u64,
    plugin: Plugin,
    /// Reads its lists.
    reading: AbortHandle,
}

impl DeviceManager {
    /// Prepares `root`/device-plugins and reads what pods held when a stand-in kubelet last ran here.
    pub fn new(root: &Path, random: Random) -> io::Result<Arc<Self>> {
        let folder = root.join("device-plugins");
        fs::create_dir_all(&folder)?;
        registration::remove_sockets(&folder)?;
        let saved = saved::read(&saved::path(root)).unwrap_or_else(|problem| {
            tracing::error!(target: "devices", "what pods hold is not known: {problem}");
            Saved::default()
        });
        let resources = saved.resources.into_iter().map(|name| (name, Resource::default())).collect();
        Ok(Arc::new(Self {
            root: root.into(),
            random,
            state: Mutex::new(State { holders: saved.holders, resources }),
            plugins: Mutex::default(),
            connections: AtomicU64::new(0),
            following: Mutex::default(),
            changed: watch::Sender::new(0),
            admission: tokio::sync::Mutex::default(),
        }))
    }

    /// Takes registrations on `root`/device-plugins/kubelet.sock until `stop`'s sender is gone.
    pub fn serve(self: &Arc<Self>, stop: Stop) -> io::Result<()> {
        let listener = registration::listen(&self.folder().join("kubelet.sock"))?;
        registration::serve(self.clone(), listener, stop);
        let registry = self.root.join("plugins_registry");
        fs::create_dir_all(&registry)?;
        let task = tokio::spawn(watcher::follow(self.clone(), registry));
        self.following.lock().unwrap_or_else(PoisonError::into_inner).push(task.abort_handle());
        Ok(())
    }

    /// Ends the connections to all plugins, as a kubelet does that ends.
    pub fn close(&self) {
        for task in self.following.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.plugins().clear();
    }

    /// Tells when the counts change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How much there is of each resource that was ever registered.
    pub fn counts(&self) -> BTreeMap<String, Count> {
        self.state().counts()
    }

    /// Notes a pod as being on the node; what it held stays.
    pub fn track(&self, pod: &Pod) {
        let metadata = &pod.metadata;
        let mut state = self.state();
        let holder = state.holders.entry(metadata.uid.clone().unwrap_or_default()).or_default();
        holder.namespace = metadata.namespace.clone().unwrap_or_default();
        holder.name = metadata.name.clone().unwrap_or_default();
        holder.containers = pod.spec.iter().flat_map(|s| &s.containers).map(|c| c.name.clone()).collect();
    }

    /// Allocates what the pod's containers ask for, unless it has that already. An error is kubelet's, word for word.
    pub async fn allocate(&self, pod: &Pod) -> Result<(), String> {
        let _turn = self.admission.lock().await;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        for container in pod.spec.iter().flat_map(|s| &s.containers) {
            let mut wanted: Vec<(String, i128)> = container_limits(container).into_iter().collect();
            // Kubelet goes over a map.
            self.random.shuffle(&mut wanted);
            for (resource, amount) in wanted {
                if self.state().resources.contains_key(&resource) {
                    self.allocate_one(uid, &container.name, &resource, amount).await?;
                }
            }
        }
        Ok(())
    }

    async fn allocate_one(
        &self,
        uid: &str,
        container: &str,
        resource: &str,
        amount: i128,
    ) -> Result<(), String> {
        let needed = usize::try_from(amount / 1000).unwrap_or_default();
        if needed == 0 || self.held(uid, container).iter().any(|a| a.resource == resource) {
            return Ok(());
        }
        let mut free = self.state().free(resource, needed)?;
        self.random.shuffle(&mut free);
        let plugin =
            self.plugin(resource).ok_or_else(|| format!("cannot allocate unregistered device {resource}"))?;
        let ids = self.choose(&plugin, resource, free, needed).await?;
        tracing::info!(target: "devices", "allocating {resource} {ids:?} to container {container} of pod {uid}");
        let response = plugin.allocate(&ids).await.map_err(|status| rpc_text(&status))?;
        let mut state = self.state();
        let devices = state.topology(resource, &ids);
        let allocation =
            Allocation { container: container.into(), resource: resource.into(), devices, response };
        state.holders.entry(uid.into()).or_default().allocations.push(allocation);
        self.save(&state);
        Ok(())
    }

    /// The plugin's preferred ones as far as they are free, the rest from the others; in random order. A plugin that fails to say
    /// what it prefers fails the pod.
    async fn choose(
        &self,
        plugin: &Plugin,
        resource: &str,
        mut free: Vec<String>,
        needed: usize,
    ) -> Result<Vec<String>, String> {
        if plugin.options.get_preferred_allocation_available {
            let preferred = plugin.preferred(&free, needed).await.map_err(|status| {
                format!("device plugin GetPreferredAllocation rpc failed with err: {}", rpc_text(&status))
            })?;
            if preferred.len() != needed {
                tracing::warn!(target: "devices", "{resource}: preference {preferred:?} is not {needed} of {free:?}");
            }
            // Stable: those that are preferred stay in random order, as kubelet's sets are.
            free.sort_by_key(|id| !preferred.contains(id));
        }
        free.truncate(needed);
        self.random.shuffle(&mut free);
        Ok(free)
    }

    /// What the container's devices bring with them.
    pub fn edits(&self, uid: &str, container: &str) -> Edits {
        let mut held = self.held(uid, container);
        // Kubelet goes over a map.
        self.random.shuffle(&mut held);
        let (edits, dropped) = merge(held.iter().map(|a| &a.response));
        for what in dropped {
            tracing::error!(target: "devices", "container {container} of pod {uid}: {what}");
        }
        edits
    }

    /// Calls PreStartContainer of the plugins that want it, before every start of the container.
    pub async fn pre_start(&self, uid: &str, container: &str) -> Result<(), Status> {
        for allocation in self.held(uid, container) {
            if let Some(plugin) = self.plugin(&allocation.resource).filter(|p| p.options.pre_start_required) {
                let mut ids: Vec<String> = allocation.devices.into_keys().collect();
                self.random.shuffle(&mut ids);
                plugin.pre_start(&ids).await?;
            }
        }
        Ok(())
    }

    /// The pod is over, its devices are free. It stays among the pods on the node.
    pub fn release(&self, uid: &str) {
        let mut state = self.state();
        if let Some(holder) = state.holders.get_mut(uid) {
            holder.allocations.clear();
            self.save(&state);
        }
    }

    /// The pod is gone from the node.
    pub fn forget(&self, uid: &str) {
        let mut state = self.state();
        if state.holders.remove(uid).is_some() {
            self.save(&state);
        }
    }

    /// The pods on the node, and those that had devices when it was last run here.
    pub fn holders(&self) -> BTreeMap<String, Holder> {
        self.state().holders.clone()
    }

    /// Devices that could be allocated, held or not, with their NUMA nodes.
    pub fn allocatable(&self) -> BTreeMap<String, BTreeMap<String, Option<Vec<i64>>>> {
        let state = self.state();
        let healthy = |r: &Resource| {
            r.devices.iter().filter(|(_, d)| d.healthy).map(|(id, d)| (id.clone(), d.numa.clone())).collect()
        };
        state.resources.iter().map(|(name, resource)| (name.clone(), healthy(resource))).collect()
    }

    /// A registration: dials the plugin; from then on it speaks for the resource. An earlier one is not told to go.
    async fn connect(self: &Arc<Self>, resource: &str, socket: &Path) -> Result<(), Status> {
        let plugin = Plugin::connect(socket).await?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let mut plugins = self.plugins();
        self.state().resources.entry(resource.into()).or_default().connected = true;
        let (manager, name, reader) = (self.clone(), resource.to_string(), plugin.clone());
        let task = tokio::spawn(async move { manager.follow(&name, number, reader).await });
        plugins.insert(resource.into(), Connected { number, plugin, reading: task.abort_handle() });
        self.following.lock().unwrap_or_else(PoisonError::into_inner).push(task.abort_handle());
        Ok(())
    }

    /// Reads the plugin's lists until its stream ends. Kubelet then hangs up on whichever plugin speaks for the resource by
    /// now (seen in its sources from 1.25 to 1.36): a new plugin must notice that its stream has ended, and register again.
    async fn follow(self: &Arc<Self>, resource: &str, number: u64, plugin: Plugin) {
        let end = self.read_lists(resource, &plugin).await;
        tracing::warn!(target: "devices", "{resource}: a plugin's list has ended ({end})");
        self.disconnect(resource, number);
    }

    /// Hangs up on the plugin of a resource, from the task that reads the lists of plugin `by` (0: none).
    fn disconnect(self: &Arc<Self>, resource: &str, by: u64) {
        let Some(last) = self.plugins().remove(resource) else { return };
        if last.number != by {
            last.reading.abort();
        }
        self.state().disconnect(resource);
        tracing::warn!(target: "devices", "{resource}: no plugin; all its devices are unhealthy");
        self.notify();
        let (manager, name) = (self.clone(), resource.to_string());
        let task = tokio::spawn(async move {
            tokio::time::sleep(PLUGIN_GRACE).await;
            if manager.state().expire(&name) {
                tracing::warn!(target: "devices", "{name}: plugin has not come back, resource removed");
                manager.notify();
            }
        });
        self.following.lock().unwrap_or_else(PoisonError::into_inner).push(task.abort_handle());
    }

    /// Every list counts, also that of a plugin which another one has followed.
    async fn read_lists(&self, resource: &str, plugin: &Plugin) -> String {
        let mut lists = match plugin.list_and_watch().await {
            Ok(lists) => lists,
            Err(status) => return rpc_text(&status),
        };
        loop {
            match lists.message().await {
                Ok(Some(list)) => {
                    let mut state = self.state();
                    state.report(resource, &list.devices);
                    self.save(&state);
                    drop(state);
                    let healthy = self.counts().get(resource).map_or(0, |c| c.allocatable);
                    tracing::info!(target: "devices", "{resource}: {} devices, {healthy} healthy", list.devices.len());
                    self.notify();
                }
                Ok(None) => return "EOF".into(),
                Err(status) => return rpc_text(&status),
            }
        }
    }

    /// The plugin that speaks for a resource.
    fn plugin(&self, resource: &str) -> Option<Plugin> {
        self.plugins().get(resource).map(|connected| connected.plugin.clone())
    }

    fn held(&self, uid: &str, container: &str) -> Vec<Allocation> {
        let state = self.state();
        let allocations = state.holders.get(uid).map_or(&[][..], |h| &h.allocations);
        allocations.iter().filter(|a| a.container == container).cloned().collect()
    }

    fn save(&self, state: &State) {
        if let Err(error) = saved::write(&saved::path(&self.root), &state.holders, state.healthy()) {
            tracing::error!(target: "devices", "save what pods hold: {error}");
        }
    }

    fn notify(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    fn folder(&self) -> PathBuf {
        self.root.join("device-plugins")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plugins(&self) -> MutexGuard<'_, BTreeMap<String, Connected>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
