//! Every single call by which an ADD changes anything fails once: it is as if the ADD had never been, or it succeeds all the same.

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};
use serde_json::Value;

use crate::{crash, tracer::Interference};

#[test]
fn p20_an_add_in_which_anything_fails_leaves_the_node_as_it_was() {
    let Some(runtime) = crash::runtime("failing ADD") else { return };
    let (mut failed, mut wrong) = (0, Vec::new());
    for number in 1.. {
        let pod = runtime.bed.pod();
        let before = runtime.snapshot(Some(&pod));
        let outcome = runtime.trace("ADD", "c1", &pod.path(), Interference::Fail(number, Errno::EIO));
        let Some(call) = outcome.calls.get(number - 1) else { break };
        if outcome.success {
            runtime.call("DEL", "c1", &pod.path()).unwrap();
        } else {
            failed += 1;
            let document: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
            let is_told = document["msg"].as_str().is_some_and(|text| !text.is_empty());
            if !is_told && !outcome.stderr.contains("standard output") {
                wrong.push(format!("call {number}, {call}: no document, but {}", outcome.stdout));
            }
        }
        if *call == "flock" {
            // A file that cannot be locked may be another call's: it stays until it can be.
            runtime.operate(&["gc"]);
        }
        let differences = runtime.differences(&before, Some(&pod));
        if !differences.is_empty() {
            wrong.push(format!("call {number}, {call}, {}:\n{differences}", outcome.stdout));
            runtime.call("DEL", "c1", &pod.path()).unwrap();
        }
    }
    assert!(failed > 30, "only {failed} calls mattered");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn p20_a_full_or_read_only_disk_for_records_leaves_the_node_as_it_was() {
    let Some(runtime) = crash::runtime("no room for records") else { return };
    let (pod, state) = (runtime.bed.pod(), runtime.folder("state"));
    for (flags, options) in [(MsFlags::empty(), "size=4k,nr_inodes=5"), (MsFlags::MS_RDONLY, "size=1m")] {
        mount(Some("tmpfs"), &state, Some("tmpfs"), flags, Some(options)).unwrap();
        let before = runtime.snapshot(Some(&pod));
        let error = runtime.call("ADD", "c1", &pod.path()).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains("state/"), "{error}");
        let left = runtime.differences(&before, Some(&pod));
        runtime.call("DEL", "c1", &pod.path()).unwrap();
        umount2(&state, MntFlags::MNT_DETACH).unwrap();
        assert_eq!(left, "", "{options}");
    }
    runtime.call("ADD", "c1", &pod.path()).unwrap();
    runtime.call("DEL", "c1", &pod.path()).unwrap();
}
