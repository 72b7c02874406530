//! Handing a VF over and taking it back.

use fairlead_kernel::{LinkChange, LinkKind, NewLink, Route, sysctl};
use serde_json::json;

use super::node::{Node, VFS};

fn addressed(address: &str) -> serde_json::Value {
    json!({"type": "static", "addresses": [{"address": address}]})
}

#[test]
fn s01_s26_s29_s36_plain_add_the_vf_is_in_the_pod_and_the_host_has_no_trace_of_it() {
    let Some(node) = Node::new("plain ADD", 1) else { return };
    let (pod, config) = (node.bed.pod(), node.config(0, &json!({})));
    let result = node.add("c1", &pod, &config).unwrap();
    let link = pod.link("net1").unwrap();
    assert!(link.up && link.device.as_deref() == Some(node.vfs[0].as_str()), "{link:?}");
    assert_eq!(node.state(0).link, None);
    let interface = &result["interfaces"][0];
    let mac = node.before(0).link.unwrap().mac.unwrap().to_string();
    assert_eq!((&interface["name"], &interface["mac"]), (&json!("net1"), &json!(mac)));
    assert_eq!((&interface["pciID"], &interface["mtu"]), (&json!(node.vfs[0]), &json!(1500)));
    assert_eq!(interface["sandbox"], json!(pod.path()));
    for key in [
        "net/ipv4/conf/net1/arp_notify",
        "net/ipv6/conf/net1/ndisc_notify",
        "net/ipv6/conf/net1/optimistic_dad",
    ] {
        assert_eq!(sysctl::get(Some(&pod.netns()), key).unwrap(), "1", "{key}");
    }
    for _ in 0..2 {
        node.del("c1", &pod, &config);
    }
    node.assert_clean();
    let old = node.config(0, &json!({"cniVersion": "0.3.1"}));
    let interface = node.add("c1", &pod, &old).unwrap()["interfaces"][0].clone();
    assert!(interface.get("pciID").is_none() && interface.get("mtu").is_none(), "{interface}");
    node.del("c1", &pod, &old);
    node.assert_clean();
}

#[test]
fn s02_name_mac_mtu_altnames_flags_and_state_come_back() {
    let Some(node) = Node::new("all comes back", 1) else { return };
    let mut route = Route::open().unwrap();
    let link = route.link_by_name(&node.name(0)).unwrap().unwrap();
    route.add_altname(&link, "fairlead-fast-lane").unwrap();
    let set = |mtu, allmulti, up| {
        let (mtu, allmulti, up) = (Some(mtu), Some(allmulti), Some(up));
        node.set(0, &LinkChange { mtu, allmulti, up, ..LinkChange::default() });
    };
    set(1400, true, true);
    let changed = node.state(0);
    let keys =
        json!({"mac": "02:fa:00:00:02:01", "mtu": 1300, "trust": "on", "promisc": true, "allmulti": false});
    let (pod, config) = (node.bed.pod(), node.config(0, &keys));
    node.add("c1", &pod, &config).unwrap();
    let link = pod.link("net1").unwrap();
    assert_eq!((link.mtu, link.promisc, link.allmulti), (1300, true, false));
    node.del("c1", &pod, &config);
    assert_eq!(node.state(0), changed);
    set(1500, false, false);
    let link = route.link_by_name(&node.name(0)).unwrap().unwrap();
    route.del_altname(&link, "fairlead-fast-lane").unwrap();
    node.assert_clean();
}

#[test]
fn s12_s13_s14_names_that_are_taken_in_the_pod_in_the_host_and_by_the_vf_itself() {
    // All of them: another test's VF may come home under a name that this one is about.
    let Some(node) = Node::new("names", VFS) else { return };
    let (pod, config) = (node.bed.pod(), node.config(0, &json!({})));
    let mut route = Route::open().unwrap();
    pod.route().add_link(&NewLink::new("net1", LinkKind::Dummy)).unwrap();
    let error = node.add("c1", &pod, &config).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("net1"), "{error}");
    node.assert_clean();
    pod.route().delete_link(&pod.link("net1").unwrap()).unwrap();
    // An alternative name that is the pod's name, then one that is another's.
    for altname in ["net1", "net7"] {
        let link = route.link_by_name(&node.name(0)).unwrap().unwrap();
        route.add_altname(&link, altname).unwrap();
        let before = node.state(0);
        node.add("c1", &pod, &config).unwrap();
        assert_eq!(pod.link("net1").unwrap().device.as_deref(), Some(node.vfs[0].as_str()));
        node.del("c1", &pod, &config);
        assert_eq!(node.state(0), before);
        route.del_altname(&link, altname).unwrap();
    }
    // Another link of the host has the name.
    route.add_link(&NewLink::new("net1", LinkKind::Dummy)).unwrap();
    node.add("c1", &pod, &config).unwrap();
    node.del("c1", &pod, &config);
    let dummy = route.link_by_name("net1").unwrap().unwrap();
    route.delete_link(&dummy).unwrap();
    node.assert_clean();
}

#[test]
fn s19_a_vf_that_the_kernel_brought_home_is_repaired() {
    let Some(node) = Node::new("a vanished namespace", 1) else { return };
    let keys =
        json!({"mac": "02:fa:00:00:19:01", "mtu": 1300, "vlan": 19, "ipam": addressed("10.19.0.2/24")});
    let config = node.config(0, &keys);
    for is_named in [true, false] {
        let pod = node.bed.pod();
        node.add("c1", &pod, &config).unwrap();
        let path = if is_named { pod.path() } else { "".into() };
        drop(pod);
        node.bed.call("sriov", "DEL", &config, "c1", &path).unwrap();
        node.assert_clean();
    }
}

#[test]
fn s27_both_families_with_gateways_on_a_vf() {
    let Some(node) = Node::new("both families", 1) else { return };
    let ipam = json!({"type": "static", "addresses": [
        {"address": "10.27.0.2/24", "gateway": "10.27.0.1"}, {"address": "fd27::2/64", "gateway": "fd27::1"}],
        "routes": [{"dst": "10.99.0.0/16"}, {"dst": "fd99::/32"}]});
    for dad in ["optimistic", "wait", "off"] {
        let (pod, config) = (node.bed.pod(), node.config(0, &json!({"dad": dad, "ipam": ipam})));
        let result = node.add("c1", &pod, &config).unwrap();
        assert_eq!(result["ips"].as_array().unwrap().len(), 2);
        let link = pod.link("net1").unwrap();
        let addresses = pod.route().addresses(&link).unwrap();
        let ours = addresses.iter().find(|address| address.net.to_string() == "fd27::2/64").unwrap();
        assert!(dad == "optimistic" || !ours.tentative, "{dad}: {ours:?}");
        let routes = pod.route().routes(&link).unwrap();
        let through = |gateway: &str| routes.iter().any(|route| route.gateway == gateway.parse().ok());
        assert!(through("10.27.0.1") && through("fd27::1"), "{routes:?}");
        node.del("c1", &pod, &config);
    }
    node.assert_clean();
}

#[test]
fn s34_check_tells_of_another_mac_another_vlan_and_a_lost_vf() {
    let Some(node) = Node::new("CHECK", 1) else { return };
    let (pod, mut config) = (node.bed.pod(), node.config(0, &json!({"vlan": 34, "strictCheck": true})));
    config["prevResult"] = node.add("c1", &pod, &config).unwrap();
    let check = || node.bed.call("sriov", "CHECK", &config, "c1", &pod.path());
    check().unwrap();
    let says = |word: &str| {
        let error = check().unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains(word), "{error}");
    };
    let link = pod.link("net1").unwrap();
    let set = |change: &LinkChange<'_>| pod.route().set_link(&link, change).unwrap();
    set(&LinkChange { mtu: Some(1300), ..LinkChange::default() });
    says("MTU 1300");
    set(&LinkChange { mtu: Some(1500), ..LinkChange::default() });
    let status = |arguments: &[&str]| std::process::Command::new("ip").args(arguments).status().unwrap();
    let pf = "enp1s0";
    let number = node.before(0).vf.vf.to_string();
    assert!(status(&["link", "set", pf, "vf", &number, "vlan", "35"]).success());
    says("vlan");
    assert!(status(&["link", "set", pf, "vf", &number, "vlan", "34"]).success());
    set(&LinkChange { name: Some("other0".into()), up: Some(false), ..LinkChange::default() });
    says("other0");
    let host = node.bed.host.netns();
    set(&LinkChange { netns: Some(&host), name: Some(node.name(0)), ..LinkChange::default() });
    says("not in the pod");
    node.del("c1", &pod, &config);
    node.assert_clean();
}

#[test]
fn m15_a_vf_is_a_macvlans_master() {
    let Some(node) = Node::new("macvlan on a VF", 1) else { return };
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": node.name(0)});
    config["ipam"] = addressed("10.15.0.2/24");
    let pod = node.bed.pod();
    node.bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
    assert_eq!(pod.addresses("net1"), ["10.15.0.2/24"]);
    node.bed.call("macvlan", "DEL", &config, "c1", &pod.path()).unwrap();
    node.assert_clean();
}
