use std::path::Path;

use super::*;
use crate::{config, error_text, provision::policy};

fn run(text: &str, wanted: Wanted, node: Option<NodeIdentity>) -> Result<Imported, ImportError> {
    let sources = [Source { path: PathBuf::from("operator.yaml"), text: text.to_owned() }];
    import(&sources, wanted, &Options { node, resource_prefix: DEFAULT_PREFIX.to_owned() })
}

fn imported(text: &str, wanted: Wanted) -> Imported {
    run(text, wanted, None).unwrap_or_else(|error| panic!("{}", error_text(&error)))
}

fn error(text: &str, wanted: Wanted) -> String {
    error_text(&run(text, wanted, None).unwrap_err())
}

/// A policy's text, with these lines in its spec; what comes out is read by our own parser.
fn node_policy(name: &str, spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {}\n", line.trim_start_matches('|'))).collect();
    format!(
        "---\napiVersion: sriovnetwork.openshift.io/v1\nkind: SriovNetworkNodePolicy\nmetadata: {{name: {name}}}\nspec:\n{lines}"
    )
}

fn policy_of(text: &str) -> (String, policy::Policy, Vec<String>) {
    let Imported { text, notes } = imported(text, Wanted::Policy);
    let loaded =
        policy::parse(&text, Path::new("policy.yaml")).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    (text, loaded.policy, notes)
}

fn pools_of(text: &str) -> (String, config::Config) {
    let Imported { text, .. } = imported(text, Wanted::Pools);
    let loaded = config::parse(&text, Path::new("config.json"), "intel.com")
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    (text, loaded.config)
}

const WHOLE: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: sriovnetwork.openshift.io/v1
  kind: SriovNetworkNodePolicy
  metadata:
    annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}"}
    creationTimestamp: "2026-01-01T00:00:00Z"
    generation: 1
    name: dpdk
    namespace: sriov-network-operator
  spec:
    bridge: {}
    deviceType: vfio-pci
    isRdma: false
    mtu: 9000
    needVhostNet: true
    nicSelector:
      deviceID: 158b
      pfNames: [ens1f0#0-3, ens1f1#0-3]
      vendor: "8086"
    nodeSelector: {kubernetes.io/hostname: worker-1}
    numVfs: 8
    priority: 10
    resourceName: dpdk
  status: {}
- apiVersion: sriovnetwork.openshift.io/v1
  kind: SriovNetworkNodePolicy
  metadata: {name: kernel}
  spec:
    deviceType: netdevice
    excludeTopology: true
    linkType: eth
    eSwitchMode: legacy
    mtu: 1500
    nicSelector: {vendor: "8086", deviceID: "158b", pfNames: [ens1f0#4-7, ens1f1#4-7]}
    nodeSelector: {kubernetes.io/hostname: worker-1}
    numVfs: 8
    priority: 99
    resourceName: kernel
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: supported-nic-ids}
  data: {Intel_i40e_25G_SFP28: 8086 158b 154c}
"#;

#[test]
fn two_policies_that_share_ports_become_one_section() {
    let (text, policy, notes) = policy_of(WHOLE);
    let expected = r#"# From the SR-IOV operator's SriovNetworkNodePolicies, those with precedence first.
sections:
- name: "dpdk and kernel"
  nodes: ["worker-1"]
  pfNames: ["ens1f0", "ens1f1"]
  vendors: ["8086"]
  devices: ["158b"]
  numVfs: 8
  mtu: 9000
  vfs:
  - {range: 0-3, driver: vfio-pci}
  - {range: 4-7, driver: default, mtu: 1500}
"#;
    assert_eq!(text, expected);
    assert_eq!(policy.sections.len(), 1);
    assert!(notes.iter().any(|note| note.contains("kernel: spec.eSwitchMode: ")), "{notes:?}");
}

#[test]
fn their_pools_have_the_vfs_that_each_asked_for() {
    let (text, config) = pools_of(WHOLE);
    let expected = serde_json::json!({"resourceList": [
        {"resourceName": "dpdk", "resourcePrefix": "openshift.io", "selectors": [{
            "vendors": ["8086"], "devices": ["154c"], "pfNames": ["ens1f0#0-3", "ens1f1#0-3"],
            "drivers": ["vfio-pci"], "needVhostNet": true,
        }]},
        {"resourceName": "kernel", "resourcePrefix": "openshift.io", "excludeTopology": true, "selectors": [{
            "vendors": ["8086"], "devices": ["154c"], "pfNames": ["ens1f0#4-7", "ens1f1#4-7"], "linkTypes": ["ether"],
        }]},
    ]});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    assert_eq!(config.resources[1].name.to_string(), "openshift.io/kernel");
}

#[test]
fn of_policies_for_one_port_the_one_applied_last_has_it() {
    // 99 is the lowest precedence; of one priority the name decides.
    let low = node_policy(
        "low",
        "resourceName: low\nnumVfs: 6\npriority: 99\nmtu: 9000\nnicSelector: {pfNames: [p0]}",
    );
    let high =
        node_policy("high", "resourceName: high\nnumVfs: 4\npriority: 1\nnicSelector: {pfNames: [p0]}");
    let (_, policy, notes) = policy_of(&(low.clone() + &high));
    let section = &policy.sections[0];
    assert_eq!(
        (policy.sections.len(), section.name.as_str(), section.num_vfs, section.mtu),
        (1, "high", Some(4), None)
    );
    let passed_over = "operator.yaml: SriovNetworkNodePolicy low: its VFs 0-5 of PF p0 are passed over for policy high, as by the operator";
    assert!(notes.iter().any(|note| note == passed_over), "{notes:?}");
    let names: Vec<String> = pools_of(&(low.clone() + &high))
        .1
        .resources
        .iter()
        .map(|resource| resource.name.to_string())
        .collect();
    assert_eq!(names, ["openshift.io/high"]);
    // Of one priority, number of VFs and MTU are the highest of both.
    let equal = high.replace("priority: 1", "priority: 99").replace("name: high", "name: zhigh");
    let (_, policy, _) = policy_of(&(equal + &low));
    let section = &policy.sections[0];
    assert_eq!((section.name.as_str(), section.num_vfs, section.mtu), ("zhigh", Some(6), Some(9000)));
    assert_eq!(section.vf(3).driver, Some(policy::VfDriver::Kernel));
    assert_eq!(section.vf(5).driver, None);
}

#[test]
fn ports_by_address_or_by_vendor_are_converted_too() {
    let by_address = "resourceName: a\nnumVfs: 2\nisRdma: true\nexternallyManaged: true\nnicSelector: {rootDevices: ['0000:3b:00.0', '0000:3b:00.1']}";
    let by_vendor = "resourceName: b\nnumVfs: 2\npriority: 50\nnicSelector: {vendor: 15b3}";
    let text = node_policy("a", by_address) + &node_policy("b", by_vendor);
    let (_, policy, notes) = policy_of(&text);
    assert_eq!(policy.sections.len(), 2);
    assert_eq!(policy.sections[0].pfs.pci_addresses.len(), 2);
    assert!(policy.sections[0].externally_managed && policy.sections[1].pfs.pci_addresses.is_empty());
    assert!(notes.iter().any(|note| note.contains("a PF that policy b selects, too")), "{notes:?}");
    let (_, config) = pools_of(&text);
    assert_eq!(config.resources[0].selectors[0].root_devices[0].text(), "0000:3b:00.0");
    assert!(config.resources[0].selectors[0].is_rdma);
    assert_eq!(config.resources[1].selectors[0].vendors[0].to_string(), "15b3");
}

#[test]
fn whole_ports_are_offered_and_not_set_up() {
    let text = node_policy(
        "pf",
        "resourceName: pf\nnumVfs: 0\nnicSelector: {deviceID: '1572', rootDevices: ['3b:00.0']}",
    );
    let (_, config) = pools_of(&text);
    assert_eq!(config.resources[0].selectors[0].pci_addresses[0].to_string(), "0000:3b:00.0");
    assert_eq!(
        error(&text, Wanted::Policy),
        "there is no SriovNetworkNodePolicy with VFs in what was given; there is SriovNetworkNodePolicy"
    );
}

#[test]
fn what_depends_on_the_node_is_refused() {
    let by_name = node_policy("n", "resourceName: a\nnumVfs: 8\nnicSelector: {pfNames: ['p0#4-7']}");
    let by_vendor =
        node_policy("v", "resourceName: b\nnumVfs: 4\npriority: 9\nnicSelector: {vendor: '8086'}");
    let found = error(&(by_name.clone() + &by_vendor), Wanted::Policy);
    assert!(found.starts_with("operator.yaml: SriovNetworkNodePolicy n: spec.nicSelector: found PFs that may be those of policy v"), "{found}");
    let other = by_vendor.replace("vendor: '8086'", "pfNames: [p1]");
    assert_eq!(policy_of(&(by_name + &other)).1.sections.len(), 2);
    // Which identifier the VFs of such a card have is known from the operator's ConfigMap alone.
    let by_device = node_policy("d", "resourceName: a\nnumVfs: 8\nnicSelector: {deviceID: 158b}");
    assert!(
        error(&by_device, Wanted::Pools)
            .contains("spec.nicSelector.deviceID: found 158b, the identifier of a PF; allowed: ")
    );
    assert_eq!(policy_of(&by_device).1.sections.len(), 1);
}

#[test]
fn nodes_are_chosen_by_their_labels() {
    let a =
        node_policy("a", "resourceName: a\nnumVfs: 1\nnodeSelector: {zone: a}\nnicSelector: {pfNames: [p0]}");
    let b =
        node_policy("b", "resourceName: b\nnumVfs: 1\nnodeSelector: {zone: b}\nnicSelector: {pfNames: [p0]}");
    let both = a.clone() + &b;
    let found = error(&both, Wanted::Policy);
    assert!(found.ends_with("the nodeSelectors are: zone=a; zone=b"), "{found}");
    let node = NodeIdentity { name: "w1".to_owned(), labels: [("zone".to_owned(), "b".to_owned())].into() };
    let found = run(&both, Wanted::Policy, Some(node)).unwrap();
    let policy = policy::parse(&found.text, Path::new("p")).unwrap().policy;
    let w1 = NodeIdentity { name: "w1".to_owned(), ..NodeIdentity::default() };
    assert!(policy.sections.len() == 1 && policy.sections[0].name == "b" && policy.sections[0].is_for(&w1));
    assert_eq!(
        found.notes,
        ["operator.yaml: SriovNetworkNodePolicy a: spec.nodeSelector: is not for node w1: zone=a"]
    );
    let found = error_text(&run(&both, Wanted::Policy, Some(w1)).unwrap_err());
    assert!(found.starts_with("no policy is for node w1"), "{found}");
    let (_, policy, notes) = policy_of(&a);
    assert_eq!(policy.sections[0].labels["zone"], "a");
    assert!(notes[0].contains("spec.nodeSelector: becomes labels"), "{notes:?}");
}

#[test]
fn keys_that_are_not_converted_are_refused_by_name_and_all_at_once() {
    let text = node_policy(
        "x",
        "resourceName: a.b\nnumVfs: 4\npriority: 100\nmtu: 20\ndeviceType: vfio-pci\nisRdma: true\nvdpaType: vhost\nlinkType: fibre\n\
         bridge: {ovs: {}}\neSwitchParams: {multiport: true}\ncolour: red\n\
         nicSelector: {netFilter: 'aws/NetworkID:1', rootDevices: ['3b:00.0#0-1'], pfNames: ['p0#0-4', 'p0', 'p1#1'], driver: ice}",
    ) + "---\nkind: OVSNetwork\nmetadata: {name: ovs}\n---\n7\n";
    let found = error(&text, Wanted::Policy);
    let x = "operator.yaml: SriovNetworkNodePolicy x: spec.";
    for (start, part) in [
        ("resourceName: found \"a.b\"", "letters, digits"),
        ("priority: found 100", "a number from 0 to 99"),
        ("mtu: found 20", "from 68"),
        ("linkType: found \"fibre\"", "eth, ETH, ib, IB"),
        ("isRdma: found true for deviceType vfio-pci", ""),
        ("vdpaType: found vhost", "makes no vDPA devices"),
        ("eSwitchParams: found {\"multiport\":true}", ""),
        ("colour: found red, under a key that is not known here", "resourceName"),
        ("nicSelector.netFilter: found \"aws/NetworkID:1\"", "rootDevices"),
        ("nicSelector.rootDevices[0]: found \"3b:00.0#0-1\"", "without VF indexes"),
        ("nicSelector.pfNames[0]: found VF 4", "indexes below numVfs"),
        ("nicSelector.pfNames[1]: found PF p0 a second time", ""),
        ("nicSelector.pfNames[2]: found \"p1#1\"", "ens1f0#0-3"),
        ("nicSelector.driver: found ice, under a key", "pfNames"),
    ] {
        let line = found.lines().find(|line| line.starts_with(&format!("{x}{start}")));
        assert!(line.is_some_and(|line| line.contains(part)), "{start}\nis not in\n{found}");
    }
    assert!(
        found.contains("OVSNetwork ovs: found an object that nothing is made of; allowed: SriovNetwork and"),
        "{found}"
    );
    assert!(found.contains("the file: found 7; allowed: an object"), "{found}");
    // An empty bridge says nothing, and has no line; the last is a note.
    assert_eq!(found.lines().count(), 17, "{found}");
}

#[test]
fn files_without_anything_are_told() {
    assert_eq!(
        error("kind: List\nitems: []\n", Wanted::Pools),
        "there is no SriovNetworkNodePolicy in what was given; there is nothing"
    );
    assert!(error("{", Wanted::Pools).starts_with("operator.yaml: this is not JSON"));
    assert!(
        error("kind: ConfigMap\nmetadata: {name: x}\n", Wanted::Pools)
            .contains("an object that nothing is made of")
    );
    let nothing = "kind: SriovNetworkNodePolicy\nmetadata: {name: default}\nspec: {}\n";
    assert!(error(nothing, Wanted::Policy).starts_with("there is no SriovNetworkNodePolicy with VFs"));
    assert!(
        error(&node_policy("e", "resourceName: a\nnumVfs: 1\nnicSelector: {}"), Wanted::Policy)
            .contains("spec.nicSelector: found no PF")
    );
    let twice = node_policy("e", "resourceName: a\nnumVfs: 1\nnicSelector: {pfNames: [p0]}");
    assert!(error(&(twice.clone() + &twice), Wanted::Policy).contains("found a second policy of this name"));
}

const NETWORKS: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: sriovnetwork.openshift.io/v1
  kind: SriovNetwork
  metadata: {name: blue, namespace: sriov-network-operator}
  spec:
    networkNamespace: shop
    resourceName: kernel
    vlan: 100
    vlanQoS: 3
    vlanProto: 802.1ad
    spoofChk: "off"
    trust: "on"
    linkState: enable
    minTxRate: 0
    maxTxRate: 100
    logLevel: debug
    capabilities: '{"mac": true, "ips": true}'
    ipam: |-
      {"type": "host-local",
       "subnet": "10.56.217.0/24"}
    metaPlugins: |
      {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "1"}}, {"type": "vrf", "vrfname": "red"}
  status: {}
- apiVersion: sriovnetwork.openshift.io/v1
  kind: SriovIBNetwork
  metadata: {name: ib, namespace: shop}
  spec: {resourceName: mlx, linkState: auto, capabilities: '{"infinibandGUID": true}'}
"#;

#[test]
fn networks_become_definitions() {
    let Imported { text, notes } = imported(NETWORKS, Wanted::Networks);
    let documents = crate::document::parse_all(&text).unwrap();
    let config = |index: usize| {
        let spec = objects::get(&documents[index], "spec").unwrap();
        let config = objects::get(spec, "config").unwrap().as_text().unwrap();
        serde_json::from_str::<serde_json::Value>(config).unwrap()
    };
    let expected = serde_json::json!({"cniVersion": "1.0.0", "name": "blue", "plugins": [
        {"type": "sriov", "vlan": 100, "vlanQoS": 3, "vlanProto": "802.1ad", "spoofchk": "off", "trust": "on", "min_tx_rate": 0,
         "max_tx_rate": 100, "capabilities": {"mac": true, "ips": true}, "link_state": "enable",
         "ipam": {"type": "host-local", "subnet": "10.56.217.0/24"}},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "1"}},
        {"type": "vrf", "vrfname": "red"},
    ]});
    assert_eq!(config(0), expected);
    let expected = serde_json::json!({"cniVersion": "1.0.0", "name": "ib", "type": "ib-sriov",
        "capabilities": {"infinibandGUID": true}, "link_state": "auto", "ipam": {}});
    assert_eq!(config(1), expected);
    let head = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: \"blue\"\n  namespace: \"shop\"\n  \
                annotations:\n    k8s.v1.cni.cncf.io/resourceName: \"openshift.io/kernel\"\n";
    assert!(text.starts_with(head), "{text}");
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn what_is_wrong_with_networks_is_told_by_key() {
    let text = "kind: SriovNetwork\nmetadata: {name: n}\nspec: {resourceName: a, vlan: 4095, trust: yes, ipam: 'type: dhcp', \
                capabilities: '[]', metaPlugins: '{\"name\": 1}', allMulticast: 'on', linkState: up}\n";
    let found = error(text, Wanted::Networks);
    for start in [
        "vlan: found 4095",
        "trust: found \"yes\"",
        "ipam: found what is no object of JSON",
        "capabilities: found what is no object",
        "metaPlugins: found a plugin without type",
        "allMulticast: found \"on\", under a key",
        "linkState: found \"up\"",
    ] {
        let line = format!("operator.yaml: SriovNetwork n: spec.{start}");
        assert!(found.lines().any(|found| found.starts_with(&line)), "{line}\nis not in\n{found}");
    }
    assert_eq!(found.lines().count(), 7, "{found}");
    let twice = NETWORKS.replace("name: ib, namespace: shop", "name: blue, namespace: shop");
    assert!(error(&twice, Wanted::Networks).contains("SriovIBNetwork blue: found a second network"));
}
