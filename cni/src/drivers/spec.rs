//! A validated step of a driver, and carrying it out.

use super::{
    Host, Outcome, Pod, Request, Work, bridge, dummy, host_device, ipvlan, link, macvlan, ptp, sbr, sriov,
    tuning, vlan, vrf,
};
use crate::protocol::{
    error::{CniError, code},
    result::CniResult,
};

/// A validated step of a driver.
#[derive(Clone, Debug)]
pub enum Spec {
    /// See [`bridge`].
    Bridge(bridge::Spec),
    /// See [`host_device`].
    HostDevice(host_device::Spec),
    /// See [`link`].
    Link(link::Spec),
    /// See [`ptp`].
    Ptp(ptp::Spec),
    /// See [`sbr`].
    Sbr(sbr::Spec),
    /// See [`sriov`].
    Sriov(sriov::Spec),
    /// See [`tuning`].
    Tuning(tuning::Spec),
    /// See [`vrf`].
    Vrf(vrf::Spec),
}

impl Spec {
    /// Checks a configuration that [`takes`] accepted, against itself and against the host. Nothing is changed.
    ///
    /// # Errors
    /// What is wrong with it, naming key and device.
    pub fn validate(kind: &str, request: Request<'_>, host: &mut Host) -> Result<Self, CniError> {
        match kind {
            "bridge" => bridge::validate(request, host).map(Self::Bridge),
            "ptp" => ptp::validate(request).map(Self::Ptp),
            "sriov" => sriov::Spec::validate(request, host).map(Self::Sriov),
            "ipvlan" => ipvlan::validate(request, host).map(Self::Link),
            "vlan" => vlan::validate(request, host).map(Self::Link),
            "dummy" => Ok(Self::Link(dummy::spec(request))),
            "host-device" => host_device::Spec::validate(request, host).map(Self::HostDevice),
            "sbr" => sbr::Spec::validate(request).map(Self::Sbr),
            "tuning" => tuning::Spec::validate(request).map(Self::Tuning),
            "vrf" => vrf::Spec::validate(request).map(Self::Vrf),
            _ => macvlan::validate(request, host).map(Self::Link),
        }
    }

    /// Device that no two attachments may have at once, if the step needs one.
    pub fn device(&self) -> Option<String> {
        match self {
            Self::HostDevice(spec) => Some(spec.device()),
            Self::Sriov(spec) => Some(spec.address.to_string()),
            _ => None,
        }
    }

    /// Whether the step changes what the steps before it made, and has no interface and no addresses of its own.
    pub fn is_chained(&self) -> bool {
        matches!(self, Self::Sbr(_) | Self::Tuning(_) | Self::Vrf(_))
    }

    /// Whether the step looks for a free routing table of the pod, as nobody else may do meanwhile.
    pub fn takes_tables(&self) -> bool {
        matches!(self, Self::Sbr(_) | Self::Vrf(_))
    }

    /// Whether the step may go on from the result of the steps before it: from their only interface, and without an IPAM plugin
    /// of its own with their addresses (upstream's ipvlan).
    pub fn follows(&self) -> bool {
        matches!(self, Self::Link(spec) if spec.kind == "ipvlan")
    }

    /// What must be put back later. `previous` is the result of the steps before.
    ///
    /// # Errors
    /// When it cannot be read, or the step cannot be done there.
    pub fn prepare(&self, host: &mut Host, pod: &mut Pod, previous: &CniResult) -> Result<Work, CniError> {
        match self {
            Self::Bridge(spec) => Ok(Work::Bridge(spec.prepare())),
            Self::HostDevice(spec) => spec.prepare(host).map(Work::HostDevice),
            Self::Sbr(spec) => spec.prepare(pod, previous).map(Work::Sbr),
            Self::Tuning(spec) => spec.prepare(pod).map(Work::Tuning),
            Self::Vrf(spec) => spec.prepare(pod).map(Work::Vrf),
            Self::Ptp(spec) => Ok(Work::Ptp(spec.prepare())),
            Self::Sriov(spec) => spec.prepare(host).map(Work::Sriov),
            Self::Link(spec) => spec.prepare(host, pod, previous).map(Work::Link),
        }
    }

    /// Makes the attachment, or changes it. `work` is what [`Spec::prepare`] gave, `previous` the result of the steps before.
    ///
    /// # Errors
    /// What failed; [`Work::detach`] cleans up after it.
    pub fn attach(
        &self,
        work: &Work,
        host: &mut Host,
        pod: &mut Pod,
        previous: &CniResult,
    ) -> Result<Outcome, CniError> {
        match (self, work) {
            (Self::Bridge(spec), Work::Bridge(original)) => {
                spec.attach(original, host, pod).map(Outcome::Made)
            }
            (Self::Ptp(spec), Work::Ptp(original)) => spec.attach(original, host, pod).map(Outcome::Made),
            (Self::Sriov(spec), Work::Sriov(original)) => spec.attach(original, host, pod).map(Outcome::Made),
            (Self::Link(spec), Work::Link(original)) => {
                spec.attach(original, host, pod, previous).map(Outcome::Made)
            }
            (Self::HostDevice(spec), Work::HostDevice(original)) => {
                spec.attach(original, host, pod).map(Outcome::Made)
            }
            (Self::Sbr(spec), Work::Sbr(original)) => {
                spec.attach(original, pod, previous).map(|()| Outcome::Changed(previous.clone()))
            }
            (Self::Tuning(spec), Work::Tuning(original)) => {
                spec.attach(original, pod, previous).map(Outcome::Changed)
            }
            (Self::Vrf(spec), Work::Vrf(original)) => {
                spec.attach(original, pod).map(|()| Outcome::Changed(previous.clone()))
            }
            _ => Err(CniError::new(code::OTHER, "the record is of another driver")),
        }
    }

    /// What the driver adds to the addresses that it was given, before the interface gets them. Nothing is changed yet.
    ///
    /// # Errors
    /// When they do not suffice.
    pub fn complete(&self, result: &mut CniResult) -> Result<(), CniError> {
        match self {
            Self::Bridge(spec) => spec.complete(result),
            Self::Ptp(_) => ptp::Spec::complete(result),
            _ => Ok(()),
        }
    }

    /// What is done when the interface has its addresses, or gets none. The result becomes what there is by then.
    ///
    /// # Errors
    /// What failed; [`Work::detach`] cleans up after it.
    pub fn finish(
        &self,
        work: &Work,
        result: &mut CniResult,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<(), CniError> {
        match (self, work) {
            (Self::Bridge(spec), Work::Bridge(original)) => spec.finish(original, result, host),
            (Self::Ptp(_), Work::Ptp(original)) => ptp::Spec::finish(original, result, host, pod),
            _ => Ok(()),
        }
    }
}
