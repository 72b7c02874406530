//! The bridge as the pods' gateway: which addresses it gets, and the routes that lead there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fairlead_kernel::{Errno, Link, LinkChange, route::AddressFlags};
use ipnet::IpNet;

use super::{super::Host, settings::Settings};
use crate::{
    drivers::kernel,
    protocol::{
        error::{CniError, code},
        result::{CniResult, Route},
    },
};

/// Fills in the gateways that the IPAM plugin left out, and the default routes that it did not give.
pub(super) fn complete(settings: &Settings, result: &mut CniResult) -> Result<(), CniError> {
    if !settings.gateway {
        return Ok(());
    }
    for ip in &mut result.ips {
        if ip.gateway.is_none() {
            ip.gateway = Some(first_of(&ip.address)?);
        }
    }
    if settings.default_gateway {
        let missing =
            [true, false].into_iter().filter_map(|v4| missing_default(v4, result)).collect::<Vec<_>>();
        result.routes.extend(missing);
    }
    Ok(())
}

/// The address after the network's own, as the reference plugin takes it.
fn first_of(address: &IpNet) -> Result<IpAddr, CniError> {
    let next = match address.network() {
        IpAddr::V4(network) => {
            u32::from(network).checked_add(1).map(|next| IpAddr::from(Ipv4Addr::from(next)))
        }
        IpAddr::V6(network) => {
            u128::from(network).checked_add(1).map(|next| IpAddr::from(Ipv6Addr::from(next)))
        }
    };
    next.ok_or_else(|| {
        let text = format!("bridge: {address} leaves no address for a gateway: name one in key \"ipam\"");
        CniError::new(code::INVALID_CONFIG, text)
    })
}

/// A default route of a family that has addresses but no default route. One without a gateway goes through the first gateway
/// anyway; upstream's plugin adds another to it, which the kernel then refuses.
fn missing_default(v4: bool, result: &CniResult) -> Option<Route> {
    let is_default = |route: &Route| route.dst.prefix_len() == 0 && route.dst.addr().is_ipv4() == v4;
    if result.routes.iter().any(is_default) {
        return None;
    }
    let gateway = result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4)?;
    let everywhere: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let dst = IpNet::new(everywhere, 0).ok()?;
    Some(Route { gw: Some(gateway), ..Route::to(dst) })
}

/// The gateways with their networks' lengths, as the bridge has them.
pub(super) fn addresses(result: &CniResult) -> Vec<IpNet> {
    let mut addresses = Vec::new();
    for ip in &result.ips {
        let gateway = ip.gateway.and_then(|gateway| IpNet::new(gateway, ip.address.prefix_len()).ok());
        addresses.extend(gateway.filter(|gateway| !addresses.contains(gateway)));
    }
    addresses
}

/// What it takes to give a link an address.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It has it.
    Nothing,
    /// It is added, after these are taken away.
    Add(Vec<IpNet>),
    /// It has this one, which is in the way.
    Refuse(IpNet),
}

/// A bridge has one IPv4 address, and several IPv6 addresses of networks that do not overlap (rule of the reference plugin).
fn decide(there: &[IpNet], wanted: &IpNet, force: bool) -> Step {
    if there.contains(wanted) {
        return Step::Nothing;
    }
    let is_in_the_way = |other: &&IpNet| match (other, wanted) {
        (IpNet::V4(_), IpNet::V4(_)) => true,
        (IpNet::V6(_), IpNet::V6(_)) => other.contains(&wanted.addr()) || wanted.contains(&other.addr()),
        _ => false,
    };
    let mut in_the_way = there.iter().filter(is_in_the_way).copied();
    match (force, in_the_way.clone().next()) {
        (false, Some(other)) => Step::Refuse(other),
        _ => Step::Add(in_the_way.by_ref().collect()),
    }
}

/// Gives a link of the host these addresses, and with them for good the hardware address that `link` says.
pub(super) fn serve(link: &Link, wanted: &[IpNet], force: bool, host: &mut Host) -> Result<(), CniError> {
    for net in wanted {
        let there: Vec<IpNet> =
            host.route.addresses(link).map_err(kernel)?.iter().map(|address| address.net).collect();
        match decide(&there, net, force) {
            Step::Nothing => continue,
            Step::Refuse(other) => {
                let text = format!(
                    "bridge: {} has the address {other}, so it cannot get {net}: correct the network's gateway, or set \
                     key \"forceAddress\" to have it replaced",
                    link.name
                );
                return Err(CniError::new(code::INVALID_CONFIG, text));
            }
            Step::Add(in_the_way) => replace(link, net, &in_the_way, host)?,
        }
    }
    Ok(())
}

fn replace(link: &Link, net: &IpNet, in_the_way: &[IpNet], host: &mut Host) -> Result<(), CniError> {
    for other in in_the_way {
        match host.route.del_address(link, other) {
            // Another pod's ADD was faster.
            Err(error) if error.errno() != Some(Errno::EADDRNOTAVAIL) => return Err(kernel(error)),
            _ => {}
        }
    }
    // Pods ask for it at once, and nobody but us gives out this network's addresses.
    let nodad = AddressFlags { nodad: true, ..AddressFlags::default() };
    match host.route.add_address(link, net, nodad) {
        Err(error) if !error.already_exists() => return Err(kernel(error)),
        _ => {}
    }
    // A bridge that was never given its address takes that of one of its ports, another one as they come and go: pods would
    // lose their gateway. The host forgets its neighbours there with this, so it is not done for every pod.
    let same = LinkChange { mac: link.mac, ..LinkChange::default() };
    host.route.set_link(link, &same).map_err(kernel)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{config::Fields, drivers::Request, protocol::env::CniArgs};

    fn settings(config: Value) -> Settings {
        let fields: Fields = serde_json::from_value(config).unwrap();
        let args = CniArgs::default();
        Settings::parse(Request { fields: &fields, interface: "net1", args: &args }).unwrap()
    }

    fn completed(config: Value, result: Value) -> CniResult {
        let mut result: CniResult = serde_json::from_value(result).unwrap();
        complete(&settings(config), &mut result).unwrap();
        result
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn gateways_and_default_routes_are_filled_in() {
        let given = json!({"ips": [{"address": "10.1.2.3/24"}, {"address": "fd00::3/64", "gateway": "fd00::9"}],
            "routes": [{"dst": "10.9.0.0/16"}]});
        let result = completed(json!({"isDefaultGateway": true}), given.clone());
        assert_eq!(addresses(&result), nets(&["10.1.2.1/24", "fd00::9/64"]));
        let route = |route: &Route| format!("{} {:?}", route.dst, route.gw.map(|gw| gw.to_string()));
        let routes: Vec<String> = result.routes.iter().map(route).collect();
        assert_eq!(routes, ["10.9.0.0/16 None", "0.0.0.0/0 Some(\"10.1.2.1\")", "::/0 Some(\"fd00::9\")"]);
        let mut has = given.clone();
        has["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::7"}]);
        assert_eq!(completed(json!({"isDefaultGateway": true}), has).routes.len(), 2);
        let plain = completed(json!({"isGateway": true}), given.clone());
        assert_eq!((plain.routes.len(), addresses(&plain).len()), (1, 2));
        assert_eq!(completed(json!({}), given).ips[0].gateway, None);
    }

    #[test]
    fn a_bridge_has_one_ipv4_address_and_ipv6_addresses_that_do_not_overlap() {
        let there = nets(&["10.1.2.1/24", "fd00::1/64", "fe80::1/64"]);
        let decide = |wanted: &str, force| decide(&there, &wanted.parse().unwrap(), force);
        assert_eq!(decide("10.1.2.1/24", false), Step::Nothing);
        assert_eq!(decide("10.9.9.1/24", false), Step::Refuse(there[0]));
        assert_eq!(decide("10.9.9.1/24", true), Step::Add(vec![there[0]]));
        assert_eq!(decide("fd00::2/64", false), Step::Refuse(there[1]));
        assert_eq!(decide("fd00::2/64", true), Step::Add(vec![there[1]]));
        assert_eq!(decide("fd01::1/64", false), Step::Add(Vec::new()));
    }

    #[test]
    fn an_address_at_the_end_of_all_has_no_gateway_after_it() {
        assert!(first_of(&"255.255.255.255/32".parse().unwrap()).is_err());
        assert_eq!(first_of(&"10.1.2.200/24".parse().unwrap()).unwrap().to_string(), "10.1.2.1");
    }
}
