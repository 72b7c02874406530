//! The cluster of a scenario: stand-ins, images, Fairlead's parts, and what is done with pods.

use std::{
    cell::Cell,
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{Options, hardware, install, kubernetes, nodestate::NodeState, shell::run};
pub(super) use crate::kubelet::KUBECONFIG;
use crate::kubelet::client;

pub(super) const NODE: &str = "node1";
const SERVER: &str = "http://127.0.0.1:6443";
/// Where the API server listens, be it the stand-in or the real one.
pub(super) const SERVER_PORT: &str = "127.0.0.1:6443";
pub(super) const CNI_CONF: &str = "/etc/cni/net.d";
/// How long anything may take to happen unless it is said otherwise, under software emulation.
const LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);

/// A part of the cluster that runs as a process of its own.
struct Part {
    name: &'static str,
    child: Child,
}

/// The cluster.
pub(super) struct Cluster {
    options: Options,
    client: Client,
    parts: Vec<Part>,
    /// The node before the first pod.
    pub(super) before: NodeState,
    /// How long anything may take to happen.
    pub(super) patience: Duration,
    /// Folder of Fairlead's programs; an empty path for those that the shell would take.
    pub(super) programs: PathBuf,
}

impl Cluster {
    /// Sets everything up, from VFs to a ready node.
    pub(super) async fn start(options: &Options) -> Result<Self> {
        Self::start_from(options, Path::new("")).await
    }

    /// As [`Cluster::start`], with Fairlead's programs from a folder.
    pub(super) async fn start_from(options: &Options, programs: &Path) -> Result<Self> {
        install_cni(&options.manifests, programs)?;
        let mut cluster = Self::start_bare(options).await?;
        cluster.programs = programs.to_owned();
        let result = cluster.start_parts().await;
        cluster.or_stop(result).await
    }

    /// Sets the node up, with API server and kubelet, and nothing of Fairlead but images.
    pub(super) async fn start_bare(options: &Options) -> Result<Self> {
        fs::create_dir_all(&options.logs).context("make the folder of logs")?;
        hardware::prepare()?;
        run_self(&["images"])?;
        make_bridge()?;
        let mut cluster = Self {
            client: client(SERVER)?,
            options: options.clone(),
            parts: Vec::new(),
            before: NodeState::read()?,
            patience: if options.kubernetes.is_some() { kubernetes::LIMIT } else { LIMIT },
            programs: PathBuf::new(),
        };
        let result = cluster.start_kubernetes().await;
        cluster.or_stop(result).await
    }

    /// The cluster, if it started well; the node as it is now is what it is to be like after the last pod.
    async fn or_stop(mut self, started: Result<()>) -> Result<Self> {
        if let Err(error) = started {
            self.show_logs();
            self.stop().await;
            return Err(error);
        }
        self.look_before()?;
        Ok(self)
    }

    /// The node as it is now is what it is to be like after the next pods.
    pub(super) fn look_before(&mut self) -> Result<()> {
        self.before = NodeState::read()?;
        Ok(())
    }

    /// Starts the stand-ins, or what they stand in for.
    async fn start_kubernetes(&mut self) -> Result<()> {
        if self.options.kubernetes.is_some() {
            kubernetes::start(self).await?;
            return self.start_kubelet();
        }
        self.start_part("apiserver", &["apiserver", "--kubeconfig", KUBECONFIG])?;
        self.wait_until("the API server answers", async |cluster| {
            cluster.nodes().list(&ListParams::default()).await.map(|_| Some(())).or(Ok(None))
        })
        .await?;
        self.start_kubelet()
    }

    async fn start_parts(&mut self) -> Result<()> {
        self.start_device_plugin()?;
        self.start_agent()?;
        self.apply("networks.yaml")?;
        for resource in ["intel.com/sriov", "intel.com/sriov_dpdk"] {
            self.wait_for_allocatable(resource, 2).await?;
        }
        self.wait_for_agent().await
    }

    /// Starts kubelet.
    pub(super) fn start_kubelet(&mut self) -> Result<()> {
        if self.options.kubernetes.is_some() {
            let arguments = kubernetes::kubelet_arguments();
            return self.start_part("kubelet", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let seed = self.options.seed.to_string();
        self.start_part("kubelet", &["kubelet", "--node", NODE, "--seed", &seed])
    }

    /// Starts the device plugin with the scenario's pools.
    pub(super) fn start_device_plugin(&mut self) -> Result<()> {
        let config = self.options.manifests.join("pools.json");
        self.start_part("device-plugin", &["--config-file", &config.to_string_lossy()])
    }

    /// Starts the agent.
    pub(super) fn start_agent(&mut self) -> Result<()> {
        self.start_part("agent", &["--node-name", NODE, "--kubeconfig", KUBECONFIG])
    }

    /// Starts the agent, which reaches the API server at another address.
    pub(super) fn start_agent_through(&mut self, port: u16) -> Result<()> {
        let text = fs::read_to_string(KUBECONFIG).context(KUBECONFIG)?;
        let kubeconfig = self.options.logs.join("agent.kubeconfig").display().to_string();
        fs::write(&kubeconfig, text.replace(SERVER_PORT, &format!("127.0.0.1:{port}")))?;
        self.start_part("agent", &["--node-name", NODE, "--kubeconfig", &kubeconfig])
    }

    /// Starts an agent that knows no cluster, only networks of a folder.
    pub(super) fn start_agent_alone(&mut self, networks: &Path) -> Result<()> {
        self.start_part("agent", &["--nad-dir", &networks.display().to_string()])
    }

    /// Waits until the agent answers.
    pub(super) async fn wait_for_agent(&self) -> Result<()> {
        self.wait_until("the agent listens", async |_| {
            Ok(UnixStream::connect(fairlead_agent_socket()).is_ok().then_some(()))
        })
        .await
    }

    /// Waits until the node is as before the first pod.
    pub(super) async fn is_as_before(&self) -> Result<()> {
        // The kernel returns and removes links in the background; kubelet removes dead sandboxes every minute.
        let limit = if self.options.kubernetes.is_some() { 120 } else { 10 };
        self.before.returns(Duration::from_secs(limit)).await
    }

    /// As [`Cluster::is_as_before`], but other containers may run.
    pub(super) async fn is_as_before_but_containers(&mut self) -> Result<()> {
        self.before.take_containers_from(&NodeState::read()?);
        self.is_as_before().await
    }

    /// How many pods are started at once.
    pub(super) fn crowd(&self) -> usize {
        self.options.crowd
    }

    /// What decides what is done at random.
    pub(super) fn seed(&self) -> u64 {
        self.options.seed
    }

    /// Starts a part; its output goes to a log that [`Cluster::show_logs`] shows.
    pub(super) fn start_part(&mut self, name: &'static str, arguments: &[&str]) -> Result<()> {
        let program = match (name, &self.options.kubernetes) {
            ("device-plugin", _) => self.programs.join("fairlead-device-plugin"),
            ("agent", _) => self.programs.join("fairlead-agent"),
            (_, Some(folder)) => folder.join(name),
            (_, None) => std::env::current_exe()?,
        };
        let log = File::options().create(true).append(true).open(self.log(name))?;
        let child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        self.parts.push(Part { name, child });
        Ok(())
    }

    /// Kills a part without giving it a chance to clean up.
    pub(super) async fn kill_part(&mut self, name: &str) -> Result<()> {
        let place = self.parts.iter().position(|part| part.name == name).context("no such part")?;
        self.parts.remove(place).child.kill().await.context("kill")
    }

    /// Asks a part to end, of two of that name the older, and waits until it has.
    pub(super) async fn end_part(&mut self, name: &str) -> Result<()> {
        let place = self.parts.iter().position(|part| part.name == name).context("no such part")?;
        let mut child = self.parts.remove(place).child;
        let id = child.id().context("it has ended by itself")?;
        run("kill", &["-TERM", &id.to_string()])?;
        child.wait().await.map(drop).context("wait")
    }

    /// Makes the node fit for the next case after one that failed and may have left anything.
    pub(super) async fn recover(&mut self) -> Result<()> {
        for name in ["agent", "device-plugin"] {
            while self.kill_part(name).await.is_ok() {}
        }
        let mut kubelets = self.parts.iter_mut().filter(|part| part.name == "kubelet");
        if !kubelets.any(|part| matches!(part.child.try_wait(), Ok(None))) {
            while self.kill_part("kubelet").await.is_ok() {}
            self.start_kubelet()?;
        }
        install_cni(&self.options.manifests, &self.programs)?;
        self.start_parts().await?;
        let pods = self.pods().list(&ListParams::default()).await?;
        let names: Vec<&str> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        self.delete_pods(&names).await
    }

    /// Ends all parts.
    pub(super) async fn stop(&mut self) {
        for mut part in self.parts.drain(..).rev() {
            let _ = part.child.kill().await;
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.options.logs.join(format!("{name}.log"))
    }

    /// Prints the end of every part's log, for a step that failed.
    pub(super) fn show_logs(&self) {
        for part in &self.parts {
            let text = fs::read_to_string(self.log(part.name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            println!("--- end of {} ---", self.log(part.name).display());
            for line in &lines[lines.len().saturating_sub(25)..] {
                println!("{line}");
            }
        }
    }

    /// Uses another client from now on.
    pub(super) fn connect(&mut self, client: Client) {
        self.client = client;
    }

    /// A client of the API server.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// The path of a manifest of the scenario.
    pub(super) fn manifest(&self, name: &str) -> PathBuf {
        self.options.manifests.join(name)
    }

    /// Folder of the scenario's manifests.
    pub(super) fn manifests(&self) -> &Path {
        &self.options.manifests
    }

    /// What kubectl prints: the small one that goes with the stand-ins, or the real one.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        match &self.options.kubernetes {
            Some(folder) => run(&folder.join("kubectl").to_string_lossy(), arguments),
            None => run_self(&[&["kubectl"], arguments].concat()),
        }
    }

    /// Creates what a manifest of the scenario holds.
    pub(super) fn apply(&self, manifest: &str) -> Result<()> {
        self.apply_file(&self.options.manifests.join(manifest))
    }

    /// Creates what a file holds.
    pub(super) fn apply_file(&self, file: &Path) -> Result<()> {
        self.kubectl(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }

    /// Creates an object from a document.
    pub(super) fn apply_document(&self, document: &Value) -> Result<()> {
        let file = self.options.logs.join("document.yaml");
        fs::write(&file, document.to_string())?;
        self.kubectl(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }

    /// Defines a network in namespace `default`.
    pub(super) fn define(&self, name: &str, config: &Value) -> Result<()> {
        self.define_with(name, config, &json!({}))
    }

    /// Defines a network that has annotations.
    pub(super) fn define_with(&self, name: &str, config: &Value, annotations: &Value) -> Result<()> {
        self.apply_document(&json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": {"config": config.to_string()}
        }))
    }

    /// Creates a pod, without the detour of a program: many are to be made at once.
    pub(super) async fn create_pod(&self, document: &Value) -> Result<()> {
        if self.options.kubernetes.is_some() && kubernetes::is_mirror(document) {
            return kubernetes::create_static(document);
        }
        let pod: Pod = serde_json::from_value(document.clone())?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (what, again) = (format!("pod {name} is created"), Cell::new(false));
        self.wait_until(&what, async |cluster| {
            match cluster.pods().create(&PostParams::default(), &pod).await {
                Ok(_) => Ok(Some(())),
                // A busy API server is asked again; it may have made the pod all the same.
                Err(kube::Error::Api(status)) if status.code >= 500 => {
                    again.set(true);
                    Ok(None)
                }
                Err(kube::Error::Api(status)) if again.get() && status.reason == "AlreadyExists" => {
                    Ok(Some(()))
                }
                Err(error) => Err(error).with_context(|| format!("create pod {name}")),
            }
        })
        .await
    }

    /// Capacity and allocatable of every resource of the node, as rows.
    pub(super) async fn resources(&self) -> Result<Vec<(String, String, String)>> {
        let status = self.nodes().get(NODE).await?.status.unwrap_or_default();
        let allocatable = status.allocatable.unwrap_or_default();
        let rows = status.capacity.unwrap_or_default().into_iter().map(|(name, capacity)| {
            let allocatable = allocatable.get(&name).map(|quantity| quantity.0.clone()).unwrap_or_default();
            (name, capacity.0, allocatable)
        });
        Ok(rows.collect())
    }

    pub(super) async fn wait_for_allocatable(&self, resource: &str, count: u32) -> Result<()> {
        self.wait_until(&format!("allocatable {resource} is {count}"), async |cluster| {
            let Ok(rows) = cluster.resources().await else { return Ok(None) };
            let found = rows.iter().any(|(name, _, have)| name == resource && *have == count.to_string());
            Ok(found.then_some(()))
        })
        .await
    }

    /// Waits until a pod runs and is ready.
    ///
    /// # Errors
    /// With the pod's last event when it does not.
    pub(super) async fn wait_for_pod(&self, name: &str) -> Result<Pod> {
        let ready = self
            .wait_until(&format!("pod {name} is ready"), async |cluster| {
                let pod = cluster.pods().get(name).await?;
                let status = pod.status.clone().unwrap_or_default();
                if status.phase.as_deref() == Some("Failed") {
                    bail!("pod {name} failed: {}", status.message.unwrap_or_default());
                }
                let conditions = status.conditions.unwrap_or_default();
                let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
                Ok(ready.then_some(pod))
            })
            .await;
        match ready {
            Ok(pod) => Ok(pod),
            Err(error) => Err(error.context(self.events(name).await.join("; "))),
        }
    }

    /// Texts of the events on a pod, oldest first.
    pub(super) async fn events(&self, pod: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let Ok(list) = events.list(&ListParams::default()).await else { return Vec::new() };
        let of_pod =
            list.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(pod));
        of_pod
            .map(|e| format!("{}: {}", e.reason.unwrap_or_default(), e.message.unwrap_or_default()))
            .collect()
    }

    /// Waits for an event on a pod whose text has a word.
    pub(super) async fn wait_for_event(&self, pod: &str, word: &str) -> Result<String> {
        let found = self
            .wait_until(&format!("an event of pod {pod} says \"{word}\""), async |cluster| {
                Ok(cluster.events(pod).await.into_iter().find(|text| text.contains(word)))
            })
            .await;
        match found {
            Ok(text) => Ok(text),
            Err(error) => Err(error.context(self.events(pod).await.join("; "))),
        }
    }

    /// Deletes pods and waits until they are gone.
    pub(super) async fn delete_pods(&self, names: &[&str]) -> Result<()> {
        for name in names {
            if self.options.kubernetes.is_some() && kubernetes::delete_static(name)? {
                continue;
            }
            let gone = self.pods().delete(name, &DeleteParams::default().grace_period(1)).await;
            gone.map(drop).with_context(|| format!("delete pod {name}"))?;
        }
        for name in names {
            let gone = self
                .wait_until(&format!("pod {name} is gone"), async |cluster| {
                    Ok(cluster.pods().get_opt(name).await?.is_none().then_some(()))
                })
                .await;
            if let Err(error) = gone {
                return Err(error.context(self.events(name).await.join("; ")));
            }
        }
        Ok(())
    }

    /// Runs a command in a pod.
    pub(super) fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        let mut arguments = vec!["exec", pod, "--"];
        arguments.extend(command);
        self.kubectl(&arguments).with_context(|| format!("in pod {pod}"))
    }

    /// What a pod's only container has written.
    pub(super) fn pod_log(&self, pod: &str) -> Result<String> {
        self.kubectl(&["logs", pod])
    }

    /// The value of a variable that a pod's container was given.
    pub(super) fn variable(&self, pod: &str, name: &str) -> Result<String> {
        self.exec(pod, &["sh", "-c", &format!("printf %s \"${name}\"")])
    }

    /// Waits until `check` gives something.
    pub(super) async fn wait_until<T>(
        &self,
        what: &str,
        check: impl AsyncFn(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = check(self).await? {
                return Ok(found);
            }
            if start.elapsed() > self.patience {
                return Err(anyhow!("waited {} s in vain: {what}", self.patience.as_secs()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Where the agent listens by default.
fn fairlead_agent_socket() -> &'static str {
    "/run/fairlead/agent/agent.sock"
}

/// Runs another command of this program.
fn run_self(arguments: &[&str]) -> Result<String> {
    let program = std::env::current_exe()?;
    run(&program.to_string_lossy(), arguments)
}

/// Makes the bridge of the primary network, which the reference plugin would make for the first pod and leave.
fn make_bridge() -> Result<()> {
    if Path::new("/sys/class/net/cni0").exists() {
        return Ok(());
    }
    run("ip", &["link", "add", "cni0", "address", "02:fa:00:00:00:01", "type", "bridge"])?;
    run("ip", &["address", "add", "10.22.0.1/16", "dev", "cni0"])?;
    run("ip", &["link", "set", "cni0", "up"]).map(drop)
}

/// Configures the primary network, and puts Fairlead before it.
fn install_cni(manifests: &Path, programs: &Path) -> Result<()> {
    let name = "10-bridge.conflist";
    fs::create_dir_all(CNI_CONF)?;
    fs::copy(manifests.join(name), Path::new(CNI_CONF).join(name))
        .context("configure the primary network")?;
    install::install(programs)
}
