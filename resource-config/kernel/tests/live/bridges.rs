use fairlead_kernel::route::{BridgePort, OperState, PeerEnd, PortChange, PortVlan};
use fairlead_kernel::{Errno, LinkChange, LinkKind, Mac, NewLink, Request};

use crate::support::{Sandbox, sandboxes, skip};

/// A bridge in the host with a port whose other end is `net1` of the pod.
fn connect(host: &mut Sandbox, pod: &Sandbox, bridge: LinkKind<'_>) -> Result<(), Errno> {
    let made = host.route.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) });
    made.map_err(|error| error.errno().unwrap())?;
    let master = Some(host.link("br0").index);
    let kind = LinkKind::Veth { peer_name: "net1".to_owned(), peer_netns: Some(&pod.netns) };
    let peer = PeerEnd { mtu: Some(1400), mac: Some([2, 0, 0, 0, 0, 7].into()), group: Some(42) };
    let pair = NewLink { up: true, master, mtu: Some(1400), peer, ..NewLink::new("port0", kind) };
    host.route.add_link(&pair).unwrap();
    Ok(())
}

#[test]
fn a_port_of_a_bridge_and_its_other_end_in_a_pod_are_made_at_once() {
    let Some([mut host, mut pod]) = sandboxes("bridges") else { return };
    connect(&mut host, &pod, LinkKind::Bridge).unwrap();
    let end = pod.link("net1");
    let mac: Mac = "02:00:00:00:00:07".parse().unwrap();
    assert_eq!((end.mac, end.mtu, end.group, end.up), (Some(mac), 1400, 42, false));
    let port = host.link("port0");
    assert_eq!((port.mtu, port.up, port.master), (1400, true, Some(host.link("br0").index)));
    assert_eq!(port.port, Some(BridgePort::default()));
    assert_ne!(port.oper_state, OperState::Up);
    pod.route.set_link(&end, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    // Linux 6.8 brings the state up to date for whoever asks.
    assert_eq!(host.link("port0").carrier, Some(true));
    let change = PortChange { hairpin: Some(true), isolated: Some(true), vlans: Vec::new() };
    host.route.send(Request::set_port(&port, &change)).unwrap();
    assert_eq!(host.link("port0").port, Some(BridgePort { hairpin: true, isolated: true }));
    pod.route.delete_group(42).unwrap();
    assert!(!host.has("port0"));
}

#[test]
fn a_port_joins_and_leaves_vlans() {
    let Some([mut host, pod]) = sandboxes("VLANs of ports") else { return };
    if connect(&mut host, &pod, LinkKind::VlanBridge) == Err(Errno::EOPNOTSUPP) {
        skip("this kernel has no VLAN filtering");
        return;
    }
    assert_eq!(host.link("br0").vlan_filtering, Some(true));
    let port = host.link("port0");
    let vlans = |host: &mut Sandbox| host.route.port_vlans().unwrap().remove(&port.index);
    assert_eq!(vlans(&mut host).unwrap(), [PortVlan::access(1)], "the kernel's default");
    let change = PortChange {
        vlans: vec![PortVlan::access(100), PortVlan::tagged(200..=201)],
        ..PortChange::default()
    };
    for verdict in
        host.route.batch(&[Request::del_port_vlans(&port, 1..=4094), Request::set_port(&port, &change)])
    {
        verdict.unwrap();
    }
    let tagged = |id| PortVlan::tagged(id..=id);
    assert_eq!(vlans(&mut host).unwrap(), [PortVlan::access(100), tagged(200), tagged(201)]);
}
