//! Network devices of a PCI function or an auxiliary device, in the host's network namespace.

use std::collections::BTreeSet;

use serde::Serialize;

use super::attributes::Attributes;
use super::auxiliary;
use super::node::{Detail, Node};
use super::stack::{self, Edges};
use crate::network::link_type_name;
use crate::sysfs::NET;
use crate::tree::Folder;

/// A network device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Netdev {
    /// Its name.
    pub name: String,
    /// Its number in the network namespace, where netlink told it.
    pub index: Option<u32>,
    /// Its alternative names.
    pub altnames: Vec<String>,
    /// Its hardware address, as sysfs prints it.
    pub mac: Option<String>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// `up`, `down`, `unknown`, ... (RFC 2863).
    pub operstate: Option<String>,
    /// Whether it has a link partner; unknown while it is administratively down.
    pub carrier: Option<bool>,
    /// `ether`, `infiniband`, or the number of another link type.
    pub link_type: Option<String>,
    /// The driver's name of the port, such as `p0` (uplink) or `pf0vf3` (representor).
    pub phys_port_name: Option<String>,
    /// The embedded switch that it is a port of.
    pub phys_switch_id: Option<String>,
    /// Number of the port on a device that may have several (`dev_port`): not of VFs and scalable functions.
    pub port: Option<u32>,
    /// The bond, bridge, VRF, ... that it is enslaved to.
    pub master: Option<String>,
    /// Everything stacked on it, directly or not: masters, VLANs, macvlans.
    pub uppers: BTreeSet<String>,
}

/// The network device of a PF that VFs are set up through: not a representor; of several, the uplink of the embedded
/// switch (`p` and a number, with a switch identifier), else one with such a name, else the one with the lowest port number.
#[must_use]
pub fn pf_netdev(netdevs: &[Netdev]) -> Option<&Netdev> {
    let port_name = |netdev: &Netdev, is: fn(&str) -> bool| netdev.phys_port_name.as_deref().is_some_and(is);
    // What is not known comes last.
    let number = |number: Option<u32>| number.unwrap_or(u32::MAX);
    netdevs.iter().filter(|netdev| !port_name(netdev, is_representor_port)).min_by_key(|netdev| {
        let is_uplink = port_name(netdev, is_uplink_port);
        let is_on_switch = is_uplink && netdev.phys_switch_id.is_some();
        (!is_on_switch, !is_uplink, number(netdev.port), number(netdev.index), &netdev.name)
    })
}

/// `p0`, or `p0s1` for a part of a port that was split (kernel's devlink-port documentation).
fn is_uplink_port(name: &str) -> bool {
    uplink_number(name).is_some()
}

/// The number of the port that an uplink is.
pub(super) fn uplink_number(name: &str) -> Option<u32> {
    let (port, part) = match name.strip_prefix('p')?.split_once('s') {
        Some((port, part)) => (port, Some(part)),
        None => (name.strip_prefix('p')?, None),
    };
    if part.is_some_and(|part| number(part).is_none()) {
        return None;
    }
    number(port)
}

/// `pf0`, `pf0vf3`, `pf0sf88`, and with a controller in front `c1pf0vf3` (kernel's devlink-port documentation).
fn is_representor_port(name: &str) -> bool {
    let port = match name.strip_prefix('c') {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => name,
    };
    port.strip_prefix("pf").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The numbers of PF and VF that a port of this host's own VFs stands for: `pf0vf3`. Ports with a controller in front
/// (`c1pf0vf3`) stand for VFs of another host.
pub(super) fn represented_vf(port: &str) -> Option<(u32, u32)> {
    let (pf, vf) = port.strip_prefix("pf")?.split_once("vf")?;
    Some((number(pf)?, number(vf)?))
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The network devices in a device's folder, sorted by name, but for those of its scalable functions. VFs and scalable
/// functions have one port (`is_single`), so that its number says nothing.
pub(super) fn read_all(
    node: &Node<'_>,
    attributes: &mut Attributes<'_>,
    is_single: bool,
    edges: &mut Edges,
) -> Vec<Netdev> {
    let below = |name: &&String| name.starts_with("virtio") || auxiliary::is_one(name);
    let (mut netdevs, mut of_others) = (Vec::new(), BTreeSet::new());
    for name in attributes.names.iter().filter(below) {
        let Ok(folder) = attributes.folder.open(&format!("{name}/net")) else { continue };
        let names = folder.names(|_| true).unwrap_or_default();
        // virtio puts a bus of its own between the PCI function and its network device.
        if name.starts_with("virtio") {
            netdevs.extend(
                names.iter().map(|name| read(node, &folder, name, is_single, attributes.notes, edges)),
            );
        } else {
            of_others.extend(names);
        }
    }
    if let Some((folder, names)) = attributes.folder("net", |name| !of_others.contains(name)) {
        netdevs
            .extend(names.iter().map(|name| read(node, &folder, name, is_single, attributes.notes, edges)));
    }
    netdevs.sort_by(|a, b| a.name.cmp(&b.name));
    // Most devices have one, there are thousands, and room for more is made for four.
    netdevs.shrink_to_fit();
    netdevs
}

fn read(
    node: &Node<'_>,
    parent: &Folder,
    name: &str,
    is_single: bool,
    notes: &mut Vec<String>,
    edges: &mut Edges,
) -> Netdev {
    let opened = parent.open(name).and_then(listed);
    // Trees made by hand may have the attributes only where all network devices are listed.
    let opened = match opened {
        Ok((_, names)) if names.is_empty() => node.root.open(&format!("{NET}/{name}")).and_then(listed),
        opened => opened,
    };
    match opened {
        Ok((folder, names)) => {
            let mut attributes = Attributes::new(&folder, &names, name, notes);
            edges.read(name, &mut attributes);
            read_attributes(node, name, is_single, &mut attributes)
        }
        // Without its folder, what netlink knows is all.
        Err(error) => {
            notes.push(format!("{name}: cannot be listed: {error}"));
            read_attributes(node, name, is_single, &mut Attributes::new(parent, &[], name, notes))
        }
    }
}

fn listed(folder: Folder) -> std::io::Result<(Folder, Vec<String>)> {
    let names = folder.names(|name| {
        stack::is_wanted(name)
            || matches!(
                name,
                "address"
                    | "carrier"
                    | "dev_port"
                    | "mtu"
                    | "operstate"
                    | "phys_port_name"
                    | "phys_switch_id"
                    | "type"
            )
    })?;
    Ok((folder, names))
}

/// Each from netlink where that knows it: sysfs costs several system calls an attribute.
fn read_attributes(node: &Node<'_>, name: &str, is_single: bool, attributes: &mut Attributes<'_>) -> Netdev {
    let link = node.link(name);
    // What the kernel itself did not tell by netlink there is not.
    let ask_sysfs = link.is_none() || !node.network.is_complete;
    // How a VF's network device is set is for people.
    let ask_state = ask_sysfs && (node.detail == Detail::Full || !is_single);
    let mut text = |attribute: &str, ask: bool, known: Option<&String>| {
        known.cloned().or_else(|| ask.then(|| attributes.text(attribute)).flatten())
    };
    let mac = text("address", ask_state, link.and_then(|link| link.mac.as_ref()));
    let operstate = text("operstate", ask_state, link.and_then(|link| link.operstate.as_ref()));
    let phys_port_name =
        text("phys_port_name", ask_sysfs, link.and_then(|link| link.phys_port_name.as_ref()));
    let phys_switch_id =
        text("phys_switch_id", ask_sysfs, link.and_then(|link| link.phys_switch_id.as_ref()));
    let known_carrier = link.and_then(|link| link.carrier);
    let carrier = known_carrier.or_else(|| text("carrier", ask_state, None).map(|text| text == "1"));
    let mut number = |attribute: &str, ask: bool, known: Option<u32>| {
        known.or_else(|| ask.then(|| attributes.optional(attribute)).flatten())
    };
    let mtu = number("mtu", ask_state, link.and_then(|link| link.mtu));
    let link_type = link.and_then(|link| link.link_type.clone());
    let link_type = link_type.or_else(|| number("type", ask_sysfs, None).map(link_type_name));
    Netdev {
        name: name.to_owned(),
        index: link.and_then(|link| link.index),
        altnames: link.map(|link| link.altnames.clone()).unwrap_or_default(),
        mac,
        mtu,
        operstate,
        carrier,
        link_type,
        phys_port_name,
        phys_switch_id,
        port: if is_single { None } else { attributes.optional("dev_port") },
        // These two need all network devices: see `scan`.
        master: None,
        uppers: BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn netdev(name: &str, port_name: Option<&str>, port: Option<u32>) -> Netdev {
        Netdev {
            name: name.to_owned(),
            phys_port_name: port_name.map(str::to_owned),
            phys_switch_id: port_name.map(|_| "abcd".to_owned()),
            port,
            ..Netdev::default()
        }
    }

    fn chosen(netdevs: &[Netdev]) -> Option<&str> {
        pf_netdev(netdevs).map(|netdev| netdev.name.as_str())
    }

    #[test]
    fn a_single_network_device_is_chosen() {
        assert_eq!(chosen(&[netdev("ens1f0", None, None)]), Some("ens1f0"));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn representors_are_never_chosen() {
        let netdevs = [
            netdev("a_rep", Some("pf0vf0"), None),
            netdev("b_rep", Some("c1pf0sf88"), None),
            netdev("c_host", Some("pf0"), None),
            netdev("z_uplink", Some("p0"), None),
        ];
        assert_eq!(chosen(&netdevs), Some("z_uplink"));
        assert_eq!(chosen(&netdevs[..3]), None);
    }

    #[test]
    fn port_names_are_told_apart() {
        assert_eq!((uplink_number("p1"), uplink_number("p0s1")), (Some(1), Some(0)));
        for other in ["pf0", "p", "p0s", "p+1", "pf0vf1", "", "1"] {
            assert_eq!(uplink_number(other), None, "{other}");
        }
        assert_eq!(represented_vf("pf1vf12"), Some((1, 12)));
        for other in ["c1pf0vf3", "pf0", "pf0sf3", "pf0vf", "pfvf1", "pf0vf+1", "p0"] {
            assert_eq!(represented_vf(other), None, "{other}");
        }
    }

    #[test]
    fn of_several_ports_the_lowest_is_chosen() {
        let netdevs = [netdev("a", None, Some(1)), netdev("b", None, Some(0)), netdev("_", None, None)];
        assert_eq!(chosen(&netdevs), Some("b"));
        let legacy = Netdev { phys_switch_id: None, ..netdev("z", Some("p1"), None) };
        assert_eq!(chosen(&[netdevs[1].clone(), legacy]), Some("z"), "by its name, without a switch");
    }
}
