//! macvlan's keys.

use fairlead_kernel::{LinkKind, NewLink};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace};

/// A macvlan on the uplink, without addresses.
fn network(keys: &Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "uplink0"});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn add(bed: &Bed, keys: &Value, pod: &Namespace) -> Result<Value, Value> {
    bed.call("macvlan", "ADD", &network(keys), "c1", &pod.path())
}

fn del(bed: &Bed, pod: &Namespace) {
    bed.call("macvlan", "DEL", &network(&json!({})), "c1", &pod.path()).unwrap();
    assert!(pod.link("net1").is_none());
}

#[test]
fn m5_the_mtu_is_the_masters_unless_a_lower_one_is_asked_for() {
    let Some(bed) = Bed::new("MTU of a macvlan") else { return };
    let pod = bed.pod();
    for (asked, made) in [(json!(0), 1500), (json!(1500), 1500), (json!(1400), 1400), (Value::Null, 1500)] {
        let result = add(&bed, &json!({"mtu": asked}), &pod).unwrap();
        assert_eq!(result["interfaces"][0]["mtu"], made);
        assert_eq!(pod.link("net1").unwrap().mtu, made);
        del(&bed, &pod);
    }
    for asked in [json!(1501), json!(-1), json!("many")] {
        let error = add(&bed, &json!({"mtu": asked}), &pod).unwrap_err();
        assert!(error["msg"].as_str().unwrap().to_lowercase().contains("mtu"), "{error}");
        assert!(pod.link("net1").is_none());
    }
}

#[test]
fn m6_the_mac_of_the_capability_beats_the_arguments_and_those_the_configuration() {
    let Some(bed) = Bed::new("MAC of a macvlan") else { return };
    let pod = bed.pod();
    let (written, argument, capability) = ("02:00:00:00:00:0a", "02:00:00:00:00:0B", "02:00:00:00:00:0c");
    let with = json!({"mac": written, "runtimeConfig": {"mac": capability}});
    let only = json!({"mac": written});
    let argument_text = format!("IgnoreUnknown=1;MAC={argument};K8S_POD_NAME=p");
    for (keys, args, made) in [
        (&only, "", written),
        (&only, argument_text.as_str(), argument),
        (&with, argument_text.as_str(), capability),
    ] {
        let config = network(keys);
        let result = bed.call_with_args("macvlan", "ADD", &config, "c1", &pod.path(), args).unwrap();
        assert_eq!(result["interfaces"][0]["mac"], made.to_lowercase());
        assert_eq!(pod.link("net1").unwrap().mac.unwrap().to_string(), made.to_lowercase());
        del(&bed, &pod);
    }
    for wrong in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "02:00"] {
        let error = add(&bed, &json!({"mac": wrong}), &pod).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains(wrong), "{error}");
    }
}

#[test]
fn m7_without_ipam_it_is_up_and_has_no_address() {
    let Some(bed) = Bed::new("macvlan without IPAM") else { return };
    for ipam in [Value::Null, json!({})] {
        let pod = bed.pod();
        let result = add(&bed, &json!({"ipam": ipam}), &pod).unwrap();
        assert!(result.get("ips").is_none() && result["interfaces"][0]["name"] == "net1", "{result}");
        assert!(pod.link("net1").unwrap().up);
        assert_eq!(pod.addresses("net1"), Vec::<String>::new());
        del(&bed, &pod);
    }
}

#[test]
fn m8_the_hosts_own_interface_of_that_name_does_not_matter_and_stays() {
    let Some(bed) = Bed::new("an interface of that name on the host") else { return };
    let pod = bed.pod();
    let kind = LinkKind::Veth { peer_name: "net1p".into(), peer_netns: None };
    bed.host.route().add_link(&NewLink::new("net1", kind)).unwrap();
    // Not their states, which are about to change.
    let links = || {
        let links = bed.host.route().links().unwrap();
        links.into_iter().map(|link| (link.index, link.name, link.mac, link.up)).collect::<Vec<_>>()
    };
    let before = links();
    add(&bed, &json!({}), &pod).unwrap();
    assert_eq!(pod.link("net1").unwrap().kind.as_deref(), Some("macvlan"));
    del(&bed, &pod);
    assert_eq!(links(), before);
}

#[test]
fn m9_the_pods_own_interface_of_that_name_stays_as_it_is() {
    let Some(bed) = Bed::new("an interface of that name in the pod") else { return };
    let pod = bed.pod();
    let kind = LinkKind::Veth { peer_name: "far0".into(), peer_netns: None };
    pod.route().add_link(&NewLink::new("net1", kind)).unwrap();
    let before = pod.route().links().unwrap();
    let error = add(&bed, &json!({}), &pod).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("interface net1 already"), "{error}");
    assert_eq!(pod.route().links().unwrap(), before, "no link under another name either");
}

#[test]
fn m11_del_gives_the_address_back_when_the_master_has_gone() {
    let Some(bed) = Bed::new("a master that goes") else { return };
    let (pod, config) = (bed.pod(), bed.macvlan("10.1.2.0/24"));
    bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
    bed.host.route().delete_link(&bed.host.link("uplink0").unwrap()).unwrap();
    for _ in 0..2 {
        bed.call("macvlan", "DEL", &config, "c1", &pod.path()).unwrap();
        assert_eq!(bed.reserved(), Vec::<String>::new());
    }
}

#[test]
fn m14_the_configurations_dns_is_reported_else_the_ipams() {
    let Some(bed) = Bed::new("dns of a macvlan") else { return };
    let ipam = json!({"type": "static", "addresses": [{"address": "10.7.0.5/24"}],
        "dns": {"nameservers": ["10.7.0.1"]}});
    for (dns, reported) in [
        (json!({"nameservers": ["10.9.0.1"]}), "10.9.0.1"),
        (json!({}), "10.7.0.1"),
        (Value::Null, "10.7.0.1"),
    ] {
        let pod = bed.pod();
        let result = add(&bed, &json!({"ipam": ipam, "dns": dns}), &pod).unwrap();
        assert_eq!(result["dns"], json!({"nameservers": [reported]}));
        del(&bed, &pod);
    }
}
