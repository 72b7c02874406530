//! The node that is looked at: where things are on it.

use std::path::{Path, PathBuf};

use fairlead_cni::{config::NetworkConfig, install, meta::config::MetaConfig, protocol::error::CniError};
use fairlead_resource_config::config::DEFAULT_PREFIX;

use crate::{places::Places, root::Root};

/// Where things are on the node.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeOptions {
    /// Its folders.
    #[command(flatten)]
    pub places: Places,
    /// The device plugin's configuration of pools; without this /etc/pcidp/config.json, or that in a pod's ConfigMap.
    #[arg(long, value_name = "FILE")]
    pub pools: Option<PathBuf>,
    /// Prefix of resources that name none.
    #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX)]
    pub resource_prefix: String,
}

/// The node that is looked at.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where its root is.
    pub root: Root,
    /// Folder of CNI plugins.
    pub bin: PathBuf,
    /// Folder of CNI configurations.
    pub conf: PathBuf,
    /// kubelet's root.
    pub kubelet_root: PathBuf,
    /// The configuration of pools that was named.
    pub pools: Option<PathBuf>,
    /// Prefix of resources that name none.
    pub resource_prefix: String,
    /// The policy that was named.
    pub policy: Option<PathBuf>,
    /// Its name in the cluster, where that was named.
    pub name: Option<String>,
    /// What our section there says, or the defaults.
    pub section: MetaConfig,
}

/// What a section without options says.
const NO_OPTIONS: &str = r#"{"cniVersion":"1.0.0","name":"fairlead","type":"fairlead"}"#;

impl Node {
    /// By what was asked for, and what is configured on the node itself.
    pub fn new(options: &NodeOptions) -> Self {
        let places = &options.places;
        let root = Root::new(&places.root);
        let section = section(&root, &places.conf_dir).ok().flatten();
        Self {
            section: section.unwrap_or_else(defaults),
            bin: places.bin_dir.clone(),
            conf: places.conf_dir.clone(),
            kubelet_root: places.kubelet_root.clone(),
            pools: options.pools.clone(),
            resource_prefix: options.resource_prefix.clone(),
            policy: None,
            name: None,
            root,
        }
    }
}

#[allow(clippy::expect_used, reason = "a constant, which a test reads")]
pub(crate) fn defaults() -> MetaConfig {
    MetaConfig::parse(NO_OPTIONS).expect("no options are good options")
}

/// Our section in the folder of configurations; none where our file is missing.
///
/// # Errors
/// When it is no good.
pub(super) fn section(root: &Root, conf: &Path) -> Result<Option<MetaConfig>, CniError> {
    let Ok(text) = root.read(conf.join(install::FILE)) else { return Ok(None) };
    let network = NetworkConfig::parse(&text)?;
    let Some(plugin) = network.plugins.first() else { return Ok(None) };
    let mut fields = plugin.fields.clone();
    fields.set("name", network.name.into());
    fields.set("cniVersion", network.version.into());
    MetaConfig::parse(&serde_json::Value::Object(fields.0).to_string()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_of_ours_the_defaults_hold() {
        assert_eq!(defaults().state_dir, Path::new("/var/lib/fairlead"));
    }
}
