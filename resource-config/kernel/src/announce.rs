//! Telling a link's neighbours, and the switches between, where an address is now, so that nobody sends to the place
//! that had it before.

use std::io;
use std::net::{IpAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, socket,
};

use crate::announce_frames::{
    ALL_NODES, ALL_NODES_ADDRESS, BROADCAST, ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV6, gratuitous_arp,
    neighbour_advertisement,
};
use crate::mac::Mac;
use crate::netlink::NetlinkError;
use crate::netns::{Netns, NetnsError};
use crate::route::{Link, LinkChange, Request, Route};
use crate::sys;

/// Kinds of links that have no device's driver, which might refuse a hardware address even if it is the one that is set.
const WITHOUT_DRIVER: [&str; 4] = ["dummy", "macvlan", "veth", "vlan"];

/// Why an address could not be announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The link's address is not an Ethernet one.
    #[error("addresses are announced on Ethernet only, and {mac} is no Ethernet address")]
    NotEthernet {
        /// The link's address.
        mac: Mac,
    },
    /// The kernel gave no packet socket.
    #[error("cannot open a packet socket to announce addresses")]
    Socket(#[source] io::Error),
    /// A frame was not taken.
    #[error("cannot announce {address} on link number {index}")]
    Send {
        /// What was to be announced.
        address: IpAddr,
        /// Where.
        index: u32,
        /// What the kernel said; `ENETDOWN` when the link is down.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// Announces addresses that a link in `netns` has: a gratuitous ARP request for each IPv4 address, an unsolicited neighbour
/// advertisement for each IPv6 address. The link must be up and have carrier, or the frames go nowhere. `route` is a socket in
/// that namespace.
///
/// To close a packet socket takes the kernel a grace period (`packet_release` in `net/packet/af_packet.c`), 10 ms and more. So
/// it is the last resort: a link without a driver is announced by the kernel itself, and IPv6 goes through a raw socket.
pub fn announce(
    netns: &Netns,
    route: &mut Route,
    link: &Link,
    addresses: &[IpAddr],
) -> Result<(), AnnounceError> {
    let Some(mac) = link.mac else { return Ok(()) };
    let ethernet = mac.ethernet().ok_or(AnnounceError::NotEthernet { mac })?;
    let mut left = addresses.to_vec();
    let has_driver = !link.kind.as_deref().is_some_and(|kind| WITHOUT_DRIVER.contains(&kind));
    if !has_driver && left.iter().any(IpAddr::is_ipv4) && by_kernel(route, link).is_ok() {
        left.retain(IpAddr::is_ipv6);
    }
    if left.iter().any(IpAddr::is_ipv6)
        && let Ok(socket) = netns.run(raw_socket)?
    {
        left.retain(|address| send_ipv6(&socket, link.index, ethernet, *address).is_err());
    }
    if left.is_empty() {
        return Ok(());
    }
    // A socket stays in the namespace that it was made in.
    let socket = netns.run(packet_socket)?.map_err(AnnounceError::Socket)?;
    for address in left {
        let failed = |source| AnnounceError::Send { address, index: link.index, source };
        send(&socket, link.index, ethernet, address).map_err(failed)?;
    }
    Ok(())
}

/// Has the kernel announce the link's IPv4 addresses, as it does when a hardware address is set (`NETDEV_CHANGEADDR` in
/// `net/ipv4/devinet.c`) if the link is to notify. It is left to notify only if it was before.
fn by_kernel(route: &mut Route, link: &Link) -> Result<(), NetlinkError> {
    let notify = |on| LinkChange { arp_notify: Some(on), ..LinkChange::default() };
    let again = LinkChange { mac: link.mac, ..LinkChange::default() };
    let mut requests = vec![Request::set_link(link, &notify(true)), Request::set_link(link, &again)];
    if !link.arp_notify {
        requests.push(Request::set_link(link, &notify(false)));
    }
    route.batch(&requests).into_iter().collect()
}

fn packet_socket() -> io::Result<OwnedFd> {
    // No protocol: it shall receive nothing.
    Ok(socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?)
}

/// A socket that is given whole IPv6 packets, and receives none.
fn raw_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?)
}

/// Fails for an IPv4 address, and where the link has no IPv6 address yet that the kernel would send from.
fn send_ipv6(socket: &OwnedFd, index: u32, mac: [u8; 6], address: IpAddr) -> io::Result<()> {
    let IpAddr::V6(address) = address else { return Err(io::ErrorKind::Unsupported.into()) };
    let frame = neighbour_advertisement(mac, address);
    let all_nodes = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES_ADDRESS, 0, 0, index));
    sendto(socket.as_raw_fd(), &frame[ETHERNET_HEADER..], &all_nodes, MsgFlags::empty())?;
    Ok(())
}

fn send(socket: &OwnedFd, index: u32, mac: [u8; 6], address: IpAddr) -> io::Result<()> {
    let (frame, ethertype, destination) = match address {
        IpAddr::V4(address) => (gratuitous_arp(mac, address), ETHERTYPE_ARP, BROADCAST),
        IpAddr::V6(address) => (neighbour_advertisement(mac, address), ETHERTYPE_IPV6, ALL_NODES),
    };
    let place = sys::link_address(index, ethertype, destination)?;
    sendto(socket.as_raw_fd(), &frame, &place, MsgFlags::empty())?;
    Ok(())
}
