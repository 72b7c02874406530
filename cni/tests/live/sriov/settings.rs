//! What is set through the PF, and put back.

use serde_json::{Value, json};

use super::node::{Node, State};

/// ADD, CHECK, what is set then, DEL, everything as before.
fn comes_and_goes(node: &Node, keys: &Value) -> State {
    let (pod, mut config) = (node.bed.pod(), node.config(0, keys));
    config["prevResult"] = node.add("c1", &pod, &config).unwrap();
    let mut during = node.state(0);
    during.link = pod.link("net1");
    node.bed.call("sriov", "CHECK", &config, "c1", &pod.path()).unwrap();
    node.del("c1", &pod, &config);
    node.assert_clean();
    during
}

#[test]
fn s03_a_vlan_with_priority_is_set_and_taken_back() {
    let Some(node) = Node::new("VLAN", 1) else { return };
    let during = comes_and_goes(&node, &json!({"vlan": 100, "vlanQoS": 3, "vlanProto": "802.1q"}));
    assert_eq!((during.vf.vlan, during.vf.qos), (Some(100), Some(3)));
}

#[test]
fn s04_s08_s09_what_igb_cannot_do_is_an_error_that_names_the_key_and_leaves_nothing() {
    let Some(node) = Node::new("what igb cannot do", 1) else { return };
    let with_more = |key: &str, value: Value| {
        let mut keys = json!({"vlan": 48, "mac": "02:fa:00:00:48:01", "ipam": {"type": "static",
            "addresses": [{"address": "10.48.0.2/24"}]}});
        keys[key] = value;
        keys
    };
    for (keys, key) in [
        (with_more("vlanProto", json!("802.1ad")), "vlan"),
        (with_more("link_state", json!("enable")), "link_state"),
        (with_more("min_tx_rate", json!(10)), "min_tx_rate"),
    ] {
        let (pod, config) = (node.bed.pod(), node.config(0, &keys));
        let error = node.add("c1", &pod, &config).unwrap_err();
        let text = error["msg"].as_str().unwrap();
        assert!(text.contains(key) && text.contains("enp1s0"), "{error}");
        assert!(pod.link("net1").is_none());
        node.assert_clean();
    }
}

#[test]
fn s05_s07_s10_wrong_values_have_no_effect() {
    let Some(node) = Node::new("wrong values", 1) else { return };
    let pod = node.bed.pod();
    for keys in [
        json!({"vlan": 4095}),
        json!({"vlan": -1}),
        json!({"vlan": 1, "vlanQoS": 8}),
        json!({"vlanQoS": 1}),
        json!({"vlan": 0, "vlanProto": "802.1ad"}),
        json!({"vlan": 1, "vlanProto": "802.1x"}),
        json!({"spoofchk": "garbage"}),
        json!({"link_state": "up"}),
        json!({"mac": "01:00:5e:00:00:01"}),
        json!({"mtu": 9000}),
        json!({"promisc": true}),
        json!({"dad": "never"}),
        json!({"runtimeConfig": {"infinibandGUID": "c2:11:22:33:44:55:66:77"}}),
    ] {
        let error = node.add("c1", &pod, &node.config(0, &keys)).unwrap_err();
        assert_eq!(error["code"], 7, "{error}");
        node.assert_clean();
    }
}

#[test]
fn s06_vlan_0_is_written_and_an_absent_one_leaves_what_there_is() {
    let Some(node) = Node::new("VLAN 0", 1) else { return };
    let number = node.before(0).vf.vf.to_string();
    let set = |vlan: &str| {
        let arguments = ["link", "set", "enp1s0", "vf", &number, "vlan", vlan];
        assert!(std::process::Command::new("ip").args(arguments).status().unwrap().success());
    };
    set("66");
    for (keys, vlan) in [(json!({"vlan": 0}), 0), (json!({}), 66)] {
        let (pod, config) = (node.bed.pod(), node.config(0, &keys));
        node.add("c1", &pod, &config).unwrap();
        assert_eq!(node.state(0).vf.vlan, Some(vlan), "{keys}");
        node.del("c1", &pod, &config);
        assert_eq!(node.state(0).vf.vlan, Some(66), "{keys}");
    }
    set("0");
    node.assert_clean();
}

#[test]
fn s07_spoof_check_and_trust_are_set_and_taken_back() {
    let Some(node) = Node::new("spoof check and trust", 1) else { return };
    for (spoofchk, trust) in [("on", "on"), ("off", "off"), ("off", "on")] {
        let during = comes_and_goes(&node, &json!({"spoofchk": spoofchk, "trust": trust}));
        assert_eq!(during.vf.spoof_check, Some(spoofchk == "on"));
        assert_eq!(during.vf.trust, Some(trust == "on"));
    }
}

#[test]
fn s10_the_mac_comes_from_capability_arguments_or_configuration_in_any_case_of_letters() {
    let Some(node) = Node::new("MAC", 1) else { return };
    let mac = |keys: &Value| {
        let during = comes_and_goes(&node, keys);
        assert_eq!(during.link.as_ref().unwrap().mac, during.vf.mac);
        during.vf.mac.unwrap().to_string()
    };
    assert_eq!(mac(&json!({"mac": "02:FA:00:00:10:0A"})), "02:fa:00:00:10:0a");
    let both = json!({"mac": "02:fa:00:00:10:0b", "runtimeConfig": {"mac": "02:fa:00:00:10:0c"}});
    assert_eq!(mac(&both), "02:fa:00:00:10:0c");
}

#[test]
fn hearing_everything_takes_trust() {
    let Some(node) = Node::new("promisc", 1) else { return };
    let during = comes_and_goes(&node, &json!({"promisc": true, "allmulti": true, "trust": "on"}));
    let link = during.link.unwrap();
    assert!(link.promisc && link.allmulti);
}
