use super::*;

fn network(text: &str) -> Network {
    let network = parse(text);
    assert_eq!(network.notes, Vec::<String>::new(), "{text}");
    network
}

fn link<'a>(network: &'a Network, name: &str) -> &'a Link {
    network.links.iter().find(|link| link.name == name).unwrap()
}

fn nets(link: &Link) -> Vec<String> {
    link.addresses.iter().map(ToString::to_string).collect()
}

/// Shaped as iproute2 6.1 prints links.
const IPROUTE2: &str = r#"{
 "links": [
  {"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","link_type":"loopback",
   "address":"00:00:00:00:00:00","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
  {"ifindex":2,"ifname":"ens1f0","altnames":["enp3s0f0","uplink0"],"flags":["BROADCAST","MULTICAST","SLAVE","UP","LOWER_UP"],
   "mtu":9000,"master":"bond0","operstate":"UP","link_type":"ether","address":"02:00:00:00:00:01","phys_port_name":"p0",
   "phys_switch_id":"abcd","addr_info":[]},
  {},
  {"ifindex":7,"ifname":"bond0","flags":["NO-CARRIER","BROADCAST","UP"],"operstate":"DOWN","link_type":"ether"},
  {"ifindex":8,"link":"bond0","ifname":"bond0.7","linkinfo":{"info_kind":"vlan"},"addr_info":[
    {"family":"inet","local":"10.1.2.3","prefixlen":24,"scope":"global","label":"bond0.7"},
    {"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"},
    {"family":"inet6","local":"fd00::1","prefixlen":64,"scope":"site"}]},
  {"ifindex":9,"ifname":"veth1","link":"ens1f0","linkinfo":{"info_kind":"veth"}},
  {"ifindex":10,"ifname":"macvlan1","link_index":2,"link_netnsid":0}],
 "routes": [
  {"dst":"default","gateway":"10.1.2.1","dev":"bond0.7","protocol":"static","metric":100,"flags":[]},
  {"dst":"default","nexthops":[{"gateway":"10.9.0.1","dev":"ens5","weight":1,"flags":[]},{"dev":"ens6"}]},
  {"type":"unreachable","dst":"default","dev":"lo"},
  {"dst":"10.1.2.0/24","dev":"ens9"}],
 "devlink": {"pci/0000:03:00.0":{"mode":"switchdev","inline-mode":"none","versions":{"fixed":{"board.id":"K1"},
    "running":{"fw":"7.1","fw.app.name":"ICE COMMS Package"},"stored":{"fw.app.name":"other"}}}}}"#;

#[test]
fn iproute2s_answers_are_read() {
    let network = network(IPROUTE2);
    let uplink = link(&network, "ens1f0");
    assert_eq!((uplink.index, uplink.mtu, uplink.carrier), (Some(2), Some(9000), Some(true)));
    assert_eq!(uplink.altnames, ["enp3s0f0", "uplink0"]);
    assert_eq!((uplink.master.as_deref(), uplink.operstate.as_deref()), (Some("bond0"), Some("up")));
    assert_eq!(
        (uplink.phys_port_name.as_deref(), uplink.phys_switch_id.as_deref()),
        (Some("p0"), Some("abcd"))
    );
    assert_eq!(link(&network, "bond0").carrier, Some(false));
    assert_eq!(nets(link(&network, "bond0.7")), ["10.1.2.3/24", "fd00::1/64"]);
    assert_eq!(link(&network, "bond0.7").lowers, ["bond0"]);
    assert_eq!(nets(link(&network, "lo")), Vec::<String>::new());
    for paired in ["veth1", "macvlan1"] {
        assert_eq!(link(&network, paired).lowers, Vec::<String>::new(), "{paired}");
    }
    let routed: Vec<&str> = network.default_routes.iter().map(String::as_str).collect();
    assert_eq!(routed, ["bond0.7", "ens5", "ens6"]);
    let told = &network.devlink[&"03:00.0".parse().unwrap()];
    assert_eq!(told.eswitch_mode, Some(EswitchMode::Switchdev));
    assert_eq!(told.ddp_profile.as_deref(), Some("ICE COMMS Package"));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut network = network(IPROUTE2);
    network.notes.push("netlink: something".to_owned());
    assert_eq!(parse(&network.to_json()), network);
}

#[test]
fn files_made_by_hand_may_spell_things_otherwise() {
    let network = network(
        r#"{"Links":{"eth0":{"index":"3","altName":"lan","Addresses":["10.0.0.1/24","169.254.0.1/16"],"flags":["UP"]},
              "br0":{"addresses":[{"address":"fd00::1/64"}]},
              "eth1":{"master":4,"addr_info":[]},"bond1":{"ifindex":4,"slaves":["eth7"]}},
          "addresses":[{"dev":"eth1","local":"192.0.2.1","prefixlen":32},{"ifindex":4,"address":"192.0.2.9/24","scope":253},
              {"ifname":"vlan9","addr_info":["192.0.2.2"]}],
          "routes":{"ipv4":[{"dst":"0.0.0.0/0","oif":3}],"ipv6":[{"dst":"::/0","dev":"br0"},{"via":"fe80::1","dev":"eth1"}]},
          "default_routes":["eth8"]}"#,
    );
    let eth0 = link(&network, "eth0");
    assert_eq!((eth0.index, eth0.altnames.as_slice()), (Some(3), &["lan".to_owned()][..]));
    assert_eq!((nets(eth0), eth0.carrier), (vec!["10.0.0.1/24".to_owned()], None));
    assert_eq!(nets(link(&network, "br0")), ["fd00::1/64"]);
    assert_eq!(link(&network, "eth1").master.as_deref(), Some("bond1"));
    assert_eq!(link(&network, "bond1").lowers, ["eth7"]);
    assert_eq!(nets(link(&network, "eth1")), ["192.0.2.1/32"]);
    assert_eq!(nets(link(&network, "bond1")), Vec::<String>::new());
    assert_eq!(nets(link(&network, "vlan9")), ["192.0.2.2/32"]);
    let routed: Vec<&str> = network.default_routes.iter().map(String::as_str).collect();
    assert_eq!(routed, ["br0", "eth0", "eth1", "eth8"]);
    assert_eq!(parse(r#"[{"ifname":"eth0"}]"#).links.len(), 1);
}

#[test]
fn devlink_is_read_in_every_shape() {
    for text in [
        r#"{"0000:03:00.0":{"eswitch":"switchdev","info":{"versions":{"running":{"fw.app.name":"P"}}}}}"#,
        r#"{"dev":{"pci/0000:03:00.0":{"mode":"switchdev"}},"info":{"pci/0000:03:00.0":{"versions":{"running":{"fw.app.name":"P"}}}}}"#,
        r#"[{"handle":"pci/0000:03:00.0","eswitch":{"mode":"Switchdev"},"info":{"fw.app.name":"P"}}]"#,
        r#"[{"bus":"pci","dev":"0000:03:00.0","eswitchMode":"switchdev","versions":[{"name":"fw.app.name","value":"P"}]}]"#,
        r#"{"pci/0000:03:00.0":{"eswitch_mode":"switchdev","running":{"fw.app.name":"P"}}}"#,
    ] {
        let told = &network(&format!(r#"{{"devlink":{text}}}"#)).devlink[&"03:00.0".parse().unwrap()];
        assert_eq!(told.eswitch_mode, Some(EswitchMode::Switchdev), "{text}");
        assert_eq!(told.ddp_profile.as_deref(), Some("P"), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_noted_and_the_rest_is_used() {
    for (text, note) in [
        ("{", "netlink.json: EOF"),
        ("7", "netlink.json: wanted an object"),
        (r#"{"links":[{"ifindex":3}, 7]}"#, "links[0] has no ifname"),
        (r#"{"links":[{"ifname":"a","addresses":["10.0.0"]}]}"#, "a: found \"10.0.0\" where an address"),
        (r#"{"addresses":["10.0.0.1/8"]}"#, "addresses[0] has no dev"),
        (r#"{"routes":[{"dst":"default","dev":99}]}"#, "names no dev that is known"),
        (r#"{"devlink":{"pci/0000:03:00.0":{"mode":"both"}}}"#, "0000:03:00.0: found eswitch mode \"both\""),
    ] {
        let notes = parse(text).notes;
        assert!(notes.iter().any(|found| found.contains(note)), "{text}: {notes:?}");
    }
    let odd = r#"{"links":"x","addresses":7,"routes":[7,[8,"x"]],"devlink":[[[[[[["x"]]]]]]],"notes":[1],"other":{}}"#;
    assert_eq!(parse(odd).notes, Vec::<String>::new());
}
