//! Putting addresses and routes on an interface of the pod, as the reference plugins' shared code does it.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use fairlead_kernel::{
    Link, Request, announce,
    route::{Address, AddressFlags, MAIN_TABLE, NewRoute, RouteMode, Scope},
    sysctl,
};
use ipnet::IpNet;

use crate::{
    drivers::{Pod, ipv6::Dad, kernel},
    protocol::{
        error::{CniError, code},
        result::{CniResult, Ip, Route},
    },
};

/// How long the kernel may look for duplicates. It takes one or two seconds, on a node that is overloaded more than the five that
/// upstream waits.
const DAD_LIMIT: Duration = Duration::from_secs(20);
/// How long a device may take to have carrier, for who waits for duplicates and for who does not: as long as upstream waits.
const DAD_CARRIER_LIMIT: Duration = Duration::from_secs(5);
const DAD_PAUSE: Duration = Duration::from_millis(20);
const CARRIER_LIMIT: Duration = Duration::from_millis(200);

/// Applies a result to the link, which is up already, and tells the neighbours.
pub(super) fn apply(pod: &mut Pod, link: u32, interface: &str, result: &CniResult) -> Result<(), CniError> {
    if result.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        allow_ipv6(pod, interface)?;
    }
    let dad = pod.ipv6.dad;
    let addresses =
        result.ips.iter().map(|ip| Request::add_address(link, &ip.address, flags(dad, &ip.address)));
    all(pod, &addresses.collect::<Vec<_>>())?;
    if dad == Dad::Wait && result.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        await_unique(pod, link, interface, result)?;
    }
    let routes = result.routes.iter().map(|route| Request::add_route(&new_route(route, link, result)));
    all(pod, &routes.collect::<Vec<_>>())?;
    announce_all(pod, link, result.ips.iter());
    Ok(())
}

fn flags(dad: Dad, address: &IpNet) -> AddressFlags {
    let is_v6 = address.addr().is_ipv6();
    AddressFlags {
        optimistic: is_v6 && dad == Dad::Optimistic,
        nodad: is_v6 && dad == Dad::Off,
        ..AddressFlags::default()
    }
}

/// Waits until the kernel has found no duplicate of the addresses. It begins to look when the link has carrier; without any it
/// cannot, which keeps a pod from nothing (as with the reference plugins).
fn await_unique(pod: &mut Pod, link: u32, interface: &str, result: &CniResult) -> Result<(), CniError> {
    if !running(pod, link, DAD_CARRIER_LIMIT).is_some_and(|link| link.running) {
        return Ok(());
    }
    let limit = Instant::now() + DAD_LIMIT;
    let is_ours = |address: &Address| result.ips.iter().any(|ip| ip.address.addr() == address.net.addr());
    loop {
        let mut addresses = pod.route.addresses(link).map_err(kernel)?;
        addresses.retain(|address| address.net.addr().is_ipv6() && is_ours(address));
        if let Some(duplicate) = addresses.iter().find(|address| address.dad_failed) {
            let text =
                format!("somebody else on the network has the address {} of {interface}", duplicate.net);
            return Err(CniError::new(code::OTHER, text));
        }
        let Some(tentative) = addresses.iter().find(|address| address.tentative) else { return Ok(()) };
        if Instant::now() >= limit {
            let text = format!("the kernel did not finish looking for duplicates of {}", tentative.net);
            return Err(CniError::new(code::TRY_AGAIN, text));
        }
        thread::sleep(DAD_PAUSE);
    }
}

/// Sends independent requests together.
fn all(pod: &mut Pod, requests: &[Request<'_>]) -> Result<(), CniError> {
    pod.route.batch(requests).into_iter().collect::<Result<(), _>>().map_err(kernel)
}

fn new_route(route: &Route, link: u32, result: &CniResult) -> NewRoute {
    NewRoute {
        gateway: gateway(route, result),
        oif: Some(link),
        table: route.table.unwrap_or(MAIN_TABLE),
        priority: route.priority,
        scope: route.scope.map(Scope),
        mtu: route.mtu,
        advmss: route.advmss,
        // Two networks of a pod may bring the same route; the reference plugins let both stand.
        mode: RouteMode::Append,
        ..NewRoute::to(route.dst)
    }
}

/// Where a route goes through.
pub(super) fn gateway(route: &Route, result: &CniResult) -> Option<IpAddr> {
    route.gw.or_else(|| first_gateway(result, route.dst.addr().is_ipv4()))
}

/// The gateway that a route without one goes to: the first of its family among the addresses.
fn first_gateway(result: &CniResult, v4: bool) -> Option<IpAddr> {
    result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4)
}

/// IPv6 may be off in a new namespace; addresses are to stay when the pod takes its interface down for a moment.
fn allow_ipv6(pod: &Pod, interface: &str) -> Result<(), CniError> {
    let disable = format!("net/ipv6/conf/{interface}/disable_ipv6");
    let keep = format!("net/ipv6/conf/{interface}/keep_addr_on_down");
    let settings = [("net/ipv6/conf/lo/disable_ipv6", "0"), (disable.as_str(), "0"), (keep.as_str(), "1")];
    let done = sysctl::set_all(Some(&pod.netns), &settings).map_err(kernel)?;
    done.into_iter().collect::<Result<Vec<_>, _>>().map(drop).map_err(kernel)
}

/// Tells the neighbours again who has the addresses of an interface: a step has given it another hardware address, or taken it
/// down and up.
pub(super) fn announce_again(pod: &mut Pod, interface: &str, result: &CniResult) {
    if let Ok(Some(link)) = pod.route.link_by_name(interface) {
        announce_all(pod, link.index, result.ips_of(interface));
    }
}

/// Tells the neighbours who has the addresses now. Those that miss it learn from the first packet.
fn announce_all<'a>(pod: &mut Pod, link: u32, ips: impl Iterator<Item = &'a Ip>) {
    let addresses: Vec<IpAddr> = ips.map(|ip| ip.address.addr()).collect();
    if addresses.is_empty() {
        return;
    }
    if let Some(link) = running(pod, link, CARRIER_LIMIT) {
        let _ = announce::announce(&pod.netns, &mut pod.route, &link, &addresses);
    }
}

/// The link as soon as it has carrier, which a device takes a moment for after it was brought up, or when the time is up. What is
/// sent before is lost.
fn running(pod: &mut Pod, link: u32, limit: Duration) -> Option<Link> {
    let (start, mut pause) = (Instant::now(), Duration::from_millis(2));
    loop {
        let found = pod.route.link_by_index(link).ok()??;
        if found.running || start.elapsed() >= limit {
            return Some(found);
        }
        thread::sleep(pause);
        pause = pause.mul_f32(1.5).min(DAD_PAUSE);
    }
}
