//! A node on which Multus was at work: its configuration, under its names, and the pods that it made.

use std::{fs, path::Path, process::Command};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{meta::calls, runtime::Runtime, support::Namespace};

/// A node, without networks beside the primary one that the agent would know.
fn runtime(test: &str) -> Option<Runtime> {
    Runtime::new(test, |_| Vec::new())
}

/// What the reference library keeps of an attachment.
fn cache(dir: &Path, config: &Value, container: &str, interface: &str, result: &Value) {
    let name = config["name"].as_str().unwrap();
    let entry = json!({
        "kind": "cniCacheV1", "containerId": container, "config": BASE64_STANDARD.encode(config.to_string()),
        "ifName": interface, "networkName": name, "netns": "/run/netns/x",
        "cniArgs": [["IgnoreUnknown", "true"], ["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "old"]],
        "capabilityArgs": {"portMappings": [{"hostPort": 80}]}, "result": result,
    });
    fs::create_dir_all(dir.join("results")).unwrap();
    fs::write(dir.join("results").join(format!("{name}-{container}-{interface}")), entry.to_string())
        .unwrap();
}

fn result(address: &str) -> Value {
    json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": address}], "dns": {}})
}

/// A pod that Multus made: `primary` for eth0 and the list of `keeper` for the interface `data`.
struct Old<'a> {
    runtime: &'a Runtime,
    pod: Namespace,
}

impl<'a> Old<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        let old = Self { runtime, pod: runtime.bed.pod() };
        let configs = [Self::primary(), Self::keeper()];
        for (config, (plugin, interface)) in configs.iter().zip([("primary", "eth0"), ("keeper", "data")]) {
            let netns = old.pod.path();
            let add = || {
                let mut child = Command::new(runtime.folder("bin").join(plugin))
                    .envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", interface)])
                    .env("CNI_NETNS", &netns)
                    .stdin(std::process::Stdio::piped())
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap();
                drop(child.stdin.take());
                child.wait().unwrap()
            };
            runtime.bed.host.netns().run(add).unwrap();
            cache(&runtime.folder("multus"), config, "c1", interface, &result("10.9.0.5/24"));
        }
        let delegate = |config: &Value, more: Value| {
            let mut delegate = json!({"Conf": {"name": "x", "type": ""}, "ConfList": {}, "Name": "x",
                                      "Bytes": BASE64_STANDARD.encode(config.to_string())});
            delegate.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            delegate
        };
        let list = json!([
            delegate(&configs[0], json!({})),
            delegate(&configs[1], json!({"ifnameRequest": "data", "macRequest": "02:00:00:00:00:09"})),
        ]);
        fs::write(old.note(), list.to_string()).unwrap();
        let shim = json!({"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus-shim"});
        cache(&runtime.folder("cni"), &shim, "c1", "eth0", &result("10.9.0.5/24"));
        old
    }

    fn primary() -> Value {
        json!({"cniVersion": "0.4.0", "name": "old-cluster", "type": "primary", "odd": [1], "capabilities": {"portMappings": true}})
    }

    fn keeper() -> Value {
        json!({"cniVersion": "0.4.0", "name": "storage", "plugins": [
            {"type": "keeper", "ipam": {"type": "whereabouts", "kubeconfig": "/k"}}]})
    }

    fn note(&self) -> std::path::PathBuf {
        self.runtime.folder("multus").join("c1")
    }

    /// What is left of all that was noted.
    fn notes(&self) -> usize {
        let count = |dir: &str| fs::read_dir(self.runtime.folder(dir)).unwrap().count();
        count("multus/results") + count("cni/results") + usize::from(self.note().exists())
    }
}

fn kept(runtime: &Runtime) -> usize {
    fs::read_dir(runtime.folder("bin/kept")).unwrap().count()
}

#[test]
fn a_pod_of_multus_is_deleted_by_the_exact_configurations_and_results_last_one_first() {
    let Some(runtime) = runtime("switch, DEL") else { return };
    let old = Old::new(&runtime);
    assert_eq!((kept(&runtime), old.notes()), (2, 4));
    runtime.call("DEL", "c1", &old.pod.path()).unwrap();
    assert_eq!((kept(&runtime), old.notes()), (0, 0));
    assert!(old.pod.link("eth0").is_none());

    let primary = calls(&runtime, "primary", "DEL").pop().unwrap();
    assert_eq!((&primary["odd"], &primary["name"]), (&json!([1]), &json!("old-cluster")));
    assert_eq!(primary["prevResult"], result("10.9.0.5/24"));
    assert_eq!(primary["runtimeConfig"], json!({"portMappings": [{"hostPort": 80}]}));
    let keeper = calls(&runtime, "keeper", "DEL").pop().unwrap();
    assert_eq!(keeper["ipam"]["kubeconfig"], "/k");
    assert_eq!((&keeper["name"], &keeper["cniVersion"]), (&json!("storage"), &json!("0.4.0")));
    let order = fs::read_to_string(runtime.folder("bin/order")).unwrap();
    assert_eq!(order, "keeper data\nprimary eth0\n");
    // Once more: the cluster's network is asked, as for any pod that nobody noted.
    runtime.call("DEL", "c1", &old.pod.path()).unwrap();
}

#[test]
fn what_fails_keeps_the_notes_and_the_next_del_goes_on() {
    let Some(runtime) = runtime("switch, failing DEL") else { return };
    let old = Old::new(&runtime);
    fs::rename(runtime.folder("bin/keeper"), runtime.folder("keeper")).unwrap();
    let error = runtime.call("DEL", "c1", &old.pod.path()).unwrap_err();
    let text = error["msg"].as_str().unwrap();
    assert!(text.contains("network storage, interface data") && text.contains("\"keeper\""), "{text}");
    assert_eq!((kept(&runtime), old.notes()), (1, 4), "the primary network's DEL was run all the same");
    fs::rename(runtime.folder("keeper"), runtime.folder("bin/keeper")).unwrap();
    runtime.call("DEL", "c1", Path::new("")).unwrap();
    assert_eq!((kept(&runtime), old.notes()), (0, 0));
}

#[test]
fn a_note_that_was_cut_short_is_made_up_for_by_the_cache_beside_it() {
    let Some(runtime) = runtime("switch, torn note") else { return };
    let old = Old::new(&runtime);
    let text = fs::read_to_string(old.note()).unwrap();
    fs::write(old.note(), &text[..text.len() / 2]).unwrap();
    runtime.call("DEL", "c1", &old.pod.path()).unwrap();
    assert_eq!((kept(&runtime), old.notes()), (0, 0));
    assert_eq!(calls(&runtime, "keeper", "DEL").len(), 1);
}

#[test]
fn a_note_without_bytes_takes_them_from_the_cache_or_does_with_the_keys_that_every_plugin_has() {
    let Some(runtime) = runtime("switch, note without bytes") else { return };
    let old = Old::new(&runtime);
    let mut list: Value = serde_json::from_slice(&fs::read(old.note()).unwrap()).unwrap();
    for delegate in list.as_array_mut().unwrap() {
        delegate["Bytes"] = Value::Null;
    }
    list[0]["Conf"] =
        json!({"cniVersion": "0.4.0", "name": "other-name", "type": "primary", "ipam": {}, "dns": {}});
    list[1]["Name"] = json!("storage");
    fs::write(old.note(), list.to_string()).unwrap();
    runtime.call("DEL", "c1", &old.pod.path()).unwrap();
    assert_eq!((kept(&runtime), old.notes()), (0, 0));
    assert_eq!(calls(&runtime, "primary", "DEL").pop().unwrap()["name"], "other-name");
    assert_eq!(calls(&runtime, "keeper", "DEL").pop().unwrap()["ipam"]["kubeconfig"], "/k");
}

#[test]
fn a_pod_that_the_runtime_made_alone_is_deleted_by_the_runtimes_own_cache() {
    let Some(runtime) = runtime("switch, pod of the runtime") else { return };
    let pod = runtime.bed.pod();
    cache(&runtime.folder("cni"), &Old::primary(), "c1", "eth0", &result("10.9.0.5/24"));
    let loopback = json!({"cniVersion": "0.4.0", "name": "cni-loopback", "type": "loopback"});
    cache(&runtime.folder("cni"), &loopback, "c1", "lo", &result("127.0.0.1/8"));
    let ours = json!({"cniVersion": "1.0.0", "name": "fairlead", "plugins": [{"type": "fairlead"}]});
    cache(&runtime.folder("cni"), &ours, "c1", "eth0", &result("10.9.0.5/24"));
    runtime.call("DEL", "c1", &pod.path()).unwrap();
    let told = calls(&runtime, "primary", "DEL").pop().unwrap();
    assert_eq!((&told["name"], &told["prevResult"]), (&json!("old-cluster"), &result("10.9.0.5/24")));
    let mut left: Vec<String> = fs::read_dir(runtime.folder("cni/results"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["cni-loopback-c1-lo", "fairlead-c1-eth0"], "these are the runtime's to remove");
}

#[test]
fn what_multus_noted_of_a_sandbox_is_undone_by_reconcile_only_when_it_is_gone_for_certain() {
    let Some(runtime) = runtime("switch, sandbox that nobody deletes") else { return };
    let old = Old::new(&runtime);
    let noted_in = |netns: &Path| {
        for file in [
            "multus/results/old-cluster-c1-eth0",
            "multus/results/storage-c1-data",
            "cni/results/multus-cni-network-c1-eth0",
        ] {
            let file = runtime.folder(file);
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let mut entry: Value = serde_json::from_str(&text).unwrap();
            entry["netns"] = json!(netns);
            fs::write(file, entry.to_string()).unwrap();
        }
    };
    let reconcile = || {
        let (text, well) = runtime.operate(&["reconcile"]);
        assert!(!(well && text.contains("left by others")), "{text}");
        text
    };
    // It lives: nobody is told of it.
    noted_in(&old.pod.path());
    assert!(!runtime.operate(&["list"]).0.contains("left by others"));
    assert!(!reconcile().contains("left by others"));
    // What the runtime noted of a pod of ours, and keeps since another configuration came before ours.
    let ours = json!({"cniVersion": "1.0.0", "name": "fairlead", "plugins": [{"type": "fairlead"}]});
    cache(&runtime.folder("cni"), &ours, "c9", "eth0", &result("10.9.0.5/24"));
    assert!(!reconcile().contains("left by others"));
    fs::remove_file(runtime.folder("cni/results/fairlead-c9-eth0")).unwrap();
    // A folder of namespaces that is not seen from here.
    noted_in(Path::new("/nonexistent/ns"));
    assert!(reconcile().contains("left by others: pod default/old"));
    // The runtime may delete it yet.
    noted_in(&runtime.folder("gone"));
    assert!(reconcile().contains("networks old-cluster (eth0), storage (data), multus-cni-network (eth0), sandbox c1: its sandbox is gone, but the runtime still knows it"));
    assert_eq!((kept(&runtime), old.notes()), (2, 4));
    // Without the runtime's notes there is nothing that it does not know.
    let results = runtime.folder("cni/results");
    fs::rename(&results, runtime.folder("elsewhere")).unwrap();
    assert!(reconcile().contains("cannot be told"));
    fs::create_dir(&results).unwrap();
    // A plugin that fails keeps the notes.
    fs::rename(runtime.folder("bin/keeper"), runtime.folder("keeper")).unwrap();
    assert!(reconcile().contains("network storage, interface data"));
    assert_eq!((kept(&runtime), old.notes()), (1, 3));
    fs::rename(runtime.folder("keeper"), runtime.folder("bin/keeper")).unwrap();
    let (text, well) = runtime.operate(&["list", "-o", "json"]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&listed["leftByOthers"][0]["standing"], well), (&json!("dead"), false));
    assert_eq!(
        runtime.operate(&["reconcile"]),
        ("nothing is left of sandboxes that are gone\n".to_owned(), true)
    );
    assert_eq!((kept(&runtime), old.notes()), (0, 0));
    let told = calls(&runtime, "primary", "DEL").pop().unwrap();
    assert_eq!(told["prevResult"], result("10.9.0.5/24"));
}

#[test]
fn a_plugin_that_is_not_on_disk_any_more_is_done_in_process() {
    let Some(runtime) = runtime("switch, plugin in process") else { return };
    let pod = runtime.bed.pod();
    let mut config = runtime.bed.macvlan("10.1.2.0/24");
    runtime.bed.call("macvlan", "ADD", &config, "c1", &pod.path()).unwrap();
    assert_eq!(runtime.bed.reserved().len(), 1);
    config["cniVersion"] = json!("0.4.0");
    let note = json!([
        {"Conf": {"cniVersion": "0.4.0", "name": "old-cluster", "type": "primary"}, "ConfList": {}},
        {"Bytes": BASE64_STANDARD.encode(config.to_string())},
    ]);
    fs::create_dir_all(runtime.folder("multus")).unwrap();
    fs::write(runtime.folder("multus/c1"), note.to_string()).unwrap();
    runtime.call("DEL", "c1", &pod.path()).unwrap();
    assert!(pod.link("net1").is_none() && runtime.bed.reserved().is_empty());
    assert!(!runtime.folder("multus/c1").exists());
}

#[test]
fn called_as_multus_its_configuration_makes_the_pods_networks() {
    let Some(runtime) = runtime("switch, Multus' configuration") else { return };
    let mut config = runtime.config();
    config.as_object_mut().unwrap().remove("primaryDir");
    config["name"] = json!("multus-cni-network");
    config["type"] = json!("multus-shim");
    config["BinDir"] = json!(runtime.folder("bin"));
    config["logFile"] = json!("/var/log/multus.log");
    let error = runtime.call_as("multus-shim", "ADD", "c1", &runtime.bed.pod().path(), &config).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("clusterNetwork"), "{error}");

    let primary = json!({"cniVersion": "1.0.0", "type": "primary", "odd": 1});
    let second = json!({"cniVersion": "1.0.0", "name": "second", "plugins": [{"type": "keeper"}]});
    config["delegates"] = json!([primary]);
    let file = runtime.folder("conf/10-cluster.conflist");
    for name in ["multus", "multus-shim"] {
        let pod = runtime.bed.pod();
        let before = runtime.snapshot(Some(&pod));
        runtime.call_as(name, "ADD", "c1", &pod.path(), &config).unwrap();
        assert!(pod.link("eth0").is_some());
        assert_eq!(calls(&runtime, "primary", "ADD").pop().unwrap()["odd"], 1);
        runtime.call_as(name, "DEL", "c1", &pod.path(), &config).unwrap();
        assert_eq!(runtime.differences(&before, Some(&pod)), "", "{name}");
    }
    config["delegates"] = json!([primary, second]);
    let pod = runtime.bed.pod();
    runtime.call_as("multus", "ADD", "c1", &pod.path(), &config).unwrap();
    assert_eq!(fs::read_dir(runtime.folder("bin/kept")).unwrap().count(), 2);
    assert!(runtime.folder("bin/kept/keeper.c1.net1").exists());
    runtime.call_as("multus", "DEL", "c1", &pod.path(), &config).unwrap();
    assert_eq!(kept(&runtime), 0);
    // The generated one, with the path that the daemon's container sees.
    config["clusterNetwork"] = json!(format!("/host{}", file.display()));
    config["readinessIndicatorFile"] = json!(runtime.folder("ready"));
    let status = runtime.call_as("multus", "STATUS", "", Path::new(""), &config).unwrap_err();
    assert_eq!(status["code"], 50);
    fs::write(runtime.folder("ready"), "").unwrap();
    runtime.call_as("multus", "STATUS", "", Path::new(""), &config).unwrap();
    let pod = runtime.bed.pod();
    let before = runtime.snapshot(Some(&pod));
    runtime.call_as("multus", "ADD", "c1", &pod.path(), &config).unwrap();
    assert_eq!(calls(&runtime, "primary", "ADD").pop().unwrap()["name"], "cluster");
    runtime.call_as("multus", "DEL", "c1", &pod.path(), &config).unwrap();
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
}

#[test]
fn a_chain_of_multus_own_plugin_is_deleted_though_that_went_with_multus() {
    let Some(runtime) = runtime("switch, passthru") else { return };
    let old = Old::new(&runtime);
    let mut list: Vec<Value> = serde_json::from_slice(&fs::read(old.note()).unwrap()).unwrap();
    let chain = json!({"cniVersion": "0.4.0", "name": "chain", "plugins": [{"type": "passthru"}, {"type": "keeper"}]});
    list.push(json!({"Name": "chain", "Bytes": BASE64_STANDARD.encode(chain.to_string())}));
    fs::write(old.note(), json!(list).to_string()).unwrap();
    runtime.call("DEL", "c1", &old.pod.path()).unwrap();
    assert_eq!((kept(&runtime), old.notes()), (0, 0));
    assert_eq!(calls(&runtime, "keeper", "DEL").len(), 2);
}
