//! bridge: pods that are ports of a bridge of the host.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, thread};

use fairlead_kernel::{
    LinkChange, LinkKind, NewLink,
    route::{AddressFlags, BridgePort, PortVlan},
};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace, talk};

/// A bridge with addresses of both families from a store of the test's own.
fn network(bed: &Bed, keys: &Value) -> Value {
    let ranges = json!([[{"subnet": "10.3.0.0/24"}], [{"subnet": "fd03::/64"}]]);
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0",
        "ipam": {"type": "host-local", "ranges": ranges, "dataDir": bed.dir.path().join("networks")}});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn add(bed: &Bed, config: &Value, container: &str, pod: &Namespace) -> Result<Value, Value> {
    bed.call("bridge", "ADD", config, container, &pod.path())
}

fn del(bed: &Bed, config: &Value, container: &str, pod: &Namespace) {
    bed.call("bridge", "DEL", config, container, &pod.path()).unwrap();
}

/// Name of the host's end.
fn port(result: &Value) -> &str {
    result["interfaces"][1]["name"].as_str().unwrap()
}

fn message(error: &Value) -> &str {
    error["msg"].as_str().unwrap()
}

/// A bridge that somebody else made.
fn make_bridge(bed: &Bed, address: Option<&str>) {
    bed.host.route().add_link(&NewLink::new("br0", LinkKind::Bridge)).unwrap();
    let link = bed.host.link("br0").unwrap();
    // A bridge whose MTU nobody set has the smallest of its ports.
    let mtu = LinkChange { mtu: Some(1450), ..LinkChange::default() };
    bed.host.route().set_link(&link, &mtu).unwrap();
    if let Some(address) = address {
        bed.host.route().add_address(&link, &address.parse().unwrap(), AddressFlags::default()).unwrap();
    }
}

#[test]
fn pods_reach_each_other_and_their_gateway_and_leave_only_the_bridge() {
    let Some(bed) = Bed::new("bridge") else { return };
    let (first, second) = (bed.pod(), bed.pod());
    let config = network(&bed, &json!({"isDefaultGateway": true, "mtu": 1400}));
    let result = add(&bed, &config, "c1", &first).unwrap();
    add(&bed, &config, "c2", &second).unwrap();
    let names: Vec<&Value> =
        result["interfaces"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&json!("br0"), &json!(port(&result)), &json!("net1")]);
    assert_eq!(result["interfaces"][2]["sandbox"], json!(first.path()));
    assert!(result["ips"].as_array().unwrap().iter().all(|ip| ip["interface"] == 2), "{result}");
    assert_eq!(
        result["routes"],
        json!([{"dst": "0.0.0.0/0", "gw": "10.3.0.1"}, {"dst": "::/0", "gw": "fd03::1"}])
    );
    for (place, namespace, name) in
        [(0, &bed.host, "br0"), (1, &bed.host, port(&result)), (2, &first, "net1")]
    {
        let (link, reported) = (namespace.link(name).unwrap(), &result["interfaces"][place]);
        assert_eq!(reported["mac"], json!(link.mac.unwrap().to_string()), "{name}");
        assert_eq!((&reported["mtu"], link.mtu, link.up), (&json!(1400), 1400, true), "{name}");
    }
    assert_eq!(bed.host.addresses("br0"), ["10.3.0.1/24", "fd03::1/64"]);
    talk(&first, &second, "10.3.0.3");
    talk(&first, &second, "fd03::3");
    talk(&first, &bed.host, "fd03::1");
    let mut check = config.clone();
    check["prevResult"] = result;
    bed.call("bridge", "CHECK", &check, "c1", &first.path()).unwrap();
    for _ in 0..2 {
        del(&bed, &config, "c1", &first);
        // Its namespace is gone.
        bed.call("bridge", "DEL", &config, "c2", Path::new("")).unwrap();
    }
    let names: Vec<String> = bed.host.route().links().unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(names, ["lo", "switch0", "uplink0", "br0"]);
    assert!(first.link("net1").is_none() && bed.reserved().is_empty());
}

#[test]
fn every_version_tells_all_interfaces_that_it_can() {
    let Some(bed) = Bed::new("versions of bridge") else { return };
    let pod = bed.pod();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let config = network(&bed, &json!({"cniVersion": version}));
        let result = add(&bed, &config, "c1", &pod).unwrap();
        if version < "0.3.0" {
            assert!(result["ip4"]["ip"].as_str().unwrap().ends_with("/24"), "{result}");
        } else {
            assert_eq!(result["interfaces"].as_array().unwrap().len(), 3, "{result}");
            assert_eq!(result["ips"][0].get("version").is_some(), version < "1.0.0", "{result}");
            assert_eq!(result["interfaces"][2].get("mtu").is_some(), version == "1.1.0", "{result}");
        }
        del(&bed, &config, "c1", &pod);
    }
}

#[test]
fn an_add_that_fails_takes_away_the_bridge_that_it_made() {
    let Some(bed) = Bed::new("failing bridge") else { return };
    let before = bed.host_state();
    let pod = bed.pod();
    let twice =
        json!({"type": "static", "addresses": [{"address": "10.3.0.5/24"}, {"address": "10.3.0.5/24"}]});
    let config = network(&bed, &json!({"isGateway": true, "ipam": twice}));
    for _ in 0..2 {
        add(&bed, &config, "c1", &pod).unwrap_err();
        assert_eq!(bed.host_state(), before);
        assert!(pod.link("net1").is_none());
    }
    // The second attachment of a pod fails: what the first one made for all is of no use either.
    let good = network(&bed, &json!({"isGateway": true}));
    bed.attach("c2", "net1", &pod, &good).unwrap();
    let made = bed.host_state();
    let other = network(&bed, &json!({"bridge": "br1", "ipam": twice}));
    bed.attach("c3", "net2", &pod, &other).unwrap_err();
    assert_eq!(bed.host_state(), made, "the other bridge stays");
}

#[test]
fn a_bridge_that_is_there_is_used_as_it_is() {
    let Some(bed) = Bed::new("bridge of somebody else") else { return };
    make_bridge(&bed, Some("10.3.0.1/24"));
    let before = bed.host.link("br0").unwrap();
    let pod = bed.pod();
    let config = network(&bed, &json!({"isGateway": true, "mtu": 1300}));
    let result = add(&bed, &config, "c1", &pod).unwrap();
    let now = bed.host.link("br0").unwrap();
    assert_eq!((now.index, now.mtu, now.up, now.mac), (before.index, 1450, true, before.mac));
    assert_eq!(bed.host.addresses("br0"), ["10.3.0.1/24", "fd03::1/64"]);
    assert_eq!(result["interfaces"][0]["mac"], json!(now.mac.unwrap().to_string()));
    assert_eq!((pod.link("net1").unwrap().mtu, bed.host.link(port(&result)).unwrap().mtu), (1300, 1300));
    // It keeps its hardware address, whatever ports it has.
    let second = bed.pod();
    add(&bed, &config, "c2", &second).unwrap();
    del(&bed, &config, "c1", &pod);
    del(&bed, &config, "c2", &second);
    assert_eq!(bed.host.link("br0").unwrap().mac, before.mac);
}

#[test]
fn a_bridge_with_a_port_of_its_own_keeps_its_hardware_address() {
    let Some(bed) = Bed::new("bridge with an uplink") else { return };
    make_bridge(&bed, None);
    let (bridge, uplink) = (bed.host.link("br0").unwrap(), bed.host.link("uplink0").unwrap());
    let join = LinkChange {
        mac: Some("02:ff:ff:ff:ff:ff".parse().unwrap()),
        master: Some(bridge.index),
        ..LinkChange::default()
    };
    bed.host.route().set_link(&uplink, &join).unwrap();
    let before = bed.host.link("br0").unwrap().mac;
    for keys in [json!({}), json!({"isGateway": true})] {
        let pod = bed.pod();
        let config = network(&bed, &keys);
        add(&bed, &config, "c1", &pod).unwrap();
        assert_eq!(bed.host.link("br0").unwrap().mac, before, "{keys}");
        del(&bed, &config, "c1", &pod);
        assert_eq!(bed.host.link("br0").unwrap().mac, before, "{keys}");
    }
}

#[test]
fn a_bridge_of_another_address_is_refused_unless_it_may_be_replaced() {
    let Some(bed) = Bed::new("bridge of another address") else { return };
    make_bridge(&bed, Some("10.99.0.1/16"));
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    bed.host.route().set_link(&bed.host.link("br0").unwrap(), &up).unwrap();
    let before = bed.host_state();
    let pod = bed.pod();
    let error = add(&bed, &network(&bed, &json!({"isGateway": true})), "c1", &pod).unwrap_err();
    assert!(message(&error).contains("10.99.0.1/16") && message(&error).contains("forceAddress"), "{error}");
    assert_eq!(bed.host_state(), before);
    assert!(bed.reserved().is_empty() && pod.link("net1").is_none());
    add(&bed, &network(&bed, &json!({"isGateway": true, "forceAddress": true})), "c1", &pod).unwrap();
    assert_eq!(bed.host.addresses("br0"), ["10.3.0.1/24", "fd03::1/64"]);
}

#[test]
fn pods_that_come_at_once_share_one_bridge() {
    let Some(bed) = Bed::new("many pods on a bridge") else { return };
    let config = network(&bed, &json!({"isGateway": true}));
    let pods: Vec<Namespace> = (0..6).map(|_| bed.pod()).collect();
    let results: Vec<Value> = thread::scope(|scope| {
        let add = |(place, pod)| {
            let (bed, config) = (&bed, &config);
            scope.spawn(move || add(bed, config, &format!("c{place}"), pod).unwrap())
        };
        let calls: Vec<_> = pods.iter().enumerate().map(add).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let bridge = bed.host.link("br0").unwrap();
    let mac = json!(bridge.mac.unwrap().to_string());
    assert!(results.iter().all(|result| result["interfaces"][0]["mac"] == mac), "{results:?}");
    assert!(results.iter().all(|result| bed.host.link(port(result)).unwrap().master == Some(bridge.index)));
    talk(&pods[0], &bed.host, "10.3.0.1");
}

#[test]
fn ports_have_what_the_network_asks_for() {
    let Some(bed) = Bed::new("ports") else { return };
    let pod = bed.pod();
    let keys = json!({"hairpinMode": true, "portIsolation": true, "ipam": {},
        "runtimeConfig": {"mac": "02:00:00:00:00:77"}});
    let config = network(&bed, &keys);
    let result = add(&bed, &config, "c1", &pod).unwrap();
    let wanted = BridgePort { hairpin: true, isolated: true };
    assert_eq!(bed.host.link(port(&result)).unwrap().port, Some(wanted));
    assert_eq!(pod.link("net1").unwrap().mac.unwrap().to_string(), "02:00:00:00:00:77");
    assert!(pod.link("net1").unwrap().up && result.get("ips").is_none(), "{result}");
    del(&bed, &config, "c1", &pod);
    let down = network(&bed, &json!({"promiscMode": true, "disableContainerInterface": true, "ipam": {}}));
    add(&bed, &down, "c1", &pod).unwrap();
    assert!(!pod.link("net1").unwrap().up);
    assert!(bed.host.link("br0").unwrap().promisc);
    del(&bed, &down, "c1", &pod);
}

#[test]
fn check_sees_a_port_that_left_its_bridge() {
    let Some(bed) = Bed::new("CHECK of bridge") else { return };
    let pod = bed.pod();
    let mut config = network(&bed, &json!({}));
    let result = add(&bed, &config, "c1", &pod).unwrap();
    let nobodys = LinkChange { master: Some(0), ..LinkChange::default() };
    bed.host.route().set_link(&bed.host.link(port(&result)).unwrap(), &nobodys).unwrap();
    config["prevResult"] = result.clone();
    let error = bed.call("bridge", "CHECK", &config, "c1", &pod.path()).unwrap_err();
    assert!(message(&error).contains("no port of bridge br0"), "{error}");
    bed.host.route().delete_link(&bed.host.link(port(&result)).unwrap()).unwrap();
    let error = bed.call("bridge", "CHECK", &config, "c1", &pod.path()).unwrap_err();
    assert!(message(&error).contains("no interface net1"), "{error}");
    del(&bed, &config, "c1", &pod);
    assert!(bed.reserved().is_empty());
}

#[test]
fn what_upstreams_plugin_made_is_removed_without_a_record() {
    let Some(bed) = Bed::new("bridge of upstream's") else { return };
    let pod = bed.pod();
    let netns = pod.netns();
    let kind = LinkKind::Veth { peer_name: "net1".into(), peer_netns: Some(&netns) };
    bed.host.route().add_link(&NewLink::new("veth0", kind)).unwrap();
    del(&bed, &network(&bed, &json!({})), "c1", &pod);
    assert!(bed.host.link("veth0").is_none());
}

#[test]
fn mistakes_of_bridge_are_refused_before_anything_is_done() {
    let Some(bed) = Bed::new("mistakes of bridge") else { return };
    let before = bed.host_state();
    let pod = bed.pod();
    for (key, value, word) in [
        ("bridge", json!("uplink0"), "no bridge"),
        ("bridge", json!("a-name-that-is-too-long"), "bridge"),
        ("vlan", json!(4095), "4094"),
        ("ipMasq", json!(true), "ipMasq"),
        ("macspoofchk", json!(true), "macspoofchk"),
        ("hairpinMode", json!("perhaps"), "hairpinMode"),
    ] {
        let error = add(&bed, &network(&bed, &json!({key: value})), "c1", &pod).unwrap_err();
        assert!(message(&error).contains(word), "{error}");
    }
    assert_eq!(bed.host_state(), before);
    assert!(pod.link("net1").is_none() && bed.reserved().is_empty());
}

#[test]
fn a_key_that_is_left_to_the_plugin_on_disk_goes_there() {
    let Some(bed) = Bed::new("bridge on disk") else { return };
    let pod = bed.pod();
    let folder = bed.dir.path().join("plugins");
    fs::create_dir(&folder).unwrap();
    let calls = folder.join("calls");
    let script = format!(
        "#!/bin/sh\necho $CNI_COMMAND >> {}\ncat >/dev/null\necho '{{\"cniVersion\":\"1.1.0\"}}'\n",
        calls.display()
    );
    fs::write(folder.join("bridge"), script).unwrap();
    fs::set_permissions(folder.join("bridge"), fs::Permissions::from_mode(0o755)).unwrap();
    let call = |verb, config: &Value| bed.call("bridge", verb, config, "c1", &pod.path());
    let masquerade = network(&bed, &json!({"ipMasq": true}));
    call("ADD", &masquerade).unwrap();
    call("DEL", &masquerade).unwrap();
    assert_eq!(fs::read_to_string(&calls).unwrap(), "ADD\nDEL\n");
    // A key that is off is no reason; and what was made here is undone here, whatever the configuration says by then.
    call("ADD", &network(&bed, &json!({"ipMasq": false}))).unwrap();
    assert!(pod.link("net1").is_some());
    call("DEL", &masquerade).unwrap();
    assert!(pod.link("net1").is_none() && bed.reserved().is_empty());
    assert_eq!(fs::read_to_string(&calls).unwrap(), "ADD\nDEL\n");
}

fn vlans(bed: &Bed, port: &str) -> Vec<PortVlan> {
    let index = bed.host.link(port).unwrap().index;
    bed.host.route().port_vlans().unwrap().remove(&index).unwrap_or_default()
}

#[test]
fn vlans_are_kept_apart_and_have_gateways_of_their_own() {
    let Some(bed) = Bed::new("VLANs of bridge") else { return };
    if !bed.has(LinkKind::VlanBridge, "vlanbridge") {
        return;
    }
    let before = bed.host_state();
    let keys = json!({"vlan": 100, "isGateway": true});
    // An address that the bridge's end of the VLAN cannot have.
    let mut failing = network(&bed, &keys);
    failing["ipam"] =
        json!({"type": "static", "addresses": [{"address": "10.3.0.5/24"}, {"address": "10.4.0.5/24"}]});
    let (first, second) = (bed.pod(), bed.pod());
    let error = add(&bed, &failing, "c1", &first).unwrap_err();
    assert!(message(&error).contains("br0.100"), "{error}");
    assert_eq!(bed.host_state(), before);

    let result = add(&bed, &network(&bed, &keys), "c1", &first).unwrap();
    assert_eq!(vlans(&bed, port(&result)), [PortVlan::access(100)]);
    assert_eq!(result["interfaces"][3]["name"], "br0.100");
    assert_eq!(bed.host.addresses("br0.100"), ["10.3.0.1/24", "fd03::1/64"]);
    assert!(bed.host.addresses("br0").is_empty());
    talk(&first, &bed.host, "10.3.0.1");
    let other = network(&bed, &json!({"vlan": 200, "preserveDefaultVlan": true}));
    let result = add(&bed, &other, "c2", &second).unwrap();
    assert_eq!(
        vlans(&bed, port(&result)),
        [PortVlan { ids: 1..=1, pvid: false, untagged: true }, PortVlan::access(200)]
    );
    let trunk = json!([{"minID": 10, "maxID": 11}, {"id": 100}]);
    let tagged = [10, 11, 100].map(|id| PortVlan::tagged(id..=id));
    for (number, vlan, native) in [("c3", 0, 1), ("c4", 7, 7)] {
        let keys = json!({"vlan": vlan, "vlanTrunk": trunk, "ipam": {}});
        let pod = bed.pod();
        let result = add(&bed, &network(&bed, &keys), number, &pod).unwrap();
        let mut wanted = vec![PortVlan::access(native)];
        wanted.extend(tagged.clone());
        assert_eq!(vlans(&bed, port(&result)), wanted);
    }
}
