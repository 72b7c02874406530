//! Entries of routing tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::address::family;
use super::link::unreadable;
use super::{LinkRef, Request, Route};
use crate::netlink::{NetlinkError, attributes, ip, nested, u16_of, u32_of};

/// The routing table that is used unless a rule says otherwise.
pub const MAIN_TABLE: u32 = 254;

/// Kernel `include/uapi/linux/rtnetlink.h`: who made a route.
const RTPROT_RA: u8 = 9;

/// Bytes of the headers of route messages (kernel `struct rtmsg`) and of each of several next hops (`struct rtnexthop`).
const HEADER: usize = 12;
const NEXT_HOP_HEADER: usize = 8;

/// Kernel `include/uapi/linux/rtnetlink.h`.
mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const PREFSRC: u16 = 7;
    pub(super) const METRICS: u16 = 8;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const TABLE: u16 = 15;
    pub(super) const VIA: u16 = 18;
    pub(super) const METRIC_MTU: u16 = 2;
    pub(super) const METRIC_ADVMSS: u16 = 8;
}

/// A route to be added or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoute {
    /// Where to; `0.0.0.0/0` and `::/0` for everywhere.
    pub dst: IpNet,
    /// Through whom; `None` for neighbours on the link. An IPv6 gateway may serve IPv4 routes.
    pub gateway: Option<IpAddr>,
    /// Index of the link that it goes out by.
    pub oif: Option<u32>,
    /// Routing table.
    pub table: u32,
    /// The lower is preferred; `None` for the kernel's choice.
    pub priority: Option<u32>,
    /// `None`: `Link` for IPv4 without a gateway, else `Universe`, as iproute2 does.
    pub scope: Option<Scope>,
    /// Bytes; the path's MTU.
    pub mtu: Option<u32>,
    /// Bytes; the segment size to advertise on TCP connections.
    pub advmss: Option<u32>,
    /// The source address to prefer.
    pub src: Option<IpAddr>,
    /// The gateway is on the link, although no prefix of the link's addresses says so.
    pub onlink: bool,
    /// Marked as one that the kernel made by itself: for one of those that comes back.
    pub by_kernel: bool,
    /// What happens when there is one already.
    pub mode: RouteMode,
}

/// What happens when there is a route to the same destination (of the same priority, in the same table).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RouteMode {
    /// `EEXIST`.
    #[default]
    Create,
    /// It is added besides; for IPv6 the two share the traffic. What the reference plugins do.
    Append,
    /// It takes the other's place.
    Replace,
}

/// How far a destination is (kernel `enum rt_scope_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope(
    /// The kernel's number.
    pub u8,
);

impl Scope {
    /// Anywhere.
    pub const UNIVERSE: Self = Self(0);
    /// On this link.
    pub const LINK: Self = Self(253);
    /// On this host.
    pub const HOST: Self = Self(254);
}

/// A route as the kernel reports it, for one of its next hops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// Where to.
    pub dst: IpNet,
    /// Through whom.
    pub gateway: Option<IpAddr>,
    /// Index of the link that it goes out by.
    pub oif: Option<u32>,
    /// Routing table.
    pub table: u32,
    /// The lower is preferred. IPv6 routes that were given none have 1024.
    pub priority: Option<u32>,
    /// How far the destination is.
    pub scope: Scope,
    /// Bytes; the path's MTU.
    pub mtu: Option<u32>,
    /// Bytes; the segment size to advertise on TCP connections.
    pub advmss: Option<u32>,
    /// The preferred source address.
    pub src: Option<IpAddr>,
    /// The gateway is on the link, although no prefix of the link's addresses says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// Made by the kernel itself, such as that to the prefix of an address.
    pub by_kernel: bool,
    /// Learnt from a router's advertisement (IPv6): it has an end, and comes again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_router: bool,
}

/// Number of the table that a route message of any kind is about.
pub(super) fn table_of_route(payload: &[u8]) -> Option<u32> {
    let number = nested(payload.get(HEADER..)?, rta::TABLE).and_then(u32_of);
    number.or(payload.get(4).copied().map(u32::from))
}

impl NewRoute {
    /// A route to `dst` in the main table, with nothing else said.
    #[must_use]
    pub fn to(dst: IpNet) -> Self {
        Self {
            dst,
            gateway: None,
            oif: None,
            table: MAIN_TABLE,
            priority: None,
            scope: None,
            mtu: None,
            advmss: None,
            src: None,
            onlink: false,
            by_kernel: false,
            mode: RouteMode::Create,
        }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family(self.dst.addr());
        header.destination_prefix_length = self.dst.prefix_len();
        header.table = u8::try_from(self.table).unwrap_or(libc::RT_TABLE_UNSPEC);
        header.scope = RouteScope::from(self.scope.unwrap_or_else(|| self.usual_scope()).0);
        if self.onlink {
            header.flags = RouteFlags::Onlink;
        }
        message.attributes = self.attributes();
        message
    }

    fn usual_scope(&self) -> Scope {
        match (self.dst, self.gateway) {
            (IpNet::V4(_), None) => Scope::LINK,
            _ => Scope::UNIVERSE,
        }
    }

    fn attributes(&self) -> Vec<RouteAttribute> {
        let mut attributes = Vec::new();
        if self.dst.prefix_len() > 0 {
            attributes.push(RouteAttribute::Destination(route_address(self.dst.network())));
        }
        attributes.extend(self.gateway.map(|gateway| match (self.dst, gateway) {
            (IpNet::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
            (_, gateway) => RouteAttribute::Gateway(route_address(gateway)),
        }));
        attributes.extend(self.src.map(|src| RouteAttribute::PrefSource(route_address(src))));
        attributes.extend(self.priority.map(RouteAttribute::Priority));
        if u8::try_from(self.table).is_err() {
            attributes.push(RouteAttribute::Table(self.table));
        }
        attributes.extend(self.oif.map(RouteAttribute::Oif));
        let metrics: Vec<RouteMetric> =
            [self.mtu.map(RouteMetric::Mtu), self.advmss.map(RouteMetric::Advmss)]
                .into_iter()
                .flatten()
                .collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        attributes
    }

    fn describe(&self) -> String {
        let mut words = format!("route to {}", self.dst);
        if let Some(gateway) = self.gateway {
            words.push_str(&format!(" through {gateway}"));
        }
        if let Some(oif) = self.oif {
            words.push_str(&format!(" on link number {oif}"));
        }
        if self.table != MAIN_TABLE {
            words.push_str(&format!(" in table {}", self.table));
        }
        words
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn is_onlink(flags: u32) -> bool {
    flags & RouteFlags::Onlink.bits() != 0
}

impl From<&RouteEntry> for NewRoute {
    /// The same route, to be added again or removed.
    fn from(entry: &RouteEntry) -> Self {
        Self {
            gateway: entry.gateway,
            oif: entry.oif,
            table: entry.table,
            priority: entry.priority,
            scope: Some(entry.scope),
            mtu: entry.mtu,
            advmss: entry.advmss,
            src: entry.src,
            onlink: entry.onlink,
            by_kernel: entry.by_kernel,
            ..Self::to(entry.dst)
        }
    }
}

impl RouteEntry {
    /// The entries of one message: one, or one for each of several next hops. None for those that only the kernel
    /// makes (local, broadcast, multicast).
    fn parse(payload: &[u8]) -> Option<Vec<Self>> {
        let header = payload.get(..HEADER)?;
        let [address_family, prefix, _, _, table, protocol, scope, kind] = *header.first_chunk::<8>()?;
        if kind != libc::RTN_UNICAST {
            return Some(Vec::new());
        }
        let everywhere = match i32::from(address_family) {
            libc::AF_INET => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            libc::AF_INET6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            _ => return Some(Vec::new()),
        };
        let mut entry = Self {
            dst: IpNet::new(everywhere, prefix).ok()?,
            gateway: None,
            oif: None,
            table: u32::from(table),
            priority: None,
            scope: Scope(scope),
            mtu: None,
            advmss: None,
            src: None,
            onlink: payload.get(8..HEADER).and_then(u32_of).is_some_and(is_onlink),
            by_kernel: protocol == libc::RTPROT_KERNEL,
            by_router: protocol == RTPROT_RA,
        };
        let attributes_of_route = payload.get(HEADER..)?;
        for (kind, value) in attributes(attributes_of_route) {
            entry.take(kind, value, prefix);
        }
        Some(match nested(attributes_of_route, rta::MULTIPATH) {
            Some(hops) => entry.for_each_hop(hops),
            None => vec![entry],
        })
    }

    fn take(&mut self, kind: u16, value: &[u8], prefix: u8) {
        match kind {
            rta::DST => {
                if let Some(Ok(dst)) = ip(value).map(|address| IpNet::new(address, prefix)) {
                    self.dst = dst;
                }
            }
            rta::OIF => self.oif = u32_of(value),
            rta::GATEWAY => self.gateway = ip(value),
            // An address family, then the address.
            rta::VIA => self.gateway = value.get(2..).and_then(ip),
            rta::PRIORITY => self.priority = u32_of(value),
            rta::PREFSRC => self.src = ip(value),
            rta::TABLE => self.table = u32_of(value).unwrap_or(self.table),
            rta::METRICS => {
                self.mtu = nested(value, rta::METRIC_MTU).and_then(u32_of);
                self.advmss = nested(value, rta::METRIC_ADVMSS).and_then(u32_of);
            }
            _ => {}
        }
    }

    /// Next hops follow each other as (length, flags, weight, link, attributes).
    fn for_each_hop(&self, mut hops: &[u8]) -> Vec<Self> {
        let prefix = self.dst.prefix_len();
        let mut entries = Vec::new();
        while let Some(length) = u16_of(hops).map(usize::from).filter(|length| *length >= NEXT_HOP_HEADER) {
            let Some(hop) = hops.get(..length) else { break };
            let mut entry = self.clone();
            entry.oif = hop.get(4..).and_then(u32_of);
            entry.onlink = hop.get(2).is_some_and(|flags| is_onlink(u32::from(*flags)));
            for (kind, value) in attributes(hop.get(NEXT_HOP_HEADER..).unwrap_or_default()) {
                entry.take(kind, value, prefix);
            }
            entries.push(entry);
            hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        entries
    }
}

impl Route {
    /// Adds a route.
    pub fn add_route(&mut self, route: &NewRoute) -> Result<(), NetlinkError> {
        self.send(Request::add_route(route))
    }

    /// Removes the first route that is like this one in all that is given; `ESRCH` when there is none.
    pub fn del_route(&mut self, route: &NewRoute) -> Result<(), NetlinkError> {
        self.send(Request::del_route(route))
    }

    /// The routes out of a link, of both families and all tables, without those to own and group addresses.
    pub fn routes(&mut self, link: impl Into<LinkRef>) -> Result<Vec<RouteEntry>, NetlinkError> {
        let link = link.into();
        let mut routes =
            self.dump_routes(&format!("list the routes of {link}"), &[RouteAttribute::Oif(link.index)])?;
        // Kernels before 4.20 list all links'; and other hops of the same route come along.
        routes.retain(|route| route.oif == Some(link.index));
        Ok(routes)
    }

    /// The default routes of the main table, IPv4 before IPv6, each family in the kernel's order.
    pub fn default_routes(&mut self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let mut routes = self.dump_routes("list the default routes", &[])?;
        routes
            .retain(|route| route.dst.prefix_len() == 0 && route.table == MAIN_TABLE && route.oif.is_some());
        Ok(routes)
    }

    /// The default routes of every table, IPv4 before IPv6.
    pub fn default_routes_of_all_tables(&mut self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let mut routes = self.dump_routes("list the default routes", &[])?;
        routes.retain(|route| route.dst.prefix_len() == 0 && route.oif.is_some());
        Ok(routes)
    }

    fn dump_routes(
        &mut self,
        operation: &str,
        filter: &[RouteAttribute],
    ) -> Result<Vec<RouteEntry>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            question.attributes = filter.to_vec();
            let payloads = match self.exchange.dump(operation, &RouteNetlinkMessage::GetRoute(question)) {
                // No such link.
                Err(error) if error.is_missing() => continue,
                listed => listed?,
            };
            for payload in payloads {
                routes.extend(RouteEntry::parse(&payload).ok_or_else(|| unreadable(operation))?);
            }
        }
        Ok(routes)
    }
}

impl Request<'_> {
    /// See [`Route::add_route`].
    #[must_use]
    pub fn add_route(route: &NewRoute) -> Self {
        let mut message = route.message();
        message.header.protocol = match route.by_kernel {
            true => RouteProtocol::Kernel,
            false => RouteProtocol::Boot,
        };
        message.header.kind = RouteType::Unicast;
        let flags = match route.mode {
            RouteMode::Create => NLM_F_EXCL,
            RouteMode::Append => NLM_F_APPEND,
            RouteMode::Replace => NLM_F_REPLACE,
        };
        let operation = format!("add {}", route.describe());
        Self::new(operation, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | flags)
    }

    /// See [`Route::del_route`].
    #[must_use]
    pub fn del_route(route: &NewRoute) -> Self {
        let mut message = route.message();
        if route.scope.is_none() {
            // Any: which scope the kernel gave it need not be known.
            message.header.scope = RouteScope::NoWhere;
        }
        Self::new(format!("delete {}", route.describe()), RouteNetlinkMessage::DelRoute(message), 0)
    }
}
