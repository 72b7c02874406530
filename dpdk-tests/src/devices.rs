//! Which devices the check is about: named on the command line, or by the device plugin in the environment.

use std::collections::BTreeMap;
use std::fmt;

use fairlead_resource_config::{InvalidPciAddress, PciAddress};

/// What a port of testpmd is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A device that DPDK drives itself.
    Pci(PciAddress),
    /// An interface of the kernel in this namespace, through packet sockets.
    Interface(String),
}

impl Target {
    /// What DPDK calls the port.
    #[must_use]
    pub fn dpdk_name(&self) -> String {
        match self {
            Self::Pci(address) => address.to_string(),
            // Each testpmd has but one.
            Self::Interface(_) => "net_af_packet0".to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::Interface(name) => name.fmt(f),
        }
    }
}

/// What the names of the device plugin's variables begin with.
const PREFIX: &str = "PCIDEVICE_";

/// Why the devices are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DevicesError {
    /// No variable of a device plugin.
    #[error(
        "the environment names no devices (there is no PCIDEVICE_* variable): request a resource of the device plugin \
         in the container's limits, or give --device"
    )]
    NoVariable,
    /// Variables, but not of this resource.
    #[error(
        "the environment names no devices of {resource} (there is no {variable}); it has {}", others.join(", ")
    )]
    NoSuchResource {
        /// What was asked for.
        resource: String,
        /// The variable that the device plugin would set.
        variable: String,
        /// The variables that there are.
        others: Vec<String>,
    },
    /// Several resources, and nothing says which.
    #[error("the environment names devices of several resources ({}): choose one with --resource", variables.join(", "))]
    Ambiguous {
        /// The variables.
        variables: Vec<String>,
    },
    /// A value that is not a list of PCI addresses.
    #[error("{variable} names a device that this check cannot use")]
    Address {
        /// The variable.
        variable: String,
        /// Which and why.
        #[source]
        source: InvalidPciAddress,
    },
    /// The same device twice.
    #[error("{0} is named twice")]
    Twice(String),
    /// Not two devices.
    #[error(
        "{count} device{} named, and this needs {wanted}: request as many in the container's limits, or give --device for each",
        if *count == 1 { " is" } else { "s are" }
    )]
    TooFew {
        /// How many there are.
        count: usize,
        /// How many are needed.
        wanted: usize,
    },
}

impl DevicesError {
    /// Whether other options would help (as opposed to another pod).
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Ambiguous { .. } | Self::Twice(_))
    }
}

/// The devices of a resource, in the order of the variable (which is the order of the pod's networks). Without a resource,
/// those of the only one that the environment has.
pub fn from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
    resource: Option<&str>,
) -> Result<Vec<PciAddress>, DevicesError> {
    let lists = device_lists(variables);
    let (variable, value) = match resource {
        Some(resource) => chosen(&lists, resource)?,
        None => only(&lists)?,
    };
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            item.parse().map_err(|source| DevicesError::Address { variable: variable.to_owned(), source })
        })
        .collect()
}

/// The devices that a run uses: the first of those that are named, at least `wanted` and at most `most`.
pub fn choose<T: Clone + PartialEq + ToString>(
    named: &[T],
    wanted: usize,
    most: usize,
) -> Result<Vec<T>, DevicesError> {
    let chosen = named.get(..named.len().min(most)).unwrap_or_default();
    if let Some((_, twice)) =
        chosen.iter().enumerate().find(|(index, item)| chosen.iter().take(*index).any(|other| other == *item))
    {
        return Err(DevicesError::Twice(twice.to_string()));
    }
    if chosen.len() < wanted {
        return Err(DevicesError::TooFew { count: chosen.len(), wanted });
    }
    Ok(chosen.to_vec())
}

/// The variable that the device plugin sets for a resource: the name in upper case, with `_` for dots and for the slash.
#[must_use]
pub fn variable_of(resource: &str) -> String {
    format!("{PREFIX}{}", resource.replace(['.', '/'], "_").to_uppercase())
}

/// The variables that list devices. Their `_INFO` companions hold JSON objects; a resource's own name may end in `_info`,
/// so the value tells, not the name.
fn device_lists(variables: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    variables
        .into_iter()
        .filter(|(name, value)| name.starts_with(PREFIX) && !value.trim_start().starts_with('{'))
        .collect()
}

fn only(lists: &BTreeMap<String, String>) -> Result<(&str, &str), DevicesError> {
    let mut all = lists.iter();
    match (all.next(), all.next()) {
        (Some((name, value)), None) => Ok((name, value)),
        (None, _) => Err(DevicesError::NoVariable),
        _ => Err(DevicesError::Ambiguous { variables: lists.keys().cloned().collect() }),
    }
}

fn chosen<'a>(
    lists: &'a BTreeMap<String, String>,
    resource: &str,
) -> Result<(&'a str, &'a str), DevicesError> {
    let variable = variable_of(resource);
    match lists.get_key_value(&variable) {
        Some((name, value)) => Ok((name, value)),
        None if lists.is_empty() => Err(DevicesError::NoVariable),
        None => Err(DevicesError::NoSuchResource {
            resource: resource.to_owned(),
            variable,
            others: lists.keys().cloned().collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn texts(devices: &[PciAddress]) -> Vec<String> {
        devices.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_only_resource_needs_no_choice_and_its_info_is_no_list() {
        let environment = environment(&[
            ("PATH", "/bin"),
            ("PCIDEVICE_INTEL_COM_SRIOV_DPDK", "0000:01:10.4, 0000:01:10.0,"),
            ("PCIDEVICE_INTEL_COM_SRIOV_DPDK_INFO", r#"{"0000:01:10.4":{"generic":{"deviceID":"x"}}}"#),
        ]);
        let devices = from_environment(environment, None).unwrap();
        assert_eq!(texts(&devices), ["0000:01:10.4", "0000:01:10.0"]);
    }

    #[test]
    fn a_resource_is_chosen_by_its_name() {
        let both = environment(&[
            ("PCIDEVICE_INTEL_COM_SRIOV", "0000:01:10.2"),
            ("PCIDEVICE_ACME-LAB_IO_NET_INFO", "0000:01:10.0"),
        ]);
        let devices = from_environment(both.clone(), Some("acme-lab.io/net_info")).unwrap();
        assert_eq!(texts(&devices), ["0000:01:10.0"]);

        let error = from_environment(both.clone(), None).unwrap_err();
        assert!(error.is_usage());
        assert!(error.to_string().contains("PCIDEVICE_INTEL_COM_SRIOV"), "{error}");

        let error = from_environment(both, Some("intel.com/other")).unwrap_err();
        assert!(!error.is_usage());
        assert!(error.to_string().contains("PCIDEVICE_INTEL_COM_OTHER"), "{error}");
    }

    #[test]
    fn without_variables_the_pod_lacks_a_request() {
        assert_eq!(from_environment(environment(&[]), None), Err(DevicesError::NoVariable));
        assert_eq!(from_environment(environment(&[]), Some("a/b")), Err(DevicesError::NoVariable));
    }

    #[test]
    fn what_is_no_pci_address_is_named() {
        let auxiliary = environment(&[("PCIDEVICE_X_SF", "mlx5_core.sf.2")]);
        let error = from_environment(auxiliary, None).unwrap_err();
        let text = fairlead_resource_config::error_text(&error);
        assert!(text.contains("PCIDEVICE_X_SF") && text.contains("mlx5_core.sf.2"), "{text}");
    }

    #[test]
    fn as_many_different_devices_as_are_needed_are_chosen() {
        let [a, b, c] = ["0000:01:10.0", "0000:01:10.2", "0000:01:10.4"];
        assert_eq!(choose(&[a, b, c], 2, 2), Ok(vec![a, b]));
        assert_eq!(choose(&[a, b, c], 2, 3), Ok(vec![a, b, c]));
        assert_eq!(choose(&[a, a], 2, 2), Err(DevicesError::Twice(a.to_owned())));
        assert_eq!(choose(&[a], 2, 2), Err(DevicesError::TooFew { count: 1, wanted: 2 }));
        let texts = [0, 1].map(|count| DevicesError::TooFew { count, wanted: 2 }.to_string());
        assert!(texts[0].starts_with("0 devices are named"), "{texts:?}");
        assert!(texts[1].starts_with("1 device is named, and this needs 2"), "{texts:?}");
    }
}
