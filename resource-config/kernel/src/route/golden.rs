//! Requests compared byte by byte with what iproute2 6.1.0 sends for the command named with each (captured with
//! strace; the sequence number set to zero). Attributes are in iproute2's order, which the kernel does not need.

use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;

use super::*;

/// What the namespace's file number was in the capture.
const CAPTURED_FD: &str = "08001c0004000000";
const PF: u32 = 10;

/// The captured bytes with the namespace's file number as it is here.
fn in_namespace(captured: &str, netns: &Netns) -> String {
    let number: String =
        netns.as_fd().as_raw_fd().to_ne_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(captured.contains(CAPTURED_FD));
    captured.replace(CAPTURED_FD, &format!("08001c00{number}"))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn vf(change: &VfChange) -> String {
    Request::set_vf(PF, 3, change).hex()
}

/// `ip link set dev pf0 vf 3 vlan 100 qos 5`, the same with `proto 802.1ad`.
#[test]
fn s3_s4_s6_vf_vlan() {
    let vlan = |proto| vf(&VfChange { vlan: Some(VfVlan { id: 100, qos: 5, proto }), ..VfChange::default() });
    assert_eq!(
        vlan(VlanProtocol::Dot1Q),
        "38000000100005000000000000000000000000000a0000000000000000000000180016001400010010000200030000006400000005000000"
    );
    assert_eq!(
        vlan(VlanProtocol::Dot1Ad),
        "40000000100005000000000000000000000000000a0000000000000000000000200016001c00010018000c001400010003000000640000000500000088a80000"
    );
}

/// `... vf 3 mac 02:00:00:00:00:03`.
#[test]
fn s10_vf_mac() {
    let mac = Some([2, 0, 0, 0, 0, 3].into());
    assert_eq!(
        vf(&VfChange { mac, ..VfChange::default() }),
        "50000000100005000000000000000000000000000a0000000000000000000000300016002c00010028000100030000000200000000030000000000000000000000000000000000000000000000000000"
    );
}

/// `... vf 3 spoofchk off`, `... vf 3 trust on`, `... vf 3 state enable`.
#[test]
fn s7_s8_vf_switches() {
    assert_eq!(
        vf(&VfChange { spoof_check: Some(false), ..VfChange::default() }),
        "34000000100005000000000000000000000000000a000000000000000000000014001600100001000c0004000300000000000000"
    );
    assert_eq!(
        vf(&VfChange { trust: Some(true), ..VfChange::default() }),
        "34000000100005000000000000000000000000000a000000000000000000000014001600100001000c0009000300000001000000"
    );
    assert_eq!(
        vf(&VfChange { link_state: Some(VfLinkState::Enable), ..VfChange::default() }),
        "34000000100005000000000000000000000000000a000000000000000000000014001600100001000c0005000300000001000000"
    );
}

/// `... vf 3 max_tx_rate 200 min_tx_rate 100`.
#[test]
fn s9_vf_rate() {
    assert_eq!(
        vf(&VfChange { rate: Some(VfRate { min: 100, max: 200 }), ..VfChange::default() }),
        "38000000100005000000000000000000000000000a00000000000000000000001800160014000100100006000300000064000000c8000000"
    );
}

/// `... vf 3 mac ... vlan 100 qos 5 max_tx_rate 200 min_tx_rate 100 spoofchk off state enable trust on`.
#[test]
fn s3_s4_s7_vf_all_in_one_message() {
    let all = VfChange {
        mac: Some([2, 0, 0, 0, 0, 3].into()),
        vlan: Some(VfVlan { id: 100, qos: 5, proto: VlanProtocol::Dot1Q }),
        rate: Some(VfRate { min: 100, max: 200 }),
        spoof_check: Some(false),
        link_state: Some(VfLinkState::Enable),
        trust: Some(true),
    };
    assert_eq!(
        vf(&all),
        "94000000100005000000000000000000000000000a0000000000000000000000740016007000010028000100030000000200000000030000000000000000000000000000000000000000000000000000100002000300000064000000050000000c00040003000000000000000c00050003000000010000000c0009000300000001000000100006000300000064000000c8000000"
    );
}

/// `ip link add link pf0 name mv0 mtu 1400 address 02:00:00:00:00:05 netns gold group 42 type macvlan mode bridge`,
/// `ip link add link pf0 name mv1 type macvlan mode private bcqueuelen 5000`.
#[test]
fn macvlan() {
    let netns = Netns::current().unwrap();
    let kind = LinkKind::Macvlan { parent: PF, mode: MacvlanMode::Bridge, bc_queue_len: None };
    let link = NewLink {
        mtu: Some(1400),
        mac: Some([2, 0, 0, 0, 0, 5].into()),
        group: Some(42),
        netns: Some(&netns),
        ..NewLink::new("mv0", kind)
    };
    let captured = "700000001000050600000000000000000000000000000000000000000000000008000400780500000a000100020000000005000008001c000400000008001b002a000000080005000a000000080003006d7630001c0012000b0001006d6163766c616e000c0002000800010004000000";
    assert_eq!(Request::add_link(&link).hex(), in_namespace(captured, &netns));
    let kind = LinkKind::Macvlan { parent: PF, mode: MacvlanMode::Private, bc_queue_len: Some(5000) };
    assert_eq!(
        Request::add_link(&NewLink::new("mv1", kind)).hex(),
        "5400000010000506000000000000000000000000000000000000000000000000080005000a000000080003006d763100240012000b0001006d6163766c616e001400020008000700881300000800010001000000"
    );
}

/// `ip link add link pf0 name iv0 type ipvlan mode l3s private`,
/// `ip link add link pf0 name vl0 type vlan protocol 802.1ad id 100`.
#[test]
fn ipvlan_and_vlan() {
    let kind = LinkKind::Ipvlan { parent: PF, mode: IpvlanMode::L3s, flag: IpvlanFlag::Private };
    assert_eq!(
        Request::add_link(&NewLink::new("iv0", kind)).hex(),
        "5400000010000506000000000000000000000000000000000000000000000000080005000a0000000800030069763000240012000a0001006970766c616e00001400020006000100020000000600020001000000"
    );
    let kind = LinkKind::Vlan { parent: PF, id: 100, protocol: VlanProtocol::Dot1Ad };
    assert_eq!(
        Request::add_link(&NewLink::new("vl0", kind)).hex(),
        "5000000010000506000000000000000000000000000000000000000000000000080005000a00000008000300766c30002000120008000100766c616e140002000600050088a800000600010064000000"
    );
}

/// `ip link add name vt0 type veth peer name vt1 netns gold`, `ip link add name br0 type bridge`, the same for a dummy.
#[test]
fn veth_bridge_and_dummy() {
    let netns = Netns::current().unwrap();
    let kind = LinkKind::Veth { peer_name: "vt1".to_owned(), peer_netns: Some(&netns) };
    let captured = "5c00000010000506000000000000000000000000000000000000000000000000080003007674300034001200080001007665746828000200240001000000000000000000000000000000000008001c00040000000800030076743100";
    assert_eq!(Request::add_link(&NewLink::new("vt0", kind)).hex(), in_namespace(captured, &netns));
    assert_eq!(
        Request::add_link(&NewLink::new("br0", LinkKind::Bridge)).hex(),
        "38000000100005060000000000000000000000000000000000000000000000000800030062723000100012000a0001006272696467650000"
    );
    assert_eq!(
        Request::add_link(&NewLink::new("dm0", LinkKind::Dummy)).hex(),
        "380000001000050600000000000000000000000000000000000000000000000008000300646d3000100012000900010064756d6d79000000"
    );
}

/// `ip link add name br1 mtu 1400 address 02:00:00:00:00:05 type bridge vlan_filtering 1`.
#[test]
fn a_bridge_that_keeps_vlans_apart() {
    let mac = Some([2, 0, 0, 0, 0, 5].into());
    let bridge = NewLink { mtu: Some(1400), mac, ..NewLink::new("br1", LinkKind::VlanBridge) };
    assert_eq!(
        Request::add_link(&bridge).hex(),
        "580000001000050600000000000000000000000000000000000000000000000008000400780500000a000100020000000005000008000300627231001c0012000a00010062726964676500000c0002000500070001000000"
    );
}

/// `ip link add name vt0 mtu 1400 address 02:00:00:00:00:06 master br0 up type veth peer name vt1 mtu 1400 address
/// 02:00:00:00:00:07 netns gold group 42`.
#[test]
fn a_veth_pair_between_bridge_and_pod_in_one_message() {
    let netns = Netns::current().unwrap();
    let kind = LinkKind::Veth { peer_name: "vt1".to_owned(), peer_netns: Some(&netns) };
    let pair = NewLink {
        mtu: Some(1400),
        mac: Some([2, 0, 0, 0, 0, 6].into()),
        master: Some(2),
        up: true,
        peer: PeerEnd { mtu: Some(1400), mac: Some([2, 0, 0, 0, 0, 7].into()), group: Some(42) },
        ..NewLink::new("vt0", kind)
    };
    let captured = "940000001000050600000000000000000000000000000000010000000100000008000400780500000a000100020000000006000008000a0002000000080003007674300050001200080001007665746844000200400001000000000000000000000000000000000008000400780500000a000100020000000007000008001c000400000008001b002a0000000800030076743100";
    assert_eq!(Request::add_link(&pair).hex(), in_namespace(captured, &netns));
}

/// `bridge link set dev vt0 hairpin on isolated on`, `bridge vlan add dev vt0 vid 100 pvid untagged`, `bridge vlan add
/// dev vt0 vid 100-200`, `bridge vlan del dev vt0 vid 1-4094`.
#[test]
fn ports_of_bridges() {
    let port = PortChange { hairpin: Some(true), isolated: Some(true), ..PortChange::default() };
    assert_eq!(
        Request::set_port(4, &port).hex(),
        "340000001300050000000000000000000700000004000000000000000000000014000c8005000400010000000500210001000000"
    );
    let vlans = |vlan| PortChange { vlans: vec![vlan], ..PortChange::default() };
    assert_eq!(
        Request::set_port(4, &vlans(PortVlan::access(100))).hex(),
        "2c000000130005000000000000000000070000000400000000000000000000000c001a000800020006006400"
    );
    assert_eq!(
        Request::set_port(4, &vlans(PortVlan::tagged(100..=200))).hex(),
        "340000001300050000000000000000000700000004000000000000000000000014001a000800020008006400080002001000c800"
    );
    assert_eq!(
        Request::del_port_vlans(4, 1..=4094).hex(),
        "340000001100050000000000000000000700000004000000000000000000000014001a000800020008000100080002001000fe0f"
    );
}

/// `ip link set dev pf0p netns gold name net1`.
#[test]
fn move_and_rename() {
    let netns = Netns::current().unwrap();
    let change = LinkChange { netns: Some(&netns), name: Some("net1".to_owned()), ..LinkChange::default() };
    let captured = "34000000100005000000000000000000000000000b000000000000000000000008001c0004000000090003006e65743100000000";
    assert_eq!(Request::set_link(11, &change).hex(), in_namespace(captured, &netns));
}

/// `ip link set dev pf0 up promisc on allmulticast on`,
/// `ip link set dev pf0 address 02:00:00:00:00:06 mtu 1450 alias pod-a group 7 name pf1`.
#[test]
fn other_changes_of_links() {
    let flags =
        LinkChange { up: Some(true), promisc: Some(true), allmulti: Some(true), ..LinkChange::default() };
    assert_eq!(
        Request::set_link(PF, &flags).hex(),
        "20000000100005000000000000000000000000000a0000000103000001030000"
    );
    let change = LinkChange {
        mac: Some([2, 0, 0, 0, 0, 6].into()),
        mtu: Some(1450),
        alias: Some("pod-a".to_owned()),
        group: Some(7),
        name: Some("pf1".to_owned()),
        ..LinkChange::default()
    };
    assert_eq!(
        Request::set_link(PF, &change).hex(),
        "50000000100005000000000000000000000000000a00000000000000000000000a000100020000000006000008000400aa05000009001400706f642d6100000008001b00070000000800030070663100"
    );
}

/// `ip link set dev pf1 nomaster`, `ip link del group 42`, `ip link del dev br0`.
#[test]
fn removals_of_links() {
    let nomaster = LinkChange { master: Some(0), ..LinkChange::default() };
    assert_eq!(
        Request::set_link(PF, &nomaster).hex(),
        "28000000100005000000000000000000000000000a000000000000000000000008000a0000000000"
    );
    assert_eq!(
        Request::delete_group(42).hex(),
        "280000001100050000000000000000000000000000000000000000000000000008001b002a000000"
    );
    assert_eq!(
        Request::delete_link(4).hex(),
        "2000000011000500000000000000000000000000040000000000000000000000"
    );
}

/// `ip link add vrf0 type vrf table 100`, `ip link set dev pf0 txqueuelen 500` (number 3).
#[test]
fn vrf_and_queue_length() {
    assert_eq!(
        Request::add_link(&NewLink::new("vrf0", LinkKind::Vrf { table: 100 })).hex(),
        "44000000100005060000000000000000000000000000000000000000000000000900030076726630000000001800120007000100767266000c0002000800010064000000"
    );
    let change = LinkChange { tx_queue_len: Some(500), ..LinkChange::default() };
    assert_eq!(
        Request::set_link(3, &change).hex(),
        "280000001000050000000000000000000000000003000000000000000000000008000d00f4010000"
    );
}

/// `ip link property add dev pf1 altname alternative-name-of-pf0`, the same with `del`.
#[test]
fn altnames() {
    let name = "alternative-name-of-pf0";
    assert_eq!(
        Request::add_altname(PF, name).hex(),
        "400000006c00050e0000000000000000000000000a0000000000000000000000200034801c003500616c7465726e61746976652d6e616d652d6f662d70663000"
    );
    assert_eq!(
        Request::del_altname(PF, name).hex(),
        "400000006d0005000000000000000000000000000a0000000000000000000000200034801c003500616c7465726e61746976652d6e616d652d6f662d70663000"
    );
}

/// `ip addr add 10.1.1.5/24 brd + dev pf0`, `ip addr add 10.1.2.4/31 dev pf0`, `ip addr del 10.1.1.5/24 dev pf0`.
#[test]
fn ipv4_addresses() {
    let add = |text: &str| Request::add_address(PF, &net(text), AddressFlags::default()).hex();
    assert_eq!(
        add("10.1.1.5/24"),
        "30000000140005060000000000000000021800000a000000080002000a010105080001000a010105080004000a0101ff"
    );
    assert_eq!(
        add("10.1.2.4/31"),
        "28000000140005060000000000000000021f00000a000000080002000a010204080001000a010204"
    );
    assert_eq!(
        Request::del_address(PF, &net("10.1.1.5/24")).hex(),
        "28000000150005000000000000000000021800000a000000080002000a010105080001000a010105"
    );
}

/// `ip addr add fd00:1::5/64 dev pf0 nodad`, `ip addr add fd00:1::6/64 dev pf0 noprefixroute optimistic`.
#[test]
fn ipv6_addresses() {
    let nodad = AddressFlags { nodad: true, ..AddressFlags::default() };
    assert_eq!(
        Request::add_address(PF, &net("fd00:1::5/64"), nodad).hex(),
        "400000001400050600000000000000000a4002000a00000014000200fd00000100000000000000000000000514000100fd000001000000000000000000000005"
    );
    let many = AddressFlags { noprefixroute: true, optimistic: true, nodad: false };
    assert_eq!(
        Request::add_address(PF, &net("fd00:1::6/64"), many).hex(),
        "480000001400050600000000000000000a4000000a00000014000200fd000001000000000000000000000006080008000402000014000100fd000001000000000000000000000006"
    );
}

fn route_on_pf(dst: &str, gateway: Option<&str>) -> NewRoute {
    NewRoute { gateway: gateway.map(|text| text.parse().unwrap()), oif: Some(PF), ..NewRoute::to(net(dst)) }
}

/// `ip route add default via 10.10.0.254 dev pf0`, `ip route append 10.30.0.0/16 dev pf0`,
/// `ip route replace 10.31.0.0/16 via 172.16.0.1 dev pf0 onlink`, `ip route del 10.30.0.0/16 dev pf0`.
#[test]
fn plain_routes() {
    assert_eq!(
        Request::add_route(&route_on_pf("0.0.0.0/0", Some("10.10.0.254"))).hex(),
        "2c00000018000506000000000000000002000000fe03000100000000080005000a0a00fe080004000a000000"
    );
    let append = NewRoute { mode: RouteMode::Append, ..route_on_pf("10.30.0.0/16", None) };
    assert_eq!(
        Request::add_route(&append).hex(),
        "2c0000001800050c000000000000000002100000fe03fd0100000000080001000a1e0000080004000a000000"
    );
    let mode = RouteMode::Replace;
    let onlink = NewRoute { mode, onlink: true, ..route_on_pf("10.31.0.0/16", Some("172.16.0.1")) };
    assert_eq!(
        Request::add_route(&onlink).hex(),
        "3400000018000505000000000000000002100000fe03000104000000080001000a1f000008000500ac100001080004000a000000"
    );
    assert_eq!(
        Request::del_route(&route_on_pf("10.30.0.0/16", None)).hex(),
        "2c00000019000500000000000000000002100000fe00ff0000000000080001000a1e0000080004000a000000"
    );
}

/// `ip route add 10.20.0.0/16 via 10.10.0.254 dev pf0 src 10.10.0.1 metric 50 table 1000 mtu 1400 advmss 1360`.
#[test]
fn a_route_with_everything() {
    let route = NewRoute {
        src: Some("10.10.0.1".parse().unwrap()),
        priority: Some(50),
        table: 1000,
        mtu: Some(1400),
        advmss: Some(1360),
        ..route_on_pf("10.20.0.0/16", Some("10.10.0.254"))
    };
    assert_eq!(
        Request::add_route(&route).hex(),
        "60000000180005060000000000000000021000000003000100000000080001000a140000080005000a0a00fe080007000a0a0001080006003200000008000f00e8030000080004000a0000001400080008000200780500000800080050050000"
    );
}

/// `ip route add fd00:9::/48 via fd00::9 dev pf0 metric 7`, `ip route add 10.32.0.0/16 via inet6 fd00::9 dev pf0`.
#[test]
fn routes_by_ipv6() {
    let route = NewRoute { priority: Some(7), ..route_on_pf("fd00:9::/48", Some("fd00::9")) };
    assert_eq!(
        Request::add_route(&route).hex(),
        "540000001800050600000000000000000a300000fe0300010000000014000100fd00000900000000000000000000000014000500fd0000000000000000000000000000090800060007000000080004000a000000"
    );
    assert_eq!(
        Request::add_route(&route_on_pf("10.32.0.0/16", Some("fd00::9"))).hex(),
        "4400000018000506000000000000000002100000fe03000100000000080001000a200000160012000a00fd0000000000000000000000000000090000080004000a000000"
    );
}

/// `ip rule add from 10.1.1.5/32 table 100`, `ip rule del from 10.1.1.5/32 table 100 priority 32765`,
/// `ip -6 rule add from fd00::5/128 table 1000 priority 500`, the same with `del`,
/// `ip rule add to 10.2.0.0/16 iif pf0 oif pf0p table 7 priority 9`.
#[test]
fn rules() {
    let v4 = Rule::from_host("10.1.1.5".parse().unwrap(), 100);
    assert_eq!(
        Request::add_rule(&v4).hex(),
        "24000000200005060000000000000000020020006400000100000000080002000a010105"
    );
    assert_eq!(
        Request::del_rule(&Rule { priority: Some(32765), ..v4 }).hex(),
        "2c000000210005000000000000000000020020006400000000000000080002000a01010508000600fd7f0000"
    );
    let v6 = Rule { priority: Some(500), ..Rule::from_host("fd00::5".parse().unwrap(), 1000) };
    assert_eq!(
        Request::add_rule(&v6).hex(),
        "400000002000050600000000000000000a008000000000010000000014000200fd00000000000000000000000000000508000f00e803000008000600f4010000"
    );
    assert_eq!(
        Request::del_rule(&v6).hex(),
        "400000002100050000000000000000000a008000000000000000000014000200fd00000000000000000000000000000508000f00e803000008000600f4010000"
    );
    let through = Rule {
        src: net("0.0.0.0/0"),
        dst: Some(net("10.2.0.0/16")),
        iif: Some("pf0".to_owned()),
        oif: Some("pf0p".to_owned()),
        table: 7,
        priority: Some(9),
    };
    assert_eq!(
        Request::add_rule(&through).hex(),
        "40000000200005060000000000000000021000000700000100000000080001000a02000008000300706630000900110070663070000000000800060009000000"
    );
}
