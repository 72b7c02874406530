//! SIGKILL before every single call by which an ADD or a DEL changes anything: afterwards DEL alone, GC alone, `reconcile` after
//! the sandbox is gone, and either after a boot each leave the node as it was.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    runtime::Runtime,
    sriov::node::Node,
    support::{Bed, Namespace},
    tracer::Interference,
};

/// One network all of whose parts are in process, one whose addresses a plugin on disk keeps.
fn networks(bed: &Bed) -> Vec<Value> {
    let mut kept = bed.macvlan("10.1.3.0/24");
    kept["name"] = json!("kept");
    kept["cniVersion"] = json!("1.1.0");
    kept["ipam"] = json!({"type": "keeper"});
    vec![bed.macvlan("10.1.2.0/24"), kept]
}

/// A node where everything was made and removed once, so that every folder is there.
pub(crate) fn runtime(test: &str) -> Option<Runtime> {
    Runtime::new(test, networks).map(used)
}

fn used(runtime: Runtime) -> Runtime {
    let pod = runtime.bed.pod();
    let result = runtime.call("ADD", "first", &pod.path()).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.9.0.5/24");
    assert!(pod.link("eth0").is_some() && pod.link("net1").is_some());
    assert_eq!(pod.addresses("net2"), ["10.9.0.5/24"]);
    runtime.call("DEL", "first", &pod.path()).unwrap();
    runtime
}

/// Kills an ADD before its first call, its second one, and so on until one comes to its end. `clean` gets the pod, and gives
/// it back if it is to be as it was.
fn kill_each_add(runtime: &Runtime, clean: impl Fn(Namespace) -> Option<Namespace>) {
    kill_adds(runtime, |_| true, clean);
}

/// As [`kill_each_add`], before those calls only that `steps` is true for.
fn kill_adds(runtime: &Runtime, steps: fn(&str) -> bool, clean: impl Fn(Namespace) -> Option<Namespace>) {
    let pod = runtime.bed.pod();
    let whole = runtime.trace("ADD", "c1", &pod.path(), Interference::Kill(usize::MAX));
    assert!(whole.success, "{whole:?}");
    clean(pod);
    for number in 1.. {
        if whole.calls.get(number - 1).is_some_and(|call| !steps(call)) {
            continue;
        }
        let pod = runtime.bed.pod();
        let (host, both) = (runtime.snapshot(None), runtime.snapshot(Some(&pod)));
        let outcome = runtime.trace("ADD", "c1", &pod.path(), Interference::Kill(number));
        let left = clean(pod);
        let before = if left.is_some() { &both } else { &host };
        let differences = runtime.differences(before, left.as_ref());
        assert!(differences.is_empty(), "{}:\n{differences}", killed(number, outcome.last_call()));
        if outcome.calls.len() < number {
            assert!(number > 50, "an ADD of so few calls was not traced whole: {:?}", outcome.calls);
            return;
        }
    }
}

fn killed(number: usize, call: &str) -> String {
    format!("killed before call {number}, {call}")
}

#[test]
fn p21_an_add_that_is_killed_anywhere_is_undone_by_del() {
    let Some(runtime) = runtime("killed ADD, DEL") else { return };
    kill_each_add(&runtime, by_del(&runtime));
}

fn by_del(runtime: &Runtime) -> impl Fn(Namespace) -> Option<Namespace> {
    |pod| {
        runtime.call("DEL", "c1", &pod.path()).unwrap();
        Some(pod)
    }
}

/// The bridge itself stays when the attachment was complete, as after any DEL.
#[test]
fn p21_an_add_of_bridge_and_ptp_that_is_killed_anywhere_is_undone_by_del() {
    let networks = |bed: &Bed| {
        let network = |kind: &str, subnet: &str| {
            let mut config = bed.macvlan(subnet);
            (config["name"], config["type"]) = (json!(kind), json!(kind));
            (config["bridge"], config["isGateway"]) = (json!("br0"), json!(true));
            config
        };
        vec![network("bridge", "10.1.2.0/24"), network("ptp", "10.1.3.0/24")]
    };
    let Some(runtime) = Runtime::new("killed ADD of bridge and ptp", networks) else { return };
    let pod = runtime.bed.pod();
    runtime.call("ADD", "first", &pod.path()).unwrap();
    runtime.call("DEL", "first", &pod.path()).unwrap();
    let remove = || {
        if let Some(bridge) = runtime.bed.host.link("br0") {
            runtime.bed.host.route().delete_link(&bridge).unwrap();
        }
    };
    remove();
    let undo = by_del(&runtime);
    kill_adds(
        &runtime,
        |call| call.starts_with("send"),
        |pod| {
            let pod = undo(pod);
            remove();
            pod
        },
    );
}

#[test]
fn p22_an_add_that_is_killed_anywhere_is_undone_by_gc() {
    let Some(runtime) = runtime("killed ADD, GC") else { return };
    kill_each_add(&runtime, by_gc(&runtime));
}

fn by_gc(runtime: &Runtime) -> impl Fn(Namespace) -> Option<Namespace> {
    |pod| {
        runtime.wait_for_executed("c1");
        runtime.call("GC", "", Path::new("")).unwrap();
        Some(pod)
    }
}

#[test]
fn p22_an_add_that_is_killed_anywhere_is_undone_by_reconcile_when_its_sandbox_is_gone() {
    let Some(runtime) = runtime("killed ADD, reconcile") else { return };
    kill_each_add(&runtime, by_reconcile(&runtime));
}

/// The kernel gives devices back to the host when it takes the namespace down, under whatever names and with the pod's settings.
fn by_reconcile(runtime: &Runtime) -> impl Fn(Namespace) -> Option<Namespace> {
    |pod| {
        runtime.wait_for_executed("c1");
        drop(pod);
        let (text, well) = runtime.operate(&["reconcile"]);
        assert!(well, "{text}");
        None
    }
}

#[test]
fn p21_p22_after_a_boot_executed_plugins_and_stores_are_still_told() {
    let Some(runtime) = runtime("killed ADD, boot") else { return };
    let after_boot = |verb: &'static str| {
        let runtime = &runtime;
        move |pod| {
            // After a boot nothing runs any more that was executed before it.
            runtime.wait_for_executed("c1");
            drop(pod);
            runtime.call_after_boot(verb, "c1").unwrap();
            None
        }
    };
    kill_each_add(&runtime, after_boot("DEL"));
    kill_adds(&runtime, is_step, after_boot("GC"));
}

/// What was not synced to disk may be missing or torn after a loss of power: here the record of the attachment whose addresses are
/// kept in process, and the note of the sandbox.
#[test]
fn p21_p22_addresses_are_given_back_when_a_crash_of_the_node_took_records() {
    let Some(runtime) = runtime("lost records") else { return };
    let state = runtime.folder("state");
    for torn in [false, true] {
        for verb in ["DEL", "GC"] {
            let before = runtime.snapshot(None);
            let pod = runtime.bed.pod();
            runtime.call("ADD", "c1", &pod.path()).unwrap();
            drop(pod);
            let record = state.join("attachments/c1-net1.json");
            assert!(record.exists() && !runtime.bed.reserved().is_empty());
            match torn {
                true => fs::write(&record, "").unwrap(),
                false => fs::remove_file(&record).unwrap(),
            }
            fs::remove_dir_all(state.join("sandboxes")).unwrap();
            runtime.call_after_boot(verb, "c1").unwrap();
            assert_eq!(runtime.bed.reserved(), Vec::<String>::new(), "{verb}, torn {torn}");
            let _ = fs::remove_file(state.join("attachments/c1-net1.json.broken"));
            let differences = runtime.differences(&before, None);
            assert!(differences.is_empty(), "{verb}, torn {torn}:\n{differences}");
        }
    }
}

#[test]
fn p21_a_del_that_is_killed_anywhere_is_ended_by_another_one() {
    let Some(runtime) = runtime("killed DEL") else { return };
    kill_dels(&runtime, |_| true, || ());
}

fn kill_dels(runtime: &Runtime, steps: fn(&str) -> bool, check: impl Fn()) {
    let pod = runtime.bed.pod();
    runtime.call("ADD", "c1", &pod.path()).unwrap();
    let whole = runtime.trace("DEL", "c1", &pod.path(), Interference::Kill(usize::MAX));
    assert!(whole.success, "{whole:?}");
    for number in 1.. {
        if whole.calls.get(number - 1).is_some_and(|call| !steps(call)) {
            continue;
        }
        let pod = runtime.bed.pod();
        let before = runtime.snapshot(Some(&pod));
        runtime.call("ADD", "c1", &pod.path()).unwrap();
        let log = runtime.folder("state/history/log");
        let (added, start) = (interfaces_told(&log, 0, "ADD"), fs::metadata(&log).unwrap().len());
        let outcome = runtime.trace("DEL", "c1", &pod.path(), Interference::Kill(number));
        runtime.call("DEL", "c1", &pod.path()).unwrap();
        assert_eq!(interfaces_told(&log, start, "DEL"), added, "{}", killed(number, outcome.last_call()));
        check();
        let differences = runtime.differences(&before, Some(&pod));
        assert!(differences.is_empty(), "{}:\n{differences}", killed(number, outcome.last_call()));
        if outcome.calls.len() < number {
            return;
        }
    }
}

/// Which interfaces the node's log tells of, from a place in it on.
fn interfaces_told(log: &Path, from: u64, what: &str) -> BTreeSet<String> {
    let text = fs::read(log).unwrap();
    let text = String::from_utf8(text[usize::try_from(from).unwrap()..].to_vec()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["what"] == what)
        .map(|line| line["interface"].as_str().unwrap().to_owned())
        .collect()
}

/// A VF with settings of all kinds, whose addresses a plugin on disk keeps.
#[test]
fn p21_p22_a_vf_is_as_before_wherever_an_add_or_a_del_was_killed() {
    let Some(node) = Node::new("killed ADD and DEL of a VF", 1) else { return };
    let network = json!({
        "cniVersion": "1.1.0", "name": "vf", "type": "sriov", "deviceID": node.vfs[0], "vlan": 5, "vlanQoS": 2, "mtu": 1400,
        "mac": "02:aa:bb:cc:dd:01", "spoofchk": "off", "trust": "on", "ipam": {"type": "keeper"},
    });
    let runtime = Runtime::on(Bed::of_node(), &[network]);
    let pod = runtime.bed.pod();
    runtime.call("ADD", "first", &pod.path()).unwrap();
    assert_eq!(pod.link("net1").unwrap().mac.unwrap().to_string(), "02:aa:bb:cc:dd:01");
    runtime.call("DEL", "first", &pod.path()).unwrap();
    // The emulated node is slow.
    kill_adds(&runtime, is_step, then_home(&node, by_del(&runtime)));
    kill_adds(&runtime, is_step, then_home(&node, by_gc(&runtime)));
    kill_adds(&runtime, is_step, then_home(&node, by_reconcile(&runtime)));
    kill_dels(&runtime, is_step, || node.assert_clean());
}

/// Other tests work with other devices of the host, so this one is looked at by itself.
fn then_home(
    node: &Node,
    clean: impl Fn(Namespace) -> Option<Namespace>,
) -> impl Fn(Namespace) -> Option<Namespace> {
    move |pod| {
        let left = clean(pod);
        node.assert_clean();
        left
    }
}

/// Whether what a call does outlives the process: what is between two such calls leaves the same behind.
fn is_step(call: &str) -> bool {
    matches!(call, "rename" | "sendto" | "sendmsg" | "symlink" | "unlink" | "wait" | "exit")
}
