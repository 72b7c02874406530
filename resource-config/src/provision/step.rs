//! What provisioning does, step by step.

use std::fmt;

use fairlead_kernel::route::VfChange;
use serde::Serialize;

/// One step on one PF. VFs are named by index: those that are to be made have no address yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "camelCase")]
pub enum Step {
    /// Load a kernel module.
    LoadModule {
        /// Its name.
        module: String,
    },
    /// Let VFIO work without an IOMMU, for the whole node, or not.
    Noiommu {
        /// Whether it may.
        allowed: bool,
    },
    /// Change the PF's MTU.
    PfMtu {
        /// Bytes, now.
        from: u32,
        /// Bytes, then.
        to: u32,
    },
    /// Switch the PF's network device on or off.
    PfUp {
        /// Which of the two.
        up: bool,
    },
    /// Let the kernel give drivers to VFs that appear, or not.
    Autoprobe {
        /// Which of the two.
        on: bool,
    },
    /// Change the number of VFs, and wait for them.
    NumVfs {
        /// Now.
        from: u32,
        /// Then; one of the two is zero.
        to: u32,
    },
    /// Take the driver off a VF.
    Unbind {
        /// Index of the VF.
        vf: u32,
        /// The driver that it has; `None` when that is not known before.
        driver: Option<String>,
    },
    /// Change administrative settings of a VF.
    VfAdmin {
        /// Index of the VF.
        vf: u32,
        /// What is changed.
        change: VfChange,
    },
    /// Give a VF a driver, and wait for it and for what it makes.
    Bind {
        /// Index of the VF.
        vf: u32,
        /// The driver; `None` for the kernel's choice.
        driver: Option<String>,
        /// The address that its network device must have then.
        mac: Option<fairlead_kernel::Mac>,
    },
    /// Wait until udev has given the new network devices their names.
    Settle,
    /// Change the MTU of a VF's network device.
    VfMtu {
        /// Index of the VF.
        vf: u32,
        /// Bytes.
        to: u32,
    },
}

impl Step {
    /// The VF that it is about.
    #[must_use]
    pub fn vf(&self) -> Option<u32> {
        match self {
            Self::Unbind { vf, .. }
            | Self::VfAdmin { vf, .. }
            | Self::Bind { vf, .. }
            | Self::VfMtu { vf, .. } => Some(*vf),
            _ => None,
        }
    }

    /// What others notice of it; `None` when nothing.
    #[must_use]
    pub fn disturbs(&self) -> Option<String> {
        match self {
            Self::Noiommu { allowed: true } => Some(
                "the node's memory is not protected from devices on vfio-pci, and the kernel is tainted"
                    .into(),
            ),
            Self::PfMtu { .. } => {
                Some("many drivers reset the port: traffic of the PF and its VFs stops for a moment".into())
            }
            Self::PfUp { up: false } => Some("traffic of the PF and its VFs ends".into()),
            Self::NumVfs { from, to: 0 } => Some(format!("the {from} VFs go, with all their settings")),
            Self::Unbind { vf, driver: Some(driver) } => {
                Some(format!("whatever uses VF {vf} through {driver} loses it"))
            }
            Self::VfAdmin { vf, change } if change.trust.is_some() => {
                Some(format!("some drivers reset VF {vf} when its trust changes"))
            }
            Self::VfMtu { vf, .. } => Some(format!("some drivers reset VF {vf}")),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on: bool| if on { "on" } else { "off" };
        match self {
            Self::LoadModule { module } => write!(f, "load the kernel module {module}"),
            Self::Noiommu { allowed: true } => f.write_str("allow VFIO without an IOMMU"),
            Self::Noiommu { allowed: false } => f.write_str("disallow VFIO without an IOMMU"),
            Self::PfMtu { from, to } => write!(f, "PF MTU {from} -> {to}"),
            Self::PfUp { up } => write!(f, "PF {}", if *up { "up" } else { "down" }),
            Self::Autoprobe { on } => write!(f, "automatic probing of VFs {}", switch(*on)),
            Self::NumVfs { from, to } => write!(f, "number of VFs {from} -> {to}"),
            Self::Unbind { vf, driver: Some(driver) } => write!(f, "VF {vf}: unbind from {driver}"),
            Self::Unbind { vf, driver: None } => write!(f, "VF {vf}: unbind from whatever driver it has"),
            Self::VfAdmin { vf, change } => write!(f, "VF {vf}: {}", settings(change)),
            Self::Bind { vf, driver: Some(driver), .. } => write!(f, "VF {vf}: bind to {driver}"),
            Self::Bind { vf, driver: None, .. } => write!(f, "VF {vf}: bind to the kernel's driver"),
            Self::Settle => f.write_str("wait for udev"),
            Self::VfMtu { vf, to } => write!(f, "VF {vf}: MTU {to}"),
        }
    }
}

/// Administrative settings in words.
fn settings(change: &VfChange) -> String {
    let switch = |on: bool| if on { "on" } else { "off" };
    let parts = [
        change.mac.map(|mac| format!("administrative MAC {mac}")),
        change.spoof_check.map(|on| format!("spoof check {}", switch(on))),
        change.trust.map(|on| format!("trust {}", switch(on))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
