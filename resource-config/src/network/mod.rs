//! What netlink knows of a node and sysfs does not: links with their other names, what is stacked on what, addresses, default
//! routes, and what drivers tell through devlink. Read from the kernel, or from a `netlink.json`.

mod json;
mod lenient;
mod live;
mod proc;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::inventory::EswitchMode;
use crate::pci::PciAddress;

pub(crate) use self::lenient::parse;
pub(crate) use self::live::Live;
pub(crate) use self::proc::default_route_netdevs;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    /// The links of the host's network namespace.
    pub(crate) links: Vec<Link>,
    /// Names of links that carry a default route of any table, IPv4 or IPv6.
    pub(crate) default_routes: BTreeSet<String>,
    /// What devlink tells of PCI functions.
    pub(crate) devlink: BTreeMap<PciAddress, Devlink>,
    /// The kernel itself told it: what is not in here there is not. Else sysfs is asked for the rest.
    pub(crate) is_complete: bool,
    /// What could not be read, for people.
    pub(crate) notes: Vec<String>,
}

/// A link. What is `None` is not known, and sysfs may know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) index: Option<u32>,
    pub(crate) altnames: Vec<String>,
    /// Name of the link that it belongs to: a bond, bridge or VRF.
    pub(crate) master: Option<String>,
    /// Names of the links that it is made on.
    pub(crate) lowers: Vec<String>,
    pub(crate) mac: Option<String>,
    pub(crate) mtu: Option<u32>,
    /// In lower case, as sysfs has it.
    pub(crate) operstate: Option<String>,
    pub(crate) carrier: Option<bool>,
    /// `ether`, `infiniband`, ...
    pub(crate) link_type: Option<String>,
    pub(crate) phys_port_name: Option<String>,
    pub(crate) phys_switch_id: Option<String>,
    /// Addresses of more than link scope.
    pub(crate) addresses: Vec<IpNet>,
}

/// What devlink tells of one function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Devlink {
    pub(crate) eswitch_mode: Option<EswitchMode>,
    /// The running version of `fw.app.name`: the name of the DDP package.
    pub(crate) ddp_profile: Option<String>,
}

/// The name that configurations use for an `ARPHRD_` number (kernel `include/uapi/linux/if_arp.h`).
pub(crate) fn link_type_name(number: u32) -> String {
    match number {
        1 => "ether".to_owned(),
        32 => "infiniband".to_owned(),
        772 => "loopback".to_owned(),
        65534 => "none".to_owned(),
        other => other.to_string(),
    }
}

/// Whether an address can be reached from beyond its link, as the kernel decides when nobody says.
fn is_beyond_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_loopback() && !address.is_link_local() && !address.is_unspecified()
        }
        IpAddr::V6(address) => {
            !address.is_loopback() && !address.is_unicast_link_local() && !address.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests;
