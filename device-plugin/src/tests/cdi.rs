//! Handing device nodes over through the runtime.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use fairlead_kubelet_api::device_plugin as api;
use serde_json::Value;

use super::fixture::{DPDK_SOCKET, Fixture, Plugin, TWO_POOLS};
use super::kubelet::{FakeKubelet, FakePods, eventually};
use crate::cdi::{self, Specs};
use crate::files::FileId;
use crate::pool::Listing;
use crate::{Options, allocate};

const DPDK: usize = 1;

fn options(node: &Fixture) -> Options {
    Options { cdi: true, ..node.options() }
}

fn specs(node: &Fixture) -> Specs {
    Specs::new(node.options().cdi_dir)
}

fn allocate(node: &Fixture, specs: &Specs, listing: &Listing, id: &str) -> api::ContainerAllocateResponse {
    allocate::container(listing, &[id.to_owned()], &node.node(), Some(specs)).unwrap()
}

fn path(node: &Fixture) -> PathBuf {
    node.options().cdi_dir.join("fairlead-intel.com_sriov_dpdk.json")
}

fn spec(node: &Fixture) -> Value {
    let path = path(node);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn names(spec: &Value) -> Vec<&str> {
    spec["devices"].as_array().unwrap().iter().map(|device| device["name"].as_str().unwrap()).collect()
}

#[test]
fn a_container_gets_names_and_the_runtime_the_nodes() {
    let node = Fixture::new();
    node.configure(
        &TWO_POOLS.replace("\"excludeTopology\":true", "\"cdi\":{\"uid\":1000,\"gid\":0,\"mode\":\"0660\"}"),
    );
    let listings = node.listings();
    let specs = specs(&node);
    let answer = allocate(&node, &specs, &listings[DPDK], "0000:01:10.4");
    assert!(answer.devices.is_empty() && answer.annotations.is_empty());
    let given: Vec<&str> = answer.cdi_devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(given, ["intel.com/sriov_dpdk=0000:01:10.4"]);
    assert!(answer.envs["PCIDEVICE_INTEL_COM_SRIOV_DPDK_INFO"].contains("/dev/vfio/12"));

    let spec = spec(&node);
    assert_eq!(
        (spec["cdiVersion"].as_str(), spec["kind"].as_str()),
        (Some("0.5.0"), Some("intel.com/sriov_dpdk"))
    );
    assert_eq!(names(&spec), ["0000:01:10.4", "0000:01:10.6"]);
    let node_of = |path: &str| serde_json::json!({"path": path, "hostPath": path, "permissions": "rw", "fileMode": 0o660, "uid": 1000, "gid": 0});
    let expected = serde_json::json!({"deviceNodes": [node_of("/dev/vfio/vfio"), node_of("/dev/vfio/12")]});
    assert_eq!(spec["devices"][0]["containerEdits"], expected);

    // A device without nodes has no place in a specification.
    let answer = allocate(&node, &specs, &listings[0], "0000:01:10.0");
    assert!(answer.cdi_devices.is_empty());
    assert_eq!(fs::read_dir(node.options().cdi_dir).unwrap().count(), 1);
}

#[test]
fn a_device_in_use_stays_in_the_specification() {
    let node = Fixture::new();
    let mut listing = node.listings()[DPDK].clone();
    specs(&node).write(&listing, &node.node()).unwrap();
    for vf in ["0000:01:10.4", "0000:01:10.6"] {
        node.tree.bind(vf, "");
    }
    let mut members = listing.members.to_vec();
    members[1].in_use = true;
    listing.members = Arc::new(members);
    specs(&node).write(&listing, &node.node()).unwrap();
    let left = spec(&node);
    assert_eq!(names(&left), ["0000:01:10.6"]);
    assert!(left["devices"][0]["containerEdits"].to_string().contains("/dev/vfio/13"));
}

#[test]
fn files_of_old_pools_go_when_no_pod_needs_them() {
    let node = Fixture::new();
    let (specs, listing) = (specs(&node), node.listings()[DPDK].clone());
    specs.write(&listing, &node.node()).unwrap();
    let path = path(&node);
    let foreign = node.options().cdi_dir.join("sriov-dp-x.yaml");
    fs::write(&foreign, "").unwrap();
    specs.sweep([&listing.resource.name], |_| false).unwrap();
    specs.sweep([], |id| id.to_string() == "0000:01:10.6").unwrap();
    assert!(path.exists());
    specs.sweep([], |_| false).unwrap();
    assert!(!path.exists() && foreign.exists());
    // A pool that has lost all its devices has no file either.
    specs.write(&listing, &node.node()).unwrap();
    let empty = Listing { members: Arc::default(), ..listing };
    specs.write(&empty, &node.node()).unwrap();
    assert!(!path.exists());
}

#[test]
fn an_allocation_writes_the_file_only_when_it_has_to() {
    let node = Fixture::new();
    let (specs, listing) = (specs(&node), node.listings()[DPDK].clone());
    specs.write(&listing, &node.node()).unwrap();
    let (path, asked) = (path(&node), "0000:01:10.4");
    // Of another device there is something new, which is not what is asked.
    node.tree.bind("0000:01:10.6", "");
    allocate(&node, &specs, &listing, asked);
    assert_eq!(names(&spec(&node)), ["0000:01:10.4", "0000:01:10.6"]);
    // The device asked for has another group now.
    node.tree.group(40, &[asked]);
    fs::write(node.tree.dev().join("vfio/40"), "").unwrap();
    allocate(&node, &specs, &listing, asked);
    assert_eq!(names(&spec(&node)), [asked]);
    assert!(spec(&node)["devices"][0].to_string().contains("/dev/vfio/40"));
    // Somebody else has written or removed the file.
    let spoil: [fn(&Path) -> io::Result<()>; 2] =
        [|path| fs::write(path, "{}"), |path| fs::remove_file(path)];
    for spoil in spoil {
        spoil(&path).unwrap();
        allocate(&node, &specs, &listing, asked);
        assert_eq!(names(&spec(&node)), [asked]);
    }
    let file = FileId::of(&path);
    allocate(&node, &specs, &listing, asked);
    assert_eq!(FileId::of(&path), file);
    // The pool gives the node to another user now.
    let mut resource = (*listing.resource).clone();
    resource.offer.cdi_access.uid = Some(1000);
    let listing = Listing { resource: Arc::new(resource), ..listing };
    allocate(&node, &specs, &listing, asked);
    assert!(spec(&node).to_string().contains("\"uid\":1000"));
}

/// What nobody is known to have may be in use all the same, before kubelet or its checkpoint has said anything.
#[tokio::test]
async fn old_files_wait_until_it_is_known_what_is_in_use() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let old = node.options().cdi_dir.join("fairlead-intel.com_old.json");
    fs::create_dir_all(node.options().cdi_dir).unwrap();
    fs::write(&old, r#"{"cdiVersion":"0.5.0","kind":"intel.com/old","devices":[]}"#).unwrap();
    let plugin = Plugin::start(options(&node));
    kubelet.registered(2).await;
    assert!(old.exists());
    plugin.stop().await;
    let _pods = FakePods::start(&node.kubelet_root());
    let plugin = Plugin::start(options(&node));
    eventually(|| !old.exists()).await;
    plugin.stop().await;
}

#[test]
fn kinds_begin_with_letters() {
    let kind =
        |prefix, name| cdi::kind(&fairlead_resource_config::config::ResourceName::new(prefix, name).unwrap());
    assert_eq!(kind("intel.com", "sriov_dpdk"), "intel.com/sriov_dpdk");
    assert_eq!(kind("3com.io", "100g"), "v3com.io/r100g");
}

#[tokio::test]
async fn specifications_are_there_before_kubelet_and_stay_after_the_plugin() {
    let node = Fixture::new();
    let mut kubelet = FakeKubelet::start(&node.sockets());
    let plugin = Plugin::start(options(&node));
    kubelet.registered(2).await;
    assert_eq!(names(&spec(&node)).len(), 2);
    node.tree.bind("0000:01:10.4", "");
    let mut lists = kubelet.watch(DPDK_SOCKET).await;
    while lists.next().await.unwrap()[0].health == "Healthy" {}
    assert_eq!(names(&spec(&node)), ["0000:01:10.6"]);
    plugin.stop().await;
    assert_eq!(names(&spec(&node)), ["0000:01:10.6"]);
}
