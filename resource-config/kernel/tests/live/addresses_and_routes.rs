use std::net::IpAddr;

use fairlead_kernel::route::{AddressFlags, MAIN_TABLE, NewRoute, RouteEntry, RouteMode, Scope};
use fairlead_kernel::{Errno, LinkChange, Route, sysctl};
use ipnet::IpNet;

use crate::support::{Sandbox, sandboxes};

const NODAD: AddressFlags = AddressFlags { nodad: true, optimistic: false, noprefixroute: false };

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

/// A link with an address of each family, both ends up; gives its index.
fn addressed(sandbox: &mut Sandbox) -> u32 {
    let link = sandbox.add_veth("pf0", "pf0p");
    let peer = sandbox.link("pf0p");
    sandbox.route.set_link(&peer, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    sandbox.route.add_address(&link, &net("10.1.1.5/24"), AddressFlags::default()).unwrap();
    sandbox.route.add_address(&link, &net("fd00:1::5/64"), NODAD).unwrap();
    link.index
}

fn given(route: &mut Route, index: u32) -> Vec<RouteEntry> {
    route.routes(index).unwrap().into_iter().filter(|entry| !entry.by_kernel).collect()
}

#[test]
fn addresses_are_added_listed_and_removed() {
    let Some([mut sandbox]) = sandboxes("addresses") else { return };
    let index = addressed(&mut sandbox);
    let addresses = sandbox.route.addresses(index).unwrap();
    for text in ["10.1.1.5/24", "fd00:1::5/64"] {
        let address = addresses.iter().find(|address| address.net == net(text)).unwrap();
        assert!(address.permanent && !address.tentative && !address.dad_failed, "{address:?}");
    }
    assert!(addresses.iter().all(|address| address.index == index));
    let again = sandbox.route.add_address(index, &net("10.1.1.5/24"), AddressFlags::default()).unwrap_err();
    assert!(again.already_exists(), "{again}");
    assert!(again.to_string().starts_with("add address 10.1.1.5/24 to link number"), "{again}");
    sandbox.route.del_address(index, &net("10.1.1.5/24")).unwrap();
    let missing = sandbox.route.del_address(index, &net("10.1.1.5/24")).unwrap_err();
    assert_eq!(missing.errno(), Some(Errno::EADDRNOTAVAIL), "{missing}");
    assert!(sandbox.route.addresses(9999).unwrap().is_empty());
}

#[test]
fn an_address_under_duplicate_detection_is_tentative_and_an_optimistic_one_usable() {
    let Some([mut sandbox]) = sandboxes("duplicate address detection") else { return };
    let index = addressed(&mut sandbox);
    sysctl::set(Some(&sandbox.netns), "net/ipv6/conf/pf0/optimistic_dad", "1").unwrap();
    let optimistic = AddressFlags { optimistic: true, ..AddressFlags::default() };
    sandbox.route.add_address(index, &net("fd00:2::5/64"), optimistic).unwrap();
    let addresses = sandbox.route.addresses(index).unwrap();
    let added = addresses.iter().find(|address| address.net == net("fd00:2::5/64")).unwrap();
    assert!(!added.dad_failed);
    let bound = sandbox.netns.run(|| std::net::UdpSocket::bind("[fd00:2::5]:0")).unwrap();
    assert!(bound.is_ok(), "{bound:?}");
}

#[test]
fn no_route_to_the_prefix_where_none_is_wanted() {
    let Some([mut sandbox]) = sandboxes("addresses without prefix route") else { return };
    let index = addressed(&mut sandbox);
    let flags = AddressFlags { noprefixroute: true, ..NODAD };
    for text in ["10.2.2.2/24", "fd00:2::2/64"] {
        sandbox.route.add_address(index, &net(text), flags).unwrap();
        let routes = sandbox.route.routes(index).unwrap();
        assert!(!routes.iter().any(|entry| entry.dst == net(text).trunc()), "{routes:?}");
    }
}

#[test]
fn routes_are_read_back_with_all_that_was_given() {
    let Some([mut sandbox]) = sandboxes("routes") else { return };
    let index = addressed(&mut sandbox);
    let all = NewRoute {
        gateway: ip("10.1.1.1"),
        oif: Some(index),
        table: 1000,
        priority: Some(50),
        mtu: Some(1300),
        advmss: Some(1200),
        src: ip("10.1.1.5"),
        ..NewRoute::to(net("10.20.0.0/16"))
    };
    let default6 = NewRoute { gateway: ip("fd00:1::1"), oif: Some(index), ..NewRoute::to(net("::/0")) };
    let via6 = NewRoute { gateway: ip("fd00:1::1"), oif: Some(index), ..NewRoute::to(net("10.21.0.0/16")) };
    let requests = [&all, &default6, &via6].map(fairlead_kernel::Request::add_route);
    for verdict in sandbox.route.batch(&requests) {
        verdict.unwrap();
    }
    let entries = given(&mut sandbox.route, index);
    let expected = RouteEntry {
        dst: net("10.20.0.0/16"),
        gateway: ip("10.1.1.1"),
        oif: Some(index),
        table: 1000,
        priority: Some(50),
        scope: Scope::UNIVERSE,
        mtu: Some(1300),
        advmss: Some(1200),
        src: ip("10.1.1.5"),
        onlink: false,
        by_kernel: false,
        by_router: false,
    };
    assert!(entries.contains(&expected), "{entries:#?}");
    for dst in ["::/0", "10.21.0.0/16"] {
        let entry = entries.iter().find(|entry| entry.dst == net(dst)).unwrap();
        assert_eq!((entry.gateway, entry.table), (ip("fd00:1::1"), MAIN_TABLE));
    }
    for route in [&all, &default6, &via6] {
        sandbox.route.del_route(route).unwrap();
    }
    assert_eq!(given(&mut sandbox.route, index), []);
    assert!(sandbox.route.del_route(&all).unwrap_err().is_missing());
}

#[test]
fn a_second_route_is_refused_added_or_takes_the_place() {
    let Some([mut sandbox]) = sandboxes("second routes") else { return };
    let index = addressed(&mut sandbox);
    let route = |gateway, mode| NewRoute {
        gateway: ip(gateway),
        oif: Some(index),
        mode,
        ..NewRoute::to(net("10.30.0.0/16"))
    };
    sandbox.route.add_route(&route("10.1.1.1", RouteMode::Create)).unwrap();
    let error = sandbox.route.add_route(&route("10.1.1.2", RouteMode::Create)).unwrap_err();
    assert!(error.already_exists(), "{error}");
    sandbox.route.add_route(&route("10.1.1.2", RouteMode::Append)).unwrap();
    assert_eq!(given(&mut sandbox.route, index).len(), 2);
    sandbox.route.add_route(&route("10.1.1.3", RouteMode::Replace)).unwrap();
    let gateways: Vec<_> = given(&mut sandbox.route, index).into_iter().map(|entry| entry.gateway).collect();
    assert!(gateways.contains(&ip("10.1.1.3")) && !gateways.contains(&ip("10.1.1.1")), "{gateways:?}");
}

#[test]
fn routes_to_own_and_group_addresses_are_left_out() {
    let Some([mut sandbox]) = sandboxes("the kernel's own routes") else { return };
    let index = addressed(&mut sandbox);
    let routes = sandbox.route.routes(index).unwrap();
    assert!(routes.iter().any(|entry| entry.dst == net("10.1.1.0/24") && entry.by_kernel));
    assert!(routes.iter().all(|entry| entry.table == MAIN_TABLE), "{routes:?}");
}

#[test]
fn an_unreachable_gateway_is_refused_with_the_kernels_reason() {
    let Some([mut sandbox]) = sandboxes("unreachable gateways") else { return };
    let index = addressed(&mut sandbox);
    let route = NewRoute { gateway: ip("172.16.0.1"), oif: Some(index), ..NewRoute::to(net("0.0.0.0/0")) };
    let error = sandbox.route.add_route(&route).unwrap_err();
    assert_eq!(
        (error.errno(), error.kernel_text()),
        (Some(Errno::ENETUNREACH), Some("Nexthop has invalid gateway"))
    );
    sandbox.route.add_route(&NewRoute { onlink: true, ..route }).unwrap();
}
