//! Whether a device can be handed out, and why not.

use std::fmt;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_resource_config::PciAddress;
use fairlead_resource_config::config::VdpaType;

/// Why a device must not be handed out now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It does not exist any more, and a pod has it.
    Gone,
    /// No driver has it, or another one than the pool asks for.
    Driver {
        /// The one that has it.
        found: Option<String>,
        /// The one that had it.
        wanted: String,
    },
    /// VFIO does not hand out its IOMMU group.
    Group(String),
    /// The pool wants RDMA, and it has none (any more).
    NoRdma,
    /// The pool wants a vDPA device, and it has none of the type (any more).
    NoVdpa(VdpaType),
    /// The link of its PF is down, for longer than the pool puts up with.
    LinkDown(PciAddress),
    /// Its PF is being set up.
    Provisioning(PciAddress),
    /// The configuration has its pool no more, and a pod has it.
    NotConfigured,
}

impl Reason {
    /// A word for it, for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Driver { .. } => "driver",
            Self::Group(_) => "iommu-group",
            Self::NoRdma => "no-rdma",
            Self::NoVdpa(_) => "no-vdpa",
            Self::LinkDown(_) => "link-down",
            Self::Provisioning(_) => "provisioning",
            Self::NotConfigured => "not-configured",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it does not exist any more"),
            Self::Driver { found: Some(found), wanted } => {
                write!(f, "it is on driver {found}, its pool has it for {wanted}")
            }
            Self::Driver { found: None, wanted } => {
                write!(f, "it is on no driver, its pool has it for {wanted}")
            }
            Self::Group(problem) => f.write_str(problem),
            Self::NoRdma => f.write_str("it has no RDMA device, and its pool is for such (isRdma)"),
            Self::NoVdpa(kind) => {
                write!(
                    f,
                    "it has no vDPA device of type {}, and its pool is for such (vdpaType)",
                    kind.as_str()
                )
            }
            Self::LinkDown(port) => write!(f, "the link of {port} is down"),
            Self::Provisioning(pf) => write!(
                f,
                "PF {pf} is being provisioned (or was when fairlead-config was killed: run it again)"
            ),
            Self::NotConfigured => f.write_str("the configuration does not have its resource any more"),
        }
    }
}

/// The word that kubelet has for it.
pub(crate) fn word(problem: Option<&Reason>) -> &'static str {
    if problem.is_some() { api::UNHEALTHY } else { api::HEALTHY }
}
