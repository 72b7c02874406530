//! `fairlead-config` as people run it.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

struct Run {
    status: Option<i32>,
    out: String,
    complaints: String,
}

fn run(arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_fairlead-config")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { status: output.status.code(), out: text(output.stdout), complaints: text(output.stderr) }
}

/// A folder with a sysfs of one port, its VF on vfio-pci and one on iavf, and configurations.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        node.function("0000:3b:00.0", "0x1592", "ice");
        node.function("0000:3b:01.0", "0x1889", "vfio-pci");
        node.function("0000:3b:01.1", "0x1889", "iavf");
        let port = node.sysfs().join("bus/pci/devices/0000:3b:00.0");
        fs::write(port.join("sriov_totalvfs"), "64\n").unwrap();
        fs::write(port.join("sriov_numvfs"), "2\n").unwrap();
        for (index, vf) in ["0000:3b:01.0", "0000:3b:01.1"].iter().enumerate() {
            symlink(format!("../{vf}"), port.join(format!("virtfn{index}"))).unwrap();
            let vf = node.sysfs().join("bus/pci/devices").join(vf);
            symlink("../0000:3b:00.0", vf.join("physfn")).unwrap();
        }
        node
    }

    fn sysfs(&self) -> PathBuf {
        self.dir.path().join("sys")
    }

    fn function(&self, address: &str, device: &str, driver: &str) {
        let dir = self.sysfs().join("bus/pci/devices").join(address);
        let driver = self.sysfs().join("bus/pci/drivers").join(driver);
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(&driver).unwrap();
        for (name, value) in [("class", "0x020000"), ("vendor", "0x8086"), ("device", device)] {
            fs::write(dir.join(name), format!("{value}\n")).unwrap();
        }
        symlink(driver, dir.join("driver")).unwrap();
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn explain(&self, config: &str, more: &[&str]) -> Run {
        let sysfs = self.sysfs();
        run(&[&["explain", "--config", config, "--sysfs", sysfs.to_str().unwrap()], more].concat())
    }
}

const POOLS: &str = "resourceList:
- resourceName: dpdk
  selectors: {drivers: [vfio-pci], pfNames: []}
- resourceName: none
  selectors: {vendors: [15b3]}
";

#[test]
fn explain_prints_the_documented_json() {
    let node = Node::new();
    let run = node.explain(&node.file("pools.yaml", POOLS), &["-o", "json"]);
    let found: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let device = &found["pools"][0]["devices"][0];
    assert_eq!(
        (&found["pools"][0]["resource"], &device["id"]),
        (&"intel.com/dpdk".into(), &"0000:3b:01.0".into())
    );
    let expected = serde_json::json!({"id": "0000:3b:01.1", "notes": [], "reasons": [
        {"resource": "intel.com/dpdk", "selector": "drivers", "found": "iavf", "wanted": ["vfio-pci"]},
        {"resource": "intel.com/none", "selector": "vendors", "found": "8086", "wanted": ["15b3"]},
    ]});
    assert_eq!(found["unassigned"][1], expected);
    let expected = serde_json::json!([{"resource": "intel.com/none", "hints": [], "taken": [], "turnedAway": [
        {"selector": "vendors", "devices": 2, "found": ["8086"], "wanted": ["15b3"]},
        {"selector": "pfWithVfs", "devices": 1, "found": ["a PF with 2 VFs"],
         "wanted": ["a VF, or a function without VFs"]},
    ]}]);
    assert_eq!(found["emptyPools"], expected);
    assert_eq!((run.status, run.complaints.as_str()), (Some(0), ""));
}

/// Where each device of an example node goes: its resource, or what turned it away, pool by pool.
fn divided(tree: &str, config: &str) -> Vec<String> {
    let node = Node::new();
    let tree = format!("{}/tests/trees/{tree}.tree", env!("CARGO_MANIFEST_DIR"));
    let run = run(&["explain", "--config", &node.file("pools.yaml", config), "--tree", &tree, "-o", "json"]);
    assert_eq!((run.status, run.complaints.as_str()), (Some(0), ""));
    let found: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let list = |value: &serde_json::Value, key: &str| value[key].as_array().unwrap().clone();
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap().to_owned();
    let mut lines = Vec::new();
    for pool in list(&found, "pools") {
        let devices = list(&pool, "devices");
        lines.extend(
            devices.iter().map(|device| format!("{} {}", text(device, "id"), text(&pool, "resource"))),
        );
    }
    for device in list(&found, "unassigned") {
        let reasons = list(&device, "reasons");
        let reasons =
            reasons.iter().map(|reason| format!("{}={}", text(reason, "selector"), text(reason, "found")));
        lines.push(format!("{} not: {}", text(&device, "id"), reasons.collect::<Vec<_>>().join("; ")));
    }
    lines
}

#[test]
fn a_node_in_switchdev_mode_is_divided_by_rdma_vdpa_and_scalable_functions() {
    let config = "resourceList:
- resourceName: rdma
  selectors: {isRdma: true, pfNames: [ens3f0np0]}
- resourceName: vdpa
  selectors: [{vdpaType: virtio}, {vdpaType: vhost}]
- resourceName: sf
  deviceType: auxNetDevice
  selectors: {auxTypes: [sf], pfNames: ['ens3f0np0#88']}
";
    let with_vfs = "pfWithVfs=a PF with 2 VFs";
    let expected = [
        "0000:03:00.2 intel.com/rdma".to_owned(),
        "0000:03:00.3 intel.com/vdpa".to_owned(),
        "mlx5_core.sf.4 intel.com/sf".to_owned(),
        format!("0000:03:00.0 not: {with_vfs}; {with_vfs}; deviceType=netDevice"),
        "0000:03:00.1 not: pfNames=; vdpaType=; deviceType=netDevice".to_owned(),
    ];
    assert_eq!(divided("mlx5-switchdev", config), expected);
}

#[test]
fn a_bonded_uplink_is_offered_by_address_only() {
    let config = |selectors| format!("resourceList: [{{resourceName: nics, selectors: {{{selectors}}}}}]");
    let found = divided("bonded-uplink", &config("vendors: [14e4]"));
    assert_eq!(found[0], "0000:18:00.1 intel.com/nics");
    for (line, device) in found[1..].iter().zip(["0000:17:00.0", "0000:17:00.1", "0000:18:00.0"]) {
        assert!(line.starts_with(&format!("{device} not: hostUplink=")), "{line}");
    }
    let found = divided("bonded-uplink", &config("pciAddresses: ['17:00.0']"));
    assert_eq!(found[0], "0000:17:00.0 intel.com/nics");
    assert!(found[1].starts_with("0000:17:00.1 not: pciAddresses=0000:17:00.1"), "{}", found[1]);
}

#[test]
fn a_device_that_is_asked_for_and_missing_is_an_error_that_names_it() {
    let node = Node::new();
    let config = node.file("pools.yaml", POOLS);
    let found = node.explain(&config, &["3b:01.1"]);
    assert_eq!(found.status, Some(0));
    assert_eq!(found.out.lines().count(), 2, "{}", found.out);
    let missing = node.explain(&config, &["3b:01.1", "0000:3b:01.7"]);
    assert_eq!((missing.status, missing.out.as_str()), (Some(1), ""));
    assert!(
        missing
            .complaints
            .starts_with("fairlead-config: \"0000:3b:01.7\": no such device; give a PCI address")
    );
}

#[test]
fn a_file_that_cannot_be_used_ends_with_its_problems_and_status_1() {
    let node = Node::new();
    let file = node.file("pools.json", r#"{"resourceList":[{"resourceName":"a.b"},{"resourceName":"c","selectors":{"vendors":["intel"],"pfName":["p0"]}}]}"#);
    for arguments in
        [&["validate", &file] as &[&str], &["validate", "--config", &file], &["explain", "--config", &file]]
    {
        let run = run(arguments);
        assert_eq!((run.status, run.out.as_str()), (Some(1), ""), "{arguments:?}");
        let lines: Vec<&str> = run.complaints.lines().collect();
        let expected = [
            format!(
                "fairlead-config: {file}: resourceList[0] (a.b): resourceName: found \"a.b\"; allowed: letters"
            ),
            format!(
                "fairlead-config: {file}: resourceList[1] (c): selectors.vendors[0]: found \"intel\"; allowed: four"
            ),
            format!(
                "fairlead-config: warning: {file}: resourceList[1] (c): selectors: unknown key \"pfName\" is ignored; did you mean \"pfNames\"?"
            ),
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, start) in lines.iter().zip(expected) {
            assert!(line.starts_with(&start), "{line}\n{start}");
        }
    }
}

#[test]
fn a_good_file_is_named_with_its_resources() {
    let node = Node::new();
    let file = node.file("pools.yaml", POOLS);
    let run = run(&["validate", &file, "--resource-prefix", "acme.io"]);
    assert_eq!(run.out, format!("{file}: no problems; resources: acme.io/dpdk, acme.io/none\n"));
    assert_eq!((run.status, run.complaints.as_str()), (Some(0), ""));
}

#[test]
fn what_is_missing_is_named() {
    let missing = |arguments: &[&str]| {
        let run = run(arguments);
        assert_eq!(run.status, Some(1));
        run.complaints
    };
    let reading =
        "fairlead-config: cannot read the configuration /nonexistent/pools.json: No such file or directory";
    assert!(missing(&["validate", "/nonexistent/pools.json"]).starts_with(reading));
    assert!(missing(&["explain", "--config", "/nonexistent/pools.json"]).starts_with(reading));
    let node = Node::new();
    let config = node.file("pools.yaml", POOLS);
    let text = missing(&["explain", "--config", &config, "--sysfs", "/nonexistent"]);
    assert!(text.contains("/nonexistent"), "{text}");
}

#[test]
fn the_schema_is_printed() {
    let run = run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(run.status, Some(0));
}
