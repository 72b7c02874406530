//! `fairlead doctor`: everything that pods' networks need on a node. Each part gathers facts and then judges them.

pub(crate) mod agent;
mod bundle;
mod cni_files;
pub(crate) mod devices;
mod hardware;
mod kubelet;
pub(crate) mod node;
mod programs;
mod records;
mod runtime;
mod system;

use std::{path::PathBuf, process::ExitCode};

use crate::{
    finding::{Finding, Report},
    output::{self, Format},
};

pub use self::node::{Node, NodeOptions};

/// What `fairlead doctor` is asked.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when nothing is to be done, 1 with warnings or something that could not be looked at, \
                        2 with errors."
)]
pub struct Options {
    /// Where things are on the node.
    #[command(flatten)]
    pub node: NodeOptions,
    /// The provisioning policy; without this /etc/fairlead/provision.yaml, or that in a pod's ConfigMap.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// This node's name in the cluster, by which the policy may choose; without this its host name.
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Tell what is well, too.
    #[arg(long)]
    pub all: bool,
    /// Write what was found, with the files that it comes from and without secrets, to a file that ends in .tar or .tar.gz.
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Looks, and prints what was found.
///
/// # Errors
/// When that cannot be printed.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let node =
        Node { policy: options.policy.clone(), name: options.node_name.clone(), ..Node::new(&options.node) };
    let devices = devices::Facts::gather(&node);
    let report = examine(&node, &devices);
    output::print(options.output, &report, || report.text(options.all))?;
    if let Some(path) = &options.bundle {
        let files = bundle::write(&node, &report, &devices, path)?;
        output::complain(format_args!(
            "{files} files are in {}: look into it before you pass it on",
            path.display()
        ));
    }
    Ok(report.exit())
}

/// Looks at everything.
fn examine(node: &Node, devices: &devices::Facts) -> Report {
    let mut findings: Vec<Finding> =
        hardware::judge(&hardware::Facts::gather(node, devices.is_for_user_space()));
    findings.extend(devices::judge(devices));
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
pub(crate) mod testing;
#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::{testing::MadeNode, *};
    use crate::finding::Severity;

    #[derive(Parser)]
    struct Call {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn the_jobs_arguments_are_understood() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples/doctor/job.yaml");
        let jobs: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(file).unwrap()).unwrap();
        let container = &jobs[0]["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        let options = Call::try_parse_from(arguments).unwrap().options;
        assert!(options.all && options.node.places.root == std::path::Path::new("/host"));
    }

    #[test]
    fn an_empty_node_is_nowhere_called_good_where_it_cannot_be_seen() {
        let made = MadeNode::new();
        let node = made.node();
        let report = examine(&node, &devices::Facts::gather(&node));
        assert_eq!(report.worst(), Severity::Error);
        let good: Vec<&str> = report
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Ok)
            .map(|finding| finding.id)
            .collect();
        assert_eq!(good, ["system.disk", "system.clock"]);
    }
}
