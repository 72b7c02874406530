//! ipvlan, vlan and dummy. Kernels that lack them say so; the emulated node has them all.

use std::process::Command;

use fairlead_kernel::{
    LinkKind,
    route::{IpvlanFlag, IpvlanMode, VlanProtocol},
};
use serde_json::{Value, json};

use crate::support::Bed;

fn has_ipvlan(bed: &Bed) -> bool {
    let kind = LinkKind::Ipvlan { parent: bed.uplink(), mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge };
    bed.has(kind, "ipvlan")
}

/// Such a network with static addresses.
fn network(kind: &str, keys: &Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": kind,
        "ipam": {"type": "static", "addresses": [{"address": "10.7.0.5/24"}]}});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// ADD, DEL twice; what is made has this kind.
fn comes_and_goes(bed: &Bed, kind: &str, keys: &Value) -> Value {
    let (pod, config) = (bed.pod(), network(kind, keys));
    let result = bed.call(kind, "ADD", &config, "c1", &pod.path()).unwrap();
    assert_eq!(pod.link("net1").unwrap().kind.as_deref(), Some(kind));
    assert_eq!(pod.addresses("net1"), ["10.7.0.5/24"]);
    let mut check = config.clone();
    check["prevResult"] = result.clone();
    bed.call(kind, "CHECK", &check, "c1", &pod.path()).unwrap();
    for _ in 0..2 {
        bed.call(kind, "DEL", &config, "c1", &pod.path()).unwrap();
    }
    assert_eq!(pod.route().links().unwrap().len(), 1);
    result
}

#[test]
fn i1_i9_ipvlan_in_every_mode_has_its_masters_address() {
    let Some(bed) = Bed::new("ipvlan") else { return };
    if !has_ipvlan(&bed) {
        return;
    }
    let mac = bed.host.link("uplink0").unwrap().mac.unwrap().to_string();
    for mode in ["l2", "l3", "l3s"] {
        let result = comes_and_goes(&bed, "ipvlan", &json!({"master": "uplink0", "mode": mode}));
        assert_eq!(result["interfaces"][0]["mac"], mac);
    }
}

#[test]
fn i7_a_master_that_carries_a_macvlan_is_refused_and_its_owner_named() {
    let Some(bed) = Bed::new("ipvlan beside macvlan") else { return };
    if !has_ipvlan(&bed) {
        return;
    }
    let (first, second) = (bed.pod(), bed.pod());
    bed.call("macvlan", "ADD", &bed.macvlan("10.1.2.0/24"), "c1", &first.path()).unwrap();
    let config = network("ipvlan", &json!({"master": "uplink0"}));
    let error = bed.call("ipvlan", "ADD", &config, "c2", &second.path()).unwrap_err();
    assert!(error["details"].as_str().unwrap().contains("carries macvlan net1"), "{error}");
    assert_eq!(second.route().links().unwrap().len(), 1);
}

#[test]
fn vlan_on_an_interface_of_the_host() {
    let Some(bed) = Bed::new("vlan") else { return };
    if !bed.has(LinkKind::Vlan { parent: bed.uplink(), id: 7, protocol: VlanProtocol::Dot1Q }, "vlan") {
        return;
    }
    comes_and_goes(&bed, "vlan", &json!({"master": "uplink0", "vlanId": 100, "mtu": 1400}));
}

#[test]
fn a_dummy_needs_nothing_of_the_host() {
    let Some(bed) = Bed::new("dummy") else { return };
    if !bed.has(LinkKind::Dummy, "dummy") {
        return;
    }
    comes_and_goes(&bed, "dummy", &json!({}));
}

#[test]
fn mistakes_are_refused_before_anything_is_done() {
    let Some(bed) = Bed::new("mistakes") else { return };
    for (kind, keys, word) in [
        ("ipvlan", json!({"master": "uplink0", "mode": "l4"}), "l3s"),
        ("ipvlan", json!({"master": "nowhere0"}), "nowhere0"),
        ("ipvlan", json!({}), "default route"),
        ("ipvlan", json!({"master": "uplink0", "linkInContainer": true}), "does not exist in the pod"),
        ("vlan", json!({"master": "uplink0", "vlanId": 4095}), "4094"),
        ("vlan", json!({"vlanId": 5}), "master"),
        ("vlan", json!({"master": "uplink0", "vlanId": 5, "mtu": 9000}), "MTU 9000"),
        ("dummy", json!({"ipam": {"type": "static", "addresses": [{"address": "x"}]}}), "CIDR"),
    ] {
        let pod = bed.pod();
        let error = bed.call(kind, "ADD", &network(kind, &keys), "c1", &pod.path()).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains(word), "{error}");
    }
}

#[test]
fn m10_m13_a_list_of_masters_a_long_queue_and_the_owner_of_a_passthru() {
    let Some(bed) = Bed::new("more of macvlan") else { return };
    let (first, second) = (bed.pod(), bed.pod());
    let keys = json!({"master": ["ens1f0", "uplink0"], "bcqueuelen": 2000, "mode": "passthru", "ipam": {}});
    let config = network("macvlan", &keys);
    bed.call("macvlan", "ADD", &config, "c1", &first.path()).unwrap();
    let error = bed.call("macvlan", "ADD", &config, "c2", &second.path()).unwrap_err();
    assert!(error["details"].as_str().unwrap().contains("carries macvlan net1"), "{error}");
    bed.call("macvlan", "DEL", &config, "c1", &first.path()).unwrap();
}

#[test]
fn m15_a_macvlan_on_a_vlan_and_on_a_bond() {
    let Some(bed) = Bed::new("macvlan on stacked links") else { return };
    if !bed.has(LinkKind::Vlan { parent: bed.uplink(), id: 7, protocol: VlanProtocol::Dot1Q }, "vlan") {
        return;
    }
    for (name, kind) in
        [("uplink0.9", "link uplink0 name uplink0.9 up type vlan id 9"), ("bond9", "bond9 up type bond")]
    {
        let arguments = format!("link add {kind}");
        let made = || Command::new("ip").args(arguments.split(' ')).status().unwrap().success();
        assert!(bed.host.netns().run(made).unwrap(), "{name}");
        let result = comes_and_goes(&bed, "macvlan", &json!({"master": name}));
        assert_eq!(result["interfaces"][0]["name"], "net1");
    }
}

#[test]
fn m6_the_arguments_mac_beats_the_configurations() {
    let Some(bed) = Bed::new("MAC by CNI_ARGS") else { return };
    let (pod, config) =
        (bed.pod(), network("macvlan", &json!({"master": "uplink0", "mac": "02:fa:00:00:00:0a"})));
    let args = "IgnoreUnknown=1;MAC=02:FA:00:00:00:0B;K8S_POD_NAME=p";
    let result = bed.call_with_args("macvlan", "ADD", &config, "c1", &pod.path(), args).unwrap();
    assert_eq!(result["interfaces"][0]["mac"], "02:fa:00:00:00:0b");
    assert_eq!(pod.link("net1").unwrap().mac.unwrap().to_string(), "02:fa:00:00:00:0b");
    bed.call("macvlan", "DEL", &config, "c1", &pod.path()).unwrap();
}
