//! What a node's hardware shall be like: the policy file, which serves a whole fleet.
//!
//! Names are near those of the SR-IOV operator's `SriovNetworkNodePolicy`. Keys are matched without regard to case. All
//! problems of a file are reported at once.

mod mac_prefix;
mod node_choice;
mod read;
mod vf_ranges;

use std::collections::BTreeMap;

pub use self::mac_prefix::MacPrefix;
pub use self::node_choice::{NodeIdentity, Pattern};
pub use self::read::{LoadedPolicy, PolicyError, load, parse};
pub use self::vf_ranges::VfRanges;

use crate::pci::{PciAddress, PciId};

/// The sections of a policy file, in the order that decides between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// For one PF the first that names it counts.
    pub sections: Vec<Section>,
}

/// What some PFs of some nodes shall be like. What is not given is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// For messages: the name in the file, or its place there.
    pub name: String,
    /// Patterns of node names; empty for every node.
    pub nodes: Vec<Pattern>,
    /// Labels that the node must have.
    pub labels: BTreeMap<String, String>,
    /// Which PFs.
    pub pfs: PfSelector,
    /// How many VFs; for an externally managed PF the least that there must be.
    pub num_vfs: Option<u32>,
    /// Somebody else makes the VFs: their number and the PF's own settings are never changed.
    pub externally_managed: bool,
    /// Bytes. The PF's MTU is only ever raised, since others may depend on it.
    pub mtu: Option<u32>,
    /// Whether the PF is switched on.
    pub up: bool,
    /// What the mode of the embedded switch must be; it is not changed.
    pub eswitch_mode: Option<WantedMode>,
    /// What VFs get as their administrative address.
    pub mac_prefix: Option<MacPrefix>,
    /// For VFs that no range says otherwise of.
    pub defaults: VfSettings,
    /// For VFs by index; of several ranges with one VF the first counts.
    pub ranges: Vec<VfRange>,
    /// VFIO may be used without an IOMMU, and so without protection of the node's memory.
    pub noiommu: bool,
    /// NetworkManager is told to leave the VFs alone.
    pub unmanaged: bool,
    /// udev is told to leave the names that the kernel gives to VFs.
    pub kernel_names: bool,
}

/// Which PFs a section is about: each list that is given must contain the PF.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PfSelector {
    /// Names of network devices, alternative ones too.
    pub pf_names: Vec<String>,
    /// PCI addresses. A PF that carries the host's traffic is changed only when it is named so.
    pub pci_addresses: Vec<PciAddress>,
    /// Vendor identifiers.
    pub vendors: Vec<PciId>,
    /// Device identifiers of PFs.
    pub devices: Vec<PciId>,
}

/// The embedded switch's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedMode {
    /// VFs by address, as ever.
    Legacy,
    /// VFs with representors.
    Switchdev,
}

/// The VFs of a range, and what is special about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfRange {
    /// Which VFs.
    pub indexes: VfRanges,
    /// What they are like; what is not given is as in the section.
    pub settings: VfSettings,
}

/// Settings of VFs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VfSettings {
    /// The driver. Without, one that is bound is left, and a VF without any gets the kernel's.
    pub driver: Option<VfDriver>,
    /// Whether the VF may do what affects others.
    pub trust: Option<bool>,
    /// Whether frames with a foreign source address are dropped.
    pub spoof_check: Option<bool>,
    /// Bytes, of the VF's network device.
    pub mtu: Option<u32>,
}

/// Drivers that a VF can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VfDriver {
    /// Whatever the kernel has for it.
    Kernel,
    /// `vfio-pci`.
    VfioPci,
    /// `igb_uio`, which DPDK once brought along.
    IgbUio,
    /// `uio_pci_generic`.
    UioPciGeneric,
}

impl VfDriver {
    /// The name of the driver in sysfs; `None` for the kernel's choice.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Kernel => None,
            Self::VfioPci => Some("vfio-pci"),
            Self::IgbUio => Some("igb_uio"),
            Self::UioPciGeneric => Some("uio_pci_generic"),
        }
    }
}

impl Section {
    /// The settings of the VF of this index.
    #[must_use]
    pub fn vf(&self, index: u32) -> VfSettings {
        let range = self.ranges.iter().find(|range| range.indexes.contains(index));
        let Some(VfRange { settings, .. }) = range else { return self.defaults.clone() };
        VfSettings {
            driver: settings.driver.or(self.defaults.driver),
            trust: settings.trust.or(self.defaults.trust),
            spoof_check: settings.spoof_check.or(self.defaults.spoof_check),
            mtu: settings.mtu.or(self.defaults.mtu),
        }
    }

    /// Whether the section is about this node.
    #[must_use]
    pub fn is_for(&self, node: &NodeIdentity) -> bool {
        let named = self.nodes.is_empty() || self.nodes.iter().any(|pattern| pattern.matches(&node.name));
        named && self.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests;
