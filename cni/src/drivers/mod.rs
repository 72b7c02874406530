//! The plugins that are done in process.
//!
//! Every driver works in the same four steps, which the engine calls: `validate` before anything of the pod is touched,
//! `prepare` for what must be put back later (written to the record first), `attach`, and `detach` from the record alone.

pub mod bridge;
mod difference;
mod dummy;
pub mod host_device;
pub mod ipv6;
mod ipvlan;
pub mod link;
pub mod loopback;
mod macvlan;
mod master;
pub mod ptp;
mod routes;
pub mod sbr;
mod spec;
pub mod sriov;
pub mod tuning;
pub mod veth;
mod vlan;
pub mod vrf;
mod work;

pub use self::{difference::Difference, ipv6::Ipv6, spec::Spec, work::Work};

use fairlead_kernel::{Netns, Route};
use fairlead_resource_config::SysRoot;

use crate::{
    config::Fields,
    protocol::{
        env::CniArgs,
        error::{CniError, code},
        result::{CniResult, Interface},
    },
};

/// Link group of the virtual links that we make in pods: they are removed with one request, for which the kernel waits only
/// once. Nothing else is to use it.
pub const LINK_GROUP: u32 = 0x666c_6472;

/// The host's side: one netlink socket, one view of sysfs.
pub struct Host {
    /// Netlink in the host's network namespace.
    pub route: Route,
    /// The host's network namespace.
    pub netns: Netns,
    /// Where devices are read.
    pub sys: SysRoot,
}

impl Host {
    /// The namespace that this process runs in.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Self, CniError> {
        Ok(Self {
            route: Route::open().map_err(kernel)?,
            netns: Netns::current().map_err(kernel)?,
            sys: SysRoot::default(),
        })
    }
}

/// The pod's side.
pub struct Pod {
    /// Netlink in the pod's network namespace.
    pub route: Route,
    /// The pod's network namespace.
    pub netns: Netns,
    /// How the interface does IPv6 that is made next.
    pub ipv6: Ipv6,
}

impl Pod {
    /// Opens a pod's namespace for work.
    ///
    /// # Errors
    /// When the kernel refuses a socket there.
    pub fn open(netns: Netns) -> Result<Self, CniError> {
        Ok(Self { route: Route::open_in(&netns).map_err(kernel)?, netns, ipv6: Ipv6::default() })
    }
}

/// What a driver is asked for.
///
/// Keys:
/// - `ipam`: Where addresses come from: an object with a `type`, `host-local`, `static` or any IPAM plugin on disk. Without it
///   the interface has none, where the plugin allows that.
/// - `dns`: Name service settings of the result; those of IPAM when it is absent.
/// - `strictCheck`: CHECK fails for every difference, not only for what is lost, unfinished or somebody else's.
/// - `stateDir`: For a plugin that is called by its upstream name: where records are; by default `/var/lib/fairlead`.
/// - `runDir`: For such a plugin: where locks are; by default `/run/fairlead`.
/// - `systemLog`: For such a plugin, and for `host-local` and `static`: what is said, and why calls failed, also goes to the system's
///   log; by default true.
/// - `mac`: Hardware address, of those that take one (bridge, macvlan, sriov, tuning): unicast. The annotation's comes before
///   `args.cni.mac`, that before `MAC` in `CNI_ARGS`, that before this key.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The plugin's configuration as it would be executed.
    pub fields: &'a Fields,
    /// Interface to be made inside the pod.
    pub interface: &'a str,
    /// `CNI_ARGS`.
    pub args: &'a CniArgs,
}

impl Request<'_> {
    /// Whether the configuration names an IPAM plugin.
    ///
    /// # Errors
    /// Code 7 when key `ipam` is no object, or its `type` no text.
    pub fn has_ipam(&self) -> Result<bool, CniError> {
        let block = self.fields.object("ipam")?.unwrap_or_default();
        Ok(block.text("type")?.is_some_and(|name| !name.is_empty()))
    }

    /// The requested hardware address: capability before `args.cni` before `CNI_ARGS` before configuration. Every upstream
    /// plugin has this order, of as many of the four as it knows.
    ///
    /// # Errors
    /// Code 7 for what is no hardware address.
    pub fn mac(&self) -> Result<Option<fairlead_kernel::Mac>, CniError> {
        let runtime = self.fields.object("runtimeConfig")?.unwrap_or_default();
        let cni = self.fields.object("args")?.unwrap_or_default().object("cni")?.unwrap_or_default();
        let text =
            runtime.text("mac")?.or(cni.text("mac")?).or(self.args.get("MAC")).or(self.fields.text("mac")?);
        text.filter(|text| !text.is_empty()).map(unicast_mac).transpose()
    }
}

/// A hardware address that an interface can be given.
///
/// # Errors
/// Code 7 for what is none.
fn unicast_mac(text: &str) -> Result<fairlead_kernel::Mac, CniError> {
    let mac: fairlead_kernel::Mac = text
        .parse()
        .map_err(|error| CniError::new(code::INVALID_CONFIG, format!("mac \"{text}\": {error}")))?;
    if mac.ethernet().is_none() || mac.is_multicast() || mac.is_zero() {
        let text = format!("mac \"{text}\" is no unicast Ethernet address");
        return Err(CniError::new(code::INVALID_CONFIG, text));
    }
    Ok(mac)
}

/// What a DEL says of an interface that upstream's plugin made, of which there is no record of ours.
#[derive(Clone, Copy, Debug)]
pub struct Leftover<'a> {
    /// Interface inside the pod.
    pub interface: &'a str,
    /// Its container.
    pub container_id: &'a str,
    /// The plugin's configuration.
    pub fields: &'a Fields,
}

/// What an attachment became.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// As they are reported, in upstream's order.
    pub interfaces: Vec<Interface>,
    /// Place among them of the one that addresses belong to: the pod's.
    pub main: usize,
    /// Index of the link inside the pod; none for a device in user space.
    pub link: Option<u32>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It made an interface.
    Made(Attached),
    /// It changed what the steps before it had made: their result, as it is now.
    Changed(CniResult),
}

/// Names of the plugins that have a driver.
#[rustfmt::skip]
pub const NAMES: &[&str] = &[
    "bridge",
    "dummy",
    "host-device",
    "ipvlan",
    "macvlan",
    "ptp",
    "sbr",
    "sriov",
    "tuning",
    "vlan",
    "vrf",
];

/// Those that change what the plugins before them made, and give no addresses.
pub const CHAINED: &[&str] = &["sbr", "tuning", "vrf"];

/// Why a driver does not take a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// There is no driver for the type.
    NoDriver,
    /// The driver does not do this key.
    Key(&'static str),
}

/// Whether a driver does this plugin's configuration.
///
/// # Errors
/// Why it does not: the plugin on disk is to be used.
pub fn takes(kind: &str, fields: &Fields) -> Result<(), Pass> {
    let left_out = match kind {
        "bridge" => bridge::LEFT_OUT,
        "ptp" => ptp::LEFT_OUT,
        "sriov" => sriov::LEFT_OUT,
        "dummy" | "host-device" | "ipvlan" | "macvlan" | "sbr" | "tuning" | "vlan" | "vrf" => &[],
        _ => return Err(Pass::NoDriver),
    };
    let is_asked_for = |key: &&&str| fields.get(key).is_some() && fields.flag(key) != Ok(Some(false));
    match left_out.iter().find(is_asked_for) {
        Some(key) => Err(Pass::Key(key)),
        None => Ok(()),
    }
}

/// The interface that a step works on.
fn pod_link(pod: &mut Pod, interface: &str, kind: &str) -> Result<fairlead_kernel::Link, CniError> {
    pod.route.link_by_name(interface).map_err(kernel)?.ok_or_else(|| {
        CniError::new(code::INVALID_CONFIG, format!("{kind}: the pod has no interface {interface}"))
    })
}

/// The CNI error for a failure of the kernel's: its text says all there is.
pub fn kernel(error: impl std::error::Error) -> CniError {
    CniError::new(code::OTHER, fairlead_resource_config::error_text(&error))
}
