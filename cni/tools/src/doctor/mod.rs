//! `fairlead doctor`: everything that pods' networks need on a node. Each part gathers facts and then judges them.

mod cni_files;
mod node;
mod programs;

use std::{path::PathBuf, process::ExitCode};

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
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(cni_files::judge(&cni_files::Facts::gather(node)));
    findings.extend(programs::judge(&programs::Facts::gather(node)));
    Report { findings }
}

#[cfg(test)]
mod testing;
