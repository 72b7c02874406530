use super::{sample as record, *};
use crate::drivers::link;

#[test]
fn a_record_is_read_as_it_was_written_in_the_order_of_add() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    assert_eq!(store.of_sandbox("c1").unwrap(), []);
    let (second, first) = (record("c1", "net1", 1), record("c1", "eth0", 0));
    store.save(&second, true).unwrap();
    store.save(&first, false).unwrap();
    store.save(&record("c10", "eth0", 0), false).unwrap();
    assert_eq!(store.of_sandbox("c1").unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.all().unwrap().len(), 3);
    assert_eq!(store.again(&second).unwrap(), Some(second.clone()));
    store.remove(&second).unwrap();
    store.remove(&second).unwrap();
    assert_eq!(store.again(&second).unwrap(), None);
}

#[test]
fn a_sandbox_id_that_starts_like_another_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.save(&record("c1-x", "eth0", 0), false).unwrap();
    assert_eq!(store.of_sandbox("c1").unwrap(), []);
}

#[test]
fn what_a_killed_write_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.save(&record("c2", "eth0", 0), false).unwrap();
    let (own, other) = (".c1-eth0.tmp", ".c2-net1.tmp");
    for name in [own, other] {
        fs::write(dir.path().join("attachments").join(name), "{").unwrap();
    }
    assert_eq!(store.of_sandbox("c1").unwrap(), []);
    assert!(!dir.path().join("attachments").join(own).exists());
    assert!(dir.path().join("attachments").join(other).exists());
}

#[test]
fn a_broken_record_is_set_aside_and_keeps_no_pod_from_going() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let good = record("c1", "eth0", 0);
    store.save(&good, false).unwrap();
    let broken = dir.path().join("attachments/c1-net1.json");
    fs::write(&broken, "{").unwrap();
    assert_eq!(store.of_sandbox("c1").unwrap(), [good]);
    assert!(!broken.exists() && broken.with_extension("json.broken").exists());
}

#[test]
fn who_holds_addresses_is_read_from_this_layout_and_the_one_before() {
    let mut step = record("c1", "net1", 1).steps.remove(0);
    let before = serde_json::json!("/opt/cni/bin/host-local");
    step.ipam = serde_json::from_value(before).unwrap();
    assert_eq!(step.ipam, Some(IpamHolder::Executed("/opt/cni/bin/host-local".into())));
    step.ipam = Some(IpamHolder::BuiltIn { kind: crate::ipam::Kind::HostLocal });
    let document = serde_json::to_value(&step).unwrap();
    assert_eq!(document["ipam"], serde_json::json!({"builtIn": "host-local"}));
    assert_eq!(serde_json::from_value::<Step>(document).unwrap(), step);
}

#[test]
fn a_macvlan_of_layout_1_is_a_link() {
    let work: Work = serde_json::from_str(r#"{"by":"macvlan","interface":"net1"}"#).unwrap();
    let original = link::Original {
        interface: "net1".into(),
        kind: "macvlan".into(),
        master: None,
        master_in_pod: false,
        variant: None,
    };
    assert_eq!(work, Work::Link(original));
}

#[test]
fn a_newer_builds_record_is_left_alone_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.save(&record("c1", "eth0", 0), false).unwrap();
    // Whatever else it changed.
    let newer = serde_json::json!({"schema": SCHEMA + 1, "steps": "elsewhere"});
    fs::write(dir.path().join("attachments/c1-eth0.json"), newer.to_string()).unwrap();
    let error = store.of_sandbox("c1").unwrap_err();
    assert!(error.msg.contains("upgrade"), "{error}");
    assert!(dir.path().join("attachments/c1-eth0.json").exists());
}

#[test]
fn a_device_has_the_owner_that_claimed_it_if_its_record_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let mut owner = record("c1", "net1", 1);
    let device = "0000:01:10.0";
    let has = || store.owner_of_device(device, "b").unwrap();
    assert_eq!(has(), None);
    // Killed between claim and record.
    store.claim_device(device, &owner).unwrap();
    assert_eq!(has(), None);
    assert_eq!(store.claimed_in_vain().unwrap(), [(device.to_owned(), owner.key())]);
    owner.steps[0].work = holding(device);
    store.save(&owner, false).unwrap();
    assert_eq!(has(), Some(owner.clone()));
    assert_eq!(store.claimed_in_vain().unwrap(), []);
    // Another's note stays, the own one goes.
    let other = record("c2", "net1", 1);
    store.release_devices(&[device.to_owned()], &other.key()).unwrap();
    assert_eq!(has(), Some(owner.clone()));
    store.claim_device(device, &other).unwrap();
    assert_eq!(has(), None);
    store.release_devices(&[device.to_owned()], &other.key()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("devices")).unwrap().count(), 0);
}

#[test]
fn notes_that_an_older_build_did_not_write_are_made_up_for_and_nothing_is_left_with_the_last_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let mut owner = record("c1", "net1", 1);
    owner.steps[0].work = holding("0000:01:10.0");
    store.save(&owner, false).unwrap();
    fs::remove_dir_all(dir.path().join("sandboxes")).unwrap();
    assert_eq!(store.owner_of_device("0000:01:10.0", "b").unwrap(), Some(owner.clone()));
    assert_eq!(store.perhaps_dead("b").unwrap().len(), 1);
    // Of a call that was killed while it wrote which boot the notes are of.
    fs::write(dir.path().join("sandboxes/..complete.tmp"), "b").unwrap();
    store.remove(&owner).unwrap();
    store.release_devices(&["0000:01:10.0".to_owned()], &owner.key()).unwrap();
    store.forget_sandbox("c1").unwrap();
    for folder in ["attachments", "devices", "sandboxes"] {
        assert_eq!(fs::read_dir(dir.path().join(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[test]
fn calls_that_come_and_go_at_once_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = &Store::new(dir.path());
    std::thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || {
                let own = record(&format!("c{number}"), "net1", 1);
                for _ in 0..100 {
                    store.save(&own, false).unwrap();
                    // For each it is another boot: all write down which one it is.
                    store.perhaps_dead(&number.to_string()).unwrap();
                    store.remove(&own).unwrap();
                    store.forget_sandbox(&own.container_id).unwrap();
                }
            });
        }
    });
    assert_eq!(store.perhaps_dead("later").unwrap().len(), 0);
    for folder in ["attachments", "sandboxes"] {
        assert_eq!(fs::read_dir(dir.path().join(folder)).unwrap().count(), 0, "{folder}");
    }
}

fn holding(device: &str) -> Work {
    let original = serde_json::json!({
        "by": "sriov", "address": device, "interface": "net1", "vf": {}, "change": {}, "netdev": null
    });
    serde_json::from_value(original).unwrap()
}

#[test]
fn a_sandbox_may_be_dead_when_another_file_or_none_is_at_its_path_or_after_a_boot() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let netns = dir.path().join("netns");
    fs::write(&netns, "").unwrap();
    let file = fs::metadata(&netns).unwrap();
    let mut alive = record("alive", "eth0", 0);
    alive.netns_path = netns.clone();
    (alive.netns.dev, alive.netns.inode) = (file.dev(), file.ino());
    let mut other = alive.clone();
    (other.container_id, other.netns.inode) = ("other".into(), file.ino() + 1);
    let mut gone = alive.clone();
    (gone.container_id, gone.netns_path) = ("gone".into(), dir.path().join("nowhere"));
    for record in [&alive, &other, &gone] {
        store.save(record, false).unwrap();
    }
    let dead = |boot: &str| store.perhaps_dead(boot).unwrap().into_iter().collect::<Vec<_>>();
    assert_eq!(dead("b"), ["gone", "other"]);
    assert_eq!(dead("later"), ["alive", "gone", "other"]);
    store.remove(&gone).unwrap();
    store.forget_sandbox("gone").unwrap();
    store.forget_sandbox("gone").unwrap();
    assert_eq!(dead("later"), ["alive", "other"]);
    // After a boot, and after an older build, what is missing is made up for.
    fs::remove_dir_all(dir.path().join("sandboxes")).unwrap();
    assert_eq!(dead("b"), ["other"]);
}

#[test]
fn what_a_plugin_made_by_itself_is_not_the_meta_plugins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let meta = record("c1", "eth0", 0);
    let mut alone = meta.clone();
    alone.alone = Some("macvlan".into());
    store.save(&meta, false).unwrap();
    store.save(&alone, false).unwrap();
    assert_eq!(store.of_sandbox("c1").unwrap(), std::slice::from_ref(&meta));
    assert_eq!(store.all_of_sandbox("c1").unwrap().len(), 2);
    assert_eq!(store.get(&alone.key()).unwrap(), Some(alone.clone()));
    // The sandbox is forgotten with its last record.
    store.remove(&meta).unwrap();
    store.forget_sandbox("c1").unwrap();
    assert_eq!(store.perhaps_dead("other boot").unwrap().len(), 1);
    store.remove(&alone).unwrap();
    store.forget_sandbox("c1").unwrap();
    assert_eq!(store.perhaps_dead("other boot").unwrap().len(), 0);
}

#[test]
fn what_is_intended_is_read_back_until_it_is_forgotten_and_torn_it_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let sample = record("c1", "eth0", 0);
    let holdings = vec![Holding {
        interface: "eth0".into(),
        kind: crate::ipam::Kind::HostLocal,
        config: sample.steps[0].config.clone(),
    }];
    let intents = Intents { boot_id: "b".into(), holdings };
    store.intend("c1", (sample.netns, &sample.netns_path), &intents).unwrap();
    assert_eq!(store.intents("c1").unwrap(), Some(intents));
    assert_eq!(store.noted_in_vain().unwrap(), ["c1"]);
    fs::remove_dir_all(dir.path().join("sandboxes")).unwrap();
    assert_eq!(store.noted_in_vain().unwrap(), ["c1"], "as a build without intents leaves it");
    fs::write(dir.path().join("intents/c1"), "{\"boot").unwrap();
    assert_eq!(store.intents("c1").unwrap(), None);
    store.forget_intents("c1").unwrap();
    store.forget_intents("c1").unwrap();
    assert_eq!(store.intents("c1").unwrap(), None);
    assert!(!dir.path().join("intents/c1").exists());
}

#[test]
fn a_sandbox_of_which_a_crash_left_only_what_was_intended_is_dead_in_the_next_boot() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let sample = record("c1", "eth0", 0);
    let intents = Intents { boot_id: "b".into(), holdings: Vec::new() };
    store.intend("c1", (sample.netns, &sample.netns_path), &intents).unwrap();
    fs::remove_dir_all(dir.path().join("sandboxes")).unwrap();
    assert_eq!(store.perhaps_dead("later").unwrap().into_iter().collect::<Vec<_>>(), ["c1"]);
}
