//! Plays kubelet for one device plugin and prints what it measures: `bench_kubelet PLUGIN SYSFS [OPTION]...`, with further options
//! for the plugin. For `hack/bench/device-plugin`, on a node made by `made_node`.
//!
//! Fails when a figure is over its limit.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use fairlead_kubelet_api::device_plugin as api;
use fairlead_kubelet_api::device_plugin::device_plugin_client::DevicePluginClient;
use fairlead_kubelet_api::device_plugin::registration_server::{Registration, RegistrationServer};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One pool of everything that is on vfio-pci, and one of everything else.
const POOLS: &str = r#"{"resourceList":[
    {"resourceName":"dpdk","selectors":{"drivers":["vfio-pci"]}},
    {"resourceName":"net","selectors":{"drivers":["iavf"]}}]}"#;

/// How many allocations are measured for each pool.
const ALLOCATIONS: usize = 2000;

/// From the start of the process to the last pool's first list.
const LONGEST_START: Duration = Duration::from_millis(300);
const MOST_MEMORY_KIB: u64 = 12 << 10;
const LONGEST_ALLOCATION: Duration = Duration::from_micros(200);

struct Kubelet(mpsc::UnboundedSender<String>);

#[tonic::async_trait]
impl Registration for Kubelet {
    async fn register(&self, request: Request<api::RegisterRequest>) -> Result<Response<api::Empty>, Status> {
        let sent = self.0.send(request.into_inner().endpoint);
        sent.map(|()| Response::new(api::Empty {})).map_err(|_| Status::aborted("over"))
    }
}

/// The plugin, which ends with this.
struct Plugin(Child);

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Failure> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(plugin), Some(sysfs)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bench_kubelet PLUGIN SYSFS [OPTION]...".into());
    };
    let options: Vec<PathBuf> = arguments.collect();
    let dir = tempfile::tempdir()?;
    let sockets = dir.path().join("kubelet/device-plugins");
    fs::create_dir_all(&sockets)?;
    fs::write(dir.path().join("config.json"), POOLS)?;
    make_nodes(&sysfs, &dir.path().join("dev/vfio"))?;
    let (sender, mut endpoints) = mpsc::unbounded_channel();
    let listener = UnixListener::bind(sockets.join("kubelet.sock"))?;
    let kubelet = Server::builder().add_service(RegistrationServer::new(Kubelet(sender)));
    tokio::spawn(kubelet.serve_with_incoming(UnixListenerStream::new(listener)));

    let start = Instant::now();
    let plugin = Plugin(start_plugin(&plugin, &sysfs, dir.path(), &options)?);
    let mut pools = Vec::new();
    while pools.len() < 2 {
        let endpoint = endpoints.recv().await.ok_or("no registration")?;
        pools.push(Pool::open(&sockets.join(endpoint)).await?);
    }
    let started = start.elapsed();
    let mut took = Vec::new();
    for pool in &mut pools {
        took.push(pool.allocate().await?);
    }
    // Long enough for the node to have been read again.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (memory, peak) = (memory(plugin.0.id(), "VmRSS:")?, memory(plugin.0.id(), "VmHWM:")?);

    let devices: usize = pools.iter().map(|pool| pool.ids.len()).sum();
    println!("devices                        {devices}");
    let mut good = devices > 0;
    good &= within("first list after start", started, LONGEST_START);
    for (pool, took) in pools.iter().zip(&mut took) {
        took.sort_unstable();
        let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
        good &= within(&format!("Allocate p50, {}", pool.name), at(50), LONGEST_ALLOCATION);
        println!("Allocate p99, {:<16} {:?}", pool.name, at(99));
    }
    good &= memory <= MOST_MEMORY_KIB;
    let verdict = if memory <= MOST_MEMORY_KIB { "ok" } else { "TOO MUCH" };
    println!("resident memory                {memory} KiB (limit {MOST_MEMORY_KIB}) {verdict}");
    println!("resident memory at its peak    {peak} KiB");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn within(what: &str, took: Duration, limit: Duration) -> bool {
    let verdict = if took <= limit { "ok" } else { "TOO LONG" };
    println!("{what:<30} {took:?} (limit {limit:?}) {verdict}");
    took <= limit
}

/// The VFIO nodes of all groups that the made-up node has.
fn make_nodes(sysfs: &Path, dev: &Path) -> io::Result<()> {
    fs::create_dir_all(dev)?;
    fs::write(dev.join("vfio"), "")?;
    for group in fs::read_dir(sysfs.join("kernel/iommu_groups"))? {
        fs::write(dev.join(group?.file_name()), "")?;
    }
    Ok(())
}

fn start_plugin(program: &Path, sysfs: &Path, dir: &Path, options: &[PathBuf]) -> io::Result<Child> {
    let option = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    Command::new(program)
        .arg(option("config-file", dir.join("config.json")))
        .arg(option("kubelet-root", dir.join("kubelet")))
        .arg(option("sysfs", sysfs.to_owned()))
        .arg(option("dev", dir.join("dev")))
        .arg(option("devinfo-dir", dir.join("devinfo")))
        .arg(option("cdi-dir", dir.join("cdi")))
        .args(["--http-address=none", "--log-level=warn"])
        .args(options)
        .stdin(Stdio::null())
        .spawn()
}

/// One of the kernel's figures for a process's memory, in KiB.
fn memory(pid: u32, figure: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).ok_or(figure)?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

struct Pool {
    name: String,
    client: DevicePluginClient<Channel>,
    ids: Vec<String>,
    _lists: tonic::Streaming<api::ListAndWatchResponse>,
}

impl Pool {
    async fn open(socket: &Path) -> Result<Self, Failure> {
        let mut client = DevicePluginClient::connect(format!("unix://{}", socket.display())).await?;
        let mut lists = client.list_and_watch(api::Empty {}).await?.into_inner();
        let first = lists.message().await?.ok_or("the stream has ended")?;
        let ids = first.devices.into_iter().map(|device| device.id).collect();
        let name = socket.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, client, ids, _lists: lists })
    }

    async fn allocate(&mut self) -> Result<Vec<Duration>, Failure> {
        let mut took = Vec::with_capacity(ALLOCATIONS);
        for id in self.ids.iter().cycle().take(ALLOCATIONS) {
            let request = api::ContainerAllocateRequest { devices_ids: vec![id.clone()] };
            let start = Instant::now();
            self.client.allocate(api::AllocateRequest { container_requests: vec![request] }).await?;
            took.push(start.elapsed());
        }
        Ok(took)
    }
}
