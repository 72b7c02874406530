//! `fairlead doctor`: everything that pods' networks need on a node. Each part gathers facts and then judges them.

mod agent;
mod cni_files;
mod devices;
mod hardware;
mod kubelet;
mod node;
mod programs;
mod records;
mod runtime;
mod system;

use std::{path::PathBuf, process::ExitCode};

use fairlead_resource_config::config::DEFAULT_PREFIX;

use crate::{
    finding::{Finding, Report},
    output::{self, Format},
};

pub use self::node::Node;

/// What `fairlead doctor` is asked.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when nothing is to be done, 1 with warnings or something that could not be looked at, \
                        2 with errors."
)]
pub struct Options {
    /// Where the node's root is: another folder in a container that has it mounted.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Folder of CNI plugins.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
    /// Folder of CNI configurations.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
    /// kubelet's root.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_root: PathBuf,
    /// The device plugin's configuration of pools; without this /etc/pcidp/config.json, or that in a pod's ConfigMap.
    #[arg(long, value_name = "FILE")]
    pub pools: Option<PathBuf>,
    /// Prefix of resources that name none.
    #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX)]
    pub resource_prefix: String,
    /// The provisioning policy; without this /etc/fairlead/provision.yaml, or that in a pod's ConfigMap.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// This node's name in the cluster, by which the policy may choose; without this its host name.
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Tell what is well, too.
    #[arg(long)]
    pub all: bool,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Looks, and prints what was found.
///
/// # Errors
/// When that cannot be printed.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let report = examine(&Node::new(options));
    output::print(options.output, &report, || report.text(options.all))?;
    Ok(report.exit())
}

/// Looks at everything.
pub fn examine(node: &Node) -> Report {
    let devices = devices::Facts::gather(node);
    let mut findings: Vec<Finding> =
        hardware::judge(&hardware::Facts::gather(node, devices.is_for_user_space()));
    findings.extend(devices::judge(&devices));
    let known = devices.pools.get().zip(devices.inventory.as_ref().ok());
    findings.extend(kubelet::judge(&kubelet::Facts::gather(node, known)));
    findings.extend(runtime::judge(&runtime::Facts::gather(node)));
    findings.extend(cni_files::judge(&cni_files::Facts::gather(node)));
    findings.extend(programs::judge(&programs::Facts::gather(node)));
    findings.extend(agent::judge(&agent::Facts::gather(node)));
    findings.extend(records::judge(&records::Facts::gather(node)));
    findings.extend(system::judge(&system::Facts::gather(node)));
    Report { findings }
}

#[cfg(test)]
mod testing;
