//! What the networks of a pod are together: default routes, another primary network, configurations on the node's disk,
//! device-information files, capabilities, and what is told of them.

use std::{fs, path::Path, thread, time::Duration};

use fairlead_cni::agent_protocol::{Call, Happening, Late, PlannedAttachment, Report, Timing};
use fairlead_kernel::route::OperState;
use serde_json::{Value, json};

use crate::{
    runtime::Runtime,
    snapshot::Snapshot,
    support::{Bed, Namespace},
};

const BUILT_IN: [&str; 3] = ["bridge", "static", "host-local"];

/// A bridge as the primary network, with default routes of both families, made in process.
fn primary() -> Value {
    let addresses = json!([
        {"address": "10.9.0.6/24", "gateway": "10.9.0.1"}, {"address": "fd09::6/64", "gateway": "fd09::1"}]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let ipam = json!({"type": "static", "addresses": addresses, "routes": routes});
    json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam})
}

/// A macvlan with addresses of both families and default routes of its own.
fn macvlan(number: u8) -> Value {
    let addresses = json!([
        {"address": format!("10.1.{number}.2/24"), "gateway": format!("10.1.{number}.254")},
        {"address": format!("fd01:{number}::2/64"), "gateway": format!("fd01:{number}::ff")}]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.168.0.0/16"}]);
    json!({"cniVersion": "1.1.0", "name": format!("net{number}"), "type": "macvlan", "master": "uplink0",
           "ipam": {"type": "static", "addresses": addresses, "routes": routes}})
}

/// A node with that primary network and two macvlans, whose `default-route` is this.
fn routed(test: &str, first: Option<&[&str]>, second: Option<&[&str]>) -> Option<Runtime> {
    let runtime = Runtime::new(test, |_| vec![macvlan(1), macvlan(2)])?;
    let list = json!({"cniVersion": "1.1.0", "name": "cluster", "plugins": [primary()]});
    fs::write(runtime.folder("conf/10-cluster.conflist"), list.to_string()).unwrap();
    for (place, wish) in [first, second].into_iter().enumerate() {
        let gateways = wish.map(|all| all.iter().map(|one| one.parse().unwrap()).collect());
        runtime.agent.lock().unwrap().plan.attachments[place].default_route = gateways;
    }
    Some(runtime)
}

fn built_in(runtime: &Runtime) -> Value {
    let mut config = runtime.config();
    (config["builtins"], config["strictCheck"]) = (json!(BUILT_IN), json!(true));
    config["builtins"].as_array_mut().unwrap().push(json!("macvlan"));
    config
}

/// The pod's default routes: link and gateway.
fn default_routes(pod: &Namespace) -> Vec<String> {
    let mut route = pod.route();
    let routes = route.default_routes().unwrap();
    let mut shown = Vec::new();
    for entry in routes {
        let link = route.link_by_index(entry.oif.unwrap()).unwrap().unwrap();
        shown.push(format!("{} {}", link.name, entry.gateway.unwrap()));
    }
    shown.sort();
    shown
}

/// The node as it is when the kernel has noticed that its port has no carrier.
fn settled(runtime: &Runtime, pod: &Namespace) -> Snapshot {
    for _ in 0..1000 {
        if runtime.bed.host.link("uplink0").unwrap().oper_state != OperState::Unknown {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    runtime.snapshot(Some(pod))
}

/// The last report to the agent.
fn report(runtime: &Runtime) -> Report {
    let agent = runtime.agent.lock().unwrap();
    let report = agent.calls.iter().rev().find_map(|call| match call {
        Call::Report(report) => Some(report.clone()),
        _ => None,
    });
    report.unwrap()
}

/// What was told on the pod.
fn told(runtime: &Runtime) -> Vec<(Happening, String)> {
    let agent = runtime.agent.lock().unwrap();
    let told = agent.calls.iter().filter_map(|call| match call {
        Call::Notify(notify) => Some((notify.what, notify.message.clone())),
        _ => None,
    });
    told.collect()
}

#[test]
fn default_routes_of_both_families_move_and_what_is_known_of_them_agrees() {
    let test = "default routes";
    let Some(runtime) = routed(test, Some(&["10.1.1.1"]), Some(&["fd01:2::1"])) else { return };
    let (pod, config) = (runtime.bed.pod(), built_in(&runtime));
    let before = settled(&runtime, &pod);
    let result = runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    assert_eq!(default_routes(&pod), ["net1 10.1.1.1", "net2 fd01:2::1"]);
    assert_eq!(result["routes"], Value::Null, "the primary network has none any more: {result}");
    let gateways: Vec<_> = report(&runtime).networks.iter().map(|one| one.gateway.clone()).collect();
    assert_eq!(gateways, [vec![], vec!["10.1.1.1".to_owned()], vec!["fd01:2::1".to_owned()]]);
    // Other routes are as they were.
    let others = pod.route().routes(&pod.link("net2").unwrap()).unwrap();
    assert!(others.iter().any(|entry| entry.dst.to_string() == "192.168.0.0/16"), "{others:?}");
    runtime.call_with("CHECK", "c1", &pod.path(), &config).unwrap();
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
    assert_eq!(
        told(&runtime),
        [(
            Happening::Removed,
            "Remove eth0 from cluster, net1 from default/net1, net2 from default/net2".to_owned()
        )]
    );
    remove_bridge(&runtime);
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
}

/// A bridge stays when its last pod goes.
fn remove_bridge(runtime: &Runtime) {
    let bridge = runtime.bed.host.link("br0").unwrap();
    runtime.bed.host.route().delete_link(&bridge).unwrap();
}

#[test]
fn how_long_each_step_took_is_told() {
    let Some(runtime) = routed("timings", None, None) else { return };
    let (pod, config) = (runtime.bed.pod(), built_in(&runtime));
    runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    let named = |timings: &[Timing]| -> Vec<String> {
        timings.iter().map(|timing| format!("{} {}", timing.network, timing.step)).collect()
    };
    let timings = report(&runtime).timings;
    let networks = [
        "cluster ipam",
        "cluster bridge",
        "default/net1 ipam",
        "default/net1 macvlan",
        "default/net2 ipam",
        "default/net2 macvlan",
    ];
    let parts = [&[" lock", " resolve", " validate"][..], &networks[..], &[" attach", " total"][..]].concat();
    assert_eq!(named(&timings), parts);
    let of =
        |step: &str| timings.iter().filter(|timing| timing.step == step).map(|timing| timing.us).sum::<u64>();
    assert!(of("ipam") <= of("bridge") + of("macvlan") && of("attach") <= of("total"), "{timings:?}");
    assert!(of("macvlan") > 0);
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
    let agent = runtime.agent.lock().unwrap();
    let Some(Call::Notify(told)) = agent.calls.last() else { panic!("{:?}", agent.calls) };
    let steps = ["default/net2 macvlan", "default/net1 macvlan", "cluster bridge"];
    assert_eq!(named(&told.timings), [&[" lock"][..], &steps[..], &[" detach", " total"][..]].concat());
}

#[test]
fn an_agent_that_is_killed_after_its_plan_finds_the_report_when_it_comes_again() {
    let Some(runtime) = routed("report that is left", None, None) else { return };
    runtime.agent.lock().unwrap().goes = true;
    let (pod, mut config) = (runtime.bed.pod(), built_in(&runtime));
    config["agentTimeoutSeconds"] = json!(1);
    runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    assert_eq!(runtime.agent.lock().unwrap().calls.len(), 1, "only the plan was asked for");
    let left = runtime.folder("pending/c1.json");
    let late: Late = serde_json::from_slice(&fs::read(&left).unwrap()).unwrap();
    assert_eq!(
        (late.uid.as_str(), late.report.container_id.as_str(), late.report.networks.len()),
        ("", "c1", 3)
    );
    assert_eq!(fs::read_dir(runtime.folder("pending")).unwrap().count(), 1);
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
    assert!(!left.exists(), "it is void");
}

#[test]
fn an_empty_default_route_keeps_what_the_network_brings_and_takes_it_from_all_others() {
    let Some(runtime) = routed("empty default route", None, Some(&[])) else { return };
    let (pod, config) = (runtime.bed.pod(), built_in(&runtime));
    runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    assert_eq!(default_routes(&pod), ["net2 10.1.2.254", "net2 fd01:2::ff"]);
    runtime.call_with("CHECK", "c1", &pod.path(), &config).unwrap();
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
}

#[test]
fn a_gateway_that_cannot_be_reached_takes_everything_back_and_is_told() {
    let Some(runtime) = routed("unreachable gateway", Some(&["10.77.0.1"]), None) else { return };
    let (pod, config) = (runtime.bed.pod(), built_in(&runtime));
    let before = settled(&runtime, &pod);
    let error = runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap_err();
    let text = error["msg"].as_str().unwrap();
    assert!(
        text.contains("network default/net1 for interface net1: default route through 10.77.0.1"),
        "{text}"
    );
    assert!(error["details"].as_str().unwrap().contains("within a subnet"), "{error}");
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
    let told = told(&runtime);
    assert!(
        matches!(told.as_slice(), [(Happening::AddFailed, said)] if said.contains("10.77.0.1")),
        "{told:?}"
    );
}

#[test]
fn without_a_wish_each_network_keeps_its_default_route() {
    let Some(runtime) = routed("no default route", None, None) else { return };
    let (pod, config) = (runtime.bed.pod(), built_in(&runtime));
    runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    assert_eq!(default_routes(&pod).len(), 6);
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
}

#[test]
fn a_pods_own_primary_network_takes_the_place_of_the_nodes() {
    let Some(runtime) = Runtime::new("default network", |bed| vec![bed.macvlan("10.1.2.0/24")]) else {
        return;
    };
    let mut agent = runtime.agent.lock().unwrap();
    let mut instead = macvlan(1);
    instead["capabilities"] = json!({"mac": true});
    agent.plan.primary = Some(Box::new(PlannedAttachment {
        network: "default/instead".into(),
        interface: "eth0".into(),
        config: instead.to_string(),
        capability_args: json!({"mac": "02:fa:00:00:00:07"}).as_object().unwrap().clone(),
        ..PlannedAttachment::default()
    }));
    drop(agent);
    let pod = runtime.bed.pod();
    let before = settled(&runtime, &pod);
    let result = runtime.call("ADD", "c1", &pod.path()).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.1.1.2/24");
    assert_eq!(pod.link("eth0").unwrap().kind.as_deref(), Some("macvlan"));
    assert_eq!(pod.link("eth0").unwrap().mac.unwrap().to_string(), "02:fa:00:00:00:07");
    assert!(pod.link("net1").is_some());
    assert!(!runtime.folder("bin/log.primary").exists(), "the node's primary network was made, too");
    let networks = report(&runtime).networks;
    let named: Vec<_> =
        networks.iter().map(|one| (one.name.as_str(), one.interface.as_str(), one.default)).collect();
    assert_eq!(named, [("default/instead", "eth0", true), ("default/net1", "net1", false)]);
    runtime.call("CHECK", "c1", &pod.path()).unwrap();
    runtime.call("DEL", "c1", &pod.path()).unwrap();
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
    assert!(!runtime.folder("bin/log.primary").exists(), "DEL works from the records alone");
}

#[test]
fn configurations_on_the_nodes_disk_are_found_by_name_and_by_path() {
    let Some(runtime) = Runtime::new("on disk", |_| Vec::new()) else { return };
    fs::create_dir_all(runtime.folder("nads/chained")).unwrap();
    let write = |name: &str, config: &Value| fs::write(runtime.folder(name), config.to_string()).unwrap();
    fs::write(runtime.folder("nads/00-torn.conf"), "{").unwrap();
    write("nads/10-one.conf", &macvlan(1));
    let mut second = macvlan(2);
    second.as_object_mut().unwrap().remove("name");
    write("nads/20-two.conflist", &json!({"cniVersion": "1.1.0", "name": "chained", "plugins": [second]}));
    write("nads/chained/10-mtu.conf", &json!({"type": "tuning", "mtu": 1300}));
    let cluster = json!({"cniVersion": "1.1.0", "name": "other", "plugins": [{"type": "primary"}]});
    write("cluster.conflist", &cluster);
    let mut config = runtime.config();
    config["clusterNetwork"] = json!(runtime.folder("cluster.conflist"));
    config["defaultNetworks"] = json!([runtime.folder("nads/20-two.conflist")]);
    // Nobody has to be asked for what is named by its path.
    let pod = runtime.bed.pod();
    let annotated = |annotations: Value| {
        let mut config = config.clone();
        config["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": annotations});
        config
    };
    runtime.call_with("ADD", "c1", &pod.path(), &annotated(json!({}))).unwrap();
    assert_eq!(pod.link("net1").unwrap().mtu, 1300);
    let names: Vec<_> = report(&runtime).networks.iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, ["chained"], "an interface that its plugin does not report is not told");
    runtime.call_with("DEL", "c1", &pod.path(), &annotated(json!({}))).unwrap();
    assert!(runtime.agent.lock().unwrap().calls.iter().all(|call| !matches!(call, Call::Resolve(_))));
    // A definition without a configuration.
    runtime.agent.lock().unwrap().plan.attachments = vec![PlannedAttachment {
        network: "default/empty".into(),
        interface: "net1".into(),
        on_disk: Some("net1".into()),
        ..PlannedAttachment::default()
    }];
    let asking = annotated(json!({"k8s.v1.cni.cncf.io/networks": "empty"}));
    runtime.call_with("ADD", "c1", &pod.path(), &asking).unwrap();
    assert_eq!(pod.addresses("net1"), ["10.1.1.2/24", "fd01:1::2/64"]);
    runtime.call_with("DEL", "c1", &pod.path(), &asking).unwrap();
    runtime.agent.lock().unwrap().plan.attachments[0].on_disk = Some("gone".into());
    let error = runtime.call_with("ADD", "c1", &pod.path(), &asking).unwrap_err();
    let text = error["msg"].as_str().unwrap();
    assert!(text.contains("network default/empty") && text.contains("\"name\" gone"), "{text}");
}

/// A network whose plugin is on disk and takes device-information files, with a device.
fn with_device(test: &str) -> Option<Runtime> {
    let runtime = Runtime::new(test, |_| Vec::new())?;
    runtime.agent.lock().unwrap().plan.attachments = vec![PlannedAttachment {
        network: "default/vf".into(),
        interface: "net1".into(),
        config: json!({"cniVersion": "1.1.0", "name": "vf", "type": "reporter",
                       "capabilities": {"CNIDeviceInfoFile": true, "deviceID": true}})
        .to_string(),
        device_id: Some("0000:01:10.0".into()),
        resource_name: Some("intel.com/sriov".into()),
        capability_args: json!({"deviceID": "0000:01:10.0"}).as_object().unwrap().clone(),
        ..PlannedAttachment::default()
    }];
    let reporter = "#!/bin/sh\nconfig=$(cat)\nprintf '%s %s\\n' \"$CNI_COMMAND\" \"$config\" \
                    >>\"$(dirname \"$0\")/log.reporter\"\n[ \"$CNI_COMMAND\" != ADD ] || printf \
                    '{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"net1\",\"sandbox\":\"%s\"}]}' \
                    \"$CNI_NETNS\"\n";
    let file = runtime.folder("bin/reporter");
    fs::write(&file, reporter).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Some(runtime)
}

#[test]
fn device_information_reaches_plugin_and_status_and_goes_with_the_attachment() {
    let Some(runtime) = with_device("device information") else { return };
    let info = json!({"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:01:10.0"}});
    fs::create_dir_all(runtime.folder("devinfo/dp")).unwrap();
    fs::create_dir_all(runtime.folder("devinfo/cni")).unwrap();
    fs::write(runtime.folder("devinfo/dp/intel.com-sriov-0000:01:10.0-device.json"), info.to_string())
        .unwrap();
    let pod = runtime.bed.pod();
    let before = settled(&runtime, &pod);
    runtime.call("ADD", "c1", &pod.path()).unwrap();
    let copy = runtime.folder("devinfo/cni/default-vf-c1_net1");
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&copy).unwrap()).unwrap(), info);
    let log = fs::read_to_string(runtime.folder("bin/log.reporter")).unwrap();
    let input: Value =
        serde_json::from_str(log.lines().next().unwrap().strip_prefix("ADD ").unwrap()).unwrap();
    assert_eq!(
        input["runtimeConfig"],
        json!({"deviceID": "0000:01:10.0", "CNIDeviceInfoFile": copy.display().to_string()})
    );
    let networks = report(&runtime).networks;
    assert_eq!(networks.last().unwrap().device_info.as_ref(), Some(&info));
    runtime.call("DEL", "c1", Path::new("")).unwrap();
    drop(pod);
    let pod = runtime.bed.pod();
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
    // A failed ADD takes it back, too.
    fs::write(runtime.folder("bin/reporter"), "#!/bin/sh\n[ \"$CNI_COMMAND\" != ADD ]\n").unwrap();
    runtime.call("ADD", "c1", &pod.path()).unwrap_err();
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
}

#[test]
fn a_request_that_no_plugin_takes_is_told_or_with_strict_an_error() {
    let Some(runtime) = Runtime::new("capabilities", |bed: &Bed| vec![bed.macvlan("10.1.2.0/24")]) else {
        return;
    };
    runtime.agent.lock().unwrap().plan.attachments[0].capability_args =
        json!({"bandwidth": {"ingressRate": 1}, "mac": "02:fa:00:00:00:07"}).as_object().unwrap().clone();
    let pod = runtime.bed.pod();
    let before = settled(&runtime, &pod);
    runtime.call("ADD", "c1", &pod.path()).unwrap();
    assert_eq!(pod.link("net1").unwrap().mac.unwrap().to_string(), "02:fa:00:00:00:07");
    let warnings = report(&runtime).warnings;
    assert!(matches!(warnings.as_slice(), [text] if text.contains("bandwidth")), "{warnings:?}");
    runtime.call("DEL", "c1", &pod.path()).unwrap();
    let mut config = runtime.config();
    config["strict"] = json!(true);
    let error = runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("asks for bandwidth"), "{error}");
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
}

#[test]
fn what_the_runtime_passes_reaches_the_primary_network() {
    let Some(runtime) = Runtime::new("capabilities of the primary", |_| Vec::new()) else { return };
    let list = json!({"cniVersion": "1.1.0", "name": "cluster", "plugins": [
        {"type": "primary", "capabilities": {"portMappings": true}}]});
    fs::write(runtime.folder("conf/10-cluster.conflist"), list.to_string()).unwrap();
    let mut config = runtime.config();
    let ports = json!([{"HostPort": 80, "ContainerPort": 8080, "Protocol": "tcp", "HostIP": ""}]);
    config["runtimeConfig"] = json!({"portMappings": ports, "bandwidth": {"ingressRate": 1}});
    let pod = runtime.bed.pod();
    runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    let log = fs::read_to_string(runtime.folder("bin/log.primary")).unwrap();
    let input: Value =
        serde_json::from_str(log.lines().next().unwrap().strip_prefix("ADD ").unwrap()).unwrap();
    assert_eq!(input["runtimeConfig"], json!({"portMappings": ports}));
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
}

#[test]
fn an_auxiliary_chain_comes_after_all_networks_and_makes_none() {
    let Some(runtime) = Runtime::new("auxiliary chain", |bed: &Bed| vec![bed.macvlan("10.1.2.0/24")]) else {
        return;
    };
    let vendor = "#!/bin/sh\nconfig=$(cat)\nprintf '%s %s %s\\n' \"$CNI_COMMAND\" \"$CNI_IFNAME\" \"$config\" \
                  >>\"$(dirname \"$0\")/log.vendor\"\n[ \"$CNI_COMMAND\" != ADD ] || printf '{\"cniVersion\":\"1.1.0\"}'\n";
    let file = runtime.folder("bin/vendor");
    fs::write(&file, vendor).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir_all(runtime.folder("conf/chain")).unwrap();
    let write = |name: &str, config: &Value| fs::write(runtime.folder(name), config.to_string()).unwrap();
    write(
        "conf/chain/10-sysctl.conf",
        &json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}),
    );
    write("conf/chain/20-vendor.conf", &json!({"type": "vendor", "key": true}));
    let mut config = runtime.config();
    (config["auxiliaryCNIChainName"], config["strictCheck"]) = (json!("chain"), json!(true));
    let pod = runtime.bed.pod();
    let before = settled(&runtime, &pod);
    let setting = || {
        let path = "/proc/sys/net/ipv4/conf/eth0/arp_filter";
        pod.netns().run(|| fs::read_to_string(path)).unwrap().unwrap()
    };
    runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    assert_eq!(setting().trim(), "1");
    let names: Vec<_> = report(&runtime).networks.iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, ["default/net1"], "a chain has no interface to be told of");
    runtime.call_with("CHECK", "c1", &pod.path(), &config).unwrap();
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
    let log = fs::read_to_string(runtime.folder("bin/log.vendor")).unwrap();
    let called: Vec<_> =
        log.lines().map(|line| line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(called, ["ADD net2", "CHECK net2", "DEL net2"]);
    let input: Value =
        serde_json::from_str(log.lines().next().unwrap().splitn(3, ' ').last().unwrap()).unwrap();
    assert_eq!((&input["name"], &input["key"]), (&json!("chain"), &json!(true)));
    assert_eq!(input["prevResult"], json!({"cniVersion": "1.1.0"}));
    assert_eq!(
        told(&runtime),
        [(Happening::Removed, "Remove eth0 from cluster, net1 from default/net1".to_owned())]
    );

    // A pod that has nothing but its primary network does not need the agent for it.
    fs::remove_file(runtime.folder("agent.sock")).unwrap();
    let mut plain = config.clone();
    plain["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": {}});
    runtime.call_with("ADD", "c2", &pod.path(), &plain).unwrap();
    assert_eq!(setting().trim(), "1");
    runtime.call_with("DEL", "c2", &pod.path(), &plain).unwrap();
    // Its failure takes everything back.
    fs::write(&file, "#!/bin/sh\n[ \"$CNI_COMMAND\" != ADD ]\n").unwrap();
    let error = runtime.call_with("ADD", "c3", &pod.path(), &plain).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("network chain for interface net1"), "{error}");
    assert_eq!(runtime.differences(&before, Some(&pod)), "");
}
