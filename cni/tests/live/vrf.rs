//! vrf. Kernels that lack it say so; the emulated node has it.

use std::path::Path;

use fairlead_kernel::{LinkKind, NewLink};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace};

fn bed(test: &str) -> Option<Bed> {
    Bed::new(test).filter(|bed| bed.has(LinkKind::Vrf { table: 77 }, "vrf"))
}

/// A macvlan with addresses and routes of both families, in a VRF.
fn list(number: u8, keys: &Value) -> Value {
    let mut vrf = json!({"type": "vrf", "vrfname": "blue"});
    for (key, value) in keys.as_object().unwrap() {
        vrf[key] = value.clone();
    }
    let addresses = json!([{"address": format!("10.1.{number}.5/24"), "gateway": format!("10.1.{number}.1")},
                           {"address": format!("fd00:{number}::5/64"), "gateway": format!("fd00:{number}::1")}]);
    json!({"cniVersion": "1.1.0", "name": "net", "plugins": [
        {"type": "macvlan", "master": "uplink0", "ipam": {"type": "static", "addresses": addresses,
         "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": format!("10.{number}.0.0/16")}]}},
        vrf]})
}

/// The state without the rule that the kernel makes for the first VRF of a namespace and keeps.
fn state(pod: &Namespace) -> Vec<String> {
    pod.state()
}

fn routes(pod: &Namespace, interface: &str, table: u32) -> Vec<String> {
    let link = pod.link(interface).unwrap();
    let routes = pod.route().routes(&link).unwrap().into_iter().filter(|entry| entry.table == table);
    let mut routes: Vec<String> = routes.map(|entry| entry.dst.to_string()).collect();
    routes.retain(|dst| !dst.starts_with("fe80") && !dst.starts_with("ff00"));
    routes.sort();
    routes
}

#[test]
fn x9_the_vrf_stays_while_it_has_members_and_goes_with_the_last() {
    let Some(bed) = bed("vrf") else { return };
    let pod = bed.pod();
    let before = state(&pod);
    bed.attach("c1", "net1", &pod, &list(1, &json!({}))).unwrap();
    let blue = pod.link("blue").unwrap();
    assert!(blue.up);
    assert_eq!(blue.vrf_table, Some(1));
    bed.attach("c2", "net2", &pod, &list(2, &json!({"table": 1}))).unwrap();
    for (number, interface) in [(1, "net1"), (2, "net2")] {
        assert_eq!(pod.link(interface).unwrap().master, Some(blue.index));
        let mut wanted = [
            "0.0.0.0/0".to_owned(),
            format!("10.1.{number}.0/24"),
            format!("10.{number}.0.0/16"),
            "::/0".to_owned(),
            format!("fd00:{number}::/64"),
        ];
        wanted.sort();
        assert_eq!(routes(&pod, interface, 1), wanted);
        assert_eq!(pod.addresses(interface), [format!("10.1.{number}.5/24"), format!("fd00:{number}::5/64")]);
    }
    let record = bed.on_host(|engine| engine.store.of_sandbox("c1").unwrap().remove(0));
    let found = bed.on_host(|engine| fairlead_cni::engine::check(&record, &pod.path(), engine).unwrap());
    assert_eq!(found, []);
    bed.detach("c1", Some(&pod)).unwrap();
    assert!(pod.link("blue").is_some());
    bed.detach("c2", Some(&pod)).unwrap();
    assert_eq!(state(&pod), before);
}

#[test]
fn an_interface_comes_out_of_its_vrf_as_it_was() {
    let Some(bed) = bed("vrf alone") else { return };
    let pod = bed.pod();
    let mut maker = list(1, &json!({}))["plugins"][0].clone();
    maker["name"] = json!("net");
    maker["cniVersion"] = json!("1.1.0");
    let result = bed.call("macvlan", "ADD", &maker, "c1", &pod.path()).unwrap();
    let before = state(&pod);
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "vrf", "vrfname": "blue", "table": 500,
        "prevResult": result, "strictCheck": true});
    let passed = bed.call("vrf", "ADD", &config, "c1", &pod.path()).unwrap();
    assert_eq!(passed["ips"], result["ips"]);
    assert_eq!(pod.link("blue").unwrap().vrf_table, Some(500));
    bed.call("vrf", "CHECK", &config, "c1", &pod.path()).unwrap();
    for _ in 0..2 {
        bed.call("vrf", "DEL", &json!({"name": "net"}), "c1", &pod.path()).unwrap();
    }
    assert_eq!(state(&pod), before);
    // Without a record, as upstream's plugin left it.
    bed.call("vrf", "ADD", &config, "c1", &pod.path()).unwrap();
    std::fs::remove_dir_all(bed.dir.path().join("state")).unwrap();
    bed.call("vrf", "DEL", &config, "c1", &pod.path()).unwrap();
    assert!(pod.link("blue").is_none());
    assert_eq!(pod.link("net1").unwrap().master, None);
    bed.call("vrf", "DEL", &config, "c1", Path::new("")).unwrap();
}

#[test]
fn mistakes_of_vrf_change_nothing() {
    let Some(bed) = bed("mistakes of vrf") else { return };
    let pod = bed.pod();
    let route = &mut pod.route();
    route.add_link(&NewLink { up: true, ..NewLink::new("red", LinkKind::Vrf { table: 9 }) }).unwrap();
    let before = state(&pod);
    for (keys, word) in [
        (json!({"vrfname": ""}), "vrfname"),
        (json!({"vrfname": "a/b"}), "vrfname"),
        (json!({"vrfname": "lo"}), "no VRF"),
        (json!({"vrfname": "red", "table": 8}), "different routing table 9"),
        (json!({"vrfname": "net1"}), "itself"),
    ] {
        let error = bed.attach("c1", "net1", &pod, &list(1, &keys)).unwrap_err();
        assert!(error.msg.contains(word), "{error}");
        assert_eq!(state(&pod), before, "{word}");
    }
    // Somebody wants that one without members.
    bed.attach("c1", "net1", &pod, &list(1, &json!({"vrfname": "red"}))).unwrap();
    bed.detach("c1", Some(&pod)).unwrap();
    assert_eq!(state(&pod), before);
}
