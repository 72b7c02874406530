use std::path::Path;

use clap::Parser;
use fairlead_cni::{
    agent_protocol::{Answer, Call as Protocol, Failure},
    networks::nad::NetworkAttachmentDefinition,
};
use serde_json::json;

use super::*;
use crate::doctor::testing;

#[derive(Parser)]
struct Call {
    #[command(flatten)]
    options: Options,
}

const NETWORK: &str = "\
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: lan
  annotations: {k8s.v1.cni.cncf.io/resourceName: intel.com/vfs}
spec:
  config: '{\"cniVersion\":\"1.0.0\",\"type\":\"sriov\"}'
";

fn pod(networks: &str, count: u64) -> Value {
    json!({"kind": "Pod", "metadata": {"name": "p", "annotations": {"k8s.v1.cni.cncf.io/networks": networks}},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"intel.com/vfs": count}}}]}})
}

/// Devices a (NUMA 0), b (NUMA 1), and c that a pod has.
fn vfs() -> Offers {
    let device = |id: &str, node, holder: Option<&str>| Device {
        id: id.into(),
        numa_node: Some(node),
        problem: None,
        holder: holder.map(str::to_owned),
    };
    let devices = vec![device("a", 0, None), device("b", 1, None), device("c", 0, Some("pod x/y"))];
    Some(BTreeMap::from([("intel.com/vfs".to_owned(), devices)]))
}

/// What is said of a manifest's only pod, on a node of which only files are known.
fn explained(manifest: &str, offers: &Offers) -> Explained {
    explained_by(manifest, offers, None)
}

/// As [`explained`], with an agent that answers so.
fn explained_by(manifest: &str, offers: &Offers, answer: Option<Answer>) -> Explained {
    let dir = tempfile::tempdir().unwrap();
    let agent = answer.map(|answer| testing::agent(dir.path(), answer));
    let file = dir.path().join("pod.yaml");
    std::fs::write(&file, manifest).unwrap();
    let conf = dir.path().join("etc/cni/net.d");
    std::fs::create_dir_all(&conf).unwrap();
    let primary = r#"{"cniVersion":"1.0.0","name":"cluster","plugins":[{"type":"bridge"}]}"#;
    std::fs::write(conf.join("10-a.conflist"), primary).unwrap();
    let bin = dir.path().join("opt/cni/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::copy("/bin/true", bin.join("bridge")).unwrap();
    let root = dir.path().display().to_string();
    let options = Call::parse_from(["explain-pod", &file.display().to_string(), "--root", &root]).options;
    let mut documents = Documents::default();
    documents.read(&options.file).unwrap();
    let mut node = Node::new(&options.node);
    node.section.primary_dir = "/etc/cni/net.d".into();
    let explained = explain(&documents.pods[0], &documents, &node, offers);
    if let Some(agent) = agent {
        let Protocol::Definitions { networks, .. } = agent.join().unwrap() else {
            panic!("another question")
        };
        assert_eq!(networks, ["default/lan"]);
    }
    explained
}

#[track_caller]
fn has(explained: &Explained, id: &str, severity: Severity, word: &str) {
    let is =
        |finding: &Finding| finding.id == id && finding.severity == severity && finding.seen.contains(word);
    assert!(explained.report.findings.iter().any(is), "no {severity:?} {id} with {word:?}: {explained:#?}");
}

fn with_network(pod: &Value) -> String {
    format!("{NETWORK}---\n{pod}\n")
}

#[test]
fn a_pod_that_fits_has_nothing_against_it() {
    let good = explained(&with_network(&pod("lan", 1)), &vfs());
    has(&good, "pod.resources", Severity::Ok, "1 asked for, 2 of 3 free");
    has(&good, "pod.primary", Severity::Ok, "cluster");
    has(&good, "pod.network", Severity::Unknown, "not to be seen from here");
    assert!(good.verdict.contains("nothing speaks against it"));
    let plain = explained("{kind: Pod, metadata: {name: p}, spec: {containers: [{name: c}]}}", &vfs());
    assert_eq!(plain.verdict, "it would be admitted and attached", "{plain:#?}");
}

#[test]
fn a_shortage_of_devices_says_who_has_them() {
    let many = explained(&with_network(&pod("lan,lan,lan", 3)), &vfs());
    has(&many, "pod.resources", Severity::Error, "3 asked for, 2 of 3 free (c: pod x/y has it)");
    let few = explained(&with_network(&pod("lan,lan", 1)), &vfs());
    has(&few, "pod.networks", Severity::Error, "intel.com/vfs");
    let two = explained(&with_network(&pod("lan,lan", 2)), &vfs());
    has(&two, "pod.numa", Severity::Warning, "no NUMA node");
    let elsewhere = explained(&with_network(&pod("lan", 1)), &Some(BTreeMap::new()));
    has(&elsewhere, "pod.resources", Severity::Error, "no pool of that name");
    has(&explained(&with_network(&pod("lan", 1)), &None), "pod.resources", Severity::Unknown, "not known");
}

#[test]
fn what_is_wrong_with_annotations_is_said_in_the_executables_words() {
    for (networks, word) in [
        ("lan@eth0", "eth0"),
        ("lan@a,lan@a", "two interfaces a"),
        ("[{\"name\":", "annotation k8s.v1.cni.cncf.io/networks of pod default/p"),
        ("lan,other/gone", "other/gone"),
    ] {
        has(&explained(&with_network(&pod(networks, 2)), &vfs()), "pod.networks", Severity::Error, word);
    }
    let alone = explained(&pod("lan", 1).to_string(), &vfs());
    has(&alone, "pod.networks", Severity::Unknown, "default/lan were not given");
    let mut host = pod("lan", 1);
    host["spec"]["hostNetwork"] = true.into();
    has(&explained(&with_network(&host), &vfs()), "pod.networks", Severity::Warning, "host's network");
}

#[test]
fn the_agent_is_asked_for_what_was_not_given() {
    let known = NetworkAttachmentDefinition {
        namespace: "default".into(),
        name: "lan".into(),
        config: r#"{"cniVersion":"1.0.0","type":"sriov"}"#.into(),
        resource_name: Some("intel.com/vfs".into()),
    };
    let by = |answer| explained_by(&pod("lan", 1).to_string(), &vfs(), Some(answer));
    let good = by(Answer::Definitions { found: vec![known] });
    has(&good, "pod.network", Severity::Unknown, "not to be seen from here");
    let none = by(Answer::Definitions { found: vec![] });
    has(&none, "pod.networks", Severity::Error, "there is no definition of default/lan");
    let old = by(Answer::Failed(Failure { retry: false, message: "unknown variant".into() }));
    has(&old, "pod.networks", Severity::Unknown, "unknown variant");
}

#[test]
fn what_makes_pods_and_init_containers_count() {
    let container = |name: &str, count: u64| json!({"name": name, "resources": {"limits": {"intel.com/vfs": count.to_string()}}});
    let spec =
        json!({"initContainers": [container("i", 2)], "containers": [container("a", 1), container("b", 0)]});
    let deployment = json!({"kind": "Deployment", "metadata": {"name": "d", "namespace": "n"},
        "spec": {"template": {"spec": spec}}});
    let all = explained(&deployment.to_string(), &vfs());
    assert_eq!(all.pod, "Deployment n/d");
    has(&all, "pod.resources", Severity::Ok, "2 asked for");
    for (resources, word) in [
        (json!({"limits": {"intel.com/vfs": "x"}}), "a whole number"),
        (json!({"requests": {"intel.com/vfs": 1}}), "no limit"),
        (json!({"requests": {"intel.com/vfs": 1}, "limits": {"intel.com/vfs": 2}}), "differ"),
    ] {
        let mut wrong = pod("", 1);
        wrong["spec"]["containers"][0]["resources"] = resources;
        has(&explained(&wrong.to_string(), &vfs()), "pod.resources", Severity::Error, word);
    }
}

#[test]
fn files_that_are_no_manifests_are_refused() {
    for (text, word) in [
        ("{", "pod.yaml"),
        ("a: b", "without `kind`"),
        ("{kind: Job}", "no template"),
        ("{kind: Pod, metadata: {annotations: {a: 1}}}", "quotes"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pod.yaml");
        std::fs::write(&file, text).unwrap();
        let error = Documents::default().read(&file).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
    assert!(Documents::default().read(Path::new("/no/such")).unwrap_err().contains("/no/such"));
}

#[test]
fn devices_that_pods_have_are_known_by_either_form_of_the_checkpoint() {
    let checkpoint = json!({"Data": {"PodDeviceEntries": [
        {"PodUID": "u", "DeviceIDs": {"0": ["a"], "-1": ["b"]}}, {"PodUID": "v", "DeviceIDs": ["c"]}]}});
    let holders = holders(&checkpoint);
    assert_eq!(holders.len(), 3);
    assert_eq!(holders["c"], "the pod with UID v");
    assert!(super::holders(&Value::Null).is_empty());
}
