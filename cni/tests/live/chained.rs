//! tuning and sbr: after the plugin that makes the interface, in one list with it and by themselves.

use std::path::Path;

use fairlead_kernel::{LinkChange, route::Rule, sysctl};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace};

/// A macvlan `net1` in a pod, made by the plugin by itself; its result.
fn macvlan(bed: &Bed, pod: &Namespace) -> Value {
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "uplink0",
        "ipam": {"type": "static", "addresses": [{"address": "10.1.1.5/24", "gateway": "10.1.1.1"}, {"address": "fd00:1::5/64"}],
                 "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.1.9"}]}});
    bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap()
}

/// Such a plugin's configuration after that result.
fn after(result: &Value, kind: &str, keys: &Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": kind, "prevResult": result});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// A list of a macvlan with one address and another plugin.
fn list(address: &str, second: &Value) -> Value {
    json!({"cniVersion": "1.1.0", "name": "net", "plugins": [
        {"type": "macvlan", "master": "uplink0", "ipam": {"type": "static", "routes": [{"dst": "0.0.0.0/0"}],
         "addresses": [{"address": address, "gateway": "10.1.1.1"}]}},
        second]})
}

fn sysctl_of(pod: &Namespace, key: &str) -> String {
    sysctl::get(Some(&pod.netns()), key).unwrap()
}

/// Rules that lead to tables below the kernel's own, as "source table".
fn rules(pod: &Namespace) -> Vec<String> {
    let rules = pod.route().rules().unwrap().into_iter().filter(|rule| rule.table < 250);
    let mut rules: Vec<String> = rules.map(|rule| format!("{} {}", rule.src, rule.table)).collect();
    rules.sort();
    rules
}

/// Routes of an interface in a table, as "destination gateway".
fn table(pod: &Namespace, interface: &str, table: u32) -> Vec<String> {
    let link = pod.link(interface).unwrap();
    let routes = pod.route().routes(&link).unwrap().into_iter().filter(|entry| entry.table == table);
    let mut routes: Vec<String> = routes
        .map(|entry| match entry.gateway {
            Some(gateway) => format!("{} {gateway}", entry.dst),
            None => entry.dst.to_string(),
        })
        .filter(|text| !text.starts_with("fe80"))
        .collect();
    routes.sort();
    routes
}

#[test]
fn x7_tuning_changes_what_it_is_told_and_puts_all_of_it_back() {
    let Some(bed) = Bed::new("tuning") else { return };
    let pod = bed.pod();
    let result = macvlan(&bed, &pod);
    let before = pod.state();
    let keys = json!({
        "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1", "net/ipv4/ip_local_port_range": "2000 3000"},
        "mac": "02:00:00:00:00:2A", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 77
    });
    let config = after(&result, "tuning", &keys);
    let tuned = bed.call("tuning", "ADD", &config, "c1", &pod.path()).unwrap();
    let link = pod.link("net1").unwrap();
    assert_eq!(
        (link.mac.unwrap().to_string().as_str(), link.mtu, link.tx_queue_len),
        ("02:00:00:00:00:2a", 1400, 77)
    );
    assert!(link.promisc && link.allmulti);
    assert_eq!(sysctl_of(&pod, "net/ipv4/conf/net1/log_martians"), "1");
    assert_eq!(sysctl_of(&pod, "net/ipv4/ip_local_port_range"), "2000\t3000");
    let interface = &tuned["interfaces"][0];
    assert_eq!((&interface["mac"], &interface["mtu"]), (&json!("02:00:00:00:00:2a"), &json!(1400)));
    assert_eq!(tuned["ips"], result["ips"]);
    let mut strict = after(&tuned, "tuning", &keys);
    strict["strictCheck"] = json!(true);
    bed.call("tuning", "CHECK", &strict, "c1", &pod.path()).unwrap();
    pod.route().set_link(&link, &LinkChange { tx_queue_len: Some(78), ..LinkChange::default() }).unwrap();
    let error = bed.call("tuning", "CHECK", &strict, "c1", &pod.path()).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("txQLen"), "{error}");
    // Nothing but the name of the network is needed.
    for _ in 0..2 {
        bed.call("tuning", "DEL", &json!({"name": "net"}), "c1", &pod.path()).unwrap();
    }
    assert_eq!(pod.state(), before);
    assert_eq!(sysctl_of(&pod, "net/ipv4/conf/net1/log_martians"), "0");
    assert_ne!(sysctl_of(&pod, "net/ipv4/ip_local_port_range"), "2000\t3000");
}

#[test]
fn what_tuning_cannot_do_changes_nothing() {
    let Some(bed) = Bed::new("tuning that fails") else { return };
    let pod = bed.pod();
    let result = macvlan(&bed, &pod);
    let before = pod.state();
    for (keys, word) in [
        (json!({"mac": "02:00:00:00:00:2a", "sysctl": {"net.ipv4.conf.IFNAME.nonsense": "1"}}), "nonsense"),
        (json!({"sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1"}, "mtu": 9000}), "MTU 9000"),
        (
            json!({"sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1", "net.ipv4.ip_forward": "text"}}),
            "ip_forward",
        ),
        (json!({"sysctl": {"kernel.hostname": "pod"}}), "kernel.hostname"),
        (json!({"mac": "01:00:00:00:00:01"}), "unicast"),
    ] {
        let config = after(&result, "tuning", &keys);
        let error = bed.call("tuning", "ADD", &config, "c1", &pod.path()).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains(word), "{error}");
        assert_eq!(pod.state(), before, "{word}");
        assert_eq!(sysctl_of(&pod, "net/ipv4/conf/net1/log_martians"), "0");
    }
}

#[test]
fn chained_plugins_need_a_result_before_them_and_an_interface() {
    let Some(bed) = Bed::new("chained plugins alone") else { return };
    let pod = bed.pod();
    let keys = [("tuning", json!({"mtu": 1400})), ("sbr", json!({})), ("vrf", json!({"vrfname": "blue"}))];
    for (kind, keys) in keys {
        let mut config = after(&json!(null), kind, &keys);
        let error = bed.call(kind, "ADD", &config, "c1", &pod.path()).unwrap_err();
        let words = if kind == "sbr" { "must be called as chained plugin" } else { "prevResult" };
        assert!(error["msg"].as_str().unwrap().contains(words), "{error}");
        config["prevResult"] = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": "x"}],
            "ips": [{"address": "10.1.1.5/24", "interface": 0}]});
        let error = bed.call(kind, "ADD", &config, "c1", &pod.path()).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains("no interface net1"), "{error}");
        for netns in [pod.path().as_path(), Path::new(""), Path::new("/nonexistent")] {
            bed.call(kind, "DEL", &config, "c1", netns).unwrap();
        }
    }
}

#[test]
fn x7_kernel_settings_need_no_interface() {
    let Some(bed) = Bed::new("tuning without interface") else { return };
    let pod = bed.pod();
    // A device in user space.
    let result = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": pod.path()}],
        "ips": [{"address": "10.1.1.5/24", "interface": 0}]});
    let mut config = after(&result, "tuning", &json!({"sysctl": {"net.ipv4.ip_forward": "1"}}));
    config["strictCheck"] = json!(true);
    let before = sysctl_of(&pod, "net/ipv4/ip_forward");
    let tuned = bed.call("tuning", "ADD", &config, "c1", &pod.path()).unwrap();
    assert_eq!((&tuned["interfaces"], &tuned["ips"]), (&result["interfaces"], &result["ips"]));
    assert_eq!(sysctl_of(&pod, "net/ipv4/ip_forward"), "1");
    bed.call("tuning", "CHECK", &config, "c1", &pod.path()).unwrap();
    sysctl::set(Some(&pod.netns()), "net/ipv4/ip_forward", "0").unwrap();
    let error = bed.call("tuning", "CHECK", &config, "c1", &pod.path()).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("ip_forward"), "{error}");
    bed.call("tuning", "DEL", &config, "c1", &pod.path()).unwrap();
    assert_eq!(sysctl_of(&pod, "net/ipv4/ip_forward"), before);
}

#[test]
fn what_upstreams_tuning_noted_is_put_back_and_its_note_removed() {
    let Some(bed) = Bed::new("tuning of upstream's") else { return };
    let pod = bed.pod();
    macvlan(&bed, &pod);
    let folder = bed.dir.path().join("notes");
    let note = folder.join("c1_net1.json");
    let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "tuning", "dataDir": folder});
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&note, r#"{"mac":"02:00:00:00:00:2b","promisc":false,"mtu":1450}"#).unwrap();
    bed.call("tuning", "DEL", &config, "c1", &pod.path()).unwrap();
    let link = pod.link("net1").unwrap();
    assert_eq!((link.mac.unwrap().to_string().as_str(), link.mtu), ("02:00:00:00:00:2b", 1450));
    assert!(!note.exists());
    std::fs::write(&note, "torn").unwrap();
    bed.call("tuning", "DEL", &config, "c1", Path::new("")).unwrap();
    assert!(!note.exists());
}

#[test]
fn sbr_moves_the_routes_to_a_table_for_each_address_and_back() {
    let Some(bed) = Bed::new("sbr") else { return };
    let pod = bed.pod();
    let result = macvlan(&bed, &pod);
    let before = pod.state();
    let config = after(&result, "sbr", &json!({"strictCheck": true}));
    let passed = bed.call("sbr", "ADD", &config, "c1", &pod.path()).unwrap();
    assert_eq!(passed["ips"], result["ips"]);
    assert_eq!(rules(&pod), ["10.1.1.5/32 100", "fd00:1::5/128 101"]);
    assert_eq!(table(&pod, "net1", 100), ["0.0.0.0/0 10.1.1.1", "10.1.1.0/24", "10.9.0.0/16 10.1.1.9"]);
    assert_eq!(table(&pod, "net1", 101), ["fd00:1::/64"]);
    assert_eq!(table(&pod, "net1", 254), Vec::<String>::new());
    bed.call("sbr", "CHECK", &config, "c1", &pod.path()).unwrap();
    pod.route().del_rule(&Rule::from_host("10.1.1.5".parse().unwrap(), 100)).unwrap();
    let error = bed.call("sbr", "CHECK", &config, "c1", &pod.path()).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("lost its rule for 10.1.1.5"), "{error}");
    for _ in 0..2 {
        bed.call("sbr", "DEL", &json!({"name": "net"}), "c1", &pod.path()).unwrap();
    }
    assert_eq!(pod.state(), before);
}

#[test]
fn x5_x6_interfaces_in_one_network_have_tables_of_their_own_that_nobody_else_uses() {
    let Some(bed) = Bed::new("sbr of two interfaces") else { return };
    let pod = bed.pod();
    pod.route().add_rule(&Rule::from_host("10.200.0.1".parse().unwrap(), 101)).unwrap();
    let before = pod.state();
    bed.attach("c1", "net1", &pod, &list("10.1.1.5/24", &json!({"type": "sbr"}))).unwrap();
    let first = pod.state();
    bed.attach("c2", "net2", &pod, &list("10.1.1.6/24", &json!({"type": "sbr"}))).unwrap();
    assert_eq!(rules(&pod), ["10.1.1.5/32 100", "10.1.1.6/32 102", "10.200.0.1/32 101"]);
    for (interface, number) in [("net1", 100), ("net2", 102)] {
        assert_eq!(table(&pod, interface, number), ["0.0.0.0/0 10.1.1.1", "10.1.1.0/24"]);
        assert_eq!(table(&pod, interface, 254), Vec::<String>::new());
    }
    bed.detach("c2", Some(&pod)).unwrap();
    assert_eq!(pod.state(), first);
    bed.detach("c1", Some(&pod)).unwrap();
    assert_eq!(pod.state(), before);
}

/// Whether somebody waits for an advisory lock on a file.
fn is_waited_for(inode: u64) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&format!(":{inode} ")))
}

#[test]
fn x5_sbr_waits_for_the_lock_that_upstreams_sbr_takes() {
    let Some(bed) = Bed::new("upstream's lock of sbr") else { return };
    let pod = bed.pod();
    let config = after(&macvlan(&bed, &pod), "sbr", &json!({}));
    let inode = pod.netns().id().unwrap().inode;
    for (verb, before, afterwards) in [("ADD", 0, 2), ("DEL", 2, 0)] {
        let held = std::fs::File::open(pod.path()).unwrap();
        held.lock().unwrap();
        std::thread::scope(|scope| {
            let call = scope.spawn(|| bed.call("sbr", verb, &config, "c1", &pod.path()));
            while !is_waited_for(inode) {
                assert!(!call.is_finished(), "{verb} did not wait");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            assert_eq!(rules(&pod).len(), before, "{verb}");
            drop(held);
            call.join().unwrap().unwrap();
        });
        assert_eq!(rules(&pod).len(), afterwards, "{verb}");
    }
}

#[test]
fn x6_the_table_is_the_recorded_one_although_others_came_and_went() {
    let Some(bed) = Bed::new("sbr from the record") else { return };
    let pod = bed.pod();
    let foreign = Rule::from_host("10.200.0.1".parse().unwrap(), 100);
    let before = pod.state();
    pod.route().add_rule(&foreign).unwrap();
    bed.attach("c1", "net1", &pod, &list("10.1.1.5/24", &json!({"type": "sbr"}))).unwrap();
    pod.route().del_rule(&foreign).unwrap();
    assert_eq!(rules(&pod), ["10.1.1.5/32 101"]);
    // The address that the rule is for is gone: upstream's plugin would leave the rule.
    pod.route().del_address(&pod.link("net1").unwrap(), &"10.1.1.5/24".parse().unwrap()).unwrap();
    bed.detach("c1", Some(&pod)).unwrap();
    assert_eq!(pod.state(), before);
}

#[test]
fn sbr_to_a_named_table_with_gateways_or_hints() {
    let Some(bed) = Bed::new("keys of sbr") else { return };
    let pod = bed.pod();
    let result = macvlan(&bed, &pod);
    let before = pod.state();
    let add = |keys: &Value| bed.call("sbr", "ADD", &after(&result, "sbr", keys), "c1", &pod.path());
    let del = || bed.call("sbr", "DEL", &json!({"name": "net"}), "c1", &pod.path()).unwrap();
    add(&json!({"table": 5000})).unwrap();
    assert_eq!(table(&pod, "net1", 254).len(), 4);
    let rules = pod.route().rules().unwrap();
    assert_eq!(rules.iter().filter(|rule| rule.table == 5000).count(), 2);
    del();
    assert_eq!(pod.state(), before);
    add(&json!({"gateways": ["10.1.1.254", "fd00:1::254"]})).unwrap();
    assert!(table(&pod, "net1", 100).contains(&"0.0.0.0/0 10.1.1.254".to_owned()));
    assert!(table(&pod, "net1", 101).contains(&"::/0 fd00:1::254".to_owned()));
    del();
    assert_eq!(pod.state(), before);
    add(&json!({"addSourceHints": true})).unwrap();
    assert_eq!(table(&pod, "net1", 254), ["10.1.1.0/24", "fd00:1::/64"]);
    let link = pod.link("net1").unwrap();
    let routes = pod.route().routes(&link).unwrap();
    let main = routes.iter().filter(|entry| entry.table == 254 && !entry.dst.to_string().starts_with("fe80"));
    assert!(main.clone().all(|entry| entry.src.is_some()), "{routes:#?}");
    del();
    assert_eq!(pod.state(), before);
    for (keys, word) in [
        (json!({"gateways": ["10.1.1.1", "10.1.1.2"]}), "gateways"),
        (json!({"gateways": ["x"]}), "gateways"),
        (json!({"table": -1}), "table"),
        (json!({"gateways": ["192.168.7.7"]}), "192.168.7.7"),
    ] {
        let error = add(&keys).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains(word), "{error}");
        assert_eq!(pod.state(), before);
    }
}

#[test]
fn what_upstreams_sbr_left_goes_by_the_addresses_of_the_interface() {
    let Some(bed) = Bed::new("sbr of upstream's") else { return };
    let pod = bed.pod();
    macvlan(&bed, &pod);
    for (address, table) in [("10.1.1.5", 100), ("fd00:1::5", 101), ("10.1.1.77", 102)] {
        pod.route().add_rule(&Rule::from_host(address.parse().unwrap(), table)).unwrap();
    }
    bed.call("sbr", "DEL", &json!({"name": "net"}), "c1", &pod.path()).unwrap();
    assert_eq!(rules(&pod), ["10.1.1.77/32 102"]);
}

#[test]
fn a_chain_of_three_goes_from_the_record_alone_and_check_finds_nothing() {
    let Some(bed) = Bed::new("chain of three") else { return };
    let pod = bed.pod();
    let before = (pod.state(), bed.host.state());
    let mut config = list("10.1.1.5/24", &json!({"type": "tuning", "mac": "02:00:00:00:00:2a"}));
    config["plugins"].as_array_mut().unwrap().push(json!({"type": "sbr"}));
    let record = bed.attach("c1", "net1", &pod, &config).unwrap();
    let result = record.result.clone().unwrap();
    assert_eq!(result.interfaces[0].mac.as_deref(), Some("02:00:00:00:00:2a"));
    assert_eq!(result.ips.len(), 1);
    let found = bed.on_host(|engine| fairlead_cni::engine::check(&record, &pod.path(), engine).unwrap());
    assert_eq!(found, []);
    bed.detach("c1", Some(&pod)).unwrap();
    assert_eq!((pod.state(), bed.host.state()), before);
    // The last one fails: the others are taken back.
    config["plugins"][2] = json!({"type": "sbr", "gateways": ["192.168.7.7"]});
    bed.attach("c1", "net1", &pod, &config).unwrap_err();
    assert_eq!((pod.state(), bed.host.state()), before);
    // The namespace is gone.
    config["plugins"][2] = json!({"type": "sbr"});
    bed.attach("c1", "net1", &pod, &config).unwrap();
    drop(pod);
    bed.detach("c1", None).unwrap();
    assert_eq!(bed.host.state(), before.1);
}
