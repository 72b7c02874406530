//! The meta plugin from end to end: a primary network that is executed from disk, others of both kinds, and every verb.

use std::{fs, path::Path, thread};

use serde_json::{Value, json};

use crate::{crash, runtime::Runtime, support::Namespace};

/// What a plugin on disk was called with.
pub(crate) fn calls(runtime: &Runtime, plugin: &str, verb: &str) -> Vec<Value> {
    let log = fs::read_to_string(runtime.folder("bin").join(format!("log.{plugin}"))).unwrap();
    let inputs = log.lines().filter_map(|line| line.strip_prefix(verb)?.strip_prefix(' '));
    inputs.map(|input| serde_json::from_str(input).unwrap()).collect()
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

/// Names of what the plugins on disk keep.
fn kept(runtime: &Runtime) -> Vec<String> {
    let entries = fs::read_dir(runtime.folder("bin/kept")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn p2_the_primarys_result_is_told_in_every_version() {
    let Some(runtime) = crash::runtime("meta, versions") else { return };
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let pod = runtime.bed.pod();
        let config = with(runtime.config(), "cniVersion", json!(version));
        let result = runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
        assert_eq!(result["cniVersion"], version);
        let address = result.get("ip4").map_or(&result["ips"][0]["address"], |block| &block["ip"]);
        assert_eq!(address, "10.9.0.5/24", "{version}");
        runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
    }
}

#[test]
fn p20_a_result_that_the_version_cannot_tell_is_an_error_that_leaves_nothing() {
    let Some(runtime) = crash::runtime("meta, no address") else { return };
    let primary = json!({"cniVersion": "1.1.0", "name": "cluster", "plugins": [{"type": "primary", "without": "address"}]});
    fs::write(runtime.folder("conf/10-cluster.conflist"), primary.to_string()).unwrap();
    let pod = runtime.bed.pod();
    let before = runtime.snapshot(Some(&pod));
    let config = with(runtime.config(), "cniVersion", json!("0.2.0"));
    let error = runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("no valid IP addresses"), "{error}");
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
    runtime.call("ADD", "c1", &pod.path()).unwrap();
}

#[test]
fn a_primary_network_is_made_in_process_where_its_types_are_listed() {
    let Some(runtime) = Runtime::new("meta, built-in primary", |_| Vec::new()) else { return };
    let ipam = json!({"type": "static", "addresses": [{"address": "10.9.0.6/24"}]});
    let plugin = json!({"type": "bridge", "bridge": "br0", "ipam": ipam});
    let primary = json!({"cniVersion": "1.1.0", "name": "cluster", "plugins": [plugin]});
    fs::write(runtime.folder("conf/10-cluster.conflist"), primary.to_string()).unwrap();
    let pod = runtime.bed.pod();
    let config = with(runtime.config(), "builtins", json!(["bridge", "static"]));
    let result = runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    assert_eq!(
        (&result["interfaces"][0]["name"], &result["interfaces"][2]["name"]),
        (&json!("br0"), &json!("eth0"))
    );
    assert_eq!(pod.addresses("eth0"), ["10.9.0.6/24"]);
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
    assert!(pod.link("eth0").is_none());
    // By default the primary is the plugin's on disk, of which there is none.
    let error = runtime.call("ADD", "c1", &pod.path()).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("plugin \"bridge\" is in none of"), "{error}");
}

#[test]
fn p17_plugins_on_disk_get_every_key_as_it_was_written() {
    let odd = json!({"Odd Key": [1, {"Nested": null}], "zeta": 1, "alpha": "\u{fc}", "MTU": 1400});
    let networks = |bed: &crate::support::Bed| {
        let mut config = bed.macvlan("10.1.2.0/24");
        config["ipam"] = json!({"type": "keeper", "Custom": {"b": 1, "a": [true]}});
        config.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
        vec![config]
    };
    let Some(runtime) = Runtime::new("meta, unknown keys", networks) else { return };
    let pod = runtime.bed.pod();
    runtime.call("ADD", "c1", &pod.path()).unwrap();
    runtime.call("DEL", "c1", &pod.path()).unwrap();
    for verb in ["ADD", "DEL"] {
        let inputs = calls(&runtime, "keeper", verb);
        let [input] = inputs.as_slice() else { panic!("{inputs:?}") };
        for (key, value) in odd.as_object().unwrap() {
            assert_eq!(&input[key], value, "{verb}: {key}");
        }
        assert_eq!(input["ipam"].to_string(), r#"{"type":"keeper","Custom":{"b":1,"a":[true]}}"#);
        assert_eq!((input["name"].clone(), input["cniVersion"].clone()), (json!("net"), json!("1.0.0")));
    }
    assert_eq!(pod.link("net1"), None);
}

#[test]
fn check_asks_everybody_and_fails_for_what_is_lost_or_for_all_that_differs() {
    let Some(runtime) = crash::runtime("meta, CHECK") else { return };
    let (pod, other) = (runtime.bed.pod(), runtime.bed.pod());
    let strict = with(runtime.config(), "strictCheck", json!(true));
    let check = |config: &Value, pod: &Namespace| runtime.call_with("CHECK", "c1", &pod.path(), config);
    assert_eq!(check(&runtime.config(), &pod).unwrap_err()["code"], 3);
    runtime.call("ADD", "c1", &pod.path()).unwrap();
    check(&strict, &pod).unwrap();
    assert_eq!((calls(&runtime, "primary", "CHECK").len(), calls(&runtime, "keeper", "CHECK").len()), (1, 1));
    let previous = &calls(&runtime, "primary", "CHECK")[0]["prevResult"];
    assert_eq!(previous["ips"][0]["address"], "10.9.0.5/24");
    // An address that its IPAM plugin knows nothing of.
    fs::remove_file(runtime.folder("bin/kept/keeper.c1.net2")).unwrap();
    check(&runtime.config(), &pod).unwrap();
    let error = check(&strict, &pod).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("interface net2"), "{error}");
    let error = check(&runtime.config(), &other).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("another network namespace"), "{error}");
    pod.route().delete_link(&pod.link("net1").unwrap()).unwrap();
    let error = check(&runtime.config(), &pod).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("no interface net1"), "{error}");
    let (text, well) = runtime.operate(&["check"]);
    assert!(!well && text.contains("LOST: pod default/p, interface net1"), "{text}");
    assert!(text.contains("differs: pod default/p, interface net2"), "{text}");
}

#[test]
fn p23_gc_keeps_valid_sandboxes_under_either_key_and_tells_every_plugin() {
    let Some(runtime) = crash::runtime("meta, GC") else { return };
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let pods = [runtime.bed.pod(), runtime.bed.pod()];
        for (pod, container) in pods.iter().zip(["c1", "c2"]) {
            runtime.call("ADD", container, &pod.path()).unwrap();
        }
        let before = runtime.snapshot(Some(&pods[0]));
        fs::write(runtime.folder("bin/kept/primary.c9.eth0"), "").unwrap();
        let mut config = runtime.config();
        config.as_object_mut().unwrap().remove("cni.dev/valid-attachments");
        runtime.call_with("GC", "", Path::new(""), &config).unwrap();
        assert!(kept(&runtime).contains(&"primary.c9.eth0".into()), "without a list nobody is dead");
        let valid = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth0"}]);
        runtime.call_with("GC", "", Path::new(""), &with(config.clone(), key, valid)).unwrap();
        assert_eq!(runtime.differences(&before, Some(&pods[0])), "", "{key}: all are valid");
        let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
        runtime.call_with("GC", "", Path::new(""), &with(config, key, valid)).unwrap();
        assert_eq!(kept(&runtime), ["keeper.c1.net2", "primary.c1.eth0"]);
        assert_eq!(runtime.bed.reserved().len(), 1);
        assert!(["eth0", "net1", "net2"].iter().all(|name| pods[1].link(name).is_none()));
        assert!(["eth0", "net1", "net2"].iter().all(|name| pods[0].link(name).is_some()));
        runtime.call("DEL", "c1", &pods[0].path()).unwrap();
    }
    // The secondary network's plugin is told its own attachments, under both keys.
    let told = calls(&runtime, "keeper", "GC").pop().unwrap();
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(told[key], json!([{"containerID": "c1", "ifname": "net2"}]));
    }
}

#[test]
fn status_asks_the_primarys_plugins_and_whether_records_can_be_written() {
    let Some(runtime) = Runtime::new("meta, STATUS", |_| Vec::new()) else { return };
    let status = || runtime.call("STATUS", "", Path::new(""));
    let refused = |word: &str| {
        let error = status().unwrap_err();
        assert_eq!(error["code"], 50, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    status().unwrap();
    assert_eq!(calls(&runtime, "primary", "STATUS").len(), 1);
    let unready = runtime.folder("bin/unready");
    fs::write(&unready, "").unwrap();
    refused("its daemon is away");
    fs::remove_file(&unready).unwrap();
    fs::write(runtime.folder("state"), "in the way").unwrap();
    refused("Not a directory");
    fs::remove_file(runtime.folder("state")).unwrap();
    let (plugin, elsewhere) = (runtime.folder("bin/primary"), runtime.folder("bin/elsewhere"));
    fs::rename(&plugin, &elsewhere).unwrap();
    refused("\\\"primary\\\" is in none of");
    fs::rename(&elsewhere, &plugin).unwrap();
    status().unwrap();
    fs::remove_file(runtime.folder("conf/10-cluster.conflist")).unwrap();
    refused("network");
}

#[test]
fn p24_fifty_pods_at_once_get_their_networks_and_lose_them() {
    let Some(runtime) = crash::runtime("meta, fifty pods") else { return };
    let before = runtime.snapshot(None);
    let pods: Vec<Namespace> = (0..50).map(|_| runtime.bed.pod()).collect();
    let all = |verb: &str| {
        thread::scope(|scope| {
            for (pod, number) in pods.iter().zip(0..) {
                let runtime = &runtime;
                scope.spawn(move || runtime.call(verb, &format!("c{number}"), &pod.path()).unwrap());
            }
        });
    };
    all("ADD");
    let mut addresses: Vec<String> = pods.iter().flat_map(|pod| pod.addresses("net1")).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!((addresses.len(), runtime.bed.reserved().len(), kept(&runtime).len()), (50, 50, 100));
    let (listed, _) = runtime.operate(&["list"]);
    assert_eq!(listed.lines().count(), 151, "{listed}");
    all("DEL");
    drop(pods);
    assert_eq!(runtime.differences(&before, None), "");
}

#[test]
fn p25_a_namespace_may_be_named_through_a_link_or_a_process() {
    let Some(runtime) = crash::runtime("meta, paths of namespaces") else { return };
    let pod = runtime.bed.pod();
    let linked = runtime.folder("linked");
    std::os::unix::fs::symlink(pod.path(), &linked).unwrap();
    let mut sleeper =
        pod.netns().run(|| std::process::Command::new("sleep").arg("600").spawn().unwrap()).unwrap();
    let process = format!("/proc/{}/ns/net", sleeper.id());
    for path in [linked.as_path(), Path::new(&process)] {
        let before = runtime.snapshot(Some(&pod));
        runtime.call("ADD", "c1", path).unwrap();
        assert!(pod.link("net1").is_some(), "{}", path.display());
        runtime.call("CHECK", "c1", path).unwrap();
        runtime.call("DEL", "c1", path).unwrap();
        assert_eq!(runtime.differences(&before, Some(&pod)), "", "{}", path.display());
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn p9_p10_p11_del_may_be_repeated_and_its_namespace_may_be_gone() {
    let Some(runtime) = crash::runtime("meta, DEL") else { return };
    let before = runtime.snapshot(None);
    for netns in ["", "/nonexistent"] {
        let pod = runtime.bed.pod();
        runtime.call("ADD", "c1", &pod.path()).unwrap();
        drop(pod);
        for _ in 0..2 {
            runtime.call("DEL", "c1", Path::new(netns)).unwrap();
            assert_eq!(runtime.differences(&before, None), "", "{netns}");
        }
    }
}

#[test]
fn p13_the_hosts_own_namespace_is_code_8_and_nobody_is_asked() {
    let Some(runtime) = crash::runtime("meta, own namespace") else { return };
    let before = runtime.snapshot(None);
    let executed = calls(&runtime, "primary", "ADD").len();
    let error = runtime.call("ADD", "c1", &runtime.bed.host.path()).unwrap_err();
    assert_eq!(error["code"], 8);
    assert_eq!(calls(&runtime, "primary", "ADD").len(), executed);
    assert_eq!(runtime.differences(&before, None), "");
}
