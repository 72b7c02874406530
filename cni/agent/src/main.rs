//! `fairlead-agent`.

use std::{
    env,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use fairlead_agent::{
    agent::Agent,
    http::{self, Observed},
    local::Local,
    server::{self, Limits},
    socket::Socket,
};
use fairlead_cni::{agent_protocol::SOCKET, install};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Plans the networks of this node's pods for the CNI executable and publishes their status.
#[derive(Debug, Parser)]
#[command(name = "fairlead-agent")]
struct Options {
    /// Name of this node in the cluster; the variable NODE_NAME when not given
    #[arg(long)]
    node_name: Option<String>,
    /// Configuration file for the API server; when not given, the variable KUBECONFIG or the pod's service account
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Folder of NetworkAttachmentDefinitions in YAML or JSON files, for a node without a cluster: no API server is asked then
    #[arg(long, conflicts_with = "kubeconfig")]
    nad_dir: Option<PathBuf>,
    /// Only compare what this node's running pods have, by their network-status, with what they would get; print that, and end with 0
    /// when it is the same, else with 1. Nothing is changed, and no socket is made
    #[arg(long, conflicts_with = "nad_dir")]
    shadow: bool,
    /// With --shadow: the options of our section that `fairlead install` is to be given, a JSON object or its file
    #[arg(long, value_name = "OPTIONS", default_value = "{}", requires = "shadow")]
    section: String,
    /// With --shadow: how the answer is printed
    #[arg(long, value_enum, default_value_t = LogFormat::Text, requires = "shadow")]
    output: LogFormat,
    /// Where to listen for the CNI executable
    #[arg(long, default_value = SOCKET)]
    socket: PathBuf,
    /// Where kubelet keeps its files
    #[arg(long, default_value = "/var/lib/kubelet")]
    kubelet_root: PathBuf,
    /// Address for /metrics, /healthz and /readyz, `none` for none; not served when not given
    #[arg(long, value_parser = http_address, default_value = "none")]
    http_address: HttpAddress,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// off, error, warn, info, debug or trace
    #[arg(long, default_value = "info")]
    log_level: LevelFilter,
}

/// How long the socket is left to an agent that this one replaces, while this one's caches are not complete.
const FIRST_LISTS: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Where monitoring and probes are answered, if anywhere.
#[derive(Clone, Copy, Debug)]
struct HttpAddress(Option<SocketAddr>);

fn http_address(text: &str) -> Result<HttpAddress, std::net::AddrParseError> {
    if text == "none" {
        Ok(HttpAddress(None))
    } else {
        text.parse().map(|address| HttpAddress(Some(address)))
    }
}

fn main() -> ExitCode {
    // Answering takes one thread; helpers of the library that resolve names or read files need no heap of their own.
    fairlead_kernel::share_one_heap();
    let options = Options::parse();
    start_log(options.log_format, options.log_level);
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fairlead-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(format: LogFormat, level: LevelFilter) {
    // The client tells each failed request as an error of its own; ours say what it was for.
    let client = if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF };
    let filter = Targets::new().with_default(level).with_target("kube_client", client);
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
}

fn run(options: Options) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if options.shadow {
        return runtime.block_on(shadow(options));
    }
    runtime.block_on(serve(options)).map(|()| ExitCode::SUCCESS)
}

async fn shadow(options: Options) -> Result<ExitCode> {
    let section = install::section(&options.section)?;
    let node = node_name(options.node_name)?;
    // What waits to be published is the serving agent's: without its background work this one touches none of it.
    let own = options.socket.parent().unwrap_or(Path::new("."));
    let (agent, _) = Agent::new(client(options.kubeconfig).await?, node, &options.kubelet_root, own)?;
    let compared = async {
        if let Some(missing) = agent.knows_networks(Instant::now() + FIRST_LISTS).await {
            bail!("{missing}");
        }
        agent.shadow(&section).await.map_err(anyhow::Error::msg)
    };
    let shadow = tokio::select! {
        shadow = compared => shadow?,
        () = agent.watch_networks() => bail!("the cache of networks ended"),
    };
    let text = match options.output {
        LogFormat::Text => shadow.text(),
        LogFormat::Json => serde_json::to_string_pretty(&shadow)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes()).context("standard output")?;
    Ok(if shadow.differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn serve(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    if let Some(folder) = options.nad_dir {
        let agent = Arc::new(Local::new(folder.clone(), &options.kubelet_root)?);
        let (socket, listener) = Socket::bind(&options.socket)?;
        tracing::info!(folder = %folder.display(), socket = %options.socket.display(), version = VERSION, "serving");
        tokio::select! {
            () = server::serve(listener, agent.clone(), Limits::default(), stop) => {}
            () = observed(options.http_address, agent) => {}
        }
        return remove(socket, &options.socket);
    }
    let node = node_name(options.node_name)?;
    let client = client(options.kubeconfig).await?;
    let own = options.socket.parent().unwrap_or(Path::new("."));
    let (agent, background) = Agent::new(client, node.clone(), &options.kubelet_root, own)?;
    let agent = Arc::new(agent);
    let (mut stop, mut background) = (pin!(stop), pin!(background.run(&agent)));
    let mut observed = pin!(observed(options.http_address, agent.clone()));
    tokio::select! {
        () = agent.complete(Instant::now() + FIRST_LISTS) => {}
        () = &mut stop => return Ok(()),
        () = &mut background => bail!("the caches ended"),
        () = &mut observed => {}
    }
    let (socket, listener) = Socket::bind(&options.socket)?;
    tracing::info!(node, socket = %options.socket.display(), version = VERSION, "serving");
    tokio::select! {
        () = server::serve(listener, agent.clone(), Limits::default(), &mut stop) => {}
        () = &mut background => bail!("the caches ended"),
        () = &mut observed => {}
    }
    remove(socket, &options.socket)
}

fn remove(socket: Socket, path: &Path) -> Result<()> {
    socket.remove().with_context(|| format!("socket {} cannot be removed", path.display()))
}

async fn observed<O: Observed>(address: HttpAddress, agent: Arc<O>) {
    match address.0 {
        Some(address) => http::serve(address, agent).await,
        None => std::future::pending().await,
    }
}

fn node_name(given: Option<String>) -> Result<String> {
    given
        .or_else(|| env::var("NODE_NAME").ok())
        .filter(|name| !name.is_empty())
        .context("the node's name is missing: give --node-name or set NODE_NAME")
}

async fn client(kubeconfig: Option<PathBuf>) -> Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(&path);
            let read = read.with_context(|| format!("{} cannot be read", path.display()))?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("{} cannot be used", path.display()))?
        }
        None => Config::infer().await.context(
            "no way to the API server is known: give --kubeconfig, set KUBECONFIG, or run in a pod with a service account",
        )?,
    };
    if config.cluster_url.scheme_str() == Some("http") {
        // No TLS, no certificates: they are loaded all the same, and a minimal image has none.
        config.root_cert = Some(Vec::new());
    }
    // Every call here has a deadline and its own way of trying again.
    config.default_retry = false;
    Client::try_from(config).context("no client for the API server can be made")
}
