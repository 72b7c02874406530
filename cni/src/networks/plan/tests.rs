use serde_json::json;

use super::{
    super::{ask::Annotations, devices::ContainerDevices},
    *,
};
use crate::agent_protocol::Policy;

fn pod() -> PodRef {
    PodRef { namespace: "default".into(), name: "router".into(), uid: "u".into() }
}

fn definitions() -> Definitions {
    let nad = |namespace: &str, name: &str, resource: Option<&str>| NetworkAttachmentDefinition {
        namespace: namespace.into(),
        name: name.into(),
        config: r#"{"type":"x"}"#.into(),
        resource_name: resource.map(str::to_owned),
    };
    Definitions::new(
        "in the API server",
        [
            nad("default", "a", Some("intel.com/sriov")),
            nad("default", "b", Some("intel.com/sriov")),
            nad("default", "dpdk", Some("intel.com/sriov_dpdk")),
            nad("default", "macvlan", None),
            nad("other", "a", Some("intel.com/sriov")),
        ],
    )
}

fn devices(sriov: &[&str], dpdk: &[&str]) -> PodDevices {
    let row =
        |resource: &str, ids: &[&str]| (resource.to_owned(), ids.iter().map(|id| (*id).into()).collect());
    PodDevices::new(&[ContainerDevices {
        container: "main".into(),
        rows: vec![row("intel.com/sriov", sriov), row("intel.com/sriov_dpdk", dpdk)],
    }])
}

fn asked(networks: &str, default_network: &str, policy: &Policy) -> Networks {
    let annotations = Annotations { networks: Some(networks), default_network: Some(default_network) };
    Networks::of(&pod(), "eth0", annotations, policy).unwrap()
}

fn plan_of(networks: &Networks, devices: &PodDevices) -> Result<Plan, String> {
    let allocated = Allocated { own: devices.clone(), ..Allocated::default() };
    plan(&pod(), networks, &definitions(), &allocated).map_err(|error| error.to_string())
}

fn planned(annotation: &str, devices: &PodDevices) -> Result<Vec<PlannedAttachment>, String> {
    let plan = plan_of(&asked(annotation, "", &Policy::default()), devices)?;
    assert_eq!(plan.primary, None);
    Ok(plan.attachments)
}

fn summary(attachments: &[PlannedAttachment]) -> Vec<(&str, &str, Option<&str>)> {
    attachments
        .iter()
        .map(|one| (one.network.as_str(), one.interface.as_str(), one.device_id.as_deref()))
        .collect()
}

#[test]
fn the_nth_network_of_a_resource_gets_its_nth_device() {
    let devices = devices(&["0000:01:10.2", "0000:01:10.0"], &["0000:01:10.5"]);
    let attachments = planned("macvlan,b,dpdk,a", &devices).unwrap();
    assert_eq!(
        summary(&attachments),
        [
            ("default/macvlan", "net1", None),
            ("default/b", "net2", Some("0000:01:10.0")),
            ("default/dpdk", "net3", Some("0000:01:10.5")),
            ("default/a", "net4", Some("0000:01:10.2")),
        ]
    );
    assert_eq!(attachments[1].resource_name.as_deref(), Some("intel.com/sriov"));
    assert_eq!(attachments[1].capability_args, *json!({"deviceID": "0000:01:10.0"}).as_object().unwrap());
    assert_eq!(attachments[0].config, r#"{"name":"macvlan","type":"x"}"#);
}

#[test]
fn explicit_interface_names_consume_an_index() {
    let attachments = planned("macvlan@up0,macvlan,other/a@net9", &devices(&["v"], &[])).unwrap();
    let names: Vec<_> = attachments.iter().map(|one| one.interface.as_str()).collect();
    assert_eq!(names, ["up0", "net2", "net9"]);
}

#[test]
fn two_interfaces_of_one_name_are_refused() {
    let error = planned("macvlan@net2,a", &devices(&["v"], &[])).unwrap_err();
    assert_eq!(
        error,
        "pod default/router asks for two interfaces net2: networks macvlan and a (a network without `interface` gets \
         net1, net2, ... by its place): give one of them another name"
    );
}

#[test]
fn too_few_devices_name_networks_and_amounts() {
    assert_eq!(
        planned("a,b", &devices(&["v"], &[])).unwrap_err(),
        "pod default/router asks for 1 intel.com/sriov but networks a, b need 2: raise the container's limit or drop a \
         network"
    );
    assert_eq!(
        planned("macvlan,other/a", &devices(&[], &[])).unwrap_err(),
        "pod default/router asks for no intel.com/sriov but network other/a needs 1: raise the container's limit or drop \
         a network; if it does ask for it, kubelet has admitted it without, as just after its start: delete the pod"
    );
}

#[test]
fn an_unknown_network_says_where_it_was_looked_for() {
    assert_eq!(
        planned("macvlan,gone", &devices(&[], &[])).unwrap_err(),
        "pod default/router asks for network default/gone, but there is no such NetworkAttachmentDefinition in the API \
         server: create it, or correct the pod's annotation"
    );
}

#[test]
fn a_named_device_is_given_first_and_the_rest_share_out() {
    let devices = devices(&["v0", "v1", "v2"], &["d0"]);
    let text =
        r#"[{"name":"a"},{"name":"b","deviceID":"v0"},{"name":"macvlan","deviceID":"d0"},{"name":"b"}]"#;
    let attachments = planned(text, &devices).unwrap();
    let ids: Vec<_> = attachments.iter().map(|one| one.device_id.as_deref().unwrap_or("")).collect();
    assert_eq!(ids, ["v1", "v0", "d0", "v2"]);
    assert_eq!(attachments[2].resource_name.as_deref(), Some("intel.com/sriov_dpdk"));
}

#[test]
fn a_device_that_is_not_the_pods_is_refused() {
    let devices = devices(&["v0"], &["d0"]);
    assert_eq!(
        planned(r#"[{"name":"a","deviceID":"d0"}]"#, &devices).unwrap_err(),
        "pod default/router asks for device d0 with network a, which is not allocated to it under intel.com/sriov: \
         leave `deviceID` out, or name a device of the pod (it has v0 of intel.com/sriov, d0 of intel.com/sriov_dpdk)"
    );
    let error = planned(r#"[{"name":"macvlan","deviceID":"x"}]"#, &devices).unwrap_err();
    assert!(error.contains("which is not allocated to it: leave"), "{error}");
    let error =
        planned(r#"[{"name":"a","deviceID":"v0"},{"name":"b","deviceID":"v0"}]"#, &devices).unwrap_err();
    assert!(error.starts_with("pod default/router asks for device v0 with networks a and b"), "{error}");
}

#[test]
fn a_network_that_names_a_device_counts_among_those_that_need_it() {
    let error = planned(r#"[{"name":"a"},{"name":"macvlan","deviceID":"v0"}]"#, &devices(&["v0"], &[]));
    assert!(error.unwrap_err().contains("asks for 1 intel.com/sriov but networks a, macvlan need 2"));
}

#[test]
fn default_routes_go_with_their_networks_and_each_family_has_one() {
    let text = |first: &str, second: &str| {
        format!(
            r#"[{{"name":"macvlan","default-route":{first}}},{{"name":"macvlan","default-route":{second}}}]"#
        )
    };
    let none = devices(&[], &[]);
    let attachments = planned(&text(r#"["10.0.0.1"]"#, r#"["fd00::1"]"#), &none).unwrap();
    assert_eq!(attachments[0].default_route, Some(vec!["10.0.0.1".parse().unwrap()]));
    assert_eq!(planned(&text("[]", "null"), &none).unwrap()[0].default_route, Some(vec![]));
    assert_eq!(
        planned(&text(r#"["10.0.0.1"]"#, r#"["fd00::1","10.0.0.2"]"#), &none).unwrap_err(),
        "pod default/router asks for more than one IPv4 default route: through 10.0.0.1 (network macvlan) and 10.0.0.2 \
         (network macvlan): name one gateway of each family in all `default-route` keys together"
    );
}

#[test]
fn the_primary_network_comes_first_and_takes_no_number() {
    let policy =
        Policy { default_networks: vec!["storage".into(), "/etc/x.conflist".into()], ..Policy::default() };
    let networks = asked("macvlan,b", "default/a", &policy);
    let plan = plan_of(&networks, &devices(&["v0", "v1"], &[])).unwrap();
    let primary = plan.primary.unwrap();
    assert_eq!((primary.network.as_str(), primary.interface.as_str()), ("default/a", "eth0"));
    assert_eq!(primary.device_id.as_deref(), Some("v0"));
    assert_eq!(
        summary(&plan.attachments),
        [
            ("", "net1", None),
            ("", "net2", None),
            ("default/macvlan", "net3", None),
            ("default/b", "net4", Some("v1")),
        ]
    );
    let on_disk: Vec<_> = plan.attachments.iter().map(|one| one.on_disk.as_deref()).collect();
    assert_eq!(on_disk, [Some("storage"), Some("/etc/x.conflist"), None, None]);
    assert_eq!(plan.attachments[0].config, "");
}

#[test]
fn a_network_of_the_operators_may_have_a_definition_or_be_on_disk() {
    let policy = |name: &str| Policy {
        cluster_network: Some(name.into()),
        multus_namespace: "default".into(),
        ..Policy::default()
    };
    let primary =
        |name: &str| plan_of(&asked("", "", &policy(name)), &devices(&["v"], &[])).unwrap().primary.unwrap();
    assert_eq!((primary("a").network, primary("a").on_disk), ("default/a".into(), None));
    assert_eq!((primary("gone").network, primary("gone").on_disk), (String::new(), Some("gone".into())));
}

#[test]
fn the_primary_interfaces_name_is_taken() {
    let error = planned("macvlan@eth0", &devices(&[], &[])).unwrap_err();
    assert!(error.contains("network macvlan as interface eth0, which is its primary interface"), "{error}");
}

#[test]
fn a_device_that_the_author_named_is_nobody_elses() {
    let named = NetworkAttachmentDefinition {
        namespace: "default".into(),
        name: "fixed".into(),
        config: r#"{"type":"sriov","deviceID":"v9"}"#.into(),
        resource_name: None,
    };
    let definitions = Definitions::new("", [named]);
    let networks = asked("fixed", "", &Policy::default());
    assert_eq!(needs(&networks, &definitions), Needs { own: false, others: true });
    let owner = |device: &str| Allocated {
        others: BTreeMap::from([(device.to_owned(), "pod default/x".to_owned())]),
        ..Allocated::default()
    };
    let plan = |allocated: &Allocated| plan(&pod(), &networks, &definitions, allocated);
    assert_eq!(plan(&owner("v8")).unwrap().attachments[0].device_id, None);
    assert_eq!(
        plan(&owner("v9")).unwrap_err().to_string(),
        "pod default/router asks for network fixed, whose configuration names device v9, but kubelet allocated that to pod \
         default/x: take it out of the configuration, or out of the device plugin's pools"
    );
}

#[test]
fn capability_arguments_have_their_cni_names() {
    let text = r#"[{"name":"macvlan","ips":["10.1.1.2/24"],"mac":"02:00:00:00:00:01",
        "infiniband-guid":"02:00:5e:10:00:00:00:01","bandwidth":{"ingressRate":1},
        "portMappings":[{"hostPort":1,"containerPort":2}],"cni-args":{"x":1}}]"#;
    let attachments = planned(text, &devices(&[], &[])).unwrap();
    assert_eq!(
        Value::from(attachments[0].capability_args.clone()),
        json!({
            "ips": ["10.1.1.2/24"],
            "mac": "02:00:00:00:00:01",
            "infinibandGUID": "02:00:5e:10:00:00:00:01",
            "bandwidth": {"ingressRate": 1, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0},
            "portMappings": [{"hostPort": 1, "containerPort": 2, "protocol": "tcp"}],
        })
    );
    assert_eq!(attachments[0].cni_args, *json!({"x": 1}).as_object().unwrap());
}

#[test]
fn only_networks_with_a_resource_or_a_device_need_devices() {
    let needs = |text: &str| needs(&asked(text, "", &Policy::default()), &definitions()).own;
    assert!(!needs("macvlan,gone"));
    assert!(needs("macvlan,a"));
    assert!(needs(r#"[{"name":"macvlan","deviceID":"v"}]"#));
}

#[test]
fn a_bad_configuration_names_the_pod_and_keeps_its_cause() {
    let broken = NetworkAttachmentDefinition {
        namespace: "default".into(),
        name: "a".into(),
        config: "{".into(),
        ..NetworkAttachmentDefinition::default()
    };
    let networks = asked("a", "", &Policy::default());
    let error = plan(&pod(), &networks, &Definitions::new("", [broken]), &Allocated::default()).unwrap_err();
    assert!(error.to_string().contains("default/router"));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("default/a is not JSON"), "{source}");
}
