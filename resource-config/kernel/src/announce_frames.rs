//! The frames by which a host tells its link where an address is now.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];
/// Ethernet's address for ff02::1 (RFC 2464, section 7).
pub(crate) const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Bytes before what the frame carries.
pub(crate) const ETHERNET_HEADER: usize = 14;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(crate) const ALL_NODES_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;

/// A gratuitous ARP request: sender and target are the same IPv4 address (RFC 826; the target's hardware address is all
/// ones, as the reference plugins send it).
pub(crate) fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, their address lengths, request.
    frame.extend([0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend(BROADCAST);
    frame.extend(address.octets());
    frame
}

/// An unsolicited neighbour advertisement to all nodes, which overrides what they have cached (RFC 4861, 7.2.6).
pub(crate) fn neighbour_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    // Type 136, code 0, checksum to come, "override", target, and the option "target link-layer address".
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let checksum = icmpv6_checksum(address, ALL_NODES_ADDRESS, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length(&message).to_be_bytes());
    // The receivers drop it when the hop limit is not 255: then it came through a router.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES_ADDRESS.octets());
    frame.extend(message);
    frame
}

fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(destination);
    frame.extend(source);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// RFC 4443, section 2.3: over a header of both addresses, the length and the protocol, then the message.
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut covered = Vec::new();
    covered.extend(source.octets());
    covered.extend(destination.octets());
    covered.extend([0, 0]);
    covered.extend(length(message).to_be_bytes());
    covered.extend([0, 0, 0, ICMPV6]);
    covered.extend(message);
    let words =
        covered.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn length(message: &[u8]) -> u16 {
    u16::try_from(message.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x02, 0x00, 0x00, 0x00, 0x00, 0x2a];

    fn hex(frame: &[u8]) -> String {
        frame.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn s28_a_gratuitous_arp_request_byte_by_byte() {
        let expected = concat!(
            "ffffffffffff",
            "02000000002a",
            "0806",
            "0001",
            "0800",
            "06",
            "04",
            "0001",
            "02000000002a",
            "0a0a0002",
            "ffffffffffff",
            "0a0a0002",
        );
        assert_eq!(hex(&gratuitous_arp(MAC, "10.10.0.2".parse().unwrap())), expected);
    }

    /// The checksum was computed by hand from RFC 4443; a live test lets the kernel judge it as well.
    #[test]
    fn s28_an_unsolicited_neighbour_advertisement_byte_by_byte() {
        let frame = neighbour_advertisement(MAC, "fd00::2".parse().unwrap());
        let expected = concat!(
            "333300000001",
            "02000000002a",
            "86dd",
            "60000000",
            "0020",
            "3a",
            "ff",
            "fd000000000000000000000000000002",
            "ff020000000000000000000000000001",
            "88",
            "00",
            "CHECKSUM",
            "20000000",
            "fd000000000000000000000000000002",
            "02",
            "01",
            "02000000002a",
        );
        assert_eq!(frame.len(), 86);
        assert_eq!(hex(&frame), expected.replace("CHECKSUM", &hex(&frame[56..58])));
        assert_eq!(ones_complement_sum(&frame), 0xffff);
    }

    /// A receiver's check: the sum over everything, checksum included, is all ones.
    fn ones_complement_sum(frame: &[u8]) -> u32 {
        let (addresses, message) = (&frame[22..54], &frame[54..]);
        let pseudo_header = [0, 32, 0, 58];
        let mut sum: u32 = [addresses, &pseudo_header, message]
            .concat()
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }
}
