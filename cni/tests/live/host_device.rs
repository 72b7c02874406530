//! host-device, with one end of a veth pair as the host's device; VFs are on the emulated node.

use std::path::Path;

use fairlead_kernel::{
    LinkChange, LinkKind, NewLink,
    route::{AddressFlags, NewRoute},
};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace};

/// A device of the host with all that one may have.
fn device(bed: &Bed) {
    let mut route = bed.host.route();
    let kind = LinkKind::Veth { peer_name: "spare0p".into(), peer_netns: None };
    route.add_link(&NewLink { mtu: Some(1400), ..NewLink::new("spare0", kind) }).unwrap();
    for name in ["spare0", "spare0p", "uplink0", "switch0"] {
        let link = bed.host.link(name).unwrap();
        route.set_link(&link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    }
    let link = bed.host.link("spare0").unwrap();
    route.add_altname(&link, "the-spare-one-with-a-long-name").unwrap();
    route.add_altname(&link, "net1").unwrap();
    route.set_link(&link, &LinkChange { alias: Some("cable 7".into()), ..LinkChange::default() }).unwrap();
    route.add_address(&link, &"192.168.7.2/24".parse().unwrap(), AddressFlags::default()).unwrap();
    let far = NewRoute {
        gateway: Some("192.168.7.1".parse().unwrap()),
        oif: Some(link.index),
        ..NewRoute::to("10.77.0.0/16".parse().unwrap())
    };
    route.add_route(&far).unwrap();
}

fn config(bed: &Bed, keys: &Value) -> Value {
    let store = bed.dir.path().join("networks");
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "host-device",
        "ipam": {"type": "host-local", "subnet": "10.1.2.0/24", "dataDir": store}});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn add(bed: &Bed, config: &Value, pod: &Namespace) -> Result<Value, Value> {
    bed.call("host-device", "ADD", config, "c1", &pod.path())
}

fn del(bed: &Bed, config: &Value, netns: &Path) {
    bed.call("host-device", "DEL", config, "c1", netns).unwrap();
}

#[test]
fn d1_d6_d8_a_device_comes_home_as_it_was_however_it_was_named() {
    let Some(bed) = Bed::new("host-device") else { return };
    device(&bed);
    let pod = bed.pod();
    let (before, pods) = (bed.host.state(), pod.state());
    let mac = bed.host.link("spare0").unwrap().mac.unwrap().to_string();
    for keys in [
        json!({"device": "spare0"}),
        json!({"Device": "the-spare-one-with-a-long-name", "hwaddr": "02:00:00:00:00:99"}),
        json!({"hwaddr": mac.to_uppercase()}),
    ] {
        let config = config(&bed, &keys);
        let result = add(&bed, &config, &pod).unwrap();
        let link = pod.link("net1").unwrap();
        assert!(link.up);
        assert_eq!(link.alias.as_deref(), Some("spare0"), "also upstream's plugin could bring it home");
        assert_eq!(pod.addresses("net1"), ["10.1.2.2/24"].map(String::from));
        assert_eq!(result["interfaces"][0]["mac"], json!(mac));
        assert!(bed.host.link("spare0").is_none());
        let mut check = config.clone();
        check["prevResult"] = result;
        check["strictCheck"] = json!(true);
        bed.call("host-device", "CHECK", &check, "c1", &pod.path()).unwrap();
        let change = LinkChange {
            mac: Some("02:00:00:00:00:07".parse().unwrap()),
            mtu: Some(1300),
            ..LinkChange::default()
        };
        pod.route().set_link(&link, &change).unwrap();
        for _ in 0..2 {
            del(&bed, &json!({"name": "net"}), &pod.path());
        }
        assert_eq!(bed.host.state(), before, "{keys}");
        assert_eq!(pod.state(), pods);
        assert_eq!(bed.reserved(), Vec::<String>::new());
        // The next ADD begins with the first address again.
        std::fs::remove_dir_all(bed.dir.path().join("networks")).unwrap();
    }
}

#[test]
fn d5_a_name_that_is_taken_is_refused_and_the_device_stays() {
    let Some(bed) = Bed::new("host-device with a taken name") else { return };
    device(&bed);
    let pod = bed.pod();
    let kind = LinkKind::Veth { peer_name: "other".into(), peer_netns: None };
    pod.route().add_link(&NewLink::new("net1", kind)).unwrap();
    let before = (bed.host.state(), pod.state());
    let error = add(&bed, &config(&bed, &json!({"device": "spare0"})), &pod).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("net1 already"), "{error}");
    assert_eq!((bed.host.state(), pod.state()), before);
    // A name of the host's is in nobody's way, wherever the device's own is taken.
    pod.route()
        .set_link(
            &pod.link("net1").unwrap(),
            &LinkChange { name: Some("spare0".into()), ..LinkChange::default() },
        )
        .unwrap();
    let before = (bed.host.state(), pod.state());
    let config = config(&bed, &json!({"device": "spare0"}));
    add(&bed, &config, &pod).unwrap();
    del(&bed, &config, &pod.path());
    assert_eq!((bed.host.state(), pod.state()), before);
}

#[test]
fn a_name_that_somebody_else_took_in_the_host_keeps_the_device_in_the_pod() {
    let Some(bed) = Bed::new("host-device whose name was taken") else { return };
    device(&bed);
    let pod = bed.pod();
    let before = bed.host.state();
    let config = config(&bed, &json!({"device": "spare0"}));
    add(&bed, &config, &pod).unwrap();
    let kind = LinkKind::Veth { peer_name: "other".into(), peer_netns: None };
    bed.host.route().add_link(&NewLink::new("spare0", kind)).unwrap();
    let error = bed.call("host-device", "DEL", &config, "c1", &pod.path()).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("another interface spare0"), "{error}");
    assert!(pod.link("net1").unwrap().up);
    bed.host.route().delete_link(&bed.host.link("spare0").unwrap()).unwrap();
    del(&bed, &config, &pod.path());
    assert_eq!(bed.host.state(), before);
}

#[test]
fn d7_without_a_namespace_the_address_is_released() {
    let Some(bed) = Bed::new("host-device without namespace") else { return };
    for netns in ["", "/nonexistent"] {
        device(&bed);
        let pod = bed.pod();
        let config = config(&bed, &json!({"device": "spare0"}));
        add(&bed, &config, &pod).unwrap();
        assert_eq!(bed.reserved().len(), 1);
        drop(pod);
        del(&bed, &config, Path::new(netns));
        assert_eq!(bed.reserved(), Vec::<String>::new());
        del(&bed, &config, Path::new(netns));
        // A virtual device went with its namespace, which the kernel does in the background.
        while let Some(peer) = bed.host.link("spare0p") {
            let _ = bed.host.route().delete_link(&peer);
        }
    }
}

#[test]
fn a_device_that_another_pod_has_is_refused_and_its_owner_named() {
    let Some(bed) = Bed::new("host-device twice") else { return };
    device(&bed);
    let (first, second) = (bed.pod(), bed.pod());
    let mut wanted = config(&bed, &json!({"device": "spare0"}));
    bed.attach("c1", "net1", &first, &wanted).unwrap();
    let error = bed.attach("c2", "net1", &second, &wanted).unwrap_err();
    assert!(error.to_string().contains("default/c1 as net1"), "{error}");
    wanted["device"] = json!("nowhere0");
    let error = bed.attach("c2", "net1", &second, &wanted).unwrap_err();
    assert!(error.to_string().contains("nowhere0") && !error.to_string().contains("c1"), "{error}");
    assert_eq!(bed.reserved().len(), 1);
    bed.detach("c1", Some(&first)).unwrap();
}

#[test]
fn what_fails_after_the_move_brings_the_device_home() {
    let Some(bed) = Bed::new("host-device that fails") else { return };
    device(&bed);
    let pod = bed.pod();
    let before = (bed.host.state(), pod.state());
    for ipam in [
        json!({"type": "static", "addresses": [{"address": "10.1.2.5/24"}], "routes": [{"dst": "10.5.0.0/16", "gw": "192.168.99.1"}]}),
        json!({"type": "host-local", "subnet": "10.1.2.0/30", "dataDir": "/dev/null/x"}),
    ] {
        add(&bed, &config(&bed, &json!({"device": "spare0", "ipam": ipam})), &pod).unwrap_err();
        assert_eq!((bed.host.state(), pod.state()), before);
    }
}

#[test]
fn a_device_that_upstreams_plugin_gave_away_comes_home_by_its_alias() {
    let Some(bed) = Bed::new("host-device of upstream's") else { return };
    device(&bed);
    let pod = bed.pod();
    let config = config(&bed, &json!({"device": "spare0"}));
    add(&bed, &config, &pod).unwrap();
    std::fs::remove_dir_all(bed.dir.path().join("state")).unwrap();
    del(&bed, &config, &pod.path());
    let link = bed.host.link("spare0").unwrap();
    assert_eq!((link.alias, link.up), (None, false));
    assert_eq!(bed.reserved(), Vec::<String>::new());
    del(&bed, &config, &pod.path());
}
