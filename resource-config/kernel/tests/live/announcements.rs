use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use fairlead_kernel::route::AddressFlags;
use fairlead_kernel::{Link, LinkChange, LinkKind, NewLink, announce::announce, sysctl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::support::sandboxes;

/// A socket that gets every frame of its namespace.
fn listener() -> OwnedFd {
    let all = SockProtocol::EthAll;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200)).unwrap();
    socket
}

/// The first frame that is wanted, within some seconds.
fn receive(socket: &OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let limit = Instant::now() + Duration::from_secs(5);
    let mut buffer = [0; 2048];
    while Instant::now() < limit {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) if wanted(&buffer[..length]) => return Some(buffer[..length].to_vec()),
            _ => {}
        }
    }
    None
}

/// The receiving side works after the frame was seen.
fn eventually(holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < limit, "it did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn s28_neighbours_hear_of_an_address_and_learn_it() {
    let Some([mut pod, mut other]) = sandboxes("announcements") else { return };
    let kind = LinkKind::Veth { peer_name: "peer".to_owned(), peer_netns: Some(&other.netns) };
    let link = NewLink { up: true, mac: Some([2, 0, 0, 0, 0, 0x2a].into()), ..NewLink::new("net1", kind) };
    pod.route.add_link(&link).unwrap();
    let peer = other.link("peer");
    other.route.set_link(&peer, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let nodad = AddressFlags { nodad: true, ..AddressFlags::default() };
    other.route.add_address(&peer, &"fd00::9/64".parse().unwrap(), nodad).unwrap();
    other.route.add_address(&peer, &"10.10.0.9/24".parse().unwrap(), AddressFlags::default()).unwrap();
    sysctl::set(Some(&other.netns), "net/ipv4/conf/peer/arp_accept", "1").unwrap();

    let link = pod.link("net1");
    pod.route.add_address(&link, &"10.10.0.2/24".parse().unwrap(), AddressFlags::default()).unwrap();
    pod.route.add_address(&link, &"fd00::2/64".parse().unwrap(), nodad).unwrap();
    let addresses: [IpAddr; 2] = ["10.10.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    // As it is, and as a device with a driver would be announced.
    for link in [link.clone(), Link { kind: None, ..link }] {
        let [for_arp, for_ipv6] = [(); 2].map(|()| other.netns.run(listener).unwrap());
        announce(&pod.netns, &mut pod.route, &link, &addresses).unwrap();

        let arp = receive(&for_arp, |frame| frame[12..14] == [0x08, 0x06]).expect("no ARP frame came");
        assert_eq!(
            (&arp[6..12], &arp[28..32], &arp[38..42]),
            (&[2, 0, 0, 0, 0, 0x2a][..], &[10, 10, 0, 2][..], &[10, 10, 0, 2][..])
        );
        let advertised = |frame: &[u8]| frame[12..14] == [0x86, 0xdd] && frame.get(54) == Some(&136);
        let advertisement = receive(&for_ipv6, advertised).expect("no neighbour advertisement came");
        assert_eq!(advertisement.len(), 86);
        assert!(!pod.link("net1").arp_notify, "the link was left to notify");
    }

    // The receiving kernel took both: it learned the one, and counted the other after checking its checksum.
    let read = |path: &str| other.netns.run(|| std::fs::read_to_string(path).unwrap()).unwrap();
    eventually(|| {
        let arp = read("/proc/thread-self/net/arp");
        arp.lines().any(|line| line.contains("10.10.0.2") && line.contains("02:00:00:00:00:2a"))
    });
    eventually(|| {
        let counters = read("/proc/thread-self/net/snmp6");
        let advertisements = counters.lines().find(|line| line.starts_with("Icmp6InNeighborAdvertisements"));
        advertisements.is_some_and(|line| !line.ends_with("\t0"))
    });
}

#[test]
fn a_link_that_notifies_by_itself_goes_on_to() {
    let Some([mut pod]) = sandboxes("announcements of a link that notifies") else { return };
    pod.add_veth("net1", "peer");
    let link = pod.link("net1");
    assert!(!link.arp_notify);
    let notify = LinkChange { arp_notify: Some(true), ..LinkChange::default() };
    pod.route.set_link(&link, &notify).unwrap();
    let link = pod.link("net1");
    assert!(link.arp_notify);
    announce(&pod.netns, &mut pod.route, &link, &["10.10.0.2".parse().unwrap()]).unwrap();
    assert!(pod.link("net1").arp_notify);
}

#[test]
fn a_link_that_is_down_or_gone_says_so() {
    let Some([mut pod]) = sandboxes("announcements on a link that is down") else { return };
    pod.add_veth("up", "down");
    let link = Link { kind: None, ..pod.link("down") };
    let address: IpAddr = "10.10.0.2".parse().unwrap();
    let error = announce(&pod.netns, &mut pod.route, &link, &[address]).unwrap_err();
    assert!(error.to_string().contains("cannot announce 10.10.0.2 on link number"), "{error}");
    for kind in [None, Some("veth".to_owned())] {
        let gone = Link { index: 9999, kind, ..link.clone() };
        assert!(announce(&pod.netns, &mut pod.route, &gone, &[address]).is_err());
        assert!(announce(&pod.netns, &mut pod.route, &gone, &[]).is_ok());
    }
}
