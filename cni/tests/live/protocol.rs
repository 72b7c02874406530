//! The executable called as the protocol says, and otherwise: what it prints, and with which codes.

use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::built;

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A folder with the executable under a name, and what host-local there is to keep.
struct Alone {
    dir: tempfile::TempDir,
    name: &'static str,
}

impl Alone {
    fn new(name: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(built(), dir.path().join(name)).unwrap();
        Self { dir, name }
    }

    fn config(&self) -> Value {
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": self.name,
            "stateDir": self.dir.path(), "runDir": self.dir.path(), "primaryDir": self.dir.path(),
            "ipam": {"type": "host-local", "subnet": "10.1.2.0/24", "dataDir": self.dir.path().join("networks")},
        })
    }

    fn run(&self, environment: &[(&str, &str)], stdin: &str) -> Output {
        let mut child = Command::new(self.dir.path().join(self.name))
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have read enough.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// The error's document: one, alone on standard output, and an exit status of 1.
    fn error(&self, environment: &[(&str, &str)], stdin: &str) -> Value {
        let output = self.run(environment, stdin);
        assert_eq!((output.status.code(), output.status.signal()), (Some(1), None), "{environment:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(document["msg"].as_str().is_some_and(|text| !text.is_empty()), "{document}");
        assert!(document["cniVersion"].is_string(), "{document}");
        document
    }

    fn result(&self, environment: &[(&str, &str)], config: &Value) -> Value {
        let output = self.run(environment, &config.to_string());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

const ADD: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/nonexistent"),
    ("CNI_IFNAME", "net1"),
    ("CNI_PATH", "/nonexistent"),
];

fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    ADD.iter().filter(|(name, _)| !is_changed(name)).chain(changes).copied().collect()
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    ADD.into_iter().filter(|(variable, _)| *variable != name).collect()
}

#[test]
fn p1_version_is_answered_by_every_name_whatever_else_there_is() {
    for name in ["fairlead", "sriov", "macvlan", "host-local", "static"] {
        for stdin in ["", "{", r#"{"cniVersion":"9.0.0"}"#] {
            let output = Alone::new(name).run(&[("CNI_COMMAND", "VERSION")], stdin);
            assert!(output.status.success() && output.stderr.is_empty());
            let document: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(document, json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS}));
        }
    }
}

#[test]
fn without_a_verb_it_says_what_it_is_and_is_content() {
    let output = Alone::new("macvlan").run(&[], "");
    assert!(output.status.success() && output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("macvlan") && text.contains("0.1.0") && text.contains("1.1.0"), "{text}");
}

#[test]
fn p3_a_version_that_is_not_spoken_is_code_1_with_both_sides() {
    for name in ["fairlead", "macvlan", "host-local"] {
        let plugin = Alone::new(name);
        let mut config = plugin.config();
        config["cniVersion"] = json!("9.0.0");
        let error = plugin.error(&ADD, &config.to_string());
        assert_eq!(
            (error["code"].clone(), error["msg"].clone()),
            (json!(1), json!("incompatible CNI versions"))
        );
        let details = error["details"].as_str().unwrap();
        assert!(details.contains(r#"config is "9.0.0""#) && details.contains(r#""0.3.1""#), "{details}");
    }
}

#[test]
fn p4_every_missing_variable_is_named_under_code_4() {
    let plugin = Alone::new("macvlan");
    for (name, _) in &ADD[1..] {
        let error = plugin.error(&without(name), &plugin.config().to_string());
        assert_eq!(error["code"], 4);
        assert_eq!(error["msg"], format!("required env variables [{name}] missing"));
    }
    let error = plugin.error(&[("CNI_COMMAND", "CHECK")], "");
    let all = "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing";
    assert_eq!((error["code"].clone(), error["msg"].clone()), (json!(4), json!(all)));
    assert_eq!(plugin.error(&with(&[("CNI_COMMAND", "ATTACH")]), "")["code"], 4);
    for verb in ["GC", "STATUS"] {
        let error = plugin.error(&[("CNI_COMMAND", verb)], "");
        assert_eq!(error["msg"], "required env variables [CNI_PATH] missing", "{verb}");
    }
}

#[test]
fn p5_what_is_no_json_is_code_6_and_a_bad_name_code_7() {
    for name in ["fairlead", "macvlan", "host-local"] {
        let plugin = Alone::new(name);
        for (stdin, code) in [
            ("", 6),
            ("{", 6),
            ("[]", 6),
            (r#"{"type":"x","cniVersion":"1.0.0"}"#, 7),
            (r#"{"type":"x","name":"","cniVersion":"1.0.0"}"#, 7),
            (r#"{"type":"x","name":"a/b","cniVersion":"1.0.0"}"#, 7),
            (r#"{"type":"x","name":5,"cniVersion":"1.0.0"}"#, 7),
        ] {
            assert_eq!(plugin.error(&ADD, stdin)["code"], code, "{name}: {stdin}");
        }
    }
}

#[test]
fn p6_names_that_no_interface_or_container_can_have_are_code_4() {
    let plugin = Alone::new("macvlan");
    for (variable, value) in [
        ("CNI_IFNAME", "sixteen-bytes-xx"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_CONTAINERID", "../c"),
        ("CNI_CONTAINERID", "-c"),
    ] {
        let error = plugin.error(&with(&[(variable, value)]), &plugin.config().to_string());
        assert_eq!(error["code"], 4, "{variable}={value}");
    }
}

#[test]
fn p7_verbs_that_a_version_does_not_have_are_code_1() {
    for name in ["fairlead", "macvlan", "host-local", "static"] {
        let plugin = Alone::new(name);
        for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
            let mut config = plugin.config();
            config["cniVersion"] = json!(version);
            let error = plugin.error(&with(&[("CNI_COMMAND", verb)]), &config.to_string());
            assert_eq!((error["code"].clone(), error["cniVersion"].clone()), (json!(1), json!(version)));
        }
    }
}

#[test]
fn p13_the_own_namespace_is_code_8_and_nothing_is_done() {
    for name in ["macvlan", "host-local"] {
        let plugin = Alone::new(name);
        for verb in ["ADD", "DEL"] {
            let call = with(&[("CNI_COMMAND", verb), ("CNI_NETNS", "/proc/self/ns/net")]);
            assert_eq!(plugin.error(&call, &plugin.config().to_string())["code"], 8, "{name} {verb}");
        }
        assert!(
            !plugin.dir.path().join("networks").exists() && !plugin.dir.path().join("attachments").exists()
        );
    }
    let plugin = Alone::new("host-local");
    let call = with(&[("CNI_NETNS", "/proc/self/ns/net"), ("CNI_NETNS_OVERRIDE", "TRUE")]);
    plugin.result(&call, &plugin.config());
}

#[test]
fn p14_p15_arguments_in_any_order_and_unknown_ones_only_where_they_are_to_be_ignored() {
    let plugin = Alone::new("host-local");
    let error = plugin.error(&with(&[("CNI_ARGS", "K8S_POD_NAME=p")]), &plugin.config().to_string());
    assert_eq!(error["code"], 4);
    assert!(error["msg"].as_str().unwrap().contains("K8S_POD_NAME=p"), "{error}");
    let pairs = ["IgnoreUnknown=1", "IP=10.1.2.77", "K8S_POD_NAME=p", "K8S_POD_UID=a=b"];
    for turn in 0..pairs.len() {
        let mut pairs = pairs;
        pairs.rotate_left(turn);
        let (args, container) = (pairs.join(";"), format!("c{turn}"));
        let call = |verb| {
            [("CNI_COMMAND", verb), ("CNI_CONTAINERID", container.as_str()), ("CNI_ARGS", args.as_str())]
        };
        let result = plugin.result(&with(&call("ADD")), &plugin.config());
        assert_eq!(result["ips"][0]["address"], "10.1.2.77/24", "{args}");
        assert_eq!(plugin.result(&with(&call("DEL")), &plugin.config()), Value::Null);
    }
}

#[test]
fn p16_keys_of_capabilities_and_of_the_configuration_may_have_capitals() {
    let plugin = Alone::new("host-local");
    let config = json!({
        "CNIVersion": "1.0.0", "Name": "net", "TYPE": "host-local",
        "IPAM": {"Type": "host-local", "DataDir": plugin.dir.path().join("networks")},
        "RuntimeConfig": {"IPRanges": [[{"Subnet": "10.5.0.0/24", "RangeStart": "10.5.0.9", "Gateway": "10.5.0.3"}]]},
    });
    let result = plugin.result(&ADD, &config);
    assert_eq!(result["ips"], json!([{"address": "10.5.0.9/24", "gateway": "10.5.0.3"}]));
    assert_eq!(result["cniVersion"], "1.0.0");
}

#[test]
fn p2_p26_results_are_in_the_version_that_is_asked_for() {
    let plugin = Alone::new("static");
    for (version, number) in VERSIONS.into_iter().zip(0..) {
        let config = json!({
            "cniVersion": version, "name": "net", "type": "static",
            "ipam": {"type": "static", "addresses": [{"address": "10.7.0.5/24", "gateway": "10.7.0.1"}, {"address": "fd00::5/64"}],
                     "routes": [{"dst": "0.0.0.0/0", "priority": 7}]},
        });
        let result = plugin.result(&ADD, &config);
        assert_eq!(result["cniVersion"], version);
        if number < 2 {
            assert_eq!(result["ip4"]["ip"], "10.7.0.5/24");
            assert_eq!(result["ip4"]["routes"], json!([{"dst": "0.0.0.0/0"}]));
            assert_eq!((result["ip6"]["ip"].clone(), result.get("ips")), (json!("fd00::5/64"), None));
        } else {
            let versions = [&result["ips"][0]["version"], &result["ips"][1]["version"]];
            let wanted = if number < 5 { [json!("4"), json!("6")] } else { [Value::Null, Value::Null] };
            assert_eq!(versions.map(Value::clone), wanted, "{version}");
        }
        assert_eq!(result.get("dns"), (number < 5).then(|| json!({})).as_ref(), "{version}");
    }
}

#[test]
fn p9_p12_del_without_anything_before_it_is_well_and_prints_nothing() {
    for name in ["macvlan", "ipvlan", "vlan", "dummy", "host-local", "static"] {
        let plugin = Alone::new(name);
        for netns in ["", "/nonexistent"] {
            let call = with(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", netns)]);
            let output = plugin.run(&call, &plugin.config().to_string());
            assert!(output.status.success() && output.stdout.is_empty(), "{name}: {output:?}");
        }
        assert!(!Path::new(&plugin.dir.path().join("attachments")).exists());
    }
}
