//! Networks that `fairlead-config import` prints are taken as they are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use fairlead_agent::{local::Local, server::Handler};
use fairlead_cni::{
    agent_protocol::{Answer, Call, PodRef, Policy, Resolve},
    config::NetworkConfig,
    drivers::takes,
    networks::annotation::NETWORKS_ANNOTATION,
};
use fairlead_resource_config::import::{self, Options, Source, Wanted};
use tokio::time::Instant;

const NETWORKS: &str = r#"
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: blue, namespace: sriov-network-operator}
spec:
  networkNamespace: shop
  resourceName: kernel
  vlan: 100
  vlanQoS: 3
  spoofChk: "off"
  trust: "on"
  linkState: enable
  maxTxRate: 100
  capabilities: '{"mac": true, "ips": true}'
  ipam: '{"type": "host-local", "subnet": "10.56.217.0/24"}'
  metaPlugins: '{"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "1"}}'
"#;

#[tokio::test]
async fn imported_networks_are_planned_and_made_in_process() {
    let source = Source { path: "networks.yaml".into(), text: NETWORKS.into() };
    let options = Options { node: None, resource_prefix: import::DEFAULT_PREFIX.into() };
    let imported = import::import(&[source], Wanted::Networks, &options).unwrap();
    // Nobody allocates devices here.
    let text = imported.text.replace("k8s.v1.cni.cncf.io/resourceName", "resourceName");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("networks.yaml"), text).unwrap();
    let local = Local::new(dir.path().to_owned(), Path::new("/nonexistent")).unwrap();
    let call = Call::Resolve(Resolve {
        pod: PodRef { namespace: "shop".into(), name: "p".into(), uid: String::new() },
        container_id: "c".into(),
        annotations: Some(BTreeMap::from([(NETWORKS_ANNOTATION.to_owned(), "blue".to_owned())])),
        interface: "eth0".into(),
        policy: Policy::default(),
        deadline_ms: 1000,
    });
    let answer = local.handle(call, Instant::now() + Duration::from_secs(1)).await;
    let Answer::Plan(plan) = answer else { panic!("{answer:?}") };
    assert_eq!(plan.attachments[0].network, "shop/blue");
    let config = NetworkConfig::parse(&plan.attachments[0].config).unwrap();
    let kinds: Vec<&str> = config.plugins.iter().map(|plugin| plugin.kind.as_str()).collect();
    assert_eq!((config.name.as_str(), kinds), ("blue", vec!["sriov", "tuning"]));
    for plugin in &config.plugins {
        assert_eq!(takes(&plugin.kind, &plugin.fields), Ok(()));
    }
}
