//! The configuration of resource pools: the file of the SR-IOV network device plugin.
//!
//! JSON or YAML; keys are matched without regard to case. All problems of a file are reported at once. What upstream passes
//! over in silence (unknown keys, selectors that its device type does not have, entries of a list that never match) is a
//! warning or a problem here.

mod functions;
mod keys;
mod manifest;
mod name;
mod offer;
mod resource;
mod schema;
mod selectors;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

pub use self::functions::Functions;
pub use self::name::ResourceName;
pub use self::offer::{LinkDown, NodeAccess, Offer, Preference, VfioMode};
pub use self::schema::schema;
pub use self::values::{DeviceType, PKey, VdpaType};
pub use crate::document::{Invalid, Problem, SyntaxError};

use crate::document::{self, Node, Place, Report};
use crate::pci::{PciAddress, PciId};

/// The prefix of resources that name none, as upstream.
pub const DEFAULT_PREFIX: &str = "intel.com";

/// The pools of a node, in the order that decides between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// One per resource.
    pub resources: Vec<Resource>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The name that pods ask for.
    pub name: ResourceName,
    /// Which kind of device.
    pub device_type: DeviceType,
    /// Whether kubelet is not told the NUMA node.
    pub exclude_topology: bool,
    /// Alternatives, tried in order; a device that any of them selects belongs to the pool.
    pub selectors: Vec<Selectors>,
    /// What to add to the `_INFO` variable: for the device of a PCI address, or with the key `*` for each.
    pub additional_info: AdditionalInfo,
    /// How they are offered.
    pub offer: Offer,
}

/// Texts for applications, by `*` or PCI address as written in the file, then by key.
pub type AdditionalInfo = BTreeMap<String, BTreeMap<String, String>>;

/// Conditions that a device has to meet together. An empty list is no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Vendor identifiers.
    pub vendors: Vec<PciId>,
    /// Device identifiers.
    pub devices: Vec<PciId>,
    /// Names of bound drivers.
    pub drivers: Vec<String>,
    /// Addresses of the devices themselves.
    pub pci_addresses: Vec<PciAddress>,
    /// The firmware's numbers of ports.
    pub acpi_indexes: Vec<String>,
    /// Network devices of PFs, with VF indexes.
    pub pf_names: Vec<Functions<String>>,
    /// Addresses of PFs, with VF indexes.
    pub root_devices: Vec<Functions<PciAddress>>,
    /// Link types of the network device, or of the PF's.
    pub link_types: Vec<String>,
    /// Names of DDP packages (Intel) that the device runs with.
    pub ddp_profiles: Vec<String>,
    /// InfiniBand partition keys: the first of the first port.
    pub p_keys: Vec<PKey>,
    /// Only devices with RDMA, whose character devices a container gets.
    pub is_rdma: bool,
    /// Whether a container gets `/dev/vhost-net` and `/dev/net/tun`. Selects nothing.
    pub need_vhost_net: bool,
    /// Only devices with a vDPA device of this type.
    pub vdpa_type: Option<VdpaType>,
    /// Kinds of auxiliary devices: `sf`. Never empty in a pool of auxiliary devices.
    pub aux_types: Vec<String>,
}

/// A configuration that can be used, and what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// For people: each names the file, the entry and the key.
    pub warnings: Vec<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is neither JSON nor YAML.
    #[error("cannot read the configuration {path}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it ceases to be.
        source: SyntaxError,
    },
    /// The file says something that cannot be meant.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Reads a configuration file; resources that name no prefix get `default_prefix`.
///
/// # Errors
/// The file cannot be read or used.
pub fn load(path: &Path, default_prefix: &str) -> Result<Loaded, ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, path, default_prefix)
}

/// Reads a configuration from the text of the file `path`: the configuration itself, or the ConfigMap that carries it.
///
/// # Errors
/// The text is neither JSON nor YAML, or says something that cannot be meant.
pub fn parse(text: &str, path: &Path, default_prefix: &str) -> Result<Loaded, ConfigError> {
    let node = syntax(text, path)?;
    match manifest::embedded(&node.0) {
        Some((key, text)) => {
            let path = PathBuf::from(format!("{} (data.{key})", path.display()));
            interpret(syntax(text, &path)?, &path, default_prefix)
        }
        None => interpret(node, path, default_prefix),
    }
}

fn syntax(text: &str, path: &Path) -> Result<(Node, Option<SyntaxError>), ConfigError> {
    document::parse(text).map_err(|source| ConfigError::Syntax { path: path.to_owned(), source })
}

fn interpret(
    (node, not_json): (Node, Option<SyntaxError>),
    path: &Path,
    default_prefix: &str,
) -> Result<Loaded, ConfigError> {
    let mut report = Report::default();
    if let Some(error) = not_json {
        let text = format!("{error}; read as YAML, which upstream's device plugin would refuse");
        report.warning(&Place::top(), text);
    }
    let config = read(&node, default_prefix, &mut report);
    Ok(Loaded { config, warnings: report.finish(path)? })
}

fn read(value: &Node, default_prefix: &str, report: &mut Report) -> Config {
    let top = Place::top();
    let fields = document::fields(value, &keys::names(keys::TOP), &top, report);
    let place = top.key("resourceList");
    let entries = fields.get("resourceList").map(|value| document::list(value, &place, report));
    let entries = entries.unwrap_or_default();
    if entries.is_empty() && report.problems.is_empty() {
        report.problem(&place, "no resource", "a list with at least one resource");
    }
    let mut resources: Vec<Resource> = Vec::new();
    for (index, value) in entries.iter().enumerate() {
        let Some((place, resource)) = resource::read(value, index, default_prefix, report) else { continue };
        if resources.iter().any(|other| other.name == resource.name) {
            let found = format!("{}, which an entry before this one has", resource.name);
            report.problem(&place.key("resourceName"), found, "each resource once in a file");
        }
        resources.push(resource);
    }
    Config { resources }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
