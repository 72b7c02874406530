//! `fairlead-config import` as people run it: what it prints is taken by the commands that it is for.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

const POLICIES: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
{"apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodePolicy", "metadata": {"name": "dpdk"},
 "spec": {"resourceName": "dpdk", "numVfs": 4, "deviceType": "vfio-pci", "nodeSelector": {"role": "dataplane"},
  "nicSelector": {"pfNames": ["enp1s0#0-1"]}}},
{"apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodePolicy", "metadata": {"name": "kernel"},
 "spec": {"resourceName": "kernel", "numVfs": 4, "deviceType": "netdevice", "nodeSelector": {"role": "dataplane"},
  "nicSelector": {"pfNames": ["enp1s0#2-3"]}}}]}"#;

struct Run {
    status: Option<i32>,
    out: String,
    complaints: String,
}

fn run(arguments: &[&str], input: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairlead-config"));
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { status: output.status.code(), out: text(output.stdout), complaints: text(output.stderr) }
}

fn tree() -> String {
    format!("{}/tests/trees/emulated-igb.tree", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_policy_can_be_planned_and_the_pools_have_the_devices() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = run(&["import", "policy", "-", "--node", "w1", "--label", "role=dataplane"], POLICIES);
    assert_eq!(policy.status, Some(0), "{}", policy.complaints);
    assert!(policy.complaints.contains("note: before what this prints is applied, stop the operator"));
    let policy = file("policy.yaml", &policy.out);
    // That port carries the recorded node's own traffic.
    let (node, force) = (["--node-name", "w1", "--tree", &tree()], ["--force", "0000:01:00.0"]);
    let plan = run(&[&["plan", "--policy", &policy], &node[..], &force].concat(), "");
    assert!(
        plan.out.contains("0000:01:00.0 (enp1s0), section kernel and dpdk\n"),
        "{}{}",
        plan.out,
        plan.complaints
    );
    let pools = run(&["import", "pools", "-", "--resource-prefix", "acme.io"], POLICIES);
    let pools = file("config.json", &pools.out);
    let found = run(&["explain", "--config", &pools, "--tree", &tree(), "-o", "json"], "");
    assert_eq!(found.status, Some(0), "{}", found.complaints);
    let found: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(found["pools"][0]["resource"], "acme.io/kernel", "{found}");
}

#[test]
fn what_cannot_be_converted_is_told_and_nothing_is_printed() {
    let found = run(&["import", "networks", "-"], POLICIES);
    assert_eq!((found.status, found.out.as_str()), (Some(1), ""));
    assert!(found.complaints.contains("there is no SriovNetwork or SriovIBNetwork"), "{}", found.complaints);
    let found = run(&["import", "policy", "/nonexistent"], "");
    assert!(found.complaints.contains("cannot read /nonexistent: "), "{}", found.complaints);
    let found = run(&["import", "policy", "-", "--node", "w1"], POLICIES);
    assert!(found.complaints.contains("no policy is for node w1"), "{}", found.complaints);
}
