use serde_json::json;

use super::{
    super::{annotation::parse, devices::ContainerDevices},
    *,
};

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

fn planned(annotation: &str, devices: &PodDevices) -> Result<Vec<PlannedAttachment>, String> {
    let selections = parse(annotation, &pod()).unwrap();
    plan(&pod(), &selections, &definitions(), devices)
        .map(|plan| plan.attachments)
        .map_err(|error| error.to_string())
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
         a network"
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
fn what_is_not_there_yet_is_refused() {
    let error = planned(r#"[{"name":"macvlan","default-route":["10.0.0.1"]}]"#, &devices(&[], &[]));
    assert_eq!(
        error.unwrap_err(),
        "pod default/router asks for `default-route` with network macvlan: this is not supported yet, remove it"
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
    let needs = |text: &str| needs_devices(&parse(text, &pod()).unwrap(), &definitions());
    assert!(!needs("macvlan,gone"));
    assert!(needs("macvlan,a"));
    assert!(needs(r#"[{"name":"macvlan","deviceID":"v"}]"#));
}

#[test]
fn a_bad_configuration_names_the_pod_and_keeps_its_cause() {
    let broken = NetworkAttachmentDefinition {
        namespace: "default".into(),
        name: "a".into(),
        ..NetworkAttachmentDefinition::default()
    };
    let selections = parse("a", &pod()).unwrap();
    let error =
        plan(&pod(), &selections, &Definitions::new("", [broken]), &PodDevices::default()).unwrap_err();
    assert!(error.to_string().contains("default/router"));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("default/a has no spec.config"), "{source}");
}
