//! `fairlead-config`: shows a node's devices and explains to which resource each belongs.

mod explain;
mod follow;
mod import_cli;
mod names;
mod output;
mod provision_cli;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use fairlead_resource_config::SysRoot;
use fairlead_resource_config::config::{self, Config, DEFAULT_PREFIX};
use fairlead_resource_config::inventory::{Inventory, Scanner};
use fairlead_resource_config::pools;
use fairlead_resource_config::watch::{Timing, Watcher};
use serde::Serialize;

use crate::explain::Explanation;
use crate::import_cli::ImportArgs;
use crate::provision_cli::PolicyArgs;

/// Shows a node's SR-IOV devices, and which resource each belongs to.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draw the node: PFs with their VFs, drivers, network devices, IOMMU groups, and with --config their pools.
    Show(ShowArgs),
    /// Say for each device which pool it is in, or for each pool what keeps it out; and of an empty pool, why it is.
    #[command(after_help = explain::HELP)]
    Explain {
        /// Only these: PCI addresses (3b:02.1 too), auxiliary devices, network devices.
        #[arg(value_name = "DEVICE")]
        devices: Vec<String>,
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        node: NodeArgs,
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Print what becomes of the node's devices, as it happens.
    Watch {
        #[command(flatten)]
        node: NodeArgs,
        /// Seconds between two looks at the node when the kernel announces nothing.
        #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
        interval: Duration,
        /// Lines for people, or one JSON document per line.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Write what a scan of this node reads as one text file, for bug reports and tests; --tree reads it.
    Record {
        #[command(flatten)]
        node: NodeArgs,
        /// Where to write it; without this, to standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check a configuration of resource pools, without a node.
    Validate {
        /// The same as --config FILE.
        #[arg(value_name = "FILE", required_unless_present = "config", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// Configuration of the resource pools.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Prefix of resources that name none.
        #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX)]
        resource_prefix: String,
    },
    /// Print a JSON schema of configurations.
    Schema,
    /// Print what `apply` would do, and what each step would disturb.
    Plan {
        #[command(flatten)]
        policy: Box<PolicyArgs>,
        #[command(flatten)]
        node: NodeArgs,
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Convert what the SR-IOV operator was told (SriovNetworkNodePolicy, SriovNetwork, SriovIBNetwork) into files of Fairlead.
    Import(ImportArgs),
    /// Set the hardware up as a policy says: VFs, their drivers and settings.
    Apply {
        #[command(flatten)]
        policy: Box<PolicyArgs>,
        /// How long to wait for PFs that the policy names and the node does not have yet, as at boot.
        #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = provision_cli::seconds)]
        wait: Duration,
        /// Exit with success even when something was refused or failed: an init container that fails keeps its pod from
        /// starting. The result says what happened.
        #[arg(long)]
        best_effort: bool,
    },
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Configuration of the resource pools; says which one each device is in.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prefix of resources that name none.
    #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX, requires = "config")]
    resource_prefix: String,
    /// A line for each VF; else those that differ in nothing but their numbers and names share one.
    #[arg(long)]
    all: bool,
    /// A picture in SVG.
    #[arg(long, conflicts_with = "output")]
    svg: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct NodeArgs {
    /// Read a folder laid out as /sys instead of the running system; what only netlink knows (alternative names, addresses,
    /// routes, devlink) from DIR/netlink.json, with iproute2's names, if there is one.
    #[arg(long, value_name = "DIR", conflicts_with = "tree")]
    sysfs: Option<PathBuf>,
    /// Read a file that "fairlead-config record" wrote instead of the running system.
    #[arg(long, value_name = "FILE")]
    tree: Option<PathBuf>,
    /// Folder laid out as /proc: with --sysfs, default routes are read from its net/route and net/ipv6_route, too.
    #[arg(long, value_name = "DIR", requires = "sysfs")]
    proc: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// Configuration of the resource pools.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Prefix of resources that name none.
    #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX)]
    resource_prefix: String,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

fn main() -> ExitCode {
    match run(&Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Show(show) => show.run(),
        Command::Explain { devices, config, node, output } => {
            // A configuration that cannot be used needs no scan to say so.
            let config = config.load()?;
            let inventory = node.scanner()?.for_pools().scan()?;
            let explanation = Explanation::of(&inventory, &config, devices)?;
            print(*output, &explanation, || explanation.text())
        }
        Command::Watch { node, interval, output } => {
            anyhow::ensure!(
                node.tree.is_none(),
                "--tree: a recorded node does not change; show reads it once"
            );
            let timing = Timing { rescan: *interval, ..Timing::default() };
            follow::print(*output, Watcher::new(node.scanner()?, timing)?)
        }
        Command::Record { node, output } => {
            let text = node.scanner()?.record()?;
            match output {
                Some(path) => {
                    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
                }
                None => output::write(&text).context("cannot write"),
            }
        }
        Command::Validate { file, config, resource_prefix } => {
            file.iter().chain(config).try_for_each(|path| validate(path, resource_prefix))
        }
        Command::Schema => {
            let text = serde_json::to_string_pretty(&config::schema()).context("cannot write JSON")?;
            output::write(&(text + "\n")).context("cannot write")
        }
        Command::Plan { policy, node, output } => provision_cli::plan(policy, node, *output),
        Command::Import(args) => import_cli::import(args),
        Command::Apply { policy, wait, best_effort } => match provision_cli::apply(policy, *wait) {
            Err(error) if *best_effort => {
                output::complain(&format!("{error:#}"));
                Ok(())
            }
            result => result,
        },
    }
}

fn validate(path: &Path, resource_prefix: &str) -> anyhow::Result<()> {
    let config = load(path, resource_prefix)?;
    let names: Vec<String> = config.resources.iter().map(|resource| resource.name.to_string()).collect();
    let text = format!("{}: no problems; resources: {}\n", path.display(), names.join(", "));
    output::write(&text).context("cannot write")
}

/// Reads a configuration, and says what is odd about it.
fn load(path: &Path, resource_prefix: &str) -> anyhow::Result<Config> {
    let loaded = config::load(path, resource_prefix)?;
    for warning in &loaded.warnings {
        output::complain(&format!("warning: {warning}"));
    }
    Ok(loaded.config)
}

fn print(format: Format, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let text = match format {
        Format::Text => text(),
        Format::Json => serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n",
    };
    output::write(&text).context("cannot write")
}

impl ShowArgs {
    fn run(&self) -> anyhow::Result<()> {
        let assignment = |inventory: &Inventory| match &self.config {
            None => Ok(None),
            Some(file) => {
                load(file, &self.resource_prefix).map(|config| Some(pools::assign(inventory, &config)))
            }
        };
        let inventory = self.node.scanner()?.scan()?;
        let assignment = assignment(&inventory)?;
        let assignment = assignment.as_ref();
        if self.svg {
            return output::write(&show::svg(&inventory, assignment, self.all)).context("cannot write");
        }
        let document = show::Document { inventory: &inventory, assignment };
        print(self.output, &document, || show::text(&inventory, assignment, self.all))
    }
}

impl NodeArgs {
    /// Whether nothing else than the system that this runs on was asked for.
    fn is_running_system(&self) -> bool {
        self.sysfs.is_none() && self.tree.is_none()
    }

    /// The directory that is read instead of the running system.
    fn sysfs_root(&self) -> Option<SysRoot> {
        self.sysfs.as_ref().map(SysRoot::new)
    }

    fn scanner(&self) -> anyhow::Result<Scanner> {
        let scanner = match (&self.tree, &self.sysfs) {
            (Some(file), _) => Scanner::tree(file)?,
            (None, Some(dir)) => Scanner::sysfs(dir),
            (None, None) => Scanner::system(),
        };
        Ok(match &self.proc {
            Some(proc) => scanner.with_proc(proc),
            None => scanner,
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a number of seconds above zero is wanted".to_owned())
}

impl ConfigArgs {
    fn load(&self) -> anyhow::Result<Config> {
        load(&self.config, &self.resource_prefix)
    }
}
