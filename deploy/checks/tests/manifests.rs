//! The manifests: read into the API server's types, the same from kustomize and chart, and as careful as they claim to be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use clap::Parser;
use fairlead_deploy_checks::{
    chart, deploy, documents, kustomize,
    objects::{self, name},
    parse, read, yaml_files,
};
use serde_json::{Value, json};

/// The overlays, and the chart's values that give the same.
fn pairs() -> Vec<(&'static str, Value)> {
    vec![
        ("all", json!({})),
        ("device-plugin", json!({ "cni": { "enabled": false } })),
        ("cni", json!({ "devicePlugin": { "enabled": false } })),
        ("provision", json!({ "provision": { "enabled": true } })),
        ("k3s", chart::platform("k3s").unwrap()),
        ("openshift", chart::platform("openshift").unwrap()),
        ("bottlerocket", chart::platform("bottlerocket").unwrap()),
        // Nothing is otherwise there.
        ("talos", json!({})),
    ]
}

fn overlays() -> PathBuf {
    deploy().join("kustomize/overlays")
}

fn overlay(name: &str) -> Vec<Value> {
    kustomize::render(&overlays().join(name)).unwrap()
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects.into_iter().map(|object| (name(&object), object)).collect()
}

/// Every object that can come of the manifests.
fn all() -> Vec<Value> {
    let names = std::fs::read_dir(overlays()).unwrap().map(|entry| entry.unwrap().file_name());
    names.flat_map(|name| overlay(name.to_str().unwrap())).chain(with_every_component()).collect()
}

/// All that the components do, in one overlay.
fn with_every_component() -> Vec<Value> {
    let folder = deploy().join("kustomize/overlays").join("all");
    let parent = temporary("every-component");
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{}]\ncomponents: [{}]\n",
        folder.display(),
        ["provision", "cdi", "metrics", "agent-metrics", "selinux"]
            .map(|name| deploy().join("kustomize/components").join(name).display().to_string())
            .join(", ")
    );
    std::fs::write(parent.join(kustomize::FILE), text).unwrap();
    let objects = kustomize::render(&parent).unwrap();
    std::fs::remove_dir_all(parent).unwrap();
    objects
}

fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!(
        "fairlead-{name}-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Pods' specifications by the name of what has them.
fn pod_specs(objects: &[Value]) -> Vec<(String, &Value)> {
    let sets = objects.iter().filter(|object| object["kind"] == "DaemonSet");
    sets.map(|object| (name(object), &object["spec"]["template"]["spec"])).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Containers of a pod, those that start first too.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    list(spec, "initContainers").iter().chain(list(spec, "containers"))
}

#[test]
fn every_object_is_as_its_type_has_it() {
    let mut count = 0;
    for object in all() {
        objects::check(&object).unwrap();
        count += 1;
    }
    let patches: BTreeSet<PathBuf> = yaml_files(&deploy().join("kustomize"))
        .unwrap()
        .iter()
        .filter(|file| file.ends_with(kustomize::FILE))
        .flat_map(|file| kustomize::patches(file.parent().unwrap()).unwrap())
        .collect();
    // Also what no overlay has.
    for file in yaml_files(&deploy().join("kustomize")).unwrap() {
        if !file.ends_with(kustomize::FILE) && !patches.contains(&file) {
            documents(&file).unwrap().iter().for_each(|object| objects::check(object).unwrap());
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn a_misspelt_key_is_found_and_a_wrong_type_too() {
    let mut objects = overlay("all");
    let set = objects.iter_mut().find(|object| object["kind"] == "DaemonSet").unwrap();
    let container = &mut set["spec"]["template"]["spec"]["containers"][0];
    container["livenesProbe"] = container["livenessProbe"].take();
    container.as_object_mut().unwrap().remove("livenessProbe");
    let error = format!("{:#}", objects::check(set).unwrap_err());
    assert!(error.contains(".spec.template.spec.containers[0].livenesProbe is no key"), "{error}");
    set["spec"]["minReadySeconds"] = json!("15");
    assert!(objects::check(set).is_err());
    let network = json!({ "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": "a" }, "spec": { "config": "{}", "conf": "{}" } });
    assert!(objects::check(&network).is_err());
    assert!(objects::check(&json!({ "apiVersion": "v1", "kind": "Secret" })).is_err());
}

#[test]
fn the_chart_gives_what_the_overlays_give() {
    for (overlay_name, values) in pairs() {
        let mut values = values;
        values["namespace"] = json!({ "create": true });
        let mut charted = by_name(chart::render(&values).unwrap());
        if overlay_name == "device-plugin" {
            // Helm installs what is in `crds` in any case.
            charted.retain(|_, object| object["kind"] != "CustomResourceDefinition");
        }
        let wanted = by_name(overlay(overlay_name));
        let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&charted), names(&wanted), "{overlay_name}");
        for (name, object) in &wanted {
            assert_eq!(&charted[name], object, "{overlay_name}: {name}");
        }
    }
}

#[test]
fn the_chart_does_what_the_other_components_do() {
    let values = json!({
        "namespace": { "create": true }, "provision": { "enabled": true }, "seLinuxOptions": { "type": "spc_t" },
        "devicePlugin": { "cdi": true, "metricsFor": "monitoring" }, "cni": { "metricsFor": "monitoring" },
    });
    let mut charted = by_name(chart::render(&values).unwrap());
    let mut wanted = by_name(with_every_component());
    // Volumes come in the order of the components.
    let name = "DaemonSet fairlead-system/fairlead-device-plugin";
    for objects in [&mut charted, &mut wanted] {
        let volumes = &mut objects.get_mut(name).unwrap()["spec"]["template"]["spec"]["volumes"];
        volumes.as_array_mut().unwrap().sort_by_key(|volume| volume["name"].to_string());
    }
    assert_eq!(charted, wanted);
}

#[test]
fn a_value_that_the_chart_does_not_have_is_refused() {
    assert!(chart::render(&json!({ "folders": { "cniBinary": "/x" } })).is_err());
}

/// kustomize itself, where kubectl brings it, agrees with what stands in for it here.
#[test]
fn kustomize_gives_the_same() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        println!("SKIPPED: no kubectl here to compare kustomize's output with");
        return;
    }
    for (name, _) in pairs() {
        let output = Command::new("kubectl").arg("kustomize").arg(overlays().join(name)).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let real = parse(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
        assert_eq!(by_name(real), by_name(overlay(name)), "{name}");
    }
}

#[test]
fn containers_have_no_more_rights_than_they_need() {
    for (set, spec) in pod_specs(&all()) {
        assert_eq!(spec["automountServiceAccountToken"], false, "{set}");
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{set}");
        for container in containers(spec) {
            let (context, name) = (&container["securityContext"], container["name"].as_str().unwrap());
            assert_eq!(context["readOnlyRootFilesystem"], true, "{set} {name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{set} {name}");
            assert!(container["resources"]["requests"]["cpu"].is_string(), "{set} {name}");
            if name == "provision" {
                // It writes to /sys.
                assert_eq!(context["privileged"], true);
                continue;
            }
            assert_eq!(context["allowPrivilegeEscalation"], false, "{set} {name}");
            assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{set} {name}");
            assert!(context["privileged"].is_null(), "{set} {name}");
        }
    }
}

#[test]
fn each_folder_of_the_host_is_mounted_where_it_is_and_only_by_who_works_there() {
    let mut writers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (set, spec) in pod_specs(&all()) {
        let volumes: BTreeMap<&str, &Value> =
            list(spec, "volumes").iter().map(|volume| (volume["name"].as_str().unwrap(), volume)).collect();
        let mut used = BTreeSet::new();
        for container in containers(spec) {
            for mount in list(container, "volumeMounts") {
                let volume = mount["name"].as_str().unwrap();
                let volume = volumes.get(volume).unwrap_or_else(|| panic!("{set} has no volume {volume}"));
                used.insert(volume["name"].as_str().unwrap());
                let (container, path) =
                    (container["name"].as_str().unwrap(), mount["mountPath"].as_str().unwrap());
                if let Some(host) = volume["hostPath"]["path"].as_str() {
                    assert!(
                        host == path || (host, path) == ("/dev", "/host/dev"),
                        "{set}: {host} is at {path}"
                    );
                    if mount["readOnly"] != true {
                        writers.entry(container.to_owned()).or_default().insert(host.to_owned());
                    }
                }
                if volume["projected"].is_object() {
                    assert_eq!(container, "agent", "{set}: who has the token");
                }
            }
        }
        assert_eq!(used, volumes.keys().copied().collect(), "{set}: every volume is mounted");
    }
    let of = |container: &str| writers[container].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("agent"), ["/run/fairlead/agent"]);
    assert_eq!(
        of("device-plugin"),
        [
            "/var/lib/kubelet/device-plugins",
            "/var/lib/kubelet/plugins_registry",
            "/var/run/cdi",
            "/var/run/k8s.cni.cncf.io/devinfo/dp"
        ]
    );
    assert_eq!(
        of("install"),
        [
            "/etc/cni/net.d",
            "/etc/kubernetes/cni/net.d",
            "/opt/cni/bin",
            "/var/lib/cni/bin",
            "/var/lib/rancher/k3s/agent/etc/cni/net.d",
            "/var/lib/rancher/k3s/data/cni"
        ]
    );
    assert_eq!(of("provision"), ["/etc/udev/rules.d", "/run/fairlead/provision", "/var/lib/fairlead"]);
}

/// The images are those that hack/image makes when it is told nothing else.
#[test]
fn images_are_named_as_they_are_built() {
    for (set, spec) in pod_specs(&all()) {
        for container in containers(spec) {
            let image = container["image"].as_str().unwrap();
            let built = ["device-plugin", "cni", "agent", "config"]
                .map(|name| format!("localhost/fairlead/{name}:{}", env!("CARGO_PKG_VERSION")));
            assert!(built.iter().any(|name| name == image), "{set}: {image}");
        }
    }
}

/// Two pods of a set are on a node during an update: they must not need the same port of it.
#[test]
fn an_update_never_leaves_a_node_without() {
    for object in all().iter().filter(|object| object["kind"] == "DaemonSet") {
        let strategy = &object["spec"]["updateStrategy"];
        assert_eq!(
            *strategy,
            json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } })
        );
        let spec = &object["spec"]["template"]["spec"];
        assert!(containers(spec).all(|container| container["ports"].is_null()), "{}", name(object));
        assert_eq!(spec["priorityClassName"], "system-node-critical");
        assert_eq!(spec["tolerations"], json!([{ "operator": "Exists" }]));
    }
}

#[test]
fn the_device_plugin_understands_its_options() {
    for (set, spec) in pod_specs(&all()) {
        for container in containers(spec).filter(|container| container["name"] == "device-plugin") {
            let arguments = list(container, "args").iter().map(|argument| argument.as_str().unwrap());
            let all: Vec<&str> = std::iter::once("fairlead-device-plugin").chain(arguments).collect();
            let read = fairlead_device_plugin::args::Args::try_parse_from(all)
                .unwrap_or_else(|e| panic!("{set}: {e}"));
            let address = read.http_address.0.unwrap();
            let probed = &container["livenessProbe"]["httpGet"];
            assert_eq!(probed["port"], address.port());
            assert!(address.ip().is_unspecified() || probed["host"] == address.ip().to_string());
        }
    }
}

#[test]
fn the_installer_understands_its_options() {
    let mut objects = all();
    objects.extend(kustomize::render(&deploy().join("kustomize/uninstall")).unwrap());
    let mut seen = BTreeSet::new();
    for (set, spec) in pod_specs(&objects) {
        for container in containers(spec) {
            let name = container["name"].as_str().unwrap();
            if ["install", "uninstall"].contains(&name) {
                let arguments: Vec<String> = list(container, "args")
                    .iter()
                    .map(|argument| argument.as_str().unwrap().to_owned())
                    .collect();
                fairlead_cni::install::Job::parse(&arguments)
                    .unwrap()
                    .unwrap_or_else(|e| panic!("{set}: {e}"));
                seen.insert(name.to_owned());
            }
        }
    }
    assert_eq!(seen.len(), 2);
}

/// The table of rights in README.md has every rule.
#[test]
fn every_right_is_explained() {
    let text = read(&deploy().join("README.md")).unwrap();
    for object in all().iter().filter(|object| object["kind"] == "ClusterRole") {
        for rule in list(object, "rules") {
            let resources: Vec<&str> = list(rule, "resources").iter().map(|r| r.as_str().unwrap()).collect();
            let verbs: Vec<&str> = list(rule, "verbs").iter().map(|v| v.as_str().unwrap()).collect();
            let row = format!("| `{}` | {} |", resources.join("`, `"), verbs.join(", "));
            assert!(text.contains(&row), "deploy/README.md has no row {row}");
        }
    }
}
