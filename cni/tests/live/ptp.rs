//! ptp: pods that reach everything through the host.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Bed, Namespace, talk};

fn network(bed: &Bed) -> Value {
    let ranges = json!([[{"subnet": "10.4.0.0/24"}], [{"subnet": "fd04::/64"}]]);
    json!({"cniVersion": "1.1.0", "name": "net", "type": "ptp", "mtu": 1400,
        "ipam": {"type": "host-local", "ranges": ranges, "dataDir": bed.dir.path().join("networks"),
                 "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}})
}

fn routes(namespace: &Namespace, link: &str) -> Vec<String> {
    let link = namespace.link(link).unwrap();
    let routes = namespace.route().routes(&link).unwrap().into_iter();
    let routes = routes.filter(|route| route.table == 254 && !route.dst.to_string().starts_with("fe80"));
    let text = |gateway: Option<std::net::IpAddr>| {
        gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default()
    };
    let mut routes: Vec<String> =
        routes.map(|route| format!("{}{}", route.dst, text(route.gateway))).collect();
    routes.sort();
    routes
}

#[test]
fn pods_reach_each_other_through_the_host_and_leave_nothing() {
    let Some(bed) = Bed::new("ptp") else { return };
    let before = bed.host_state();
    let (first, second) = (bed.pod(), bed.pod());
    let config = network(&bed);
    let result = bed.call("ptp", "ADD", &config, "c1", &first.path()).unwrap();
    bed.call("ptp", "ADD", &config, "c2", &second.path()).unwrap();
    let port = result["interfaces"][0]["name"].as_str().unwrap();
    assert!(result["interfaces"][0].get("sandbox").is_none() && port.starts_with("veth"), "{result}");
    assert_eq!(result["interfaces"][1]["name"], "net1");
    assert!(result["ips"].as_array().unwrap().iter().all(|ip| ip["interface"] == 1), "{result}");
    assert_eq!(bed.host.addresses(port), ["10.4.0.1/32", "fd04::1/128"]);
    assert_eq!(routes(&bed.host, port), ["10.4.0.2/32", "fd04::1/128", "fd04::2/128"]);
    let wanted = [
        "0.0.0.0/0 via 10.4.0.1",
        "10.4.0.0/24 via 10.4.0.1",
        "10.4.0.1/32",
        "::/0 via fd04::1",
        "fd04::/64 via fd04::1",
        "fd04::1/128",
    ];
    assert_eq!(routes(&first, "net1"), wanted);
    talk(&first, &second, "10.4.0.3");
    talk(&first, &second, "fd04::3");
    let mut check = config.clone();
    check["prevResult"] = result.clone();
    bed.call("ptp", "CHECK", &check, "c1", &first.path()).unwrap();
    bed.call("ptp", "DEL", &config, "c1", Path::new("")).unwrap();
    bed.call("ptp", "DEL", &config, "c2", &second.path()).unwrap();
    assert!(first.link("net1").is_none() && second.link("net1").is_none());
    assert_eq!(bed.host_state(), before);
    assert!(bed.reserved().is_empty());
}

#[test]
fn a_second_pod_of_the_same_address_is_told_so_and_the_first_one_stays_reachable() {
    let Some(bed) = Bed::new("ptp of one address") else { return };
    let (first, second) = (bed.pod(), bed.pod());
    let addresses = json!([{"address": "10.4.0.9/24", "gateway": "10.4.0.1"}]);
    let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "ptp", "ipam": {"type": "static", "addresses": addresses}});
    bed.call("ptp", "ADD", &config, "c1", &first.path()).unwrap();
    let before = bed.host_state();
    let error = bed.call("ptp", "ADD", &config, "c2", &second.path()).unwrap_err();
    assert_eq!(error["code"], 11, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("10.4.0.9/32"), "{error}");
    assert!(second.link("net1").is_none());
    assert_eq!(bed.host_state(), before);
}

#[test]
fn mistakes_of_ptp_are_named_and_undone() {
    let Some(bed) = Bed::new("mistakes of ptp") else { return };
    let before = bed.host_state();
    let pod = bed.pod();
    let ipam = json!({"type": "static", "addresses": [{"address": "10.4.0.9/24"}]});
    for (key, value, word) in [
        ("ipam", json!({}), "ipam"),
        ("ipam", ipam, "gateway"),
        ("ipMasq", json!(true), "ipMasq"),
        ("mtu", json!(10), "mtu"),
    ] {
        let mut config = network(&bed);
        config[key] = value;
        let error = bed.call("ptp", "ADD", &config, "c1", &pod.path()).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains(word), "{error}");
        assert!(pod.link("net1").is_none());
    }
    assert_eq!(bed.host_state(), before);
    assert!(bed.reserved().is_empty());
}
