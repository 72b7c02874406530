//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{self, AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use super::link::unreadable;
use super::{LinkRef, Request, Route, Scope};
use crate::netlink::{NetlinkError, attributes, ip, u32_of};

/// Bytes of the header that address messages begin with (kernel `struct ifaddrmsg`).
const HEADER: usize = 8;

/// Kernel `include/uapi/linux/if_addr.h`.
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const DADFAILED: u32 = 0x08;
    pub(super) const TENTATIVE: u32 = 0x40;
    pub(super) const PERMANENT: u32 = 0x80;
}

/// An address as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Index of its link.
    pub index: u32,
    /// The address and the length of its prefix.
    pub net: IpNet,
    /// How far it can be reached from.
    pub scope: Scope,
    /// Still being checked for a duplicate (IPv6); an optimistic one can be used already.
    pub tentative: bool,
    /// Somebody else has it (IPv6): it cannot be used.
    pub dad_failed: bool,
    /// Given by hand, not by a router's advertisement or a lease.
    pub permanent: bool,
}

/// How an address is added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressFlags {
    /// Do not check for a duplicate (IPv6).
    pub nodad: bool,
    /// Use it while it is being checked (IPv6; the link's `optimistic_dad` must allow it).
    pub optimistic: bool,
    /// Add no route to its prefix.
    pub noprefixroute: bool,
}

impl Address {
    fn parse(payload: &[u8]) -> Option<Self> {
        let header = payload.get(..HEADER)?;
        let mut flags = u32::from(*header.get(2)?);
        let (mut own, mut other) = (None, None);
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                // Where there is a peer, this is the peer's; else it is the address itself, and IPv6 has no other.
                ifa::ADDRESS => other = ip(value),
                ifa::LOCAL => own = ip(value),
                ifa::FLAGS => flags = u32_of(value).unwrap_or(flags),
                _ => {}
            }
        }
        Some(Self {
            index: u32_of(header.get(4..)?)?,
            net: IpNet::new(own.or(other)?, *header.get(1)?).ok()?,
            scope: Scope(*header.get(3)?),
            tentative: flags & ifa::TENTATIVE != 0,
            dad_failed: flags & ifa::DADFAILED != 0,
            permanent: flags & ifa::PERMANENT != 0,
        })
    }
}

fn message(index: u32, net: &IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.header.family = family(net.addr());
    message.attributes = vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(net.addr())];
    message
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// IPv4 networks with room for one get a broadcast address, as the reference plugins give (RFC 3021: /31 has none).
fn broadcast(net: &IpNet) -> Option<AddressAttribute> {
    match net {
        IpNet::V4(net) if net.prefix_len() < 31 => Some(AddressAttribute::Broadcast(net.broadcast())),
        _ => None,
    }
}

impl Route {
    /// Adds an address; `EEXIST` when the link has it.
    pub fn add_address(
        &mut self,
        link: impl Into<LinkRef>,
        net: &IpNet,
        flags: AddressFlags,
    ) -> Result<(), NetlinkError> {
        self.send(Request::add_address(link, net, flags))
    }

    /// Takes an address away; `EADDRNOTAVAIL` when the link does not have it.
    pub fn del_address(&mut self, link: impl Into<LinkRef>, net: &IpNet) -> Result<(), NetlinkError> {
        self.send(Request::del_address(link, net))
    }

    /// The addresses of a link, of both families, in the kernel's order. None when there is no such link.
    pub fn addresses(&mut self, link: impl Into<LinkRef>) -> Result<Vec<Address>, NetlinkError> {
        let link = link.into();
        let listed = self.dump_addresses(&format!("list the addresses of {link}"), link.index);
        let mut addresses = match listed {
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            listed => listed?,
        };
        // Kernels before 4.20 list all links'.
        addresses.retain(|address| address.index == link.index);
        Ok(addresses)
    }

    /// The addresses of all links, of both families, in the kernel's order.
    pub fn all_addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        self.dump_addresses("list the addresses of all links", 0)
    }

    fn dump_addresses(&mut self, operation: &str, index: u32) -> Result<Vec<Address>, NetlinkError> {
        let mut question = AddressMessage::default();
        question.header.index = index;
        let payloads = self.exchange.dump(operation, &RouteNetlinkMessage::GetAddress(question))?;
        let addresses: Option<Vec<Address>> =
            payloads.iter().map(|payload| Address::parse(payload)).collect();
        addresses.ok_or_else(|| unreadable(operation))
    }
}

impl Request<'_> {
    /// See [`Route::add_address`].
    #[must_use]
    pub fn add_address(link: impl Into<LinkRef>, net: &IpNet, flags: AddressFlags) -> Self {
        let link = link.into();
        let mut bits = address::AddressFlags::empty();
        bits.set(address::AddressFlags::Nodad, flags.nodad);
        bits.set(address::AddressFlags::Optimistic, flags.optimistic);
        bits.set(address::AddressFlags::Noprefixroute, flags.noprefixroute);
        let mut message = message(link.index, net);
        // The header has room for eight of them; the attribute is for the rest.
        match u8::try_from(bits.bits()) {
            Ok(few) => message.header.flags = AddressHeaderFlags::from_bits_retain(few),
            Err(_) => message.attributes.insert(1, AddressAttribute::Flags(bits)),
        }
        message.attributes.extend(broadcast(net));
        let operation = format!("add address {net} to {link}");
        Self::new(operation, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// See [`Route::del_address`].
    #[must_use]
    pub fn del_address(link: impl Into<LinkRef>, net: &IpNet) -> Self {
        let link = link.into();
        let operation = format!("take address {net} from {link}");
        Self::new(operation, RouteNetlinkMessage::DelAddress(message(link.index, net)), 0)
    }
}
