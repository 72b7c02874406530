//! What the SR-IOV operator was told, as our own files say it.
//!
//! `SriovNetworkNodePolicy` becomes a provisioning policy and the device plugin's pools, `SriovNetwork` and `SriovIBNetwork` become
//! `NetworkAttachmentDefinition`s. Each key of them is converted or refused by name; all problems are reported at once.

mod fields;
mod networks;
mod node_policy;
mod objects;
mod policy_text;
mod pools;
mod ports;

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

pub use crate::document::{Invalid, Problem, SyntaxError};

use self::node_policy::NodePolicy;
use self::objects::{Files, Object};
use self::ports::Ports;
use crate::provision::policy::NodeIdentity;

/// The prefix of resources that the operator's own manifests choose.
pub const DEFAULT_PREFIX: &str = "openshift.io";

/// What an operator has to know before anything that was imported is used.
pub const STOP_FIRST: &str = "before what this prints is applied, stop the operator and its config daemon: while they run, policies \
    that are deleted set the number of VFs to 0, and two programs would set one PF up. See deploy/MIGRATION.md";

/// A text and where it is from.
#[derive(Debug, Clone)]
pub struct Source {
    /// For messages.
    pub path: PathBuf,
    /// Objects as `kubectl get -o yaml` or `-o json` prints them: one, a list, or several documents.
    pub text: String,
}

/// Which file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The provisioning policy, in YAML.
    Policy,
    /// The device plugin's pools, in JSON.
    Pools,
    /// The networks' definitions, in YAML.
    Networks,
}

/// How it is converted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only policies for this node; without, those of all nodes must be for the same.
    pub node: Option<NodeIdentity>,
    /// Prefix of all resources, as the operator was given it.
    pub resource_prefix: String,
}

/// What was converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The file's text.
    pub text: String,
    /// For people: what is otherwise than with the operator. Each names the file and the object.
    pub notes: Vec<String>,
}

/// Why nothing can be converted.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file is neither JSON nor YAML.
    #[error("{path}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it ceases to be.
        source: SyntaxError,
    },
    /// Files say something that is not converted.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Invalid>),
    /// There is nothing of that kind.
    #[error("{0}")]
    Nothing(String),
}

/// Converts what is in `sources` to the file that is wanted.
///
/// # Errors
/// A file cannot be read, or an object of it says something that is not converted.
pub fn import(sources: &[Source], wanted: Wanted, options: &Options) -> Result<Imported, ImportError> {
    let (mut files, objects) = Files::read(sources)?;
    refuse_foreign(&objects, &mut files);
    let text = match wanted {
        Wanted::Networks => networks::text(&objects, options, &mut files),
        Wanted::Policy | Wanted::Pools => {
            let ids = node_policy::vf_ids(&objects, &mut files);
            let policies = node_policy::read(&objects, &mut files);
            // What else would be said follows from what is wrong so far.
            files = files.without_problems()?;
            let policies = chosen(policies, options.node.as_ref(), &mut files)?;
            let ports = Ports::of(&policies, &mut files);
            if wanted == Wanted::Policy {
                policy_text::text(&ports, &nodes_of(&policies, options.node.as_ref()), &mut files)
            } else {
                pools::text(&policies, &ports, &ids, &options.resource_prefix, &mut files)
            }
        }
    };
    let notes = files.finish()?;
    let text = text.ok_or_else(|| ImportError::Nothing(nothing_there(wanted, &objects)))?;
    Ok(Imported { text, notes })
}

/// Refuses objects that nothing is made of: whoever gives them expects something of them.
fn refuse_foreign(objects: &[Object], files: &mut Files) {
    const KNOWN: &[&str] = &[node_policy::KIND, "SriovNetwork", "SriovIBNetwork"];
    let is_known = |object: &&Object| match object.kind.as_str() {
        "ConfigMap" => object.name == node_policy::IDS,
        kind => KNOWN.contains(&kind),
    };
    for object in objects.iter().filter(|object| !is_known(object)) {
        let allowed = match object.kind.as_str() {
            "OVSNetwork" => {
                "SriovNetwork and SriovIBNetwork: Fairlead has no Open vSwitch networks of its own. Keep the NetworkAttachmentDefinition that \
                 the operator made of it, whose plugin is executed from disk"
            }
            _ => "SriovNetworkNodePolicy, SriovNetwork, SriovIBNetwork, and the ConfigMap supported-nic-ids",
        };
        files.problem(object.file, &object.place, "an object that nothing is made of", allowed);
    }
}

fn nothing_there(wanted: Wanted, objects: &[Object]) -> String {
    let kinds = match wanted {
        Wanted::Networks => "SriovNetwork or SriovIBNetwork",
        Wanted::Policy => "SriovNetworkNodePolicy with VFs",
        Wanted::Pools => "SriovNetworkNodePolicy",
    };
    let mut found: Vec<&str> = objects.iter().map(|object| object.kind.as_str()).collect();
    found.sort_unstable();
    found.dedup();
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    format!("there is no {kinds} in what was given; there is {found}")
}

/// The policies for the node, or all when all are for the same nodes.
fn chosen(
    policies: Vec<NodePolicy>,
    node: Option<&NodeIdentity>,
    files: &mut Files,
) -> Result<Vec<NodePolicy>, ImportError> {
    let selectors = selectors(&policies).join("; ");
    let Some(node) = node else {
        if policies
            .iter()
            .any(|policy| Some(&policy.node_selector) != policies.first().map(|first| &first.node_selector))
        {
            let text = "the policies are for different nodes, and are converted for one kind of node at a time: give --node NAME and its \
                        --label KEY=VALUE; the nodeSelectors are";
            return Err(ImportError::Nothing(format!("{text}: {selectors}")));
        }
        return Ok(policies);
    };
    let (ours, others): (Vec<_>, Vec<_>) = policies.into_iter().partition(|policy| policy.is_for(node));
    for policy in &others {
        let text = format!("is not for node {}: {}", node.name, selector_text(&policy.node_selector));
        files.note(policy.file, &policy.key("nodeSelector"), text);
    }
    if ours.is_empty() && !others.is_empty() {
        let text = format!(
            "no policy is for node {} with the labels given (--label); the nodeSelectors are: {selectors}",
            node.name
        );
        return Err(ImportError::Nothing(text));
    }
    Ok(ours)
}

fn selectors(policies: &[NodePolicy]) -> Vec<String> {
    let mut selectors: Vec<String> =
        policies.iter().map(|policy| selector_text(&policy.node_selector)).collect();
    selectors.sort();
    selectors.dedup();
    selectors
}

fn selector_text(selector: &BTreeMap<String, String>) -> String {
    if selector.is_empty() {
        return "(every node)".to_owned();
    }
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The nodes that the sections of the policy name.
struct Nodes {
    names: Vec<String>,
    labels: BTreeMap<String, String>,
}

fn nodes_of(policies: &[NodePolicy], node: Option<&NodeIdentity>) -> Nodes {
    if let Some(node) = node {
        return Nodes { names: vec![node.name.clone()], labels: BTreeMap::new() };
    }
    let mut labels = policies.first().map(|policy| policy.node_selector.clone()).unwrap_or_default();
    let names = labels.remove(node_policy::HOST_NAME_LABEL).into_iter().collect();
    Nodes { names, labels }
}

#[cfg(test)]
mod tests;
