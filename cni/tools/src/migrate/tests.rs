use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Parser;
use serde_json::json;

use super::*;

#[derive(Parser)]
struct Call {
    #[command(flatten)]
    options: Options,
}

/// A node of the old stack below a temporary folder.
struct OldNode(tempfile::TempDir);

impl OldNode {
    /// Multus with its daemon, around a bridge.
    fn thick() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        node.write(
            "etc/cni/net.d/10-bridge.conflist",
            r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"bridge"}]}"#,
        );
        node.multus(&json!({}));
        for plugin in ["bridge", "multus-shim", "bandwidth"] {
            node.write(&format!("opt/cni/bin/{plugin}"), "");
            fs::set_permissions(node.at(&format!("opt/cni/bin/{plugin}")), fs::Permissions::from_mode(0o755))
                .unwrap();
        }
        fs::create_dir_all(node.at("sys/bus/pci/devices")).unwrap();
        node
    }

    fn multus(&self, more: &Value) {
        let mut file = json!({"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus-shim", "logLevel": "verbose",
            "clusterNetwork": "/host/etc/cni/net.d/10-bridge.conflist", "namespaceIsolation": true, "globalNamespaces": "default,shared"});
        file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.write("etc/cni/net.d/00-multus.conf", &file.to_string());
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) -> String {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    fn check(&self, more: &[&str]) -> Check {
        let root = self.0.path().display().to_string();
        let arguments = ["migrate", "--check", "--root", &root].into_iter().chain(more.iter().copied());
        examine(&Call::parse_from(arguments).options).unwrap()
    }
}

#[track_caller]
fn assert_found(check: &Check, id: &str, severity: Severity, words: &[&str]) {
    let is = |finding: &Finding| {
        finding.id == id
            && finding.severity == severity
            && words.iter().all(|word| finding.seen.contains(word))
    };
    assert!(check.findings.iter().any(is), "no {severity:?} {id} with {words:?}: {:#?}", check.findings);
}

#[test]
fn multus_files_are_told_apart_and_their_options_become_ours() {
    let node = OldNode::thick();
    node.write("etc/cni/net.d/multus.d/multus.kubeconfig", "");
    let check = node.check(&[]);
    assert_found(&check, "migrate.multus", Severity::Info, &["00-multus.conf is Multus' (thick"]);
    assert_found(&check, "migrate.multus", Severity::Info, &["multus.kubeconfig"]);
    assert_found(&check, "migrate.multus", Severity::Warning, &["logLevel", "standard error"]);
    assert_found(&check, "migrate.multus", Severity::Unknown, &["the daemon's own configuration"]);
    assert_found(
        &check,
        "migrate.install",
        Severity::Info,
        &["would be placed: ", "00-fairlead.conflist", "around network cbr0"],
    );
    assert_found(&check, "migrate.programs", Severity::Info, &["stay", "bridge, multus-shim"]);
    let section = json!({"namespaceIsolation": true, "globalNamespaces": "default,shared"});
    assert_eq!(Value::Object(check.section.clone()), section);
    let plugin = &check.conflist.as_ref().unwrap()["plugins"][0];
    assert_eq!((&plugin["type"], &plugin["namespaceIsolation"]), (&json!("fairlead"), &json!(true)));
    assert!(!check.is_blocked(), "{}", check.text());
    assert!(check.text().ends_with("nothing of what was looked at is in the way\n"));
    assert!(!node.at("etc/cni/net.d/00-fairlead.conflist").exists());
    node.multus(&json!({"type": "multus", "clusterNetwork": "/etc/cni/net.d/20-other.conflist", "confDir": "/etc/multus"}));
    let section = node.check(&[]).section;
    assert_eq!(section["clusterNetwork"], "/etc/cni/net.d/20-other.conflist");
    assert_eq!(section["confDir"], "/etc/multus");
}

#[test]
fn the_daemons_options_are_read() {
    let node = OldNode::thick();
    let file = node.write(
        "daemon.json",
        r#"{"defaultNetworks":["storage"],"auxiliaryCNIChainName":"extra","cniDir":"/data/multus"}"#,
    );
    let check = node.check(&["--multus-config", &file]);
    assert_eq!(check.section["defaultNetworks"], json!(["storage"]));
    assert_eq!(check.section["cniDir"], "/data/multus");
    assert_eq!(check.section["auxiliaryCNIChainName"], "extra");
    let check = node.check(&["--multus-config", "/nonexistent"]);
    assert_found(&check, "migrate.multus", Severity::Error, &["/nonexistent"]);
    node.multus(&json!({"clusterNetwork": null}));
    assert_found(&node.check(&[]), "migrate.multus", Severity::Error, &["names no primary network"]);
}

#[test]
fn each_network_is_told_with_who_would_make_it() {
    let node = OldNode::thick();
    let network = |name: &str, config: &str| {
        json!({"kind": "NetworkAttachmentDefinition", "spec": {"config": config}, "metadata": {"name": name, "namespace": "a",
            "annotations": {"k8s.v1.cni.cncf.io/resourceName": "intel.com/vf"}}})
    };
    let list = json!({"kind": "List", "items": [
        network("vf", r#"{"cniVersion":"1.0.0","type":"sriov","ipam":{"type":"host-local"}}"#),
        network("chain", r#"{"cniVersion":"1.0.0","name":"c","plugins":[{"type":"macvlan","ipam":{}},{"type":"bandwidth"}]}"#),
        network("masq", r#"{"cniVersion":"1.0.0","type":"bridge","ipMasq":true}"#),
        network("where", r#"{"cniVersion":"1.0.0","type":"macvlan","ipam":{"type":"whereabouts"}}"#),
        network("odd", r#"{"cniVersion":"1.0.0","type":"exotic"}"#),
        network("empty", ""),
        network("torn", "{"),
    ]});
    let file = node.write("networks.json", &list.to_string());
    let check = node.check(&["--networks", &file]);
    let info = |words: &[&str]| assert_found(&check, "migrate.networks", Severity::Info, words);
    info(&["a/vf: sriov in process, host-local in process, a device of intel.com/vf"]);
    info(&["a/chain: macvlan in process, bandwidth from disk ("]);
    info(&["a/masq: bridge from disk for its key \"ipMasq\""]);
    info(&["a/empty: has no configuration"]);
    for words in [["a/where: ", "\"whereabouts\""], ["a/odd: ", "\"exotic\""], ["a/torn: ", "no JSON object"]]
    {
        assert_found(&check, "migrate.networks", Severity::Error, &words);
    }
    fs::remove_file(node.at("opt/cni/bin/bridge")).unwrap();
    assert_found(
        &node.check(&["--networks", &file]),
        "migrate.networks",
        Severity::Error,
        &["a/masq: ", "ipMasq"],
    );
    let error = |text: &str| {
        let file = node.write("bad.json", text);
        let root = node.0.path().display().to_string();
        let call = Call::parse_from(["migrate", "--check", "--root", &root, "--networks", &file]);
        examine(&call.options).unwrap_err()
    };
    assert!(error("kind: List").contains("is no JSON"));
    assert!(error(r#"{"kind":"Pod"}"#).contains("\"Pod\" that is no NetworkAttachmentDefinition"));
}

#[test]
fn pods_of_the_old_stack_are_told_with_what_their_del_would_undo() {
    let node = OldNode::thick();
    let config = |kind: &str| json!({"cniVersion": "0.4.0", "name": "cbr0", "type": kind});
    let note = |id: &str, kind: &str, netns: &Path| {
        let bytes = BASE64_STANDARD.encode(config(kind).to_string());
        node.write(
            &format!("var/lib/cni/multus/{id}"),
            &json!([{"Name": "cbr0", "Bytes": bytes}]).to_string(),
        );
        let entry = json!({"kind": "cniCacheV1", "containerId": id, "ifName": "eth0", "netns": netns, "networkName": "cbr0",
            "config": bytes, "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", id]]});
        node.write(&format!("var/lib/cni/multus/results/cbr0-{id}-eth0"), &entry.to_string());
    };
    assert_found(&node.check(&[]), "migrate.pods", Severity::Info, &["nothing is noted"]);
    node.write("run/netns/there", "");
    note("good", "bridge", Path::new("/run/netns/there"));
    note("gone", "bridge", Path::new("/run/netns/gone"));
    note("odd", "exotic", Path::new("/run/netns/there"));
    let check = node.check(&[]);
    assert_found(&check, "migrate.pods", Severity::Info, &["pod shop/good", "eth0 (cbr0: bridge)"]);
    assert_found(&check, "migrate.pods", Severity::Warning, &["pod shop/gone", "namespace is gone"]);
    assert_found(
        &check,
        "migrate.pods",
        Severity::Error,
        &["pod shop/odd", "its DEL would fail", "\"exotic\""],
    );
}

#[test]
fn pools_are_compared_with_what_kubelet_has() {
    let node = OldNode::thick();
    assert_found(
        &node.check(&[]),
        "migrate.devices",
        Severity::Unknown,
        &["no configuration of the device plugin"],
    );
    let pools = r#"{"resourceList":[{"resourceName":"vf","selectors":{"vendors":["8086"]}}]}"#;
    node.write("var/lib/kubelet/pods/u/volumes/kubernetes.io~configmap/config-volume/config.json", pools);
    assert_found(&node.check(&[]), "migrate.devices", Severity::Unknown, &["kubelet_internal_checkpoint"]);
    let registered = |resources: Value| {
        let text = json!({"Data": {"PodDeviceEntries": null, "RegisteredDevices": resources}, "Checksum": 1})
            .to_string();
        node.write("var/lib/kubelet/device-plugins/kubelet_internal_checkpoint", &text);
        node.check(&[])
    };
    let check = registered(json!({"intel.com/vf": ["0000:01:10.0"], "nvidia.com/gpu": ["GPU-1"]}));
    assert_found(
        &check,
        "migrate.devices",
        Severity::Error,
        &["intel.com/vf: ours has 0 devices, kubelet 1", "0000:01:10.0"],
    );
    assert_found(&check, "migrate.devices", Severity::Info, &["other device plugins", "nvidia.com/gpu"]);
    assert_found(
        &registered(json!({})),
        "migrate.devices",
        Severity::Info,
        &["intel.com/vf: the same 0 devices"],
    );
    let file = node.write("pools.json", r#"{"resourceList":[{"resourceName":"a.b"}]}"#);
    assert_found(
        &node.check(&["--pools", &file]),
        "migrate.devices",
        Severity::Error,
        &["pools.json", "resourceName"],
    );
}

#[test]
fn another_distributions_folders_and_an_enforcing_selinux_are_told() {
    let node = OldNode::thick();
    node.write("var/lib/rancher/k3s/x", "");
    node.write("sys/fs/selinux/enforce", "1");
    let check = node.check(&[]);
    assert_found(&check, "migrate.paths", Severity::Warning, &["k3s"]);
    assert_found(&check, "migrate.selinux", Severity::Warning, &["enforces"]);
    let check = node.check(&["--bin-dir", "/usr/cni"]);
    assert_found(&check, "migrate.paths", Severity::Error, &["/usr/cni is not there"]);
}
