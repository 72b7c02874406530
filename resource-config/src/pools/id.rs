//! What kubelet knows a device by.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::pci::PciAddress;

/// The identity of a device, as upstream has it: the PCI address in its full form, or the name on the auxiliary bus.
///
/// Ordered by address; auxiliary devices come after, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceId {
    /// A PCI function.
    Pci(PciAddress),
    /// An auxiliary device, such as `mlx5_core.sf.4`.
    Aux(String),
}

impl DeviceId {
    /// The address, of a PCI function.
    #[must_use]
    pub fn pci_address(&self) -> Option<PciAddress> {
        if let Self::Pci(address) = self { Some(*address) } else { None }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::Aux(name) => f.write_str(name),
        }
    }
}

impl FromStr for DeviceId {
    type Err = Infallible;

    /// A PCI address, in its short form too; what is none is the name of an auxiliary device.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Aux(text.to_owned()), Self::Pci))
    }
}

impl From<PciAddress> for DeviceId {
    fn from(address: PciAddress) -> Self {
        Self::Pci(address)
    }
}

impl Serialize for DeviceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_texts_and_addresses_come_first() {
        let mut ids: Vec<DeviceId> =
            ["mlx5_core.sf.4", "10000:00:00.0", "3b:02.1"].map(|text| text.parse().unwrap()).into();
        ids.sort();
        assert_eq!(
            serde_json::to_string(&ids).unwrap(),
            r#"["0000:3b:02.1","10000:00:00.0","mlx5_core.sf.4"]"#
        );
        assert_eq!(ids[2].pci_address(), None);
    }
}
