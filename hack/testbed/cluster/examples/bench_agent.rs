//! Plays API server, kubelet and CNI executable for one agent, and prints what it measures: `bench_agent AGENT`. For
//! `hack/bench/agent`.
//!
//! Fails when the agent has more memory than it may.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use fairlead_kubelet_api::pod_resources as api;
use fairlead_kubelet_api::pod_resources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use fairlead_testbed::apiserver::{ApiServer, Options};
use kube::{
    Api, Client, Config,
    api::{DynamicObject, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

type Failure = Box<dyn Error + Send + Sync>;

const NETWORKS: usize = 5000;
const PODS: usize = 250;
const RESOLVES: usize = 1000;
const MOST_MEMORY_KIB: u64 = 20 << 10;
const NODE: &str = "node-1";
const RESOURCE: &str = "example.com/vf";

/// A kubelet whose pods have two VFs each.
struct Kubelet;

fn resources(name: String) -> api::PodResources {
    let number: usize = name.trim_start_matches("pod-").parse().unwrap_or_default();
    let device = |vf: usize| api::ContainerDevices {
        resource_name: RESOURCE.into(),
        device_ids: vec![format!("0000:{:02x}:{:02x}.{vf}", number / 32, number % 32)],
        topology: None,
    };
    let container = api::ContainerResources {
        name: "main".into(),
        devices: vec![device(0), device(1)],
        ..api::ContainerResources::default()
    };
    api::PodResources {
        name,
        namespace: "default".into(),
        containers: vec![container],
        ..api::PodResources::default()
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Kubelet {
    async fn list(
        &self,
        _: Request<api::ListPodResourcesRequest>,
    ) -> Result<Response<api::ListPodResourcesResponse>, Status> {
        let pod_resources = (0..PODS).map(|number| resources(format!("pod-{number}"))).collect();
        Ok(Response::new(api::ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<api::AllocatableResourcesRequest>,
    ) -> Result<Response<api::AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get(
        &self,
        request: Request<api::GetPodResourcesRequest>,
    ) -> Result<Response<api::GetPodResourcesResponse>, Status> {
        let pod_resources = Some(resources(request.into_inner().pod_name));
        Ok(Response::new(api::GetPodResourcesResponse { pod_resources }))
    }
}

/// The agent, which ends with this.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let program = env::args_os().nth(1).map(PathBuf::from).ok_or("usage: bench_agent AGENT")?;
    let dir = tempfile::tempdir()?;
    // Objects are many more than a watch would want to know of.
    let options = Options { history: 100, ..Options::at(([127, 0, 0, 1], 0).into()) };
    let server = ApiServer::start_with(options).await?;
    server.write_kubeconfig(&dir.path().join("kubeconfig"))?;
    fill(&server).await?;
    fs::create_dir_all(dir.path().join("kubelet/pod-resources"))?;
    let listener = UnixListener::bind(dir.path().join("kubelet/pod-resources/kubelet.sock"))?;
    let kubelet = Server::builder().add_service(PodResourcesListerServer::new(Kubelet));
    tokio::spawn(kubelet.serve_with_incoming(UnixListenerStream::new(listener)));

    let start = Instant::now();
    let agent = Agent(start_agent(&program, dir.path())?);
    let socket = dir.path().join("run/agent.sock");
    // It is there when all has been listed.
    while !socket.exists() {
        if start.elapsed() > Duration::from_secs(60) {
            return Err("the agent does not serve".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("networks, pods                 {NETWORKS}, {PODS}");
    println!("first lists                    {:?}", start.elapsed());
    // What came with them has been let go of by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut good = memory(agent.0.id(), "after the first lists")?;

    let mut took = Vec::new();
    for number in 0..RESOLVES {
        let start = Instant::now();
        resolve(&socket, number).await?;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    println!("Resolve p50                    {:?}", at(50));
    println!("Resolve p99                    {:?}", at(99));
    tokio::time::sleep(Duration::from_secs(5)).await;
    good &= memory(agent.0.id(), "after the plans")?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn fill(server: &ApiServer) -> Result<(), Failure> {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let kind = GroupVersionKind::gvk("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition");
    let resource = ApiResource::from_gvk_with_plural(&kind, "network-attachment-definitions");
    let networks: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    for number in 0..NETWORKS {
        networks.create(&PostParams::default(), &serde_json::from_value(network(number))?).await?;
    }
    let pods: Api<DynamicObject> = Api::namespaced_with(
        client,
        "default",
        &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod")),
    );
    for number in 0..PODS {
        pods.create(&PostParams::default(), &serde_json::from_value(pod(number))?).await?;
    }
    Ok(())
}

/// As `kubectl apply` leaves it.
fn network(number: usize) -> Value {
    let kind = if number.is_multiple_of(2) { "sriov" } else { "macvlan" };
    let config = json!({
        "cniVersion": "1.0.0", "name": format!("net-{number}"), "type": kind, "vlan": number % 4094, "mtu": 9000,
        "spoofchk": "off", "trust": "on", "capabilities": { "ips": true, "mac": true },
        "ipam": { "type": "whereabouts", "range": "10.56.217.0/24", "range_start": "10.56.217.100",
            "range_end": "10.56.217.200", "exclude": ["10.56.217.150/32"], "gateway": "10.56.217.1",
            "routes": [{ "dst": "192.168.0.0/16" }, { "dst": "172.16.0.0/12" }] },
    });
    let mut annotations = json!({ "example.com/owner": "team-network", "example.com/ticket": "NET-1234" });
    if kind == "sriov" {
        annotations["k8s.v1.cni.cncf.io/resourceName"] = RESOURCE.into();
    }
    let mut object = json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": format!("net-{number}"), "namespace": "default", "annotations": annotations,
            "labels": { "app.kubernetes.io/managed-by": "deployer", "app.kubernetes.io/part-of": "network" } },
        "spec": { "config": config.to_string() },
    });
    let applied = object.to_string();
    object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = applied.into();
    object
}

/// The networks of a pod: a VF and a macvlan.
fn asked(number: usize) -> String {
    let first = number * 2 % NETWORKS;
    format!("net-{first},net-{}", first + 1)
}

fn pod(number: usize) -> Value {
    let status = |interface: &str, network: &str| json!({ "name": network, "interface": interface, "ips": ["10.0.0.1"], "mac": "02:00:00:00:00:01", "dns": {} });
    let status =
        json!([status("eth0", "cluster"), status("net1", "default/net-0"), status("net2", "default/net-1")]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("pod-{number}"), "namespace": "default", "labels": { "app": "router" },
            "annotations": { "k8s.v1.cni.cncf.io/networks": asked(number),
                "k8s.v1.cni.cncf.io/network-status": format!("{status:#}") } },
        "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "example.com/router:1" }] },
    })
}

fn start_agent(program: &Path, dir: &Path) -> io::Result<Child> {
    let option = |name: &str, path: &str| format!("--{name}={}", dir.join(path).display());
    Command::new(program)
        .args([option("kubeconfig", "kubeconfig"), option("kubelet-root", "kubelet")])
        .args([option("socket", "run/agent.sock"), format!("--node-name={NODE}")])
        .args(["--http-address=127.0.0.1:0", "--log-level=warn"])
        .stdin(Stdio::null())
        .spawn()
}

async fn resolve(socket: &Path, number: usize) -> Result<(), Failure> {
    let name = format!("pod-{}", number % PODS);
    let request = json!({
        "version": 2, "call": "resolve", "containerId": format!("c{number}"), "deadlineMs": 30_000, "interface": "eth0",
        "pod": { "namespace": "default", "name": name, "uid": "" },
        "annotations": { "k8s.v1.cni.cncf.io/networks": asked(number) },
    });
    let body = request.to_string().into_bytes();
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_u32(u32::try_from(body.len())?).await?;
    stream.write_all(&body).await?;
    let length = stream.read_u32().await?;
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    if answer["attachments"].as_array().map(Vec::len) != Some(2) {
        return Err(format!("no plan: {answer}").into());
    }
    Ok(())
}

/// Prints a process's memory; whether it is within its limit.
fn memory(pid: u32, when: &str) -> Result<bool, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let figure = |name: &str| -> Result<u64, Failure> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such figure")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let (now, peak, anonymous) = (figure("VmRSS:")?, figure("VmHWM:")?, figure("RssAnon:")?);
    let verdict = if now <= MOST_MEMORY_KIB { "ok" } else { "TOO MUCH" };
    println!(
        "memory {when:<23} {now} KiB (limit {MOST_MEMORY_KIB}) {verdict}; {anonymous} of it the heap's; at its peak {peak}"
    );
    Ok(now <= MOST_MEMORY_KIB)
}
