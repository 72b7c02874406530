//! CHECK, GC and what operators see.

use fairlead_cni::{
    cli::{Answer, Cli},
    drivers::Difference,
    engine,
    protocol::gc::AttachmentId,
    record::Phase,
};
use fairlead_kernel::LinkChange;

use crate::support::{Bed, Namespace};

/// What CHECK says of the only attachment of a container.
fn differences(bed: &Bed, container: &str, pod: &Namespace) -> Vec<Difference> {
    bed.on_host(|engine| {
        let record = engine.store.of_sandbox(container).unwrap().remove(0);
        engine::check(&record, &pod.path(), engine).unwrap()
    })
}

/// Whether there is exactly this difference.
fn only(found: &[Difference], words: &str, is_fatal: bool) -> bool {
    found.len() == 1 && found[0].text.contains(words) && found[0].is_fatal == is_fatal
}

fn operate(bed: &Bed, verb: &str) -> Answer {
    let folder = |name: &str| bed.dir.path().join(name).display().to_string();
    let options = ["--state-dir", "state", "--run-dir", "run", "--networks-dir", "networks"];
    let options = options.chunks(2).flat_map(|pair| [pair[0].to_owned(), folder(pair[1])]);
    let arguments: Vec<String> = verb.split(' ').map(str::to_owned).chain(options).collect();
    bed.on_host(|_| Cli::parse(arguments).unwrap().run().unwrap())
}

#[test]
fn m12_check_names_what_differs_and_only_loss_is_fatal() {
    let Some(bed) = Bed::new("CHECK") else { return };
    let pod = bed.pod();
    bed.attach("c1", "net1", &pod, &bed.macvlan("10.1.2.0/24")).unwrap();
    assert_eq!(differences(&bed, "c1", &pod), []);
    let link = pod.link("net1").unwrap();
    let set = |change: &LinkChange<'_>| pod.route().set_link(&link, change).unwrap();
    set(&LinkChange { mtu: Some(1400), ..LinkChange::default() });
    assert!(only(&differences(&bed, "c1", &pod), "MTU 1400", false));
    set(&LinkChange { mtu: Some(1500), ..LinkChange::default() });
    pod.route().del_address(&link, &"10.1.2.2/24".parse().unwrap()).unwrap();
    let found = differences(&bed, "c1", &pod);
    assert!(found.iter().all(|difference| !difference.is_fatal), "{found:?}");
    let texts: Vec<&str> = found.iter().map(|difference| difference.text.as_str()).collect();
    assert!(texts[0].contains("address 10.1.2.2/24") && texts[1].contains("route to 0.0.0.0/0"), "{texts:?}");
    pod.route().delete_link(&link).unwrap();
    assert!(differences(&bed, "c1", &pod).iter().any(|difference| difference.is_fatal));
}

#[test]
fn check_fails_in_a_wrong_or_vanished_namespace_and_for_what_is_unfinished() {
    let Some(bed) = Bed::new("CHECK of the namespace") else { return };
    let (pod, other) = (bed.pod(), bed.pod());
    let mut record = bed.attach("c1", "net1", &pod, &bed.macvlan("10.1.2.0/24")).unwrap();
    assert!(only(&differences(&bed, "c1", &other), "another network namespace", true));
    record.phase = Phase::Removing;
    bed.on_host(|engine| engine.store.save(&record, false).unwrap());
    assert!(only(&differences(&bed, "c1", &pod), "unfinished", true));
    let path = pod.path();
    drop(pod);
    let found = bed.on_host(|engine| engine::check(&record, &path, engine).unwrap());
    assert!(only(&found, "does not exist", true), "{found:?}");
}

#[test]
fn a_released_reservation_is_a_difference() {
    let Some(bed) = Bed::new("CHECK of host-local") else { return };
    let pod = bed.pod();
    bed.attach("c1", "net1", &pod, &bed.macvlan("10.1.2.0/24")).unwrap();
    std::fs::remove_file(bed.dir.path().join("networks/net/10.1.2.2")).unwrap();
    assert!(only(&differences(&bed, "c1", &pod), "no address of network net is reserved", false));
}

#[test]
fn p22_p23_gc_undoes_all_but_valid_attachments_of_its_network() {
    let Some(bed) = Bed::new("GC") else { return };
    let pods = [bed.pod(), bed.pod(), bed.pod()];
    for (number, pod) in pods.iter().enumerate() {
        bed.attach(&format!("c{number}"), "net1", pod, &bed.macvlan("10.1.2.0/24")).unwrap();
    }
    // Killed in the middle.
    bed.on_host(|engine| {
        let mut record = engine.store.of_sandbox("c2").unwrap().remove(0);
        record.phase = Phase::Adding;
        engine.store.save(&record, false).unwrap();
    });
    let valid = [AttachmentId { container_id: "c0".into(), interface: "eth0".into() }];
    bed.on_host(|engine| {
        engine::collect("another", &[], engine).unwrap();
        assert_eq!(engine.store.all().unwrap().len(), 3);
        engine::collect("fairlead", &valid, engine).unwrap();
    });
    assert!(pods[0].link("net1").is_some());
    assert!(pods[1].link("net1").is_none() && pods[2].link("net1").is_none());
    assert_eq!(bed.reserved(), ["10.1.2.2"]);
}

#[test]
fn p21_p22_what_a_call_leaves_that_was_killed_before_it_had_a_record_goes_with_del_and_gc() {
    let Some(bed) = Bed::new("killed early") else { return };
    let (pod, config) = (bed.pod(), bed.macvlan("10.1.2.0/24"));
    let state = bed.dir.path().join("state");
    let left = || {
        let files = |name: &str| std::fs::read_dir(state.join(name)).unwrap().count();
        files("attachments") + files("devices") + files("sandboxes")
    };
    for verb in ["DEL", "GC"] {
        for folder in ["attachments", "devices", "sandboxes"] {
            std::fs::create_dir_all(state.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink("b 1 2 /nowhere", state.join("sandboxes/c1")).unwrap();
        std::os::unix::fs::symlink("c1 net1 macvlan", state.join("devices/0000:01:10.0")).unwrap();
        std::fs::write(state.join("attachments/.c1-net1@macvlan.tmp"), "{").unwrap();
        let mut config = config.clone();
        config["cniVersion"] = "1.1.0".into();
        config["cni.dev/valid-attachments"] = serde_json::json!([]);
        bed.call("macvlan", verb, &config, "c1", &pod.path()).unwrap();
        assert_eq!(left(), 0, "{verb}");
    }
}

#[test]
fn operators_see_attachments_and_dead_sandboxes_and_clean_up() {
    let Some(bed) = Bed::new("list, check, gc, reconcile") else { return };
    let (pod, dead) = (bed.pod(), bed.pod());
    for (container, pod) in [("alive", &pod), ("dead", &dead)] {
        bed.attach(container, "net1", pod, &bed.macvlan("10.1.2.0/24")).unwrap();
    }
    assert!(operate(&bed, "check").well);
    drop(dead);
    let listed = operate(&bed, "list").text;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("alive") && lines[2].contains("gone"), "{listed}");
    assert!(lines[1].contains("default/net") && lines[1].contains("macvlan"), "{listed}");
    let checked = operate(&bed, "check");
    assert!(!checked.well && checked.text.contains("LOST: pod default/dead"), "{}", checked.text);
    assert!(operate(&bed, "gc").well);
    assert_eq!(bed.reserved(), ["10.1.2.2"]);
    assert!(operate(&bed, "reconcile").well);
    std::fs::write(bed.dir.path().join("networks/net/10.1.2.77"), "stranger\r\neth0").unwrap();
    let left = operate(&bed, "reconcile");
    assert!(!left.well && left.text.contains("container stranger"), "{}", left.text);
    assert!(bed.reserved().contains(&"10.1.2.77".into()), "it is only said");
    let left: serde_json::Value = serde_json::from_str(&operate(&bed, "reconcile -o json").text).unwrap();
    assert!(left["ownedByNobody"][0].as_str().unwrap().contains("stranger"), "{left}");
}

#[test]
fn list_says_what_is_wrong_with_each_attachment() {
    let Some(bed) = Bed::new("what list says") else { return };
    let (pod, dead) = (bed.pod(), bed.pod());
    for (container, pod) in [("alive", &pod), ("dead", &dead), ("half", &pod), ("worked", &pod)] {
        let interface = if container == "alive" { "net1" } else { container };
        bed.attach(container, interface, pod, &bed.macvlan("10.1.2.0/24")).unwrap();
    }
    drop(dead);
    let _lock = bed.on_host(|engine| {
        for container in ["half", "worked"] {
            let mut record = engine.store.of_sandbox(container).unwrap().remove(0);
            record.phase = Phase::Adding;
            engine.store.save(&record, false).unwrap();
        }
        engine.lock_sandbox("worked", "ADD of somebody").unwrap()
    });
    std::fs::write(bed.dir.path().join("state/attachments/torn-net1.json"), "{").unwrap();
    let answer = operate(&bed, "list -o json");
    let found: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    let problem = |container: &str| {
        let rows = found["attachments"].as_array().unwrap();
        let row = rows.iter().find(|row| row["containerId"] == container).unwrap();
        assert_eq!(
            (row["pod"]["name"].as_str(), row["plugins"][0].as_str()),
            (Some(container), Some("macvlan"))
        );
        row["problems"][0].as_str().unwrap_or_default().to_owned()
    };
    assert!(!answer.well);
    assert_eq!(problem("alive"), "");
    assert!(problem("dead").contains("its sandbox is gone"));
    assert!(problem("half").contains("halfway (adding)"));
    assert_eq!(problem("worked"), "ADD of somebody is at work on it");
    assert!(found["unreadable"][0].as_str().unwrap().contains("torn-net1.json"), "{found}");
}
