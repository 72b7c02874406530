//! `testbed`: the stand-ins as commands.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use fairlead_testbed::{apiserver::ApiServer, cri::Runtime, images, kubectl, kubelet, multus, scenario};
use tokio::signal::unix::{SignalKind, signal};

/// Stand-ins for a cluster on the emulated node.
#[derive(Parser)]
#[command(name = "testbed")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the Kubernetes API: pods, nodes, events, namespaces, network attachment definitions.
    Apiserver(Apiserver),
    /// Runs this node's pods, serves device plugins and PodResources, and schedules.
    Kubelet(Kubelet),
    /// Looks at and changes what the API server has, enters containers.
    Kubectl(kubectl::Kubectl),
    /// Makes container images from what this node has installed, and imports them.
    Images(Images),
    /// Serves the container runtime as Multus does; its variables and standard input say what is wanted.
    Multus,
    /// Plays the demo on this node.
    Demo(Scenario),
    /// Plays the demo's steps and further cases on this node, as tests.
    Tests(Scenario),
    /// Runs the manifests' pods on this node, and the examples with them.
    Deployed(Scenario),
    /// Plays an upgrade from another build of Fairlead, and back, while pods run and start.
    Upgrade(Upgrade),
    /// Plays the DPDK check's jobs, and compares a pod with its host.
    Dpdk(Dpdk),
}

#[derive(Args)]
struct Apiserver {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Writes a kubeconfig here.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

#[derive(Args)]
struct Kubelet {
    /// The node's name.
    #[arg(long)]
    node: String,
    /// The API server.
    #[arg(long, default_value = "http://127.0.0.1:6443")]
    server: String,
    /// Kubelet's folder: sockets, volumes.
    #[arg(long, default_value = "/var/lib/kubelet")]
    root: PathBuf,
    /// The container runtime's socket.
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    cri: PathBuf,
    /// Where containers' logs go.
    #[arg(long, default_value = "/var/log/pods")]
    logs: PathBuf,
    /// Decides every random order; a random one is taken and printed when this is not given.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
struct Images {
    /// Imports the images that Fairlead ships, too.
    #[arg(long)]
    shipped: bool,
    /// Only lists the images that the runtime has.
    #[arg(long)]
    list: bool,
    /// The container runtime's socket.
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    cri: PathBuf,
}

#[derive(Args)]
struct Scenario {
    /// Folder of the manifests that are played.
    #[arg(long)]
    manifests: PathBuf,
    /// Folder for the parts' logs.
    #[arg(long, default_value = "/var/log/fairlead-testbed")]
    logs: PathBuf,
    /// Decides the stand-in kubelet's random orders; a random one is taken when this is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Of the further cases of `tests` only those whose title has this text; may be given again
    #[arg(long)]
    only: Vec<String>,
    /// How many pods of `tests` start at once; a node has room for 60 and more, for which an emulated one takes minutes
    #[arg(long, default_value_t = 12)]
    crowd: usize,
    /// Folder with Kubernetes' own etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kubectl, which then
    /// run in place of the stand-ins; the node needs 5 GiB for them
    #[arg(long)]
    kubernetes: Option<PathBuf>,
}

#[derive(Args)]
struct Upgrade {
    #[command(flatten)]
    scenario: Scenario,
    /// Folder of the programs of another build.
    #[arg(long)]
    older: PathBuf,
}

#[derive(Args)]
struct Dpdk {
    #[command(flatten)]
    scenario: Scenario,
    /// Folder of the jobs' manifests; without it pod and host are compared only.
    #[arg(long)]
    jobs: Option<PathBuf>,
    /// How often pod and host are measured.
    #[arg(long, default_value_t = 1)]
    runs: u16,
    /// Where the comparison's report goes.
    #[arg(long, default_value = "/root/comparison.json")]
    report: PathBuf,
}

impl Scenario {
    /// Ends with the exit code that tells whether all went well.
    async fn play(self, play: impl AsyncFnOnce(&scenario::Options) -> Result<bool>) -> Result<ExitCode> {
        let seed = self.seed.unwrap_or_else(rand::random);
        println!("random orders come from --seed {seed}");
        let options = scenario::Options {
            manifests: self.manifests,
            logs: self.logs,
            seed,
            only: self.only,
            crowd: self.crowd,
            kubernetes: self.kubernetes,
        };
        let good = play(&options).await?;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("testbed: start of the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Apiserver(arguments) => apiserver(arguments).await.map(|()| ExitCode::SUCCESS),
            Command::Kubelet(arguments) => kubelet(arguments).await.map(|()| ExitCode::SUCCESS),
            Command::Kubectl(arguments) => kubectl::run(arguments).await,
            Command::Images(arguments) => images(&arguments).await.map(|()| ExitCode::SUCCESS),
            Command::Multus => {
                if let Some(result) = multus::serve().await? {
                    println!("{result}");
                }
                Ok(ExitCode::SUCCESS)
            }
            Command::Demo(scenario) => scenario.play(scenario::demo).await,
            Command::Tests(scenario) => scenario.play(scenario::tests).await,
            Command::Deployed(scenario) => scenario.play(scenario::deployed).await,
            Command::Upgrade(upgrade) => {
                let play =
                    async |options: &scenario::Options| scenario::upgrade(options, &upgrade.older).await;
                upgrade.scenario.play(play).await
            }
            Command::Dpdk(dpdk) => {
                let (jobs, runs, report) = (dpdk.jobs, dpdk.runs, dpdk.report);
                let play = async |options: &scenario::Options| {
                    let scenario = options.clone();
                    scenario::dpdk(&scenario::DpdkOptions { scenario, jobs, runs, report }).await
                };
                dpdk.scenario.play(play).await
            }
        }
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn apiserver(arguments: Apiserver) -> Result<()> {
    let server = ApiServer::start(arguments.listen)
        .await
        .with_context(|| format!("listen on {}", arguments.listen))?;
    if let Some(path) = &arguments.kubeconfig {
        server.write_kubeconfig(path).with_context(|| format!("write {}", path.display()))?;
    }
    tokio::select! {
        () = server.serve() => Ok(()),
        result = terminated() => result,
    }
}

async fn kubelet(arguments: Kubelet) -> Result<()> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let config = kubelet::Config {
        root: arguments.root,
        runtime: arguments.cri,
        log_root: arguments.logs,
        ..kubelet::Config::usual(&arguments.node, &arguments.server, seed)
    };
    let mut kubelet = kubelet::Kubelet::start(config).await?;
    tokio::select! {
        () = kubelet.serve() => anyhow::bail!("a part of the stand-in kubelet ended by itself, see above"),
        result = terminated() => result,
    }
}

async fn images(arguments: &Images) -> Result<()> {
    if arguments.list {
        return images::list();
    }
    let runtime = Runtime::at(&arguments.cri)?;
    images::import(&runtime).await?;
    if arguments.shipped {
        images::import_shipped(&runtime, env!("CARGO_PKG_VERSION")).await?;
    }
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
async fn terminated() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
