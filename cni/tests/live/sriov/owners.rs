//! Whose a VF is: other pods, dead ones, other calls at the same time, upstream's plugin.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, thread, time::Duration};

use serde_json::{Value, json};

use super::node::{Node, VFS};
use crate::support::Namespace;

fn owner_of(pod: &Namespace) -> Option<String> {
    pod.link("net1").and_then(|link| link.device)
}

#[test]
fn s15_a_vf_is_refused_while_its_pod_lives_and_taken_over_when_it_is_dead() {
    let Some(node) = Node::new("a VF in use", 1) else { return };
    let (first, second) = (node.bed.pod(), node.bed.pod());
    let config = node.config(0, &json!({"vlan": 15}));
    node.add("c1", &first, &config).unwrap();
    let error = node.add("c2", &second, &node.config(0, &json!({}))).unwrap_err();
    let text = error["msg"].as_str().unwrap();
    let words = format!("pci address {} is already allocated", node.vfs[0]);
    assert!(text.contains(&words) && text.contains("sandbox c1"), "{error}");
    assert_eq!(owner_of(&first), Some(node.vfs[0].clone()));
    drop(first);
    let plain = node.config(0, &json!({}));
    node.add("c2", &second, &plain).unwrap();
    assert_eq!(node.state(0).vf, node.before(0).vf, "nothing of the dead pod's settings is left");
    // The dead one's DEL comes late and touches nothing.
    node.bed.call("sriov", "DEL", &config, "c1", Path::new("")).unwrap();
    assert_eq!(owner_of(&second), Some(node.vfs[0].clone()));
    node.del("c2", &second, &plain);
    node.assert_clean();
}

#[test]
fn s16_of_two_adds_at_once_exactly_one_wins() {
    let Some(node) = Node::new("two at once", 1) else { return };
    let pods = [node.bed.pod(), node.bed.pod()];
    let config = node.config(0, &json!({}));
    let (node, config) = (&node, &config);
    let results = thread::scope(|scope| {
        let calls = pods
            .iter()
            .enumerate()
            .map(|(number, pod)| scope.spawn(move || node.add(&format!("c{number}"), pod, config).is_ok()));
        calls.collect::<Vec<_>>().into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(results.iter().filter(|won| **won).count(), 1);
    for (number, pod) in pods.iter().enumerate() {
        assert_eq!(owner_of(pod).is_some(), results[number]);
        node.del(&format!("c{number}"), pod, config);
    }
    node.assert_clean();
}

#[test]
fn s17_all_vfs_of_a_port_at_once() {
    let Some(node) = Node::new("all VFs at once", VFS) else { return };
    let pods: Vec<Namespace> = (0..VFS).map(|_| node.bed.pod()).collect();
    let node = &node;
    for verb in ["ADD", "DEL"] {
        thread::scope(|scope| {
            for (place, pod) in pods.iter().enumerate() {
                scope.spawn(move || {
                    let config = node.config(place, &json!({"vlan": 100 + place, "trust": "on"}));
                    node.bed.call("sriov", verb, &config, &format!("c{place}"), &pod.path()).unwrap();
                });
            }
        });
        for (place, pod) in pods.iter().enumerate().filter(|_| verb == "ADD") {
            assert_eq!(owner_of(pod).as_ref(), Some(&node.vfs[place]));
            assert_eq!(usize::from(node.state(place).vf.vlan.unwrap()), 100 + place);
        }
    }
    node.assert_clean();
}

/// An IPAM plugin that gives one address and takes its time to let go of it.
fn slow_ipam(node: &Node) -> Value {
    let dir = node.bed.dir.path().join("plugins");
    fs::create_dir_all(&dir).unwrap();
    let script = "#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND = ADD ] && \
                  echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.18.0.2/24\"}]}' || sleep 3\n";
    fs::write(dir.join("slow"), script).unwrap();
    fs::set_permissions(dir.join("slow"), fs::Permissions::from_mode(0o755)).unwrap();
    json!({"type": "slow"})
}

#[test]
fn s18_a_slow_del_of_a_dying_pod_does_not_touch_the_pod_that_comes_next() {
    let Some(node) = Node::new("slow DEL", 1) else { return };
    let (first, second) = (node.bed.pod(), node.bed.pod());
    let slow = node.config(0, &json!({"cniVersion": "1.0.0", "vlan": 18, "ipam": slow_ipam(&node)}));
    let quick = node.config(0, &json!({"vlan": 81}));
    node.add("c1", &first, &slow).unwrap();
    thread::scope(|scope| {
        let path = first.path();
        let (node, slow) = (&node, &slow);
        let del = scope.spawn(move || node.bed.call("sriov", "DEL", slow, "c1", &path));
        thread::sleep(Duration::from_millis(500));
        drop(first);
        node.add("c2", &second, &quick).unwrap();
        del.join().unwrap().unwrap();
    });
    assert_eq!(owner_of(&second), Some(node.vfs[0].clone()));
    assert_eq!(node.state(0).vf.vlan, Some(81));
    node.del("c2", &second, &quick);
    node.assert_clean();
}

#[test]
fn s20_del_without_its_record_succeeds_and_the_kernel_brings_the_vf_home() {
    let Some(node) = Node::new("a lost record", 1) else { return };
    let (pod, config) = (node.bed.pod(), node.config(0, &json!({})));
    node.add("c1", &pod, &config).unwrap();
    fs::remove_dir_all(node.bed.dir.path().join("state")).unwrap();
    node.del("c1", &pod, &config);
    assert_eq!(owner_of(&pod), Some(node.vfs[0].clone()), "nobody knows that it was ours");
    drop(pod);
    // What comes home has the pod's name until udev, or the next pod's ADD and DEL, has given it another.
    let pod = node.bed.pod();
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    while node.state(0).link.is_none() {
        assert!(std::time::Instant::now() < limit, "it did not come home");
        thread::sleep(Duration::from_millis(50));
    }
    node.add("c2", &pod, &config).unwrap();
    node.del("c2", &pod, &config);
    // Nobody knows what it was called: as new it gets its name from udev.
    node.rebind(0);
    node.assert_clean();
}

/// Upstream's notes of a VF that it gave to a pod.
fn noted(node: &Node, keys: &Value) -> Value {
    let (link, vf) = (node.before(0).link.unwrap(), node.before(0).vf);
    let mut state = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "sriov", "deviceID": node.vfs[0], "VFID": vf.vf, "Master": "enp1s0",
        "OrigVfState": {"HostIFName": link.name, "EffectiveMAC": link.mac.unwrap().to_string(), "MTU": link.mtu,
            "AdminMAC": vf.mac.unwrap().to_string(), "Vlan": 0, "VlanQoS": 0, "VlanProto": 33024, "SpoofChk": true,
            "Trust": false, "MinTxRate": 0, "MaxTxRate": 0, "LinkState": 0}
    });
    for (key, value) in keys.as_object().unwrap() {
        state[key] = value.clone();
    }
    state
}

/// Leaves what upstream's plugin leaves in the folder that the tests take for its.
fn leave(node: &Node, container: &str, state: &Value, netns: &Path) {
    let dir = node.bed.dir.path().join("sriov-cni");
    fs::create_dir_all(dir.join("pci")).unwrap();
    fs::write(dir.join(format!("{container}-net1")), state.to_string()).unwrap();
    fs::write(dir.join("pci").join(&node.vfs[0]), netns.display().to_string()).unwrap();
}

fn left(node: &Node) -> usize {
    let dir = node.bed.dir.path().join("sriov-cni");
    fs::read_dir(dir.join("pci")).unwrap().count() + fs::read_dir(&dir).unwrap().count() - 1
}

#[test]
fn s21_a_pod_of_upstreams_plugin_keeps_its_vf_and_is_deleted_by_us() {
    let Some(node) = Node::new("upstream's notes", 1) else { return };
    let keys = json!({"vlan": 21, "vlanQoS": 1, "trust": "on", "spoofchk": "off"});
    let state = noted(&node, &keys);
    let config = node.config(0, &keys);
    for is_gone in [false, true] {
        // As upstream leaves it: made by us, with our records put away.
        let pod = node.bed.pod();
        node.add("c1", &pod, &config).unwrap();
        fs::remove_dir_all(node.bed.dir.path().join("state")).unwrap();
        leave(&node, "c1", &state, &pod.path());
        let other = node.bed.pod();
        let error = node.add("c2", &other, &config).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains("already allocated"), "{error}");
        let path = pod.path();
        let kept = if is_gone { None } else { Some(pod) };
        node.bed.call("sriov", "DEL", &config, "c1", &path).unwrap();
        drop(kept);
        assert_eq!(left(&node), 0);
        node.assert_clean();
    }
}

#[test]
fn s21_what_upstreams_plugin_left_with_a_dead_pod_is_undone_by_the_next_add() {
    let Some(node) = Node::new("upstream's dead pod", 1) else { return };
    let keys = json!({"vlan": 21, "trust": "on"});
    let (state, config) = (noted(&node, &keys), node.config(0, &keys));
    let (dead, pod) = (node.bed.pod(), node.bed.pod());
    node.add("c1", &dead, &config).unwrap();
    fs::remove_dir_all(node.bed.dir.path().join("state")).unwrap();
    leave(&node, "c1", &state, &dead.path());
    drop(dead);
    let plain = node.config(0, &json!({}));
    node.add("c2", &pod, &plain).unwrap();
    assert_eq!(node.state(0).vf, node.before(0).vf);
    assert_eq!(left(&node), 0);
    node.bed.call("sriov", "DEL", &config, "c1", Path::new("")).unwrap();
    assert_eq!(owner_of(&pod), Some(node.vfs[0].clone()));
    node.del("c2", &pod, &plain);
    node.assert_clean();
}

#[test]
fn s33_after_a_boot_the_record_of_a_vf_is_void() {
    let Some(node) = Node::new("boot", 1) else { return };
    let (dead, pod, config) = (node.bed.pod(), node.bed.pod(), node.config(0, &json!({})));
    node.add("c1", &dead, &config).unwrap();
    // As after a boot: the VF is at home, its pod's namespace is another one, the record is of the boot before.
    let host = node.bed.host.netns();
    let home = fairlead_kernel::LinkChange {
        netns: Some(&host),
        name: Some(node.name(0)),
        ..fairlead_kernel::LinkChange::default()
    };
    dead.route().set_link(&dead.link("net1").unwrap(), &home).unwrap();
    let file = node.bed.dir.path().join("state/attachments/c1-net1@sriov.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["bootId"] = json!("an earlier one");
    fs::write(&file, record.to_string()).unwrap();
    node.add("c2", &pod, &config).unwrap();
    assert!(!file.exists());
    node.bed.call("sriov", "DEL", &config, "c1", &dead.path()).unwrap();
    assert_eq!(owner_of(&pod), Some(node.vfs[0].clone()));
    node.del("c2", &pod, &config);
    node.assert_clean();
}
