//! The program's exit codes and outputs where no device is needed.
#![allow(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use std::process::{Command, Output};

fn check(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fairlead-dpdk-check"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_says_what_the_container_needs() {
    let output = check(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    for word in ["IPC_LOCK", "hugepages", "Exit codes", "--min-pps"] {
        assert!(text(&output.stdout).contains(word), "{word}");
    }
}

#[test]
fn wrong_options_have_their_own_code() {
    for arguments in [
        &["--nonsense"][..],
        &["--device", "eth0"],
        &["--device", "0000:01:10.0", "--device", "0000:01:10.0"],
        &["--window", "0"],
        &["--warm-up", "-1"],
        &["--window", "NaN"],
        &["--frame-size", "63"],
        &["--device", "0000:01:10.0", "--resource", "a/b"],
        &["--mode", "sideways"],
        &["--sizes", "64,1519"],
        &["--max-loss", "101"],
        &["--min-pps", "1", "--min-mpps", "1"],
        &["--device", "0000:01:10.0", "--device", "0000:01:10.2", "--cores", "2"],
        &["--interface", "lo"],
        &["--network-status", "/nowhere/annotations"],
        &["--device", "0000:01:10.0", "--json", "/nowhere/report.json"],
        &["--device", "0000:01:10.0", "--interface", "lo", "--peer", "127.0.0.1:1"],
        &["peer", "--device", "0000:01:10.0", "--interface", "lo"],
        &["compare"],
    ] {
        assert_eq!(check(arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
    let several = [("PCIDEVICE_A_X", "0000:01:10.0"), ("PCIDEVICE_A_Y", "0000:01:10.2")];
    let output = check(&[], &several);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("--resource"), "{}", text(&output.stdout));
}

#[test]
fn a_pod_without_its_devices_fails_the_preflight() {
    let output = check(&[], &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("PCIDEVICE_"));
    let output = check(&[], &[("PCIDEVICE_A_X", "0000:01:10.0")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("needs 2"));
}

#[test]
fn a_failed_preflight_is_reported_as_json_too() {
    let devices = ("PCIDEVICE_A_X", "fffe:01:10.0,fffe:01:10.2");
    let output = check(&["--json", "-"], &[devices]);
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "preflight-failed");
    assert_eq!(report["preflight"][0]["verdict"], "fail");
    assert!(report["results"].as_array().unwrap().is_empty());
    assert!(text(&output.stderr).contains("no such PCI device"), "{}", text(&output.stderr));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = check(&["--json", file.to_str().unwrap()], &[devices]);
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(report["reason"].as_str().unwrap().contains("checks failed"));
    assert!(text(&output.stdout).contains("FAIL"));
}

#[test]
fn a_report_is_rendered_from_a_log_in_every_form() {
    let devices = ("PCIDEVICE_A_X", "fffe:01:10.0,fffe:01:10.2");
    let output = check(&["--log-report"], &[devices]);
    assert_eq!(output.status.code(), Some(3));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("log"), &output.stdout).unwrap();
    let (log, html, junit, json) = (path("log"), path("r.html"), path("r.xml"), path("r.json"));
    let rendered = check(&["render", &log, "--html", &html, "--junit", &junit, "--json", &json], &[]);
    assert_eq!(rendered.status.code(), Some(0), "{}", text(&rendered.stderr));
    assert!(std::fs::read_to_string(html).unwrap().contains("no such PCI device"));
    assert!(std::fs::read_to_string(junit).unwrap().contains("<failure"));
    assert!(std::fs::read_to_string(json).unwrap().contains("preflight-failed"));
    std::fs::write(path("other"), "nothing\n").unwrap();
    assert_eq!(check(&["render", &path("other")], &[]).status.code(), Some(1));
}

#[test]
fn the_pods_attachments_name_devices_where_no_variable_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("annotations");
    let device = |address: &str| serde_json::json!({"name": "default/n", "device-info": {"type": "pci", "pci": {"pci-address": address}}});
    let value = serde_json::json!([device("fffe:01:10.0"), device("fffe:01:10.2")]).to_string();
    let quoted = serde_json::to_string(&value).unwrap();
    std::fs::write(&file, format!("k8s.v1.cni.cncf.io/network-status={quoted}\n")).unwrap();
    let output = check(&["--network-status", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stdout).contains("fffe:01:10.2: there is no such PCI device"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn a_comparison_tells_what_the_inside_said() {
    let output = check(&["compare", "--inside", "/bin/false", "--runs", "1", "--", "--sizes", "64"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("inside: there is no report"), "{}", text(&output.stdout));
}
