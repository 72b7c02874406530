//! `import`: what the SR-IOV operator was told, as files of Fairlead.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use fairlead_resource_config::import::{self, Options, STOP_FIRST, Source, Wanted};
use fairlead_resource_config::provision::policy::NodeIdentity;

use crate::{output, provision_cli};

/// Options of `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The file to print.
    #[arg(value_enum)]
    wanted: File,
    /// What `kubectl get -o yaml` (or json) prints of the operator's objects; - for standard input. The ConfigMap supported-nic-ids may be
    /// among them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only policies that are for this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// A label of this node, by which nodeSelectors choose; may be given again, or several with commas between.
    #[arg(long = "label", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = provision_cli::label, requires = "node")]
    labels: Vec<(String, String)>,
    /// Prefix of all resources: the operator's RESOURCE_PREFIX.
    #[arg(long, value_name = "PREFIX", default_value = import::DEFAULT_PREFIX)]
    resource_prefix: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum File {
    /// The provisioning policy, for `fairlead-config apply`.
    Policy,
    /// config.json of the device plugin.
    Pools,
    /// NetworkAttachmentDefinitions.
    Networks,
}

/// Prints one file on standard output, and on standard error what is otherwise than with the operator.
pub(crate) fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let sources: Vec<Source> = args.files.iter().map(|path| read(path)).collect::<anyhow::Result<_>>()?;
    let wanted = match args.wanted {
        File::Policy => Wanted::Policy,
        File::Pools => Wanted::Pools,
        File::Networks => Wanted::Networks,
    };
    let node = args
        .node
        .as_ref()
        .map(|name| NodeIdentity { name: name.clone(), labels: args.labels.iter().cloned().collect() });
    let options = Options { node, resource_prefix: args.resource_prefix.clone() };
    let imported = import::import(&sources, wanted, &options)?;
    output::complain(&format!("note: {STOP_FIRST}"));
    for note in &imported.notes {
        output::complain(&format!("note: {note}"));
    }
    output::write(&imported.text).context("cannot write")
}

fn read(path: &Path) -> anyhow::Result<Source> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(Source { path: PathBuf::from("standard input"), text });
    }
    text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Source { path: path.to_owned(), text })
}
