//! The variables that tell a container its devices, exactly as upstream's device plugin names and fills them.

use std::collections::{BTreeMap, HashMap};

use fairlead_resource_config::config::ResourceName;
use fairlead_resource_config::pools::DeviceId;

use crate::access::Providers;

/// By device. Sorted, so that the JSON text is the same for the same devices.
pub(crate) type Info = BTreeMap<String, Providers>;

/// `PCIDEVICE_<PREFIX>_<NAME>`: dots become underscores, letters upper case, nothing else.
pub(crate) fn name(resource: &ResourceName) -> String {
    format!("PCIDEVICE_{}_{}", resource.prefix(), resource.name()).replace('.', "_").to_uppercase()
}

/// Both variables of a resource. The devices come sorted: the order in which networks get them.
pub(crate) fn variables<'a>(
    resource: &ResourceName,
    ids: impl IntoIterator<Item = &'a DeviceId>,
    info: &Info,
) -> Result<HashMap<String, String>, serde_json::Error> {
    let name = name(resource);
    let info = (format!("{name}_INFO"), serde_json::to_string(info)?);
    Ok(HashMap::from([(name, crate::pool::joined(ids)), info]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mangled_as_upstream_does() {
        let name = |prefix, name| super::name(&ResourceName::new(prefix, name).unwrap());
        assert_eq!(name("intel.com", "sriov_dpdk"), "PCIDEVICE_INTEL_COM_SRIOV_DPDK");
        assert_eq!(name("acme-lab.io", "net-a"), "PCIDEVICE_ACME-LAB_IO_NET-A");
    }
}
