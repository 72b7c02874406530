//! Asking the kernel.

use std::collections::BTreeMap;
use std::fmt;

use fairlead_kernel::devlink::{self, Handle, VersionState};
use fairlead_kernel::route;
use fairlead_kernel::{NetlinkError, Route};

use super::{Devlink, Link, Network, link_type_name};
use crate::error_text;
use crate::inventory::EswitchMode;
use crate::pci::PciAddress;

/// The version whose value is the name of a DDP package (kernel `devlink-info.rst`, "fw.app.name").
const DDP_PACKAGE: &str = "fw.app.name";

/// Kernel `enum rt_scope_t`: up to here an address is valid beyond its link.
const SITE: u8 = 200;

/// Links whose `IFLA_LINK` is a peer, not what they are made on.
const PAIRED: [&str; 2] = ["veth", "netkit"];

/// Sockets, kept between scans.
#[derive(Default)]
pub(crate) struct Live {
    route: Option<Route>,
    devlink: Option<devlink::Devlink>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    /// Links, addresses and default routes. `None`, with a note, when the kernel cannot be asked.
    pub(crate) fn network(&mut self, notes: &mut Vec<String>) -> Option<Network> {
        let mut note = |error: &dyn std::error::Error| {
            notes.push(format!("netlink: {}", error_text(error)));
        };
        let route = match &mut self.route {
            Some(route) => route,
            none => none.insert(Route::open().map_err(|error| note(&error)).ok()?),
        };
        match read(route) {
            Ok(network) => Some(network),
            Err(error) => {
                note(&error);
                // What is wrong with the socket must not stay.
                self.route = None;
                None
            }
        }
    }

    /// What drivers tell of these functions: of each the eswitch mode, and of those marked the DDP package, too.
    pub(crate) fn devlink(
        &mut self,
        functions: &[(PciAddress, bool)],
        notes: &mut Vec<String>,
    ) -> BTreeMap<PciAddress, Devlink> {
        let mut note = |error: &dyn std::error::Error| {
            notes.push(format!("devlink: {}", error_text(error)));
        };
        if self.devlink.is_none() {
            self.devlink = devlink::Devlink::open().map_err(|error| note(&error)).ok().flatten();
        }
        let Some(socket) = &mut self.devlink else { return BTreeMap::new() };
        let devices = match socket.devices() {
            Ok(devices) => devices,
            Err(error) => {
                note(&error);
                self.devlink = None;
                return BTreeMap::new();
            }
        };
        let mut told = BTreeMap::new();
        for device in devices.iter().filter(|device| device.bus == "pci") {
            let Ok(address) = device.device.parse::<PciAddress>() else { continue };
            let Ok(place) = functions.binary_search_by_key(&address, |(address, _)| *address) else {
                continue;
            };
            let wants_package = functions.get(place).is_some_and(|(_, wants)| *wants);
            match ask(socket, device, wants_package) {
                Ok(answer) => drop(told.insert(address, answer)),
                Err(error) => note(&error),
            }
        }
        told
    }
}

fn ask(socket: &mut devlink::Devlink, device: &Handle, wants_package: bool) -> Result<Devlink, NetlinkError> {
    let eswitch_mode = socket.eswitch_mode(device)?.and_then(|mode| match mode {
        devlink::EswitchMode::LEGACY => Some(EswitchMode::Legacy),
        devlink::EswitchMode::SWITCHDEV => Some(EswitchMode::Switchdev),
        _ => None,
    });
    let versions = if wants_package { socket.versions(device)? } else { Vec::new() };
    let is_package =
        |version: &devlink::Version| version.state == VersionState::Running && version.name == DDP_PACKAGE;
    let ddp_profile = versions.into_iter().find(is_package).map(|version| version.value);
    Ok(Devlink { eswitch_mode, ddp_profile })
}

fn read(route: &mut Route) -> Result<Network, NetlinkError> {
    let links = route.links()?;
    let addresses = route.all_addresses()?;
    let routes = route.default_routes_of_all_tables()?;
    let names: BTreeMap<u32, &str> = links.iter().map(|link| (link.index, link.name.as_str())).collect();
    let name = |index: u32| names.get(&index).map(|name| (*name).to_owned());
    let mut network = Network {
        links: links.iter().map(|found| link(found, &name)).collect(),
        is_complete: true,
        default_routes: routes.iter().filter_map(|route| name(route.oif?)).collect(),
        ..Network::default()
    };
    network.default_routes.remove("lo");
    for address in addresses.iter().filter(|address| address.scope.0 <= SITE) {
        // Both are sorted by index.
        if let Ok(place) = links.binary_search_by_key(&address.index, |link| link.index)
            && let Some(link) = network.links.get_mut(place)
        {
            link.addresses.push(address.net);
        }
    }
    Ok(network)
}

fn link(found: &route::Link, name: &impl Fn(u32) -> Option<String>) -> Link {
    let is_paired = found.kind.as_deref().is_some_and(|kind| PAIRED.contains(&kind));
    let lower = found.parent.filter(|_| !found.parent_in_other_ns && !is_paired).and_then(name);
    Link {
        name: found.name.clone(),
        index: Some(found.index),
        altnames: found.altnames.clone(),
        master: found.master.and_then(name),
        lowers: lower.into_iter().filter(|lower| *lower != found.name).collect(),
        mac: found.mac.map(|mac| mac.to_string()),
        mtu: Some(found.mtu),
        operstate: Some(operstate(found.oper_state).to_owned()),
        carrier: found.carrier,
        link_type: Some(link_type_name(u32::from(found.hardware_type))),
        phys_port_name: found.phys_port_name.clone(),
        phys_switch_id: found.phys_switch_id.clone(),
        addresses: Vec::new(),
    }
}

/// As sysfs spells it.
fn operstate(state: route::OperState) -> &'static str {
    match state {
        route::OperState::Unknown => "unknown",
        route::OperState::NotPresent => "notpresent",
        route::OperState::Down => "down",
        route::OperState::LowerLayerDown => "lowerlayerdown",
        route::OperState::Testing => "testing",
        route::OperState::Dormant => "dormant",
        route::OperState::Up => "up",
    }
}
