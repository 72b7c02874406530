//! `fairlead explain-pod`: would a pod be admitted and attached on this node? The executable's own checks answer, as far as
//! they go without touching anything.

mod documents;
mod networks;
mod resources;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use fairlead_cni::record::Store;
use fairlead_resource_config::pools;
use serde::Serialize;
use serde_json::Value;

use self::{
    documents::{Documents, Pod},
    resources::{Asked, Device, Offers},
};
use crate::{
    doctor::{Node, NodeOptions, devices},
    finding::{Finding, Report, Severity},
    output::{self, Format},
    places::{checkpoint, registered},
};

/// What `fairlead explain-pod` is asked.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when the pod would be admitted and attached, 1 with warnings or something that could not be \
                        looked at, 2 when it would not."
)]
pub struct Options {
    /// A manifest, YAML or JSON: a Pod, or what makes pods (Deployment, StatefulSet, DaemonSet, Job, CronJob); - is standard input.
    pub file: PathBuf,
    /// A file or folder with NetworkAttachmentDefinitions; those in FILE count, too. The node's agent is asked for all others. May be given
    /// again.
    #[arg(long, value_name = "PATH")]
    pub nad: Vec<PathBuf>,
    /// Where things are on the node.
    #[command(flatten)]
    pub node: NodeOptions,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// What is said of one pod.
#[derive(Debug, Serialize)]
struct Explained {
    pod: String,
    verdict: &'static str,
    #[serde(flatten)]
    report: Report,
}

/// Explains, and prints it.
///
/// # Errors
/// When a manifest is none, or nothing can be printed.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let mut documents = Documents::default();
    documents.read(&options.file)?;
    options.nad.iter().try_for_each(|path| documents.read_networks(path))?;
    if documents.pods.is_empty() {
        return Err(format!("{}: it holds no pod, and nothing that makes pods", options.file.display()));
    }
    let node = Node::new(&options.node);
    let found = devices::Facts::gather(&node);
    let offers = offers(&node, &found);
    let all: Vec<Explained> =
        documents.pods.iter().map(|pod| explain(pod, &documents, &node, &offers)).collect();
    output::print(options.output, &all, || all.iter().map(text).collect())?;
    let findings = all.into_iter().flat_map(|one| one.report.findings).collect();
    Ok(Report { findings }.exit())
}

fn explain(pod: &Pod, documents: &Documents, node: &Node, offers: &Offers) -> Explained {
    let mut findings = Vec::new();
    match Asked::of(&pod.spec) {
        Ok(asked) => {
            findings.extend(resources::judge(&asked, offers));
            findings.extend(networks::judge(pod, &documents.networks, &asked, node, offers));
        }
        Err(why) => findings.push(Finding::error("pod.resources", why, "correct it in the manifest")),
    }
    let report = Report { findings };
    let verdict = match report.worst() {
        Severity::Ok | Severity::Info => "it would be admitted and attached",
        Severity::Unknown => "nothing speaks against it, but not all could be looked at",
        Severity::Warning => "it would be admitted and attached, and not all would be as it asks for",
        Severity::Error => "it would not be admitted, or not attached",
    };
    Explained { pod: pod.title.clone(), verdict, report }
}

fn text(one: &Explained) -> String {
    format!("{}: {}\n{}", one.pod, one.verdict, one.report.text(true))
}

/// The node's devices: what the pools have, without what is handed out or not healthy.
fn offers(node: &Node, found: &devices::Facts) -> Offers {
    let (config, inventory) = (found.pools.get()?, found.inventory.as_ref().ok()?);
    let checkpoint = checkpoint(&node.root, &node.kubelet_root).unwrap_or_default();
    let registered = registered(&checkpoint).unwrap_or_default();
    let mut holders = holders(&checkpoint);
    // They tell the pod's name.
    for record in Store::new(&node.root.path(&node.section.state_dir)).all().unwrap_or_default() {
        holders.extend(record.devices().map(|device| (device, format!("pod {}", record.pod))));
    }
    let pools = pools::assign(inventory, config).pools.into_iter();
    let offer = |pool: pools::Pool| {
        let resource = pool.resource.to_string();
        let healthy = registered.get(&resource);
        let device = |device: &pools::Device| {
            let id = device.id.to_string();
            let is_listed = healthy.is_none_or(|healthy| healthy.contains(&id));
            let unlisted =
                || (!is_listed).then(|| "kubelet does not have it, or holds it to be unhealthy".to_owned());
            Device {
                problem: device.problem.clone().or_else(unlisted),
                holder: holders.get(&id).cloned(),
                numa_node: device.numa_node,
                id,
            }
        };
        let devices = pool.devices.iter().map(device).collect();
        (resource, devices)
    };
    Some(pools.map(offer).collect())
}

/// Who has which device, by kubelet's checkpoint.
fn holders(checkpoint: &Value) -> BTreeMap<String, String> {
    let mut holders = BTreeMap::new();
    for entry in checkpoint["Data"]["PodDeviceEntries"].as_array().into_iter().flatten() {
        let pod = format!("the pod with UID {}", entry["PodUID"].as_str().unwrap_or("?"));
        // By NUMA node, or a plain list.
        let ids = match &entry["DeviceIDs"] {
            Value::Object(nodes) => {
                nodes.values().flat_map(|ids| ids.as_array().into_iter().flatten()).collect()
            }
            Value::Array(ids) => ids.iter().collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        holders.extend(ids.into_iter().filter_map(Value::as_str).map(|id| (id.to_owned(), pod.clone())));
    }
    holders
}

#[cfg(test)]
mod tests;
