//! What the log of the node tells of calls.

use std::fs;

use serde_json::{Value, json};

use crate::crash;

#[test]
fn who_held_an_address_and_how_calls_ended_is_in_the_log_and_no_call_needs_it() {
    let Some(runtime) = crash::runtime("history") else { return };
    let (pod, log) = (runtime.bed.pod(), runtime.folder("state/history/log"));
    fs::remove_file(&log).unwrap();
    runtime.call("ADD", "c1", &pod.path()).unwrap();
    runtime.call("ADD", "c1", &pod.path()).unwrap_err();
    runtime.call("DEL", "c1", &pod.path()).unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<[&Value; 3]> =
        lines.iter().map(|line| [&line["what"], &line["interface"], &line["addresses"]]).collect();
    let (add, del) = (json!("ADD"), json!("DEL"));
    let held = |interface: &str| {
        let line = lines.iter().find(|line| line["what"] == add && line["interface"] == interface).unwrap();
        assert_eq!(line["addresses"].as_array().unwrap().len(), 1, "{line}");
        [json!(interface), line["addresses"].clone()]
    };
    let [eth0, net1, net2] = ["eth0", "net1", "net2"].map(held);
    let null = Value::Null;
    assert_eq!(
        told,
        [
            [&add, &eth0[0], &eth0[1]],
            [&add, &net1[0], &net1[1]],
            [&add, &net2[0], &net2[1]],
            [&add, &null, &null],
            [&del, &net2[0], &net2[1]],
            [&del, &net1[0], &net1[1]],
            [&del, &eth0[0], &eth0[1]],
        ]
    );
    assert!(lines[3]["error"].as_str().unwrap().contains("already"), "{}", lines[3]);
    assert!(lines.iter().all(|line| line["container"] == "c1" && line["ms"].is_u64()));

    fs::remove_dir_all(log.parent().unwrap()).unwrap();
    fs::write(log.parent().unwrap(), "in the way").unwrap();
    runtime.call("ADD", "c1", &pod.path()).unwrap();
    runtime.call("DEL", "c1", &pod.path()).unwrap();
}
