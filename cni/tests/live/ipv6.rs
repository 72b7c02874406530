//! How interfaces get their IPv6 addresses, and that the neighbours hear of addresses.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use fairlead_kernel::{LinkChange, route::AddressFlags, sysctl};
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recv, sendto, setsockopt,
        socket, sockopt,
    },
    time::{TimeVal, TimeValLike},
};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace};

/// A macvlan with these addresses and keys.
fn network(addresses: &[&str], keys: &Value) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"address": address})).collect();
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "uplink0",
        "ipam": {"type": "static", "addresses": addresses}});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn listener() -> OwnedFd {
    let all = SockProtocol::EthAll;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200)).unwrap();
    socket
}

/// Whether such a frame comes within some seconds.
fn hears(socket: &OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> bool {
    let limit = Instant::now() + Duration::from_secs(10);
    let mut buffer = [0; 2048];
    while Instant::now() < limit {
        if recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())
            .is_ok_and(|length| wanted(&buffer[..length]))
        {
            return true;
        }
    }
    false
}

fn is_tentative(pod: &Namespace, text: &str) -> bool {
    let link = pod.link("net1").unwrap();
    let addresses = pod.route().addresses(&link).unwrap();
    addresses.iter().find(|address| address.net.to_string() == text).unwrap().tentative
}

/// Lets the other end of the uplink speak for itself.
fn switch_on(bed: &Bed) -> u32 {
    let switch = bed.host.link("switch0").unwrap();
    bed.host.route().set_link(&switch, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    let nodad = AddressFlags { nodad: true, ..AddressFlags::default() };
    bed.host.route().add_address(&switch, &"fe80::1/64".parse().unwrap(), nodad).unwrap();
    switch.index
}

/// A router's advertisement of `fd5e::/64`, for addresses that hosts make themselves.
fn advertise(bed: &Bed, switch: u32) {
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend("fd5e::".parse::<Ipv6Addr>().unwrap().octets());
    let send = || {
        let icmp = SockProtocol::IcmpV6;
        let socket = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, icmp).unwrap();
        setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).unwrap();
        let to = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, switch);
        sendto(socket.as_raw_fd(), &message, &SockaddrIn6::from(to), MsgFlags::empty()).unwrap();
    };
    bed.host.netns().run(send).unwrap();
}

fn follows_the_router(pod: &Namespace) -> bool {
    pod.addresses("net1").iter().any(|address| address.starts_with("fd5e:"))
}

#[test]
fn s28_neighbours_hear_of_addresses_of_both_families() {
    let Some(bed) = Bed::new("announcements of a plugin") else { return };
    let pod = bed.pod();
    switch_on(&bed);
    let socket = bed.host.netns().run(listener).unwrap();
    let config = network(&["10.28.0.5/24", "fd28::5/64"], &json!({}));
    bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
    let is_arp = |frame: &[u8]| {
        frame[12..14] == [8, 6] && frame[28..32] == [10, 28, 0, 5] && frame[38..42] == [10, 28, 0, 5]
    };
    assert!(hears(&socket, is_arp), "no gratuitous ARP came");
    let target = "fd28::5".parse::<Ipv6Addr>().unwrap().octets();
    let is_advertisement = |frame: &[u8]| {
        frame.len() >= 78 && frame[12..14] == [0x86, 0xdd] && frame[54] == 136 && frame[62..78] == target
    };
    assert!(hears(&socket, is_advertisement), "no neighbour advertisement came");
}

#[test]
fn s27_a_network_says_whether_duplicates_are_looked_for() {
    let Some(bed) = Bed::new("duplicates") else { return };
    let (first, second) = (bed.pod(), bed.pod());
    switch_on(&bed);
    let network = |dad: &str| network(&["fd27::5/64", "10.27.0.5/24"], &json!({"dad": dad}));
    bed.call("macvlan", "ADD", &network("wait"), "c1", &first.path()).unwrap();
    assert!(!is_tentative(&first, "fd27::5/64"));
    let error = bed.call("macvlan", "ADD", &network("wait"), "c2", &second.path()).unwrap_err();
    let text = error["msg"].as_str().unwrap();
    assert!(text.contains("fd27::5") && text.contains("somebody else"), "{error}");
    assert!(second.link("net1").is_none());
    // Who does not wait is not told.
    for dad in ["optimistic", "off"] {
        bed.call("macvlan", "ADD", &network(dad), "c2", &second.path()).unwrap();
        assert!(dad == "optimistic" || !is_tentative(&second, "fd27::5/64"));
        bed.call("macvlan", "DEL", &network(dad), "c2", &second.path()).unwrap();
    }
}

#[test]
fn s30_a_pod_without_ipv6_gets_its_ipv4_address_and_stays_without() {
    let Some(bed) = Bed::new("no IPv6") else { return };
    for dad in ["optimistic", "wait", "off"] {
        let pod = bed.pod();
        for part in ["all", "default"] {
            let key = format!("net/ipv6/conf/{part}/disable_ipv6");
            sysctl::set(Some(&pod.netns()), &key, "1").unwrap();
        }
        let config = network(&["10.30.0.5/24"], &json!({"dad": dad, "accept_ra": 1}));
        bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
        assert_eq!(pod.addresses("net1"), ["10.30.0.5/24"]);
        assert_eq!(sysctl::get(Some(&pod.netns()), "net/ipv6/conf/net1/disable_ipv6").unwrap(), "1");
        bed.call("macvlan", "DEL", &config, "c1", &pod.path()).unwrap();
    }
}

#[test]
fn routers_are_followed_as_the_network_or_else_the_pods_namespace_says() {
    let Some(bed) = Bed::new("routers") else { return };
    let switch = switch_on(&bed);
    for (number, (of_pod, of_network, is_followed)) in [
        ("1", json!({}), true),
        ("0", json!({}), false),
        ("1", json!({"accept_ra": 0}), false),
        ("0", json!({"accept_ra": 2}), true),
    ]
    .iter()
    .enumerate()
    {
        let pod = bed.pod();
        sysctl::set(Some(&pod.netns()), "net/ipv6/conf/default/accept_ra", of_pod).unwrap();
        let config = network(&[&format!("fd30::{}/64", number + 1)], of_network);
        bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
        let limit = Instant::now() + Duration::from_secs(if *is_followed { 30 } else { 2 });
        while Instant::now() < limit && !follows_the_router(&pod) {
            advertise(&bed, switch);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(follows_the_router(&pod), *is_followed, "{of_pod} {of_network}");
        bed.call("macvlan", "DEL", &config, "c1", &pod.path()).unwrap();
    }
}
