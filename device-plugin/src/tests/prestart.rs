//! The last look before a container starts.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fairlead_kubelet_api::device_plugin as api;
use prost::Message;
use tonic::{Code, Status};

use super::fixture::Fixture;
use crate::{allocate, prestart};

const DPDK: usize = 1;
const ID: &str = "0000:01:10.4";

fn check(node: &Fixture) -> Result<(), Status> {
    Ok(prestart::check(&node.listings()[DPDK], &[ID.to_owned()], &node.node(), None)?)
}

/// Writes a checkpoint with these answers for containers that have the device.
fn checkpoint(node: &Fixture, answers: &[&api::ContainerAllocateResponse]) {
    let entry = |answer: &&api::ContainerAllocateResponse| {
        serde_json::json!({"PodUID": "u", "ContainerName": "c", "ResourceName": "intel.com/sriov_dpdk",
            "DeviceIDs": {"-1": [ID]}, "AllocResp": STANDARD.encode(answer.encode_to_vec())})
    };
    let entries: Vec<_> = answers.iter().map(entry).collect();
    let text = serde_json::json!({"Data": {"PodDeviceEntries": entries}, "Checksum": 0}).to_string();
    fs::write(node.sockets().join("kubelet_internal_checkpoint"), text).unwrap();
}

fn answer(node: &Fixture) -> api::ContainerAllocateResponse {
    allocate::container(&node.listings()[DPDK], &[ID.to_owned()], &node.node(), None).unwrap()
}

#[test]
fn a_device_that_can_be_used_may_start() {
    let node = Fixture::new();
    check(&node).unwrap();
    checkpoint(&node, &[&answer(&node)]);
    check(&node).unwrap();
}

#[test]
fn what_an_allocation_would_refuse_does_not_start() {
    let node = Fixture::new();
    fs::remove_file(node.tree.dev().join("vfio/12")).unwrap();
    let status = check(&node).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("dev/vfio/12 is missing"), "{status}");
}

#[test]
fn device_nodes_of_before_a_reboot_are_noticed() {
    let node = Fixture::new();
    let old = answer(&node);
    // The groups have other numbers now.
    node.tree.group(40, &[ID]);
    fs::write(node.tree.dev().join("vfio/40"), "").unwrap();
    checkpoint(&node, &[&old]);
    let status = check(&node).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("/dev/vfio/12") && status.message().contains("delete the pod"),
        "{status}"
    );
    // The entry of an init container may be older than that of its pod's container.
    checkpoint(&node, &[&old, &answer(&node)]);
    check(&node).unwrap();
}
