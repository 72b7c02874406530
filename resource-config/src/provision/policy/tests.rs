use std::path::Path;

use super::*;
use crate::error_text;

fn parsed(text: &str) -> LoadedPolicy {
    parse(text, Path::new("policy.yaml")).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let error = parse(text, Path::new("policy.yaml")).unwrap_err();
    error_text(&error).lines().map(str::to_owned).collect()
}

#[test]
fn a_whole_section_is_read_with_keys_in_any_case() {
    let text = r#"
sections:
- name: dpdk
  Nodes: ["worker-*"]
  labels: {zone: a}
  pfnames: [ens1f0, altname0]
  pciAddresses: ["0000:3b:00.0"]
  vendors: [8086]
  devices: [158b]
  numVFs: 8
  mtu: 9000
  macPrefix: 02:fa
  trust: true
  vfs:
  - {range: 0-3, driver: vfio-pci, spoofCheck: false}
  - {range: 4, driver: default, trust: false, mtu: 1500}
  networkManager: unmanaged
  vfNames: kernel
"#;
    let loaded = parsed(text);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let section = &loaded.policy.sections[0];
    assert_eq!((section.name.as_str(), section.num_vfs, section.mtu), ("dpdk", Some(8), Some(9000)));
    assert!(section.up && section.unmanaged && section.kernel_names && !section.noiommu);
    assert_eq!(section.pfs.devices, [PciId(0x158b)]);
    let dpdk = section.vf(3);
    assert_eq!(
        (dpdk.driver, dpdk.trust, dpdk.spoof_check),
        (Some(VfDriver::VfioPci), Some(true), Some(false))
    );
    let other = section.vf(4);
    assert_eq!((other.driver, other.trust, other.mtu), (Some(VfDriver::Kernel), Some(false), Some(1500)));
    assert_eq!(section.vf(5), VfSettings { trust: Some(true), ..VfSettings::default() });
}

#[test]
fn json_is_read_as_well() {
    let text = r#"{"sections": [{"pciAddresses": ["0000:3b:00.0"], "numVfs": 2, "vfs": [{"range": 1, "driver": "igb_uio"}]}]}"#;
    let section = &parsed(text).policy.sections[0];
    assert_eq!(section.vf(1).driver, Some(VfDriver::IgbUio));
    assert_eq!(section.name, "sections[0]");
}

#[test]
fn all_problems_of_a_file_are_reported_at_once_with_their_places() {
    let text = r#"
sections:
- name: one
  pfNames: ens1f0
  numVfs: many
  macPrefix: "01:00"
  driver: vfio
- pfNames: [ens1f1]
  numVfs: 4
  mtu: 20
  eSwitchMode: on
  vfs:
  - {range: 0-3}
  - {range: 3-4}
  - {driver: default}
- numVfs: 3
"#;
    let found = problems(text);
    let expected = [
        "policy.yaml: sections[0] (one): pfNames: found ens1f0; allowed: a list, such as [\"ens1f0\"]",
        "policy.yaml: sections[0] (one): numVfs: found many; allowed: a number from 0 to 65535",
        "policy.yaml: sections[0] (one): macPrefix: found \"01:00\"; allowed: one to five bytes of a unicast MAC address, such as 02:fa",
        "policy.yaml: sections[0] (one): driver: found vfio; allowed: default, vfio-pci, igb_uio, uio_pci_generic",
        "policy.yaml: sections[1]: mtu: found 20; allowed: a number from 68 to 65535",
        "policy.yaml: sections[1]: eSwitchMode: found on; allowed: legacy, switchdev",
        "policy.yaml: sections[1]: vfs[2].range: found nothing; allowed: VF indexes, such as 3, 0-3 or 0-3,5",
        "policy.yaml: sections[1]: vfs[1].range: found a VF that vfs[0] has too; allowed: each VF in one range",
        "policy.yaml: sections[1]: vfs[1].range: found VF 4; allowed: indexes below numVfs, which is 4",
        "policy.yaml: sections[2]: found no PF; allowed: at least one of pfNames, pciAddresses, vendors, devices: without, every PF would be changed",
    ];
    for line in expected {
        assert!(found.iter().any(|found| found == line), "{line}\nis not among\n{found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn unknown_keys_are_told_beside_problems() {
    let text = "sections: [{pfNames: [a], numVfs: x, spoofChek: true}]";
    let error = parse(text, Path::new("policy.yaml")).unwrap_err().to_string();
    assert!(
        error.contains("numVfs") && error.contains("warning: policy.yaml: sections[0]: unknown key"),
        "{error}"
    );
}

#[test]
fn unknown_keys_are_warned_about_with_the_nearest() {
    let loaded =
        parsed("sections: [{pfNames: [a], numVfs: 1, spoofChek: true, vfs: [{range: 0, drivr: default}]}]");
    let warnings = loaded.warnings.join("\n");
    for part in ["unknown key \"spoofChek\"", "\"spoofCheck\"", "vfs[0]: unknown key \"drivr\"", "\"driver\""]
    {
        assert!(warnings.contains(part), "{warnings}");
    }
}

#[test]
fn files_that_say_nothing_are_refused() {
    for (text, part) in [
        ("", "nothing in it"),
        ("{}", "sections: found no section"),
        ("sections: []", "sections: found no section"),
        ("sections: [", "YAML"),
        ("sections: [7]", "sections[0]: found 7; allowed: an object"),
        ("sections: [{pfNames: [a], externallyManaged: true, numVfs: 0}]", "numVfs: found 0"),
    ] {
        let found = problems(text).join("\n");
        assert!(found.contains(part), "{text}: {found}");
    }
    let error = error_text(&load(Path::new("/nonexistent/policy")).unwrap_err());
    assert!(error.starts_with("cannot read the policy /nonexistent/policy: "), "{error}");
}

#[test]
fn nodes_are_chosen_by_name_and_by_all_labels() {
    let node = |name: &str, labels: &[(&str, &str)]| NodeIdentity {
        name: name.to_owned(),
        labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    };
    let text = "sections: [{pfNames: [a], nodes: ['w-*', 'edge'], labels: {zone: a, kind: dpdk}}]";
    let section = &parsed(text).policy.sections[0];
    let labels = [("zone", "a"), ("kind", "dpdk"), ("more", "x")];
    assert!(section.is_for(&node("w-1", &labels)) && section.is_for(&node("edge", &labels)));
    assert!(!section.is_for(&node("x", &labels)));
    assert!(!section.is_for(&node("w-1", &labels[..1])));
}
