//! Plugins by themselves, under their upstream names, called as a runtime calls them.

use std::path::Path;

use fairlead_kernel::{LinkKind, NewLink, route::MacvlanMode};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace};

fn with_previous(config: &Value, result: &Value) -> Value {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    config
}

fn add_macvlan(bed: &Bed, pod: &Namespace) {
    let uplink = bed.host.link("uplink0").unwrap().index;
    let netns = pod.netns();
    let kind = LinkKind::Macvlan { parent: uplink, mode: MacvlanMode::Bridge, bc_queue_len: None };
    bed.host.route().add_link(&NewLink { netns: Some(&netns), ..NewLink::new("net1", kind) }).unwrap();
}

#[test]
fn p2_p9_p12_every_version_is_answered_in_kind_and_del_may_be_repeated() {
    let Some(bed) = Bed::new("all versions") else { return };
    for (number, version) in
        ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].iter().enumerate()
    {
        let (pod, container) = (bed.pod(), format!("c{number}"));
        let mut config = bed.macvlan("10.1.2.0/24");
        config["cniVersion"] = json!(version);
        bed.call("macvlan", "DEL", &config, &container, &pod.path()).unwrap();
        let result = bed.call("macvlan", "ADD", &config, &container, &pod.path()).unwrap();
        assert_eq!(result["cniVersion"], *version);
        let address = if number < 2 { &result["ip4"]["ip"] } else { &result["ips"][0]["address"] };
        assert_eq!([address.as_str().unwrap()], pod.addresses("net1")[..]);
        for _ in 0..2 {
            assert_eq!(bed.call("macvlan", "DEL", &config, &container, &pod.path()).unwrap(), Value::Null);
        }
        assert!(pod.link("net1").is_none());
    }
    assert_eq!(bed.reserved(), Vec::<String>::new());
}

#[test]
fn p10_p11_p13_a_namespace_may_be_gone_at_del_and_must_not_be_our_own() {
    let Some(bed) = Bed::new("namespaces of a plugin") else { return };
    let (pod, config) = (bed.pod(), bed.macvlan("10.1.2.0/24"));
    for netns in [Path::new(""), Path::new("/nonexistent")] {
        bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
        bed.call("macvlan", "DEL", &config, "c1", netns).unwrap();
        assert_eq!(bed.reserved(), Vec::<String>::new());
        pod.route().delete_link(&pod.link("net1").unwrap()).unwrap();
    }
    let error = bed.call("macvlan", "ADD", &config, "c1", Path::new("/proc/self/ns/net")).unwrap_err();
    assert_eq!(error["code"], 8);
    assert_eq!(bed.reserved(), Vec::<String>::new());
}

#[test]
fn p13_the_hosts_own_namespace_is_worked_on_where_the_caller_says_so() {
    let Some(bed) = Bed::new("the host's own namespace") else { return };
    let before = bed.host_state();
    let config = bed.macvlan("10.1.2.0/24");
    assert_eq!(bed.call("macvlan", "ADD", &config, "c1", &bed.host.path()).unwrap_err()["code"], 8);
    assert_eq!(bed.host_state(), before);
    bed.call_on_host("macvlan", "ADD", &config).unwrap();
    assert_eq!(bed.host.addresses("net1"), ["10.1.2.2/24"]);
    bed.call_on_host("macvlan", "DEL", &config).unwrap();
    assert_eq!(bed.host_state(), before);
    assert_eq!(bed.reserved(), Vec::<String>::new());
}

#[test]
fn a_second_add_is_refused_and_leaves_the_first_alone() {
    let Some(bed) = Bed::new("second ADD") else { return };
    let (pod, config) = (bed.pod(), bed.macvlan("10.1.2.0/24"));
    bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
    assert!(bed.call("macvlan", "ADD", &config, "c1", &pod.path()).is_err());
    // Another container's: there is an interface of that name.
    assert!(bed.call("macvlan", "ADD", &config, "c2", &pod.path()).is_err());
    assert_eq!(pod.addresses("net1"), ["10.1.2.2/24"]);
    assert_eq!(bed.reserved(), ["10.1.2.2"]);
}

#[test]
fn a_link_that_upstreams_plugin_made_is_removed_with_its_address_and_no_other_kind_is() {
    let Some(bed) = Bed::new("upstream's links") else { return };
    let (pod, config) = (bed.pod(), bed.macvlan("10.1.2.0/24"));
    let store = bed.dir.path().join("networks/net");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join("10.1.2.9"), "c1\r\nnet1").unwrap();
    add_macvlan(&bed, &pod);
    bed.call("macvlan", "DEL", &config, "c1", &pod.path()).unwrap();
    assert!(pod.link("net1").is_none());
    assert_eq!(bed.reserved(), Vec::<String>::new());
    let kind = LinkKind::Veth { peer_name: "peer0".into(), peer_netns: None };
    pod.route().add_link(&NewLink::new("net1", kind)).unwrap();
    bed.call("macvlan", "DEL", &config, "c1", &pod.path()).unwrap();
    assert!(pod.link("net1").is_some());
}

#[test]
fn p7_check_and_gc_have_their_versions_and_do_their_work() {
    let Some(bed) = Bed::new("CHECK and GC of a plugin") else { return };
    let (pod, other) = (bed.pod(), bed.pod());
    let mut config = bed.macvlan("10.1.2.0/24");
    config["cniVersion"] = json!("1.1.0");
    let result = bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
    bed.call("macvlan", "ADD", &config, "c2", &other.path()).unwrap();
    let check = with_previous(&config, &result);
    bed.call("macvlan", "CHECK", &check, "c1", &pod.path()).unwrap();
    assert!(bed.call("macvlan", "CHECK", &config, "c1", &pod.path()).is_err(), "prevResult is missing");
    assert!(bed.call("macvlan", "CHECK", &check, "c1", &other.path()).is_err(), "the wrong namespace");
    bed.call("macvlan", "STATUS", &config, "", Path::new("")).unwrap();
    let mut old = check.clone();
    old["cniVersion"] = json!("0.3.1");
    assert_eq!(bed.call("macvlan", "CHECK", &old, "c1", &pod.path()).unwrap_err()["code"], 1);
    old["cniVersion"] = json!("1.0.0");
    assert_eq!(bed.call("macvlan", "GC", &old, "", Path::new("")).unwrap_err()["code"], 1);
    // Without a list nothing is collected.
    bed.call("macvlan", "GC", &config, "", Path::new("")).unwrap();
    assert_eq!(bed.reserved(), ["10.1.2.2", "10.1.2.3"]);
    config["cni.dev/valid-attachments"] = json!([{"containerID": "c2", "ifname": "net1"}]);
    bed.call("macvlan", "GC", &config, "", Path::new("")).unwrap();
    assert_eq!(bed.reserved(), ["10.1.2.3"]);
    assert!(pod.link("net1").is_none() && other.link("net1").is_some());
}

#[test]
fn m1_m2_m5_m9_m10_modes_and_mistakes_of_macvlan() {
    let Some(bed) = Bed::new("macvlan") else { return };
    let pod = bed.pod();
    let add = |key: &str, value: Value, pod: &Namespace| {
        let mut config =
            json!({"cniVersion": "1.0.0", "name": "net", "type": "macvlan", "master": "uplink0"});
        config[key] = value;
        bed.call("macvlan", "ADD", &config, "c1", &pod.path())
    };
    let del = || bed.call("macvlan", "DEL", &json!({"name": "net"}), "c1", &pod.path()).unwrap();
    for mode in ["bridge", "private", "vepa", "passthru"] {
        add("mode", json!(mode), &pod).unwrap();
        del();
    }
    for (key, value) in [
        ("mode", json!("other")),
        ("mtu", json!(9000)),
        ("mtu", json!(-1)),
        ("master", json!("nowhere0")),
        ("ipam", json!({"type": "macvlan"})),
    ] {
        let error = add(key, value, &pod).unwrap_err();
        assert!(error["msg"].as_str().unwrap().to_lowercase().contains(key), "{error}");
    }
    assert_eq!(pod.route().links().unwrap().len(), 1, "nothing but lo is there");
    add("mode", json!("passthru"), &pod).unwrap();
    let second = bed.pod();
    let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "macvlan", "master": "uplink0", "mode": "passthru"});
    let error = bed.call("macvlan", "ADD", &config, "c2", &second.path()).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("uplink0"), "{error}");
    assert_eq!(second.route().links().unwrap().len(), 1);
    del();
}
