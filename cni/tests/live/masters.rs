//! What macvlan and ipvlan are made on.

use fairlead_kernel::{
    LinkChange, LinkKind, NewLink,
    route::{IpvlanFlag, IpvlanMode, MacvlanMode, NewRoute, Scope},
};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace};

fn config(kind: &str, keys: &Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": kind});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn add(bed: &Bed, pod: &Namespace, config: &Value) -> Result<Value, Value> {
    bed.call(config["type"].as_str().unwrap(), "ADD", config, "c1", &pod.path())
}

fn del(bed: &Bed, pod: &Namespace, config: &Value) {
    let kind = config["type"].as_str().unwrap();
    bed.call(kind, "DEL", config, "c1", &pod.path()).unwrap();
    assert!(pod.link("net1").is_none());
}

fn text(error: &Value) -> &str {
    error["msg"].as_str().unwrap()
}

/// A default route out of an interface.
fn default_route(namespace: &Namespace, interface: &str, destination: &str) {
    let link = namespace.link(interface).unwrap();
    let to = destination.parse().unwrap();
    let route = NewRoute { oif: Some(link.index), scope: Some(Scope(253)), ..NewRoute::to(to) };
    namespace.route().add_route(&route).unwrap();
}

/// An interface of the pod's own.
fn base(pod: &Namespace) -> u32 {
    let kind = LinkKind::Veth { peer_name: "far0".into(), peer_netns: None };
    pod.route().add_link(&NewLink { up: true, ..NewLink::new("base0", kind) }).unwrap();
    pod.link("base0").unwrap().index
}

fn kinds(bed: &Bed) -> Vec<&'static str> {
    let ipvlan = LinkKind::Ipvlan { parent: bed.uplink(), mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge };
    if bed.has(ipvlan, "ipvlan") { vec!["macvlan", "ipvlan"] } else { vec!["macvlan"] }
}

#[test]
fn m03_i05_i08_the_default_routes_interface_is_the_master_and_del_does_not_need_it() {
    for (destination, other) in [("0.0.0.0/0", "::/0"), ("::/0", "0.0.0.0/0")] {
        let Some(bed) = Bed::new("default master") else { return };
        for kind in kinds(&bed) {
            let (pod, config) = (bed.pod(), config(kind, &json!({})));
            assert!(text(&add(&bed, &pod, &config).unwrap_err()).contains("default route"));
            default_route(&bed.host, "uplink0", destination);
            add(&bed, &pod, &config).unwrap();
            let uplink = bed.host.link("uplink0").unwrap();
            assert_eq!(pod.link("net1").unwrap().parent, Some(uplink.index), "{destination}, not {other}");
            let down = LinkChange { up: Some(false), ..LinkChange::default() };
            bed.host.route().set_link(&uplink, &down).unwrap();
            del(&bed, &pod, &config);
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            bed.host.route().set_link(&uplink, &up).unwrap();
        }
    }
}

#[test]
fn m04_i06_with_link_in_container_the_master_is_in_the_pod() {
    let Some(bed) = Bed::new("linkInContainer") else { return };
    for kind in kinds(&bed) {
        let pod = bed.pod();
        let base = base(&pod);
        let named = config(
            kind,
            &json!({"master": ["nowhere0", "base0"], "linkInContainer": true, "strictCheck": true}),
        );
        let missing = config(kind, &json!({"master": "uplink0", "linkInContainer": true}));
        assert!(text(&add(&bed, &pod, &missing).unwrap_err()).contains("does not exist in the pod"));
        let unnamed = config(kind, &json!({"linkInContainer": true}));
        assert!(text(&add(&bed, &pod, &unnamed).unwrap_err()).contains("pod has no default route"));
        default_route(&pod, "base0", "0.0.0.0/0");
        for config in [named, unnamed] {
            let result = add(&bed, &pod, &config).unwrap();
            let link = pod.link("net1").unwrap();
            assert!(link.parent == Some(base) && !link.parent_in_other_ns && link.up, "{link:?}");
            let mut check = config.clone();
            check["prevResult"] = result;
            bed.call(kind, "CHECK", &check, "c1", &pod.path()).unwrap();
            del(&bed, &pod, &config);
        }
        let large = config(kind, &json!({"master": "base0", "linkInContainer": true, "mtu": 9000}));
        assert!(kind == "ipvlan" || text(&add(&bed, &pod, &large).unwrap_err()).contains("MTU 9000"));
    }
}

#[test]
fn m05_m06_m07_m08_m14_m16_mtu_mac_dns_and_a_name_that_the_host_has() {
    let Some(bed) = Bed::new("macvlan's keys") else { return };
    let pod = bed.pod();
    // The master has a link-local address only.
    assert!(bed.host.addresses("uplink0").is_empty());
    let kind = LinkKind::Veth { peer_name: "net1".into(), peer_netns: None };
    bed.host.route().add_link(&NewLink::new("other0", kind)).unwrap();
    let plain = json!({"master": "uplink0", "mtu": 0, "mac": "02:FA:00:00:06:01", "dns": {"nameservers": ["10.1.1.1"]}});
    let config = config("macvlan", &plain);
    let result = add(&bed, &pod, &config).unwrap();
    let link = pod.link("net1").unwrap();
    assert_eq!((link.mtu, link.up, link.mac.unwrap().to_string()), (1500, true, "02:fa:00:00:06:01".into()));
    assert_eq!(result["dns"]["nameservers"][0], "10.1.1.1");
    del(&bed, &pod, &config);
    let mut other = config.clone();
    (other["mtu"], other["runtimeConfig"]) = (json!(1500), json!({"mac": "02:fa:00:00:06:02"}));
    let result = add(&bed, &pod, &other).unwrap();
    assert_eq!(result["interfaces"][0]["mac"], "02:fa:00:00:06:02");
    del(&bed, &pod, &other);
    assert!(bed.host.link("net1").is_some());
}

#[test]
fn m11_del_succeeds_when_the_master_is_gone() {
    let Some(bed) = Bed::new("a vanished master") else { return };
    let (pod, config) = (bed.pod(), bed.macvlan("10.11.0.0/24"));
    add(&bed, &pod, &config).unwrap();
    bed.host.route().delete_link(bed.uplink()).unwrap();
    del(&bed, &pod, &config);
    assert_eq!(bed.reserved(), Vec::<String>::new());
}

#[test]
fn m12_check_tells_of_another_mode_and_of_another_master() {
    let Some(bed) = Bed::new("CHECK of mode and master") else { return };
    let pod = bed.pod();
    let mut config =
        config("macvlan", &json!({"master": "uplink0", "mac": "02:fa:00:00:12:01", "strictCheck": true}));
    config["prevResult"] = add(&bed, &pod, &config).unwrap();
    let check = || bed.call("macvlan", "CHECK", &config, "c1", &pod.path());
    check().unwrap();
    let kind = LinkKind::Veth { peer_name: "far0".into(), peer_netns: None };
    bed.host.route().add_link(&NewLink { up: true, ..NewLink::new("other0", kind) }).unwrap();
    let other = bed.host.link("other0").unwrap().index;
    let netns = pod.netns();
    for (parent, mode, word) in [
        (bed.uplink(), MacvlanMode::Private, "mode"),
        (other, MacvlanMode::Bridge, "not on uplink0"),
        (bed.uplink(), MacvlanMode::Bridge, ""),
    ] {
        pod.route().delete_link(&pod.link("net1").unwrap()).unwrap();
        let kind = LinkKind::Macvlan { parent, mode, bc_queue_len: None };
        let mac = Some([2, 0xfa, 0, 0, 0x12, 1].into());
        let link = NewLink { mac, netns: Some(&netns), up: true, ..NewLink::new("net1", kind) };
        bed.host.route().add_link(&link).unwrap();
        match check() {
            Ok(_) => assert_eq!(word, ""),
            Err(error) => assert!(!word.is_empty() && text(&error).contains(word), "{error}"),
        }
    }
    del(&bed, &pod, &config);
}

#[test]
fn an_alternative_name_of_the_master_will_do() {
    let Some(bed) = Bed::new("altname of a master") else { return };
    let uplink = bed.host.link("uplink0").unwrap();
    bed.host.route().add_altname(&uplink, "the-uplink-of-this-node").unwrap();
    let (pod, config) = (bed.pod(), config("macvlan", &json!({"master": "the-uplink-of-this-node"})));
    add(&bed, &pod, &config).unwrap();
    assert_eq!(pod.link("net1").unwrap().parent, Some(uplink.index));
    del(&bed, &pod, &config);
}

#[test]
fn i02_i03_i04_ipvlan_goes_on_from_the_plugin_before_it() {
    let Some(bed) = Bed::new("ipvlan in a chain") else { return };
    if !kinds(&bed).contains(&"ipvlan") {
        return;
    }
    let pod = bed.pod();
    let previous = |interfaces: Value| {
        json!({"cniVersion": "1.1.0", "interfaces": interfaces, "routes": [{"dst": "10.99.0.0/16"}],
            "ips": [{"address": "10.2.0.5/24", "gateway": "10.2.0.1", "interface": 0}, {"address": "fd02::5/64"}]})
    };
    let of_host = json!([{"name": "uplink0"}]);
    let chained = config("ipvlan", &json!({"mtu": 1400, "prevResult": previous(of_host)}));
    let result = add(&bed, &pod, &chained).unwrap();
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&result["interfaces"][0]["name"], &result["ips"][1]["interface"]),
        (&json!("net1"), &json!(0))
    );
    let link = pod.link("net1").unwrap();
    assert_eq!((link.parent, link.mtu), (Some(bed.uplink()), 1400));
    assert_eq!(pod.addresses("net1"), ["10.2.0.5/24", "fd02::5/64"]);
    let routes = pod.route().routes(&link).unwrap();
    assert!(routes.iter().any(|route| route.gateway == "10.2.0.1".parse().ok()), "{routes:?}");
    del(&bed, &pod, &chained);
    let several =
        config("ipvlan", &json!({"prevResult": previous(json!([{"name": "uplink0"}, {"name": "switch0"}]))}));
    let error = add(&bed, &pod, &several).unwrap_err();
    assert!(text(&error).contains("2 interfaces") && text(&error).contains("master"), "{error}");
    let mut named = several.clone();
    named["master"] = json!("uplink0");
    add(&bed, &pod, &named).unwrap();
    del(&bed, &pod, &named);
}
