//! What a PF and its VFs are like, and what they shall be like.

use std::collections::BTreeMap;

use fairlead_kernel::Mac;
use fairlead_kernel::route::VfState;

use crate::inventory::{Function, Inventory, pf_netdev};
use crate::pci::PciAddress;

/// What is known of a PF beyond the inventory: by rtnetlink, and from its `sriov_drivers_autoprobe`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// The PF's network device is switched on.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// The address that the PF came with; the present one where the driver does not tell.
    pub mac: Option<Mac>,
    /// The administrative settings of its VFs; `None` when they cannot be read (there are too many for the kernel's answer).
    pub vfs: Option<Vec<VfState>>,
    /// Whether the kernel gives a driver to VFs that appear; `None` when it cannot be told not to (before Linux 4.12).
    pub autoprobe: Option<bool>,
    /// What `autoprobe` was before a call that was killed.
    pub autoprobe_before: Option<bool>,
}

/// A PF as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CurrentPf {
    pub(super) up: bool,
    pub(super) mtu: u32,
    pub(super) num_vfs: u32,
    pub(super) autoprobe: Option<bool>,
    pub(super) autoprobe_before: Option<bool>,
    pub(super) vfs: BTreeMap<u32, CurrentVf>,
}

/// A VF as it is; what is not known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CurrentVf {
    pub(super) address: Option<PciAddress>,
    pub(super) driver: Option<String>,
    pub(super) mac: Option<Mac>,
    pub(super) trust: Option<bool>,
    pub(super) spoof_check: Option<bool>,
    pub(super) mtu: Option<u32>,
}

/// A PF as it shall be; what is `None` may stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WantedPf {
    pub(super) up: Option<bool>,
    pub(super) mtu: Option<WantedMtu>,
    pub(super) num_vfs: Option<u32>,
    pub(super) vfs: BTreeMap<u32, WantedVf>,
}

/// The MTU that a PF shall have, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WantedMtu {
    AtLeast(u32),
    Exactly(u32),
}

/// A VF as it shall be; what is `None` may stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WantedVf {
    pub(super) binding: Binding,
    pub(super) mac: Option<Mac>,
    /// The VF's driver must come up with that address, also where it was set before. Not so for an address that was merely
    /// found: it may be the VF's own, other at every start.
    pub(super) insists_on_mac: bool,
    pub(super) trust: Option<bool>,
    pub(super) spoof_check: Option<bool>,
    pub(super) mtu: Option<u32>,
}

/// Which driver a VF shall have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Binding {
    /// The one that it has, else the kernel's choice.
    #[default]
    Any,
    /// The kernel's choice.
    Kernel,
    /// This one, which the kernel would not choose.
    Named(String),
    /// None.
    Unbound,
}

impl Binding {
    pub(super) fn is_met_by(&self, driver: Option<&str>) -> bool {
        match (self, driver) {
            (Self::Unbound, driver) => driver.is_none(),
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Kernel, Some(driver)) => !is_for_user_space(driver),
            (Self::Named(name), Some(driver)) => name == driver,
        }
    }
}

/// Whether a driver hands its device to a process, or to nobody. Vendors' own variants carry `vfio` in their names.
pub(super) fn is_for_user_space(driver: &str) -> bool {
    driver.contains("vfio") || driver.contains("uio") || driver == "pci-stub"
}

impl CurrentPf {
    /// A PF of the inventory; `None` for what is no PF.
    pub(super) fn of(inventory: &Inventory, pf: &Function, port: &Port) -> Option<Self> {
        let role = pf.as_pf()?;
        let admin = port.vfs.as_deref().unwrap_or_default();
        let vf = |(index, address): (&u32, &PciAddress)| {
            let function = inventory.function(address);
            let settings = admin.iter().find(|settings| settings.vf == *index);
            let vf = CurrentVf {
                address: Some(*address),
                driver: function.and_then(|function| function.driver.clone()),
                mac: settings.and_then(|settings| settings.mac),
                trust: settings.and_then(|settings| settings.trust),
                spoof_check: settings.and_then(|settings| settings.spoof_check),
                mtu: function.and_then(|function| pf_netdev(&function.netdevs)?.mtu),
            };
            (*index, vf)
        };
        let vfs: BTreeMap<u32, CurrentVf> = role.vfs.iter().map(vf).collect();
        let linked = u32::try_from(vfs.len()).unwrap_or(u32::MAX);
        Some(Self {
            up: port.up,
            mtu: port.mtu,
            num_vfs: role.num_vfs.unwrap_or(linked),
            autoprobe: port.autoprobe,
            autoprobe_before: port.autoprobe_before,
            vfs,
        })
    }

    /// What it takes to have this again.
    pub(super) fn as_wanted(&self) -> WantedPf {
        let vf = |vf: &CurrentVf| WantedVf {
            binding: match &vf.driver {
                None => Binding::Unbound,
                Some(driver) if is_for_user_space(driver) => Binding::Named(driver.clone()),
                Some(_) => Binding::Kernel,
            },
            mac: vf.mac,
            insists_on_mac: false,
            trust: vf.trust,
            spoof_check: vf.spoof_check,
            mtu: vf.mtu,
        };
        WantedPf {
            up: Some(self.up),
            mtu: Some(WantedMtu::Exactly(self.mtu)),
            num_vfs: Some(self.num_vfs),
            vfs: self.vfs.iter().map(|(index, current)| (*index, vf(current))).collect(),
        }
    }
}
