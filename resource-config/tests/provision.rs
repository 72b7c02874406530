//! `fairlead-config plan` and `apply` as people run them, on recorded nodes.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;

struct Run {
    status: Option<i32>,
    out: String,
    complaints: String,
}

/// Runs a command with a policy, and with more options.
fn run(command: &str, policy: &str, more: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, policy).unwrap();
    let fairlead = env!("CARGO_BIN_EXE_fairlead-config");
    let output = Command::new(fairlead).arg(command).arg("--policy").arg(&file).args(more).output().unwrap();
    let text =
        |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(file.to_str().unwrap(), "policy.yaml");
    Run { status: output.status.code(), out: text(output.stdout), complaints: text(output.stderr) }
}

fn plan(tree: &str, policy: &str, more: &[&str]) -> Run {
    let tree = format!("{}/tests/trees/{tree}.tree", env!("CARGO_MANIFEST_DIR"));
    run("plan", policy, &[&["--tree", &tree], more].concat())
}

/// A node with one igb port `ens1f0`, over which the host's default route goes.
fn uplink() -> tempfile::TempDir {
    let node = tempfile::tempdir().unwrap();
    let (devices, net) = (node.path().join("sys/bus/pci/devices"), node.path().join("proc/net"));
    let (pf, driver) = (devices.join("0000:01:00.0"), node.path().join("sys/bus/pci/drivers/igb"));
    for dir in [&pf.join("net/ens1f0"), &driver, &net] {
        fs::create_dir_all(dir).unwrap();
    }
    symlink(driver, pf.join("driver")).unwrap();
    let attributes = [
        ("class", "0x020000"),
        ("vendor", "0x8086"),
        ("device", "0x10c9"),
        ("sriov_totalvfs", "7"),
        ("sriov_numvfs", "0"),
        ("net/ens1f0/mtu", "1500"),
    ];
    for (name, value) in attributes {
        fs::write(pf.join(name), format!("{value}\n")).unwrap();
    }
    let route = "Iface Destination Gateway Flags RefCnt Use Metric Mask\nens1f0 00000000 0101A8C0 0003 0 0 0 00000000\n";
    fs::write(net.join("route"), route).unwrap();
    node
}

#[test]
fn an_uplink_is_refused_unless_it_is_named_by_address() {
    let node = uplink();
    let folder = |name: &str| node.path().join(name).to_str().unwrap().to_owned();
    let (sysfs, proc) = (folder("sys"), folder("proc"));
    let options = ["-o", "json", "--sysfs", sysfs.as_str(), "--proc", proc.as_str()];
    let refused = run("plan", "sections: [{pfNames: [ens1f0], numVfs: 2}]", &options);
    let json: Value = serde_json::from_str(&refused.out).unwrap();
    let reason = json["pfs"][0]["refusals"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("it carries the host's traffic: ens1f0 carries a default route"), "{reason}");
    assert_eq!((refused.status, json["pfs"][0]["steps"].as_array().unwrap().len()), (Some(1), 0));

    let named =
        run("plan", "sections: [{pciAddresses: ['0000:01:00.0'], numVfs: 2, driver: default}]", &options);
    let json: Value = serde_json::from_str(&named.out).unwrap();
    let steps = json["pfs"][0]["steps"].as_array().unwrap();
    let actions: Vec<&str> = steps.iter().map(|step| step["action"].as_str().unwrap()).collect();
    let unbound = ["loadModule", "numVfs", "unbind", "bind", "unbind", "bind", "settle"];
    assert_eq!((named.status, actions.as_slice()), (Some(0), unbound.as_slice()));
}

#[test]
fn a_plan_for_people_says_what_each_step_disturbs() {
    let found = plan(
        "e810-ddp",
        "sections: [{name: dpdk, pfNames: [ens7f0], numVfs: 4, driver: vfio-pci}]",
        &["--force", "0000:86:01.1"],
    );
    let lines: Vec<&str> = found.out.lines().map(str::trim).collect();
    assert_eq!(lines[0], "0000:86:00.0 (ens7f0), section dpdk");
    for line in [
        "2. automatic probing of VFs off",
        "3. number of VFs 2 -> 0",
        "disturbs: the 2 VFs go, with all their settings",
    ] {
        assert!(lines.contains(&line), "{line}: {lines:#?}");
    }
    assert_eq!(found.status, Some(0), "{}", found.complaints);
}

#[test]
fn sections_are_chosen_by_the_node_given() {
    let policy = "sections: [{nodes: ['w-*'], labels: {zone: a}, pfNames: [ens7f0], numVfs: 4}]";
    let force = ["--force", "0000:86:01.1"];
    let chosen = plan(
        "e810-ddp",
        policy,
        &[["--node-name", "w-1"].as_slice(), &["--label", "kind=x,zone=a"], &force].concat(),
    );
    assert!(chosen.out.contains("number of VFs 0 -> 4"), "{}", chosen.out);
    let other = plan("e810-ddp", policy, &["--node-name", "w-1", "--label", "zone=b"]);
    assert!(other.out.contains("no section of the policy is about node \"w-1\""), "{}", other.out);
    assert_eq!(other.status, Some(0));
    let wrong = plan("e810-ddp", policy, &["--label", "zone"]);
    assert!(wrong.complaints.contains("KEY=VALUE"), "{}", wrong.complaints);
}

#[test]
fn a_wrong_policy_is_an_error_with_all_its_problems_and_the_result_says_so() {
    let policy = "sections:\n- {pfNames: [a], numVfs: -1, spofCheck: true}\n- {numVfs: 1}\n";
    let expected =
        "fairlead-config: policy.yaml: sections[0]: numVfs: found -1; allowed: a number from 0 to 65535\n";
    let found = plan("e810-ddp", policy, &[]);
    assert_eq!((found.status, found.out.as_str()), (Some(1), ""));
    assert!(found.complaints.starts_with(expected), "{}", found.complaints);
    assert!(found.complaints.contains("sections[1]: found no PF"), "{}", found.complaints);

    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let found = run("apply", policy, &["--state-dir", state]);
    assert_eq!(found.status, Some(1));
    assert!(found.complaints.starts_with(expected), "{}", found.complaints);
    let result: Value = serde_json::from_slice(&fs::read(dir.path().join("result.json")).unwrap()).unwrap();
    assert_eq!(result["outcome"], "failed");
    assert!(result["error"].as_str().unwrap().contains("numVfs: found -1"), "{result}");
    let best_effort = run("apply", policy, &["--state-dir", state, "--best-effort"]);
    assert_eq!(best_effort.status, Some(0));
}
