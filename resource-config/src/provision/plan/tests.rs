use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::provision::fake::{FakeNode, PF, policy, vf};
use crate::provision::node;

fn planned(node: &mut FakeNode, text: &str) -> Plan {
    planned_with(node, text, &Request::default())
}

fn planned_with(node: &mut FakeNode, text: &str, request: &Request) -> Plan {
    let policy = policy(text);
    let folders = node.folders();
    let state = node::look(node, &folders, &policy, &request.node).unwrap();
    provision(&policy, &state, request)
}

fn refusals(plan: &Plan) -> String {
    plan.all_refusals().map(|refusal| refusal.reason.as_str()).collect::<Vec<_>>().join("\n")
}

/// A refused PF has nothing done to it.
fn refused(node: &mut FakeNode, text: &str, parts: &[&str]) {
    let plan = planned(node, text);
    let reasons = refusals(&plan);
    assert!(plan.pfs.iter().all(|pf| pf.steps.is_empty()), "{text}: {plan:#?}");
    for part in parts {
        assert!(reasons.contains(part), "{text}: {part:?} is not in {reasons:?}");
    }
}

#[test]
fn more_vfs_than_the_card_allows_name_the_total_and_where_to_look() {
    let text = "sections: [{pfNames: [ens1f0], numVfs: 8}]";
    refused(&mut FakeNode::new(0), text, &["numVfs is 8, the card allows 7", "0 to 7", "BIOS"]);
    let mut node = FakeNode::new(0);
    node.tree.bind(PF, "mlx5_core");
    refused(&mut node, text, &["mlxconfig", "-d 0000:01:00.0 set SRIOV_EN=1 NUM_OF_VFS=8"]);
}

#[test]
fn vfio_without_an_iommu_is_refused_unless_asked_for() {
    let mut node = FakeNode::new(0);
    node.tree.unset(PF, "iommu_group");
    let text = "sections: [{pfNames: [ens1f0], numVfs: 2, driver: vfio-pci}]";
    refused(&mut node, text, &["intel_iommu=on", "noiommu: true"]);
    let plan =
        planned(&mut node, "sections: [{pfNames: [ens1f0], numVfs: 2, driver: vfio-pci, noiommu: true}]");
    assert_eq!(plan.pfs[0].steps[1].step, Step::Noiommu { allowed: true });
    assert!(plan.pfs[0].steps[1].disturbs.is_some());
    assert!(
        planned(&mut node, "sections: [{pfNames: [ens1f0], numVfs: 2, noiommu: true}]").pfs[0]
            .steps
            .iter()
            .all(|planned| !matches!(planned.step, Step::Noiommu { .. }))
    );
}

#[test]
fn a_vf_in_use_keeps_the_number_as_it_is() {
    let mut node = FakeNode::new(3);
    node.tree.remove_netdev(&vf(1), "ens1f0v1");
    let text = "sections: [{pfNames: [ens1f0], numVfs: 5}]";
    refused(&mut node, text, &["VF 1 (0000:01:10.2) is in use", "network namespace", "--force 0000:01:10.2"]);
    let force = Request { force: BTreeSet::from([vf(1).parse().unwrap()]), ..Request::default() };
    assert!(refusals(&planned_with(&mut node, text, &force)).is_empty());
}

#[test]
fn a_pf_with_the_hosts_traffic_is_changed_only_when_it_is_named_by_address() {
    let mut node = FakeNode::new(0);
    node.tree.default_route("ens1f0");
    let text = "sections: [{pfNames: [ens1f0], numVfs: 2}]";
    refused(&mut node, text, &["default route of the host", "pciAddresses", "--force 0000:01:00.0"]);
    let named = "sections: [{pciAddresses: ['0000:01:00.0'], numVfs: 2}]";
    assert!(refusals(&planned(&mut node, named)).is_empty());
    let force = Request { force: BTreeSet::from([PF.parse().unwrap()]), ..Request::default() };
    assert!(refusals(&planned_with(&mut node, text, &force)).is_empty());
    // As it is already, it is not refused.
    assert!(
        refusals(&planned(&mut node, "sections: [{pfNames: [ens1f0], numVfs: 0, up: false}]")).is_empty()
    );
}

#[test]
fn what_an_attachment_set_is_no_refusal_and_its_driver_is() {
    let mut node = FakeNode::new(2);
    let folder = node.folders().usage.attachments;
    fs::create_dir_all(&folder).unwrap();
    let record = format!(
        r#"{{"interface":"net1","pod":{{"namespace":"default","name":"p"}},"steps":[{{"work":{{"sriov":{{"address":"{}"}}}}}}]}}"#,
        vf(0)
    );
    fs::write(folder.join("c-net1.json"), record).unwrap();
    let plan = planned(&mut node, "sections: [{pfNames: [ens1f0], trust: true, macPrefix: '02'}]");
    assert!(refusals(&plan).is_empty(), "{plan:#?}");
    assert!(plan.pfs[0].notes[0].contains("interface net1 of pod default/p"), "{plan:#?}");
    assert!(plan.pfs[0].steps.iter().all(|planned| planned.step.vf() != Some(0)));
    assert!(plan.pfs[0].steps.iter().any(|planned| planned.step.vf() == Some(1)));
    let plan = planned(&mut node, "sections: [{pfNames: [ens1f0], vfs: [{range: 0, driver: vfio-pci}]}]");
    assert!(refusals(&plan).contains("default/p"), "{plan:#?}");
    let steps: Vec<_> = plan.pfs[0].steps.iter().map(|planned| planned.text.as_str()).collect();
    assert_eq!(steps, ["PF up"]);
}

#[test]
fn an_mtu_that_resets_the_port_waits_for_vfs_in_use() {
    let mut node = FakeNode::new(1);
    node.tree.remove_netdev(&vf(0), "ens1f0v0");
    refused(&mut node, "sections: [{pfNames: [ens1f0], mtu: 9000}]", &["PF MTU 1500 -> 9000", "is in use"]);
}

#[test]
fn an_externally_managed_pf_is_only_checked() {
    let mut node = FakeNode::new(2);
    let text = |number: u32, more: &str| {
        format!("sections: [{{pfNames: [ens1f0], externallyManaged: true, numVfs: {number}{more}}}]")
    };
    refused(&mut node, &text(3, ""), &["needs 3 VFs, the PF has 2"]);
    refused(&mut node, &text(2, ", mtu: 9000"), &["needs MTU 9000, the PF has 1500"]);
    let plan = planned(&mut node, &text(1, ", driver: vfio-pci"));
    let about_vfs = |planned: &PlannedStep| {
        planned.step.vf().is_some() || matches!(planned.step, Step::LoadModule { .. } | Step::Settle)
    };
    assert!(plan.pfs[0].steps.iter().all(about_vfs), "{plan:#?}");
    assert_eq!(
        plan.pfs[0].steps.iter().filter(|planned| matches!(planned.step, Step::Bind { .. })).count(),
        2
    );
}

#[test]
fn the_first_section_has_a_pf_and_the_others_are_told() {
    let mut node = FakeNode::new(0);
    let text = "sections: [{name: a, pfNames: [ens1f0], numVfs: 1}, {name: b, vendors: ['8086'], numVfs: 7}]";
    let plan = planned(&mut node, text);
    assert_eq!((plan.pfs.len(), plan.pfs[0].section.as_str()), (1, "a"));
    assert!(plan.warnings[0].contains("section b is passed over, section a has it"), "{:?}", plan.warnings);
}

#[test]
fn names_that_the_node_lacks_are_told_with_those_that_it_has() {
    let mut node = FakeNode::new(0);
    let there = "its PFs are 0000:01:00.0 (ens1f0)";
    let some = planned(&mut node, "sections: [{pfNames: [ens1f0, ens2f0], numVfs: 1}]");
    assert!(some.warnings[0].contains("no PF ens2f0") && some.warnings[0].contains(there), "{some:#?}");
    refused(
        &mut node,
        "sections: [{pfNames: [ens2f0], numVfs: 1}]",
        &["no PF ens2f0", "0000:01:00.0 (ens1f0)"],
    );
    let other = planned(&mut node, "sections: [{vendors: ['15b3'], numVfs: 1}]");
    assert!(other.warnings[0].contains("selects no PF") && refusals(&other).is_empty(), "{other:#?}");
    let elsewhere = planned(&mut node, "sections: [{nodes: [x], pfNames: [ens9], numVfs: 1}]");
    assert!(elsewhere.warnings[0].contains("no section") && elsewhere.pfs.is_empty(), "{elsewhere:#?}");
}

#[test]
fn ranges_beyond_the_vfs_that_there_are_are_refused() {
    let mut node = FakeNode::new(2);
    let text = "sections: [{pfNames: [ens1f0], vfs: [{range: 0-3, driver: vfio-pci}]}]";
    refused(&mut node, text, &["goes to VF 3, there are 2 VFs"]);
}

#[test]
fn a_pf_that_cannot_make_vfs_says_why() {
    let mut node = FakeNode::new(0);
    node.tree.remove_netdev(PF, "ens1f0");
    let text = "sections: [{pciAddresses: ['0000:01:00.0'], numVfs: 1}]";
    refused(&mut node, text, &["it is on igb", "hostNetwork: true"]);
    node.tree.bind(PF, "");
    refused(&mut node, text, &["bind it to its kernel driver"]);
}

#[test]
fn a_switch_mode_that_differs_is_named_and_not_changed() {
    let text = "sections: [{pfNames: [ens1f0], numVfs: 1, eSwitchMode: switchdev}]";
    refused(&mut FakeNode::new(0), text, &["eSwitchMode is switchdev"]);
    let legacy =
        planned(&mut FakeNode::new(0), "sections: [{pfNames: [ens1f0], numVfs: 1, eSwitchMode: legacy}]");
    assert!(refusals(&legacy).is_empty());
}

#[test]
fn pfs_whose_vfs_would_share_addresses_are_refused() {
    let mut node = FakeNode::new(0);
    node.add_second_port();
    let text = "sections: [{vendors: ['8086'], numVfs: 1, macPrefix: '02:aa:bb:cc:dd'}]";
    let plan = planned(&mut node, text);
    assert!(!plan.pfs[0].steps.is_empty() && plan.pfs[1].steps.is_empty(), "{plan:#?}");
    assert!(refusals(&plan).contains("02:aa:bb:cc:dd:00 too"), "{plan:#?}");
    assert!(
        refusals(&planned(&mut node, "sections: [{vendors: ['8086'], numVfs: 1, macPrefix: '02'}]"))
            .is_empty()
    );
}

#[test]
fn a_plan_reads_as_json() {
    let mut node = FakeNode::new(2);
    let plan = planned(&mut node, "sections: [{pfNames: [ens1f0], numVfs: 3}]");
    let value = serde_json::to_value(&plan).unwrap();
    let step = &value["pfs"][0]["steps"][3];
    assert_eq!((&step["action"], &step["from"], &step["to"]), (&"numVfs".into(), &2.into(), &0.into()));
    assert_eq!(step["disturbs"], "the 2 VFs go, with all their settings");
}
