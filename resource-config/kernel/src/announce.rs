//! Telling a link's neighbours, and the switches between, where an address is now, so that nobody sends to the place
//! that had it before.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::announce_frames::{
    ALL_NODES, BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV6, gratuitous_arp, neighbour_advertisement,
};
use crate::mac::Mac;
use crate::netns::{Netns, NetnsError};
use crate::sys;

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

/// Announces addresses of a link in `netns`: a gratuitous ARP request for each IPv4 address, an unsolicited neighbour
/// advertisement for each IPv6 address. The link must be up and have carrier, or the frames go nowhere.
pub fn announce(netns: &Netns, index: u32, mac: Mac, addresses: &[IpAddr]) -> Result<(), AnnounceError> {
    let ethernet = mac.ethernet().ok_or(AnnounceError::NotEthernet { mac })?;
    // A socket stays in the namespace that it was made in.
    let socket = netns.run(packet_socket)?.map_err(AnnounceError::Socket)?;
    for address in addresses {
        let failed = |source| AnnounceError::Send { address: *address, index, source };
        send(&socket, index, ethernet, *address).map_err(failed)?;
    }
    Ok(())
}

fn packet_socket() -> io::Result<OwnedFd> {
    // No protocol: it shall receive nothing.
    Ok(socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?)
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
