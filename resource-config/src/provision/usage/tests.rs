use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::inventory::Scanner;
use crate::test_support::SysfsTree;

struct Node {
    tree: SysfsTree,
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { tree: SysfsTree::igb(4), dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(node.dir.path().join("attachments")).unwrap();
        fs::create_dir_all(node.dir.path().join("kubelet/device-plugins")).unwrap();
        let kernel = node.tree.proc().join("sys/kernel/random");
        fs::create_dir_all(&kernel).unwrap();
        fs::write(kernel.join("boot_id"), "this-boot\n").unwrap();
        node
    }

    fn checkpoint(&self) -> PathBuf {
        self.dir.path().join("kubelet/device-plugins/kubelet_internal_checkpoint")
    }

    fn record(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join("attachments").join(name), text).unwrap();
    }

    fn usage(&self) -> Usage {
        let inventory = Scanner::sysfs(self.tree.root().path()).with_proc(&self.tree.proc()).scan().unwrap();
        let sources = UsageSources {
            kubelet_root: self.dir.path().join("kubelet"),
            attachments: self.dir.path().join("attachments"),
            proc: self.tree.proc(),
            dev: self.tree.dev(),
        };
        Usage::read(&sources, &inventory)
    }
}

fn of(usage: &Usage, address: &str) -> String {
    usage.of(&address.parse().unwrap()).iter().map(|user| user.text.as_str()).collect::<Vec<_>>().join("; ")
}

#[test]
fn an_idle_node_has_no_users() {
    let usage = Node::new().usage();
    assert_eq!(usage, Usage::default());
}

#[test]
fn kubelets_checkpoint_is_read_in_both_layouts() {
    let node = Node::new();
    let text = r#"{"Data":{"PodDeviceEntries":[
        {"PodUID":"u1","ContainerName":"c","ResourceName":"intel.com/x","DeviceIDs":{"0":["0000:01:10.0"],"-1":["0000:01:10.2"]}},
        {"PodUID":"u2","ContainerName":"d","ResourceName":"intel.com/x","DeviceIDs":["0000:01:10.4","mlx5_core.sf.4"]}
    ],"RegisteredDevices":{"intel.com/x":["0000:01:10.6"]}},"Checksum":1}"#;
    fs::write(node.checkpoint(), text).unwrap();
    let usage = node.usage();
    assert!(of(&usage, "0000:01:10.2").contains("container c of the pod with UID u1 (resource intel.com/x"));
    assert!(of(&usage, "0000:01:10.4").contains("UID u2"));
    assert_eq!(of(&usage, "0000:01:10.6"), "");
    assert!(usage.notes.is_empty());
}

#[test]
fn attachment_records_of_this_boot_count() {
    let node = Node::new();
    let record = |boot: &str, address: &str| {
        format!(
            r#"{{"bootId":"{boot}","interface":"net1","pod":{{"namespace":"n","name":"p"}},
                "steps":[{{"config":{{"deviceID":"{address}"}},"work":{{"address":"{address}","time":"10:11.1"}}}}]}}"#
        )
    };
    node.record("c1-net1.json", &record("this-boot", "0000:01:10.0"));
    node.record("c2-net1.json", &record("other-boot", "0000:01:10.2"));
    node.record(".c3-net1.tmp", &record("this-boot", "0000:01:10.4"));
    let usage = node.usage();
    let users = usage.of(&"0000:01:10.0".parse().unwrap());
    assert_eq!((users.len(), users[0].is_attachment), (1, true));
    assert!(users[0].text.starts_with("interface net1 of pod n/p"), "{users:?}");
    assert_eq!(of(&usage, "0000:01:10.2") + &of(&usage, "0000:01:10.4"), "");
}

#[test]
fn garbled_files_are_noted_and_keep_nothing_else_from_being_read() {
    let node = Node::new();
    fs::write(node.checkpoint(), "{\"Data\":").unwrap();
    node.record("c1-net1.json", "[]");
    node.record("c2-net1.json", "{");
    node.tree.remove_netdev("0000:01:10.0", "ens1f0v0");
    let usage = node.usage();
    assert_eq!(usage.notes.len(), 2, "{:?}", usage.notes);
    assert!(usage.notes[0].contains("kubelet_internal_checkpoint"), "{:?}", usage.notes);
    assert!(of(&usage, "0000:01:10.0").contains("network namespace"));
}

#[test]
fn what_the_host_does_with_a_vf_counts() {
    let node = Node::new();
    node.tree.stack("ens1f0v0", "bond0", true);
    node.tree.default_route("ens1f0v1");
    node.tree.bind_vfio("0000:01:10.4");
    let usage = node.usage();
    assert!(of(&usage, "0000:01:10.0").contains("enslaved to bond0"));
    assert!(of(&usage, "0000:01:10.2").contains("default route"));
    assert_eq!(of(&usage, "0000:01:10.4"), "");
}

#[test]
fn processes_that_hold_a_vfio_group_are_named() {
    let node = Node::new();
    for address in ["0000:01:10.4", "0000:01:10.6"] {
        node.tree.bind_vfio(address);
    }
    let process = node.tree.proc().join("77");
    fs::create_dir_all(process.join("fd")).unwrap();
    fs::write(process.join("comm"), "dpdk-testpmd\n").unwrap();
    symlink("/dev/vfio/12", process.join("fd/5")).unwrap();
    symlink("/dev/null", process.join("fd/6")).unwrap();
    symlink("socket:[1]", process.join("fd/7")).unwrap();
    let usage = node.usage();
    assert_eq!(of(&usage, "0000:01:10.4"), "process 77 (dpdk-testpmd) has it open");
    assert_eq!(of(&usage, "0000:01:10.6"), "");
}
