//! Whole applies on the fake node.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::Outcome;
use super::fake::{FakeNode, PF, vf};
use super::lock::{Lock, in_progress};
use super::plan::Request;

const MIXED: &str = r#"
sections:
- pfNames: [ens1f0]
  numVfs: 7
  macPrefix: 02:aa
  vfs:
  - {range: 0-3, driver: vfio-pci, trust: true, spoofCheck: false}
  - {range: 4-6, driver: default}
"#;

fn numbers(count: u32) -> String {
    format!("sections:\n- pfNames: [ens1f0]\n  numVfs: {count}\n")
}

fn position(log: &[String], entry: &str) -> usize {
    log.iter().position(|found| found == entry).unwrap_or_else(|| panic!("no {entry} in {log:#?}"))
}

#[test]
fn a_bare_port_gets_vfs_of_both_kinds_with_their_addresses() {
    let mut node = FakeNode::new(0);
    let report = node.apply(MIXED);
    assert_eq!(report.outcome, Outcome::Applied, "{report:#?}");
    for index in 0..7 {
        let mac = format!("02:aa:fa:01:00:{index:02x}");
        assert_eq!(node.admin(index).mac.unwrap().to_string(), mac);
        if index < 4 {
            assert_eq!(node.driver(index).as_deref(), Some("vfio-pci"));
            assert_eq!((node.admin(index).trust, node.admin(index).spoof_check), (Some(true), Some(false)));
        } else {
            assert_eq!(node.driver(index).as_deref(), Some("igbvf"));
            assert_eq!(node.link_named(&format!("ens1f0v{index}")).mac.unwrap().to_string(), mac);
        }
    }
    assert!(node.link_named("ens1f0").up);
    assert_eq!(node.attribute(PF, "sriov_drivers_autoprobe"), "1");
    assert!(in_progress(&node.folders().run_dir).is_empty());
}

#[test]
fn steps_come_in_the_order_that_drivers_need() {
    let mut node = FakeNode::new(0);
    let report = node.apply(MIXED);
    let order = [
        "modprobe vfio-pci",
        "ens1f0 up",
        "sriov_drivers_autoprobe 0",
        "sriov_numvfs 7",
        "sriov_drivers_autoprobe 1",
        "admin 4",
        "drivers_probe 0000:01:11.0",
    ]
    .map(|entry| position(&node.log, entry));
    assert!(order.is_sorted(), "{:#?}", node.log);
    assert!(!node.log.iter().any(|entry| entry.starts_with("unbind")), "{:#?}", node.log);
    assert_eq!(report.pfs[0].done.last().unwrap(), "wait for udev");
}

#[test]
fn a_second_apply_does_nothing() {
    let mut node = FakeNode::new(0);
    for policy in [MIXED, &numbers(4), &numbers(0)] {
        assert_eq!(node.apply(policy).outcome, Outcome::Applied);
        let again = node.apply(policy);
        assert_eq!((again.outcome, node.log.as_slice()), (Outcome::Unchanged, [].as_slice()), "{again:#?}");
    }
}

#[test]
fn numbers_go_through_zero() {
    let mut node = FakeNode::new(0);
    for number in [7, 0, 4, 2] {
        assert_eq!(node.apply(&numbers(number)).outcome, Outcome::Applied);
        assert_eq!(node.attribute(PF, "sriov_numvfs"), number.to_string());
    }
    let writes: Vec<_> = node.log.iter().filter(|entry| entry.starts_with("sriov_numvfs")).collect();
    assert_eq!(writes, ["sriov_numvfs 0", "sriov_numvfs 2"]);
}

#[test]
fn vfs_that_are_there_are_adopted() {
    let mut node = FakeNode::new(7);
    let report = node.apply(MIXED);
    assert_eq!(report.outcome, Outcome::Applied, "{report:#?}");
    assert!(!node.log.iter().any(|entry| entry.starts_with("sriov_")), "{:#?}", node.log);
    assert_eq!(node.driver(0).as_deref(), Some("vfio-pci"));
    assert_eq!(node.link_named("ens1f0v5").mac.unwrap().to_string(), "02:aa:fa:01:00:05");
    // Back in place as well.
    let back = "sections:\n- pfNames: [ens1f0]\n  driver: default\n  trust: false\n";
    assert_eq!(node.apply(back).outcome, Outcome::Applied);
    assert_eq!(node.driver(0).as_deref(), Some("igbvf"));
    assert_eq!(node.attribute(&vf(0), "driver_override"), "(null)");
    assert!(!node.log.iter().any(|entry| entry.starts_with("sriov_")), "{:#?}", node.log);
}

#[test]
fn mtus_are_raised_first_on_the_pf_and_never_lowered() {
    let mut node = FakeNode::new(0);
    let policy = "sections:\n- pfNames: [ens1f0]\n  numVfs: 2\n  vfs: [{range: 1, mtu: 9000}]\n";
    assert_eq!(node.apply(policy).outcome, Outcome::Applied);
    assert!(position(&node.log, "ens1f0 mtu 9000") < position(&node.log, "ens1f0v1 mtu 9000"));
    assert_eq!(node.link_named("ens1f0v0").mtu, 1500);
    assert_eq!(
        node.apply("sections: [{pfNames: [ens1f0], mtu: 1500, vfMtu: 1500}]").outcome,
        Outcome::Applied
    );
    assert_eq!(node.link_named("ens1f0").mtu, 9000);
    assert_eq!(node.link_named("ens1f0v1").mtu, 1500);
}

#[test]
fn a_missing_module_is_told_before_anything_is_touched() {
    let mut node = FakeNode::new(3);
    let report = node.apply("sections: [{pfNames: [ens1f0], driver: igb_uio}]");
    assert_eq!(report.outcome, Outcome::Failed);
    let error = report.pfs[0].error.as_deref().unwrap();
    assert!(error.contains("igb_uio") && error.contains("dpdk-igb-uio-dkms"), "{error}");
    assert_eq!(node.driver(1).as_deref(), Some("igbvf"));
    assert!(report.pfs[0].not_restored.is_empty());
    assert_eq!(node.attribute(PF, "sriov_numvfs"), "3");
}

#[test]
fn what_fails_in_between_is_put_back() {
    let mut node = FakeNode::new(4);
    node.fails = Some(("0000:01:10.4/driver_override".to_owned(), "vfio-pci".to_owned(), 5));
    let policy = "sections: [{pfNames: [ens1f0], driver: vfio-pci, trust: true, mtu: 2000}]";
    let report = node.apply(policy);
    assert_eq!(report.outcome, Outcome::Failed);
    let part = &report.pfs[0];
    assert!(part.error.as_deref().unwrap().contains("0000:01:10.4/driver_override"), "{part:#?}");
    assert!(part.not_restored.is_empty(), "{part:#?}");
    for index in 0..4 {
        assert_eq!(node.driver(index).as_deref(), Some("igbvf"));
        assert_eq!(node.admin(index).trust, Some(false));
    }
    assert_eq!((node.link_named("ens1f0").mtu, node.link_named("ens1f0").up), (1500, false));
    node.fails = None;
    assert_eq!(node.apply(policy).outcome, Outcome::Applied);
}

/// The second policy again and again, each time with another of its changes failing, until none does.
#[test]
fn whatever_fails_everything_is_as_before_and_the_next_apply_succeeds() {
    let from = "sections: [{pfNames: [ens1f0], numVfs: 3, macPrefix: 02:aa, trust: true, vfMtu: 1400,
                vfs: [{range: 1, driver: vfio-pci}]}]";
    let to = [
        "sections: [{pfNames: [ens1f0], numVfs: 5, mtu: 9000, driver: vfio-pci}]",
        "sections: [{pfNames: [ens1f0], numVfs: 3, mtu: 2000, macPrefix: 02:bb, trust: false, spoofCheck: false, vfMtu: 2000,
          vfs: [{range: 0, driver: vfio-pci}, {range: 1, driver: default}, {range: 2, driver: uio_pci_generic}]}]",
        "sections: [{pfNames: [ens1f0], numVfs: 0}]",
    ];
    for to in to {
        let mut node = FakeNode::new(0);
        assert_eq!(node.apply(from).outcome, Outcome::Applied);
        let before = node.snapshot();
        for fails_after in 0.. {
            node.fails_after = Some(fails_after);
            let report = node.apply(to);
            if report.outcome == Outcome::Applied {
                assert!(fails_after > 0 && report.pfs[0].notes.is_empty(), "{report:#?}");
                break;
            }
            assert_eq!(report.outcome, Outcome::Failed, "{report:#?}");
            assert_eq!(node.snapshot(), before, "{report:#?}");
            assert!(report.pfs[0].not_restored.is_empty(), "{report:#?}");
        }
    }
}

#[test]
fn the_number_before_comes_back_with_drivers_and_settings() {
    let mut node = FakeNode::new(2);
    assert_eq!(
        node.apply("sections: [{pfNames: [ens1f0], macPrefix: '02', driver: vfio-pci}]").outcome,
        Outcome::Applied
    );
    node.fails = Some(("sriov_numvfs".to_owned(), "5".to_owned(), 12));
    let report = node.apply(&numbers(5));
    let error = report.pfs[0].error.as_deref().unwrap();
    assert!(error.contains("pci=realloc"), "{error}");
    assert_eq!(node.attribute(PF, "sriov_numvfs"), "2");
    assert_eq!(node.driver(1).as_deref(), Some("vfio-pci"));
    assert_eq!(node.admin(1).mac.unwrap().to_string(), "02:00:fa:01:00:01");
    assert_eq!(node.attribute(PF, "sriov_drivers_autoprobe"), "1");
    assert!(report.pfs[0].not_restored.is_empty(), "{report:#?}");
}

#[test]
fn what_cannot_be_put_back_is_said() {
    let mut node = FakeNode::new(2);
    node.fails = Some(("drivers_probe".to_owned(), vf(1), 5));
    let report = node.apply("sections: [{pfNames: [ens1f0], driver: vfio-pci}]");
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.pfs[0].not_restored.len(), 1, "{report:#?}");
    assert!(report.pfs[0].not_restored[0].starts_with("VF 1: bind to the kernel's driver: "));
    assert_eq!(node.driver(0).as_deref(), Some("igbvf"));
}

#[test]
fn automatic_probing_that_was_off_before_is_off_after() {
    let mut node = FakeNode::new(0);
    node.tree.set(PF, "sriov_drivers_autoprobe", "0");
    let report = node.apply(MIXED);
    assert_eq!(report.outcome, Outcome::Applied, "{report:#?}");
    assert_eq!(node.driver(6).as_deref(), Some("igbvf"));
    assert_eq!(node.attribute(PF, "sriov_drivers_autoprobe"), "0");
}

#[test]
fn kernels_without_the_switch_for_probing_are_served() {
    let mut node = FakeNode::new(0);
    node.tree.unset(PF, "sriov_drivers_autoprobe");
    let report = node.apply(MIXED);
    assert_eq!(report.outcome, Outcome::Applied, "{report:#?}");
    assert_eq!(node.driver(0).as_deref(), Some("vfio-pci"));
    assert_eq!(node.link_named("ens1f0v6").mac.unwrap().to_string(), "02:aa:fa:01:00:06");
}

#[test]
fn a_killed_apply_is_finished_by_the_next() {
    // As it is when the call dies right after the VFs were made.
    let mut node = FakeNode::with_unprobed_vfs(4);
    let run = node.folders().run_dir;
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join(format!("{PF}.lock")), r#"{"holder":"process 1","autoprobe":true}"#).unwrap();
    assert_eq!(in_progress(&run), BTreeSet::from([PF.parse().unwrap()]));
    let report = node.apply(&numbers(4));
    assert_eq!(report.outcome, Outcome::Applied, "{report:#?}");
    assert_eq!(node.attribute(PF, "sriov_drivers_autoprobe"), "1");
    assert_eq!(node.driver(3).as_deref(), Some("igbvf"));
    assert!(in_progress(&run).is_empty());
}

#[test]
fn a_lock_that_a_killed_apply_left_on_another_pf_goes_with_what_it_notes() {
    let mut node = FakeNode::new(0);
    let run = node.folders().run_dir;
    node.tree.set(PF, "sriov_drivers_autoprobe", "0");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join(format!("{PF}.lock")), r#"{"holder":"process 1","autoprobe":true}"#).unwrap();
    node.apply("sections: [{vendors: ['15b3'], numVfs: 2}]");
    assert_eq!(node.attribute(PF, "sriov_drivers_autoprobe"), "1");
    assert!(in_progress(&run).is_empty());
}

#[test]
fn a_pf_that_somebody_else_provisions_is_left_alone() {
    let mut node = FakeNode::new(0);
    let _lock = Lock::take(&node.folders().run_dir, PF.parse().unwrap()).unwrap();
    let report = node.apply(&numbers(2));
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.pfs[0].error.as_deref().unwrap().contains("is being provisioned by process"));
    assert!(node.log.is_empty());
}

#[test]
fn a_refused_vf_keeps_the_others_from_nothing() {
    let mut node = FakeNode::new(3);
    node.tree.remove_netdev(&vf(1), "ens1f0v1");
    let report = node.apply("sections: [{pfNames: [ens1f0], driver: vfio-pci}]");
    assert_eq!(report.outcome, Outcome::Refused);
    assert_eq!(report.pfs[0].refusals[0].device.unwrap().to_string(), vf(1));
    assert_eq!(node.driver(0).as_deref(), Some("vfio-pci"));
    assert_eq!(node.driver(1).as_deref(), Some("igbvf"));
    let force = Request { force: BTreeSet::from([vf(1).parse().unwrap()]), ..Request::default() };
    let report = node.apply_with("sections: [{pfNames: [ens1f0], driver: vfio-pci}]", &force);
    assert_eq!(report.outcome, Outcome::Applied);
    assert_eq!(node.driver(1).as_deref(), Some("vfio-pci"));
}

#[test]
fn drop_ins_come_and_go_with_the_policy() {
    let mut node = FakeNode::new(0);
    let rules = node.folders().udev_rules.join(format!("70-fairlead-{PF}.rules"));
    let policy = "sections: [{pfNames: [ens1f0], numVfs: 1, networkManager: unmanaged, vfNames: kernel}]";
    assert_eq!(node.apply(policy).outcome, Outcome::Applied);
    assert_eq!(node.log[0], "reload rules");
    let text = fs::read_to_string(&rules).unwrap();
    assert!(text.contains("ENV{NM_UNMANAGED}=\"1\"") && text.contains("NAME=\"%k\""), "{text}");
    assert_eq!(node.apply(policy).outcome, Outcome::Unchanged);
    assert_eq!(node.apply(&numbers(1)).outcome, Outcome::Applied);
    assert!(!rules.exists());
}

#[test]
fn pfs_that_come_late_are_waited_for() {
    let mut node = FakeNode::new(0);
    let policy = "sections: [{pfNames: [ens2f0], up: true}]";
    assert_eq!(node.apply(policy).outcome, Outcome::Refused);
    assert_eq!(node.paused, Duration::from_secs(3));
    node.late = Some(Duration::from_secs(5));
    assert_eq!(node.apply(policy).outcome, Outcome::Applied);
    assert!(node.paused < Duration::from_secs(6));
    assert!(node.link_named("ens2f0").up);
}

#[test]
fn the_result_is_written_whole() {
    let mut node = FakeNode::new(0);
    let mut report = node.apply(&numbers(2));
    let state = node.folders().state_dir;
    let path = report.write(&state).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!((&value["outcome"], &value["pfs"][0]["outcome"]), (&"applied".into(), &"applied".into()));
    assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
}
