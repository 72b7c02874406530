//! A stand-in for kubelet (and for the scheduler): it takes device plugins' registrations, accounts for their devices, answers
//! PodResources, and runs the node's pods through the container runtime, with the real one's orders of events, texts and disorder.
//!
//! Not done, and refused by name when a pod asks for it: see `unsupported`.

mod admission;
pub mod amounts;
mod container_config;
pub mod devices;
mod events;
pub mod exec;
mod finish;
mod machine;
mod node;
mod observed;
mod plan;
mod pod_resources;
mod pods;
mod relist;
pub(crate) mod sandbox_config;
mod scheduler;
mod start;
mod status;
mod unsupported;
mod volumes;
mod worker;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{sync::watch, task::JoinSet};

use self::{amounts::Amounts, devices::DeviceManager, events::Recorder, machine::Machine, relist::Relist};
use crate::{cri::Runtime, random::Random};

/// How a stand-in kubelet is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// The API server, such as `http://127.0.0.1:6443`.
    pub server: String,
    /// Kubelet's folder: sockets, volumes.
    pub root: PathBuf,
    /// The container runtime's socket.
    pub runtime: PathBuf,
    /// Where containers' logs go.
    pub log_root: PathBuf,
    /// Where /proc and /sys are found; `/` on a node.
    pub machine_root: PathBuf,
    /// Decides every random order.
    pub seed: u64,
}

impl Config {
    /// The usual places, with a seed.
    pub fn usual(node: &str, server: &str, seed: u64) -> Self {
        Self {
            node: node.into(),
            server: server.into(),
            root: "/var/lib/kubelet".into(),
            runtime: "/run/containerd/containerd.sock".into(),
            log_root: "/var/log/pods".into(),
            machine_root: "/".into(),
            seed,
        }
    }
}

/// What the parts share.
struct Shared {
    config: Config,
    client: Client,
    runtime: Runtime,
    devices: Arc<DeviceManager>,
    machine: Machine,
    recorder: Recorder,
    /// Why no pod can have a network now, if so.
    network_ready: watch::Sender<Option<String>>,
    relist: watch::Sender<Arc<Relist>>,
    /// What each admitted pod takes of the node, by UID.
    admitted: tokio::sync::Mutex<BTreeMap<String, Amounts>>,
}

/// Ends what is served when its sender is gone.
pub type Stop = watch::Receiver<()>;

/// Waits until the sender is gone.
async fn stopped(mut stop: Stop) {
    while stop.changed().await.is_ok() {}
}

/// A running stand-in kubelet. It ends when this is dropped; its pods run on.
pub struct Kubelet {
    devices: Arc<DeviceManager>,
    tasks: JoinSet<()>,
    _stop: watch::Sender<()>,
}

impl Kubelet {
    /// Starts everything: sockets first, then the node and its pods.
    pub async fn start(config: Config) -> Result<Self> {
        tracing::info!(target: "kubelet", "node {}, seed {}", config.node, config.seed);
        let client = client(&config.server)?;
        let runtime = Runtime::at(&config.runtime)
            .with_context(|| format!("container runtime socket {}", config.runtime.display()))?;
        let random = Random::new(config.seed);
        let devices = DeviceManager::new(&config.root, random.clone())
            .with_context(|| format!("kubelet's folder {}", config.root.display()))?;
        let shared = Arc::new(Shared {
            machine: Machine::read(&config.machine_root),
            recorder: Recorder::new(client.clone(), "kubelet", &config.node),
            network_ready: watch::Sender::new(Some("not looked at yet".into())),
            relist: watch::Sender::default(),
            admitted: tokio::sync::Mutex::default(),
            devices: devices.clone(),
            client: client.clone(),
            runtime,
            config,
        });
        let (stop, stopped) = watch::channel(());
        let root = &shared.config.root;
        devices.serve(stopped.clone()).context("registration socket")?;
        pod_resources::serve(root, devices.clone(), random, stopped.clone())
            .context("PodResources socket")?;
        exec::serve(root, shared.clone(), stopped).context("the stand-in's own socket")?;
        let mut tasks = JoinSet::new();
        tasks.spawn(relist::keep(shared.runtime.clone(), shared.relist.clone()));
        tasks.spawn(node::keep(shared.clone()));
        tasks.spawn(scheduler::run(client));
        tasks.spawn(pods::run(shared));
        Ok(Self { devices, tasks, _stop: stop })
    }

    /// The device manager, for tests that look at its accounts.
    pub fn devices(&self) -> &Arc<DeviceManager> {
        &self.devices
    }

    /// Runs until one of the parts ends, which none does by itself.
    pub async fn serve(&mut self) {
        self.tasks.join_next().await;
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.devices.close();
    }
}

/// A client for a server without authentication.
pub fn client(server: &str) -> Result<Client> {
    let url = server.parse().with_context(|| format!("{server:?} is no URL of an API server"))?;
    client_with(kube::Config::new(url))
}

/// Where the API server of a node says how it is reached.
pub const KUBECONFIG: &str = "/root/.kube/config";

/// A client for the server of a kubeconfig.
///
/// # Errors
/// When there is none, or it cannot be used.
pub async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let name = || kubeconfig.display().to_string();
    let document = Kubeconfig::read_from(kubeconfig).with_context(name)?;
    let config = kube::Config::from_custom_kubeconfig(document, &KubeConfigOptions::default()).await;
    client_with(config.with_context(name)?)
}

fn client_with(mut config: kube::Config) -> Result<Client> {
    // Without TLS none is needed, but the client asks the system for some otherwise, and a bare node has none.
    config.root_cert.get_or_insert_default();
    Client::try_from(config).context("make a client")
}
