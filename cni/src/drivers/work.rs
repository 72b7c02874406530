//! What a driver's step did, as it is recorded, and undoing it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Difference, Host, Leftover, Pod, bridge, host_device, link, ptp, sbr, sriov, tuning, vrf};
use crate::protocol::{error::CniError, result::Interface};

/// What a step did and what was there before: all that it takes to undo it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "camelCase")]
pub enum Work {
    /// A plugin on disk was executed.
    Executed {
        /// Its file.
        binary: PathBuf,
    },
    /// The pod was connected to a bridge.
    Bridge(bridge::Original),
    /// A device of the host was handed over.
    HostDevice(host_device::Original),
    /// The pod was connected to the host.
    Ptp(ptp::Original),
    /// Source-based routing was set up.
    Sbr(sbr::Original),
    /// A VF was handed over.
    Sriov(sriov::Original),
    /// Settings were changed.
    Tuning(tuning::Original),
    /// An interface was put into a VRF.
    Vrf(vrf::Original),
    /// A link was made in the pod. Layout 1 of records knew macvlan only.
    #[serde(alias = "macvlan")]
    Link(link::Original),
}

impl Work {
    /// Device that the step holds.
    pub fn device(&self) -> Option<String> {
        match self {
            Self::HostDevice(original) => Some(original.device().to_owned()),
            Self::Sriov(original) => Some(original.address.to_string()),
            _ => None,
        }
    }

    /// What undoes what upstream's plugin of that name did, as far as can be told from what is there.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn of_upstream(kind: &str, left: &Leftover<'_>, pod: &mut Pod) -> Result<Option<Self>, CniError> {
        let made = |kind: &str| {
            let (interface, kind) = (left.interface.into(), kind.into());
            let (master, master_in_pod, variant) = (None, false, None);
            Self::Link(link::Original { interface, kind, master, master_in_pod, variant })
        };
        Ok(match kind {
            "bridge" | "ptp" => Some(made("veth")),
            "dummy" | "ipvlan" | "macvlan" | "vlan" => Some(made(kind)),
            "host-device" => host_device::of_upstream(left, pod)?.map(Self::HostDevice),
            "sbr" => sbr::of_upstream(left, pod)?.map(Self::Sbr),
            "tuning" => tuning::of_upstream(left)?.map(Self::Tuning),
            "vrf" => vrf::of_upstream(left)?.map(Self::Vrf),
            _ => None,
        })
    }

    /// Removes what upstream's plugin noted of what is undone.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn forget_upstream(kind: &str, left: &Leftover<'_>) -> Result<(), CniError> {
        if kind == "tuning" { tuning::forget_upstream(left) } else { Ok(()) }
    }

    /// Whether another interface of the pod may look for a free routing table only before or after this is undone.
    pub fn takes_tables(&self) -> bool {
        matches!(self, Self::Sbr(_) | Self::Vrf(_))
    }

    /// The routing tables that the step has moved routes of the interface to.
    pub fn tables(&self) -> Vec<u32> {
        match self {
            Self::Sbr(original) => original.tables().to_vec(),
            Self::Vrf(original) => original.table().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the step made a link of [`LINK_GROUP`].
    pub fn is_grouped(&self) -> bool {
        matches!(self, Self::Bridge(_) | Self::Link(_) | Self::Ptp(_))
    }

    /// What is not as it was made; `made` is what ADD reported. Executed plugins are the engine's.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn check(
        &self,
        made: &Interface,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Vec<Difference>, CniError> {
        match self {
            Self::Bridge(original) => original.check(made, host, pod),
            Self::HostDevice(original) => original.check(made, pod),
            Self::Sbr(original) => original.check(pod),
            Self::Tuning(original) => original.check(made, pod),
            Self::Vrf(original) => original.check(pod),
            Self::Ptp(original) => original.check(made, host, pod),
            Self::Sriov(original) => original.check(made, host, pod),
            Self::Link(original) => original.check(made, host, pod),
            Self::Executed { .. } => Ok(Vec::new()),
        }
    }

    /// Undoes a driver's step, as far as it came. `pod` is absent when the namespace is gone. Executed plugins are the
    /// engine's.
    pub fn detach(&self, host: &mut Host, pod: Option<&mut Pod>) -> Vec<CniError> {
        match self {
            Self::Bridge(original) => original.detach(host, pod),
            Self::HostDevice(original) => original.detach(host, pod),
            Self::Sbr(original) => original.detach(pod),
            Self::Tuning(original) => original.detach(pod),
            Self::Vrf(original) => original.detach(pod),
            Self::Ptp(original) => original.detach(host, pod),
            Self::Sriov(original) => original.detach(host, pod),
            Self::Link(original) => original.detach(pod),
            Self::Executed { .. } => Vec::new(),
        }
    }

    /// Takes away what the step made for others, too, if none uses it: for an ADD that is undone. A DEL leaves it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unmake(&self, host: &mut Host) -> Result<(), CniError> {
        match self {
            Self::Bridge(original) => original.unmake(host),
            _ => Ok(()),
        }
    }
}
