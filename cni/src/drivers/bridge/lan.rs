//! The bridge itself, and the link that is the gateway of one of its VLANs.

use fairlead_kernel::{
    Link, LinkChange, LinkKind, Mac, NewLink, Request as Change,
    route::{PeerEnd, PortChange, PortVlan},
};

use super::{Original, settings::Settings};
use crate::{
    drivers::{Host, kernel, veth},
    protocol::error::{CniError, code},
    say::say,
};

pub(super) fn is_bridge(link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge")
}

/// Says when a bridge that is there will not keep the network's VLANs apart: it is used as it is, as upstream's plugin does.
pub(super) fn advise(bridge: &Link, settings: &Settings) {
    if settings.has_vlans() && bridge.vlan_filtering == Some(false) {
        let name = &bridge.name;
        say(format_args!(
            "bridge {name} does not keep VLANs apart, so keys \"vlan\" and \"vlanTrunk\" have no effect: run \
             \"ip link set {name} type bridge vlan_filtering 1\""
        ));
    }
}

/// The network's bridge, which is up.
pub(super) fn find_or_make(
    settings: &Settings,
    original: &Original,
    host: &mut Host,
) -> Result<Link, CniError> {
    let name = &settings.bridge;
    let bridge = match host.route.link_by_name(name).map_err(kernel)? {
        Some(bridge) => bridge,
        None => make(settings, original, host)?,
    };
    if !is_bridge(&bridge) {
        let text = format!("{name} is there already and is no bridge: correct key \"bridge\"");
        return Err(CniError::new(code::INVALID_CONFIG, text));
    }
    let promisc = (settings.promisc && !bridge.promisc).then_some(true);
    let up = (!bridge.up).then_some(true);
    if promisc.is_some() || up.is_some() {
        host.route.set_link(&bridge, &LinkChange { promisc, up, ..LinkChange::default() }).map_err(kernel)?;
    }
    Ok(bridge)
}

fn make(settings: &Settings, original: &Original, host: &mut Host) -> Result<Link, CniError> {
    let name = &settings.bridge;
    let kind = if settings.has_vlans() { LinkKind::VlanBridge } else { LinkKind::Bridge };
    let mac = Some(original.bridge_mac);
    let made = host.route.add_link(&NewLink { mtu: settings.mtu, mac, ..NewLink::new(name.clone(), kind) });
    match made {
        // Another pod's ADD was faster.
        Err(error) if error.already_exists() => {}
        made => {
            made.map_err(kernel)?;
            veth::own_routes(name);
        }
    }
    host.route.link_by_name(name).map_err(kernel)?.ok_or_else(|| {
        let text = format!("{name} vanished right after it was made; the runtime will try again");
        CniError::new(code::TRY_AGAIN, text)
    })
}

/// The bridge of this name, if the link is a port of it.
pub(super) fn of_port(port: &Link, name: &str, host: &mut Host) -> Result<Option<Link>, CniError> {
    let bridge = host.route.link_by_name(name).map_err(kernel)?;
    Ok(bridge.filter(|bridge| port.master == Some(bridge.index)))
}

/// Takes a port out of the VLANs that the bridge gives every port.
pub(super) fn leave_all_vlans(port: &Link) -> Change<'static> {
    Change::del_port_vlans(port, 1..=4094)
}

/// The link that is the host's access to a VLAN of the bridge: one end of a pair whose other end is a port in that VLAN.
pub(super) fn vlan_gateway(
    settings: &Settings,
    name: &str,
    mac: Mac,
    bridge: &Link,
    host: &mut Host,
) -> Result<Link, CniError> {
    if let Some(link) = host.route.link_by_name(name).map_err(kernel)? {
        return Ok(link);
    }
    let port_name = veth::random_name();
    let kind = LinkKind::Veth { peer_name: name.to_owned(), peer_netns: None };
    let peer = PeerEnd { mtu: Some(bridge.mtu), mac: Some(mac), group: None };
    let (mtu, master) = (Some(bridge.mtu), Some(bridge.index));
    let made = host.route.add_link(&NewLink {
        mtu,
        master,
        up: true,
        peer,
        ..NewLink::new(port_name.clone(), kind)
    });
    match made {
        // Another pod's ADD was faster.
        Err(error) if error.already_exists() => {}
        made => {
            made.map_err(kernel)?;
            veth::own_routes(name);
            veth::own_routes(&port_name);
            let port = existing(&port_name, host)?;
            enter_vlan(settings, &port, host)?;
        }
    }
    let link = existing(name, host)?;
    host.route.set_link(&link, &LinkChange { up: Some(true), ..LinkChange::default() }).map_err(kernel)?;
    Ok(link)
}

fn enter_vlan(settings: &Settings, port: &Link, host: &mut Host) -> Result<(), CniError> {
    // Not in those of a trunk.
    let vlans = settings.vlan.map(PortVlan::access).into_iter().collect();
    let enter = Change::set_port(port, &PortChange { vlans, ..PortChange::default() });
    let changes = if settings.keep_default_vlan { vec![enter] } else { vec![leave_all_vlans(port), enter] };
    host.route.batch(&changes).into_iter().collect::<Result<(), _>>().map_err(kernel)
}

fn existing(name: &str, host: &mut Host) -> Result<Link, CniError> {
    let link = host.route.link_by_name(name).map_err(kernel)?;
    link.ok_or_else(|| CniError::new(code::TRY_AGAIN, format!("{name} vanished; the runtime will try again")))
}

/// See [`Original::unmake`].
pub(super) fn unmake(original: &Original, host: &mut Host) -> Result<(), CniError> {
    let Some(bridge) = host.route.link_by_name(&original.bridge).map_err(kernel)? else { return Ok(()) };
    let links = host.route.links().map_err(kernel)?;
    let gateway = original
        .vlan_gateway
        .as_ref()
        .and_then(|(name, mac)| links.iter().find(|link| link.name == *name && link.mac == Some(*mac)));
    let gateway_port = gateway.and_then(|gateway| gateway.parent);
    let is_of_others = |port: &&Link| port.master == Some(bridge.index) && Some(port.index) != gateway_port;
    if links.iter().any(|link| is_of_others(&link)) {
        return Ok(());
    }
    if let Some(gateway) = gateway {
        veth::gone(host.route.delete_link(gateway))?;
    }
    let is_ours = is_bridge(&bridge) && bridge.mac == Some(original.bridge_mac);
    match is_ours {
        true => veth::gone(host.route.delete_link(&bridge)),
        false => Ok(()),
    }
}
