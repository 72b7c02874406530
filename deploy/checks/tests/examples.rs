//! The examples: each is planned as the agent plans it, and each plugin's configuration is read as the executable reads it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::{collections::BTreeMap, path::Path};

use fairlead_cni::{
    agent_protocol::{Plan, PodRef, Policy},
    config::NetworkConfig,
    drivers::Request,
    ipam,
    networks::{
        annotation::NETWORKS_ANNOTATION,
        ask::{Annotations, Networks},
        devices::{ContainerDevices, PodDevices},
        nad::{NetworkAttachmentDefinition, RESOURCE_ANNOTATION},
        plan::{Allocated, Definitions, plan},
    },
    protocol::env::CniArgs,
};
use fairlead_deploy_checks::{deploy, documents, objects, yaml_files};
use serde_json::{Map, Value};

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn network(object: &Value) -> NetworkAttachmentDefinition {
    let metadata = &object["metadata"];
    NetworkAttachmentDefinition {
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        config: text(&object["spec"]["config"]),
        resource_name: metadata["annotations"][RESOURCE_ANNOTATION].as_str().map(str::to_owned),
    }
}

/// Pods of a file, those of a template too.
fn pods(objects: &[Value]) -> Vec<(PodRef, Value)> {
    let pod = |object: &Value| {
        let name = PodRef {
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            uid: "u".into(),
        };
        match object["kind"].as_str() {
            Some("Pod") => Some((name, object.clone())),
            Some("Deployment" | "StatefulSet") => Some((name, object["spec"]["template"].clone())),
            _ => None,
        }
    };
    objects.iter().filter_map(pod).collect()
}

/// The devices that kubelet would give: as many of each resource as a container's limits ask for.
fn devices(pod: &Value) -> PodDevices {
    let mut next = 0;
    let containers = pod["spec"]["containers"].as_array().unwrap().iter().map(|container| {
        let empty = Map::new();
        let limits = container["resources"]["limits"].as_object().unwrap_or(&empty);
        let rows = limits.iter().filter(|(name, _)| name.contains('/')).map(|(name, amount)| {
            let ids = (0..text(amount).parse::<u32>().unwrap()).map(|_| {
                next += 1;
                format!("0000:03:{:02x}.{}", next / 8, next % 8)
            });
            (name.clone(), ids.collect())
        });
        ContainerDevices { container: text(&container["name"]), rows: rows.collect() }
    });
    PodDevices::new(&containers.collect::<Vec<_>>())
}

/// The plans of a file's pods, by the pod's name.
fn plans(file: &Path) -> BTreeMap<String, Plan> {
    let objects = documents(file).unwrap();
    objects.iter().for_each(|object| objects::check(object).unwrap());
    let networks =
        objects.iter().filter(|object| object["kind"] == "NetworkAttachmentDefinition").map(network);
    let definitions = Definitions::new("in this file", networks);
    let plan = |(name, pod): (PodRef, Value)| {
        let asked = text(&pod["metadata"]["annotations"][NETWORKS_ANNOTATION]);
        let annotations = Annotations { networks: Some(&asked), default_network: None };
        let asked = Networks::of(&name, "eth0", annotations, &Policy::default()).unwrap();
        assert!(asked.iter().next().is_some(), "{name} asks for nothing");
        let devices = Allocated { own: devices(&pod), ..Allocated::default() };
        let plan =
            plan(&name, &asked, &definitions, &devices).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let used = plan.attachments.iter().filter(|one| one.device_id.is_some()).count();
        assert_eq!(used, devices.own.iter().count(), "{name}: every device is used");
        (name.name, plan)
    };
    pods(&objects).into_iter().map(plan).collect()
}

fn example(name: &str) -> BTreeMap<String, Plan> {
    plans(&deploy().join("examples").join(name))
}

/// Plugin types of an attachment, in order; each plugin's configuration is read and its addresses are planned.
fn types(plan: &Plan) -> Vec<Vec<String>> {
    let of = |one: &fairlead_cni::agent_protocol::PlannedAttachment| {
        let network = NetworkConfig::parse(&one.config).unwrap_or_else(|e| panic!("{}: {e}", one.network));
        let kinds = network.plugins.iter().map(|plugin| {
            let mut fields = plugin.fields.clone();
            fields.set("name", network.name.clone().into());
            // What the plugin declares is what it is given.
            let declared = fields.object("capabilities").unwrap().unwrap_or_default();
            let known =
                one.capability_args.iter().filter(|(key, _)| declared.flag(key).unwrap() == Some(true));
            let given: Map<String, Value> = known.map(|(key, value)| (key.clone(), value.clone())).collect();
            let asked = one.capability_args.keys().filter(|key| *key != "deviceID");
            for key in asked {
                assert!(given.contains_key(key), "{}: {key} is asked for and not declared", one.network);
            }
            fields.set("runtimeConfig", given.into());
            if let Some(block) = fields.object("ipam").unwrap() {
                let kind = ipam::Kind::named(block.text("type").unwrap().unwrap()).unwrap();
                let args = CniArgs::default();
                let request = ipam::Request { fields: &fields, args: &args, version: network.version };
                ipam::Spec::parse(kind, &request).unwrap_or_else(|e| panic!("{}: {e}", one.network));
            }
            let args = CniArgs::default();
            Request { fields: &fields, interface: &one.interface, args: &args }.mac().unwrap();
            fields.text("type").unwrap().unwrap().to_owned()
        });
        kinds.collect()
    };
    plan.attachments.iter().map(of).collect()
}

#[test]
fn every_example_is_planned_and_read() {
    let mut seen = 0;
    for file in yaml_files(&deploy().join("examples")).unwrap() {
        // Folders are for programs that play what is in them.
        if !file.parent().unwrap().ends_with("examples") {
            continue;
        }
        let plans = plans(&file);
        assert!(!plans.is_empty(), "{}: no pod", file.display());
        for plan in plans.values() {
            assert_eq!(types(plan).len(), plan.attachments.len());
        }
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[test]
fn each_kind_of_network_is_there() {
    let first = |name: &str| types(example(name).values().next().unwrap());
    assert_eq!(first("macvlan.yaml"), [["macvlan"]]);
    assert_eq!(first("ipvlan-sbr.yaml"), [["ipvlan", "sbr"]]);
    assert_eq!(first("bridge.yaml"), [["bridge"]]);
    assert_eq!(first("vlan.yaml"), [["vlan"]]);
    for name in ["sriov.yaml", "sriov-settings.yaml"] {
        assert_eq!(first(name), [["sriov"]]);
    }
    assert_eq!(first("dpdk.yaml"), [["sriov"], ["sriov"]]);
    assert_eq!(first("two-resources.yaml"), [["sriov"], ["sriov"], ["macvlan"]]);
    assert_eq!(first("deployment.yaml"), [["macvlan"]]);
    assert_eq!(first("statefulset.yaml"), [["macvlan"]]);
}

#[test]
fn names_addresses_and_devices_are_as_the_pod_says() {
    let interface = |name: &str, pod: &str| example(name)[pod].attachments[0].interface.clone();
    assert_eq!(interface("macvlan.yaml", "macvlan-a"), "net1");
    assert_eq!(interface("macvlan.yaml", "macvlan-b"), "lan0");
    let store = &example("statefulset.yaml")["store"].attachments[0];
    assert_eq!(store.capability_args["ips"], serde_json::json!(["192.168.31.5/24"]));
    let both = &example("two-resources.yaml")["two-resources"].attachments;
    let resources: Vec<Option<&str>> = both.iter().map(|one| one.resource_name.as_deref()).collect();
    assert_eq!(resources, [Some("intel.com/sriov"), Some("intel.com/sriov_dpdk"), None]);
    let dpdk = &example("dpdk.yaml")["dpdk"].attachments;
    assert_ne!(dpdk[0].device_id, dpdk[1].device_id);
}

#[test]
fn the_manifests_that_others_play_are_as_their_types_have_them() {
    for file in yaml_files(&deploy().join("examples")).unwrap() {
        documents(&file).unwrap().iter().for_each(|object| objects::check(object).unwrap());
    }
}
