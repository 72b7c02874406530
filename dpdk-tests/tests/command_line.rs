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
    assert!(text(&output.stdout).contains("needs two"));
}

#[test]
fn a_failed_preflight_is_reported_as_json_too() {
    let devices = ("PCIDEVICE_A_X", "fffe:01:10.0,fffe:01:10.2");
    let output = check(&["--json", "-"], &[devices]);
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "preflight-failed");
    assert_eq!(report["preflight"][0]["verdict"], "fail");
    assert!(report["directions"].as_array().unwrap().is_empty());
    assert!(text(&output.stderr).contains("no such PCI device"), "{}", text(&output.stderr));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = check(&["--json", file.to_str().unwrap()], &[devices]);
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(report["reason"].as_str().unwrap().contains("checks failed"));
    assert!(text(&output.stdout).contains("FAIL"));
}
