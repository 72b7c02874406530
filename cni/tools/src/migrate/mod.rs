//! `fairlead migrate --check`: what would change on a node that Multus, sriov-cni and the SR-IOV device plugin serve, and what is in
//! the way. Nothing is changed.

mod devices;
mod multus;
mod networks;
mod place;
mod pods;

use std::{path::PathBuf, process::ExitCode};

use fairlead_cni::{install, meta::config::MetaConfig};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    finding::{Finding, Severity},
    output::{self, Format},
    places::Places,
    root::Root,
};

/// What `fairlead migrate` is asked.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when nothing of what was looked at is in the way, 1 when something is. The shadow of the agent \
                  (fairlead-agent --shadow) compares running pods, deploy/MIGRATION.md tells all steps."
)]
pub struct Options {
    /// Look, and change nothing; there is nothing else that it does.
    #[arg(long, required = true)]
    pub check: bool,
    /// Folders of the node.
    #[command(flatten)]
    pub places: Places,
    /// Configuration of Multus' daemon (thick): daemon-config.json of its ConfigMap.
    #[arg(long, value_name = "FILE")]
    pub multus_config: Option<PathBuf>,
    /// All networks, as `kubectl get network-attachment-definitions -A -o json` prints them.
    #[arg(long, value_name = "FILE")]
    pub networks: Option<PathBuf>,
    /// Configuration of the SR-IOV device plugin, or the ConfigMap that it is in; without this, what kubelet has mounted for a pod.
    #[arg(long, value_name = "FILE")]
    pub pools: Option<PathBuf>,
    /// Prefix of resources that name none: the device plugin's --resource-prefix.
    #[arg(long, value_name = "PREFIX", default_value = fairlead_resource_config::config::DEFAULT_PREFIX)]
    pub resource_prefix: String,
    /// Options of our section, a JSON object or its file; without this, what Multus' configuration comes to.
    #[arg(long, value_name = "OPTIONS")]
    pub section: Option<String>,
    /// Plugins of others that are to make place for ours, as for `fairlead install`.
    #[arg(long, value_name = "LIST", default_value = "none")]
    pub replace: String,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
    /// Options of our section that say what Multus' configuration says; for `fairlead install --section` and `fairlead-agent --section`.
    pub section: Map<String, Value>,
    /// Our configuration, as `fairlead install` would write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflist: Option<Value>,
}

impl Check {
    /// Whether anything is in the way.
    pub fn is_blocked(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let word = match finding.severity {
                Severity::Error => "IN THE WAY",
                Severity::Warning => "otherwise",
                Severity::Unknown => "unknown",
                Severity::Ok | Severity::Info => "",
            };
            text += &format!("{word:<10}  {:<16}  {}\n", finding.id, finding.seen);
            if let Some(remedy) = &finding.remedy {
                text += &format!("{:30}remedy: {remedy}\n", "");
            }
        }
        text += &format!("options of our section: {}\n", Value::Object(self.section.clone()));
        if let Some(conflist) = &self.conflist {
            text += &format!("{}:\n{conflist:#}\n", install::FILE);
        }
        let count = self.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        text + &match count {
            0 => "nothing of what was looked at is in the way\n".to_owned(),
            count => format!("{count} in the way\n"),
        }
    }
}

/// The node, and what our section would say on it.
struct Node<'a> {
    options: &'a Options,
    root: Root,
    /// With the paths that this process sees.
    section: MetaConfig,
}

impl Node<'_> {
    /// Folders of plugins, as this process sees them.
    fn path(&self) -> Vec<PathBuf> {
        let own = [self.root.path(&self.options.places.bin_dir)];
        self.section.bin_dir.clone().into_iter().chain(own).collect()
    }
}

/// Looks, and prints what was found.
///
/// # Errors
/// When an option cannot be used, or the answer not be printed.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let check = examine(options)?;
    output::print(options.output, &check, || check.text())?;
    Ok(ExitCode::from(u8::from(check.is_blocked())))
}

/// Looks at everything.
///
/// # Errors
/// When an option cannot be used.
pub fn examine(options: &Options) -> Result<Check, String> {
    let root = Root::new(&options.places.root);
    let mut check = Check::default();
    let files = multus::Files::gather(&root, options);
    check.findings.extend(files.judge());
    check.section = files.section();
    let given = options.section.clone();
    let section = given.unwrap_or_else(|| Value::Object(check.section.clone()).to_string());
    let meta = install::section(&section).map_err(|error| error.to_string())?;
    check.findings.extend(placed(options, &section, &mut check.conflist)?);
    let node = Node { section: seen(meta, &root), root, options };
    check.findings.extend(networks::look(&node)?);
    check.findings.extend(pods::look(&node));
    check.findings.extend(devices::look(&node));
    check.findings.extend(place::look(&node));
    Ok(check)
}

/// The section, with its folders as this process sees them.
fn seen(mut meta: MetaConfig, root: &Root) -> MetaConfig {
    for path in [&mut meta.conf_dir, &mut meta.cni_dir, &mut meta.cache_dir, &mut meta.state_dir] {
        *path = root.path(&*path);
    }
    meta.bin_dir = meta.bin_dir.map(|dir| root.path(dir));
    meta
}

/// What `fairlead install` would do.
fn placed(options: &Options, section: &str, conflist: &mut Option<Value>) -> Result<Vec<Finding>, String> {
    let text = |path: &PathBuf| path.display().to_string();
    let arguments = [
        ("--root", text(&options.places.root)),
        ("--bin-dir", text(&options.places.bin_dir)),
        ("--conf-dir", text(&options.places.conf_dir)),
        ("--section", section.to_owned()),
        ("--replace", options.replace.clone()),
    ];
    let arguments: Vec<String> =
        arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let preview = install::preview(&arguments)?;
    let mut findings = Vec::new();
    let remedy = "see what it names; `fairlead install` would say the same";
    findings.extend(preview.problems.iter().map(|text| Finding::error("migrate.install", text, remedy)));
    let changes = preview.changes.iter().map(|text| format!("would be placed: {text}"));
    findings.extend(changes.chain(preview.notes).map(|text| Finding::info("migrate.install", text)));
    let lists = [
        ("aliases that would be made, or are there", preview.aliases),
        ("plugins that stay what they are, and are ours only within networks of pods", preview.left),
        ("plugins that would make place, and be kept", preview.replaced),
    ];
    for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        findings.push(Finding::info("migrate.programs", format!("{what}: {}", names.join(", "))));
    }
    *conflist = preview.conflist.and_then(|text| serde_json::from_str(&text).ok());
    Ok(findings)
}

#[cfg(test)]
mod tests;
