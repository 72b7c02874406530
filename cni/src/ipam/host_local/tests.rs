use serde_json::json;

use super::*;
use crate::protocol::env::CniArgs;

const LIMIT: Duration = Duration::from_secs(60);

/// A network `net` with a store of its own.
struct Bed {
    dir: tempfile::TempDir,
    config: Value,
    args: &'static str,
    version: &'static str,
}

impl Bed {
    fn new(ipam: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = json!({"name": "net"});
        config["ipam"] = ipam;
        config["ipam"]["dataDir"] = json!(dir.path());
        Self { dir, config, args: "", version: "1.0.0" }
    }

    fn fields(&self) -> Fields {
        serde_json::from_value(self.config.clone()).unwrap()
    }

    fn parse(&self) -> Result<HostLocal, IpamError> {
        let args = CniArgs::parse(self.args).unwrap();
        HostLocal::parse(&Request { fields: &self.fields(), args: &args, version: self.version })
    }

    fn result(&self, container: &str, interface: &str) -> Result<CniResult, IpamError> {
        self.parse()?.add(&owner(container, interface), LIMIT)
    }

    /// The addresses of an ADD.
    fn add(&self, container: &str) -> Result<Vec<String>, IpamError> {
        let ips = self.result(container, "net1")?.ips;
        Ok(ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    fn error(&self, container: &str) -> String {
        self.add(container).unwrap_err().to_string()
    }

    fn del(&self, container: &str) {
        release(&self.fields(), &owner(container, "net1"), LIMIT).unwrap();
    }

    /// Names of the reservations.
    fn reserved(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("net")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.parse::<IpAddr>().is_ok()).collect();
        names.sort();
        names
    }
}

fn owner(container: &str, interface: &str) -> Owner {
    Owner { container_id: container.into(), interface: interface.into() }
}

#[test]
fn h1_h2_addresses_go_round_and_a_released_one_comes_last() {
    let bed = Bed::new(json!({"subnet": "10.1.2.0/29", "routes": [{"dst": "0.0.0.0/0"}]}));
    let first = bed.result("c0", "net1").unwrap();
    assert_eq!(
        serde_json::to_value(&first).unwrap(),
        json!({"ips": [{"address": "10.1.2.2/29", "gateway": "10.1.2.1"}], "routes": [{"dst": "0.0.0.0/0"}]})
    );
    bed.del("c0");
    let given: Vec<String> = (1..=5).flat_map(|n| bed.add(&format!("c{n}")).unwrap()).collect();
    assert_eq!(given, ["10.1.2.3/29", "10.1.2.4/29", "10.1.2.5/29", "10.1.2.6/29", "10.1.2.2/29"]);
}

#[test]
fn h4_a_full_network_says_which_ranges_are_taken() {
    let bed = Bed::new(json!({"subnet": "10.1.2.0/30"}));
    bed.add("c1").unwrap();
    let error = bed.add("c2").unwrap_err();
    assert!(error.is_shortage());
    assert!(
        error.to_string().contains("no IP addresses available in range set: 10.1.2.1-10.1.2.2"),
        "{error}"
    );
    bed.del("c1");
    assert_eq!(bed.add("c2").unwrap(), ["10.1.2.2/30"]);
}

#[test]
fn h6_sets_that_overlap_or_are_missing_are_refused() {
    for (ipam, word) in [
        (json!({}), "no IP ranges"),
        (json!({"ranges": [[]]}), "empty"),
        (json!({"ranges": [{"subnet": "10.1.2.0/24"}]}), "list of lists"),
        (json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.2.128/25"}]]}), "overlaps with 1"),
        (json!({"subnet": "10.1.2.0/24", "ranges": [[{"subnet": "10.1.0.0/16"}]]}), "overlaps with 1"),
    ] {
        let error = Bed::new(ipam).error("c1");
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn h7_an_address_may_be_asked_for_in_three_ways() {
    let mut bed = Bed::new(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/64"}]]}));
    bed.args = "IP=10.1.2.50/24";
    assert_eq!(bed.add("c1").unwrap(), ["10.1.2.50/24", "fd00::2/64"]);
    bed.args = "";
    bed.config["args"] = json!({"cni": {"ips": ["fd00::99"]}});
    assert_eq!(bed.add("c2").unwrap(), ["10.1.2.51/24", "fd00::99/64"]);
    bed.config["runtimeConfig"] = json!({"IPs": ["10.1.2.9/24", "10.1.2.9"]});
    bed.config["args"] = Value::Null;
    assert_eq!(bed.add("c3").unwrap(), ["10.1.2.9/24", "fd00::9a/64"]);
}

#[test]
fn h7_a_request_that_cannot_be_met_leaves_nothing() {
    let mut bed = Bed::new(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.9.0.0/30"}]]}));
    bed.add("c0").unwrap();
    let before = bed.reserved();
    for (args, word) in [
        ("IP=10.7.0.1", "failed to allocate all requested IPs: 10.7.0.1"),
        ("IP=10.1.2.7,10.1.2.8", "failed to allocate all requested IPs: 10.1.2.8"),
        ("IP=10.1.2.1", "requested ip 10.1.2.1 is subnet's gateway"),
        ("IP=10.1.2.2", "requested IP address 10.1.2.2 is not available in range set 10.1.2.1-10.1.2.254"),
        ("IP=10.1.2", "\"IP\""),
        // The first set has an address; the second is full.
        ("", "no IP addresses available"),
    ] {
        bed.args = args;
        let error = bed.error("c1");
        assert!(error.contains(word), "{error}");
        assert_eq!(bed.reserved(), before, "{args}");
    }
}

#[test]
fn h8_p16_ranges_of_the_runtime_come_first() {
    let mut bed = Bed::new(json!({"subnet": "10.1.2.0/24", "ranges": [[{"subnet": "10.3.0.0/24"}]]}));
    bed.config["runtimeConfig"] =
        json!({"ipRanges": [[{"Subnet": "10.5.0.0/24", "RangeStart": "10.5.0.7"}]]});
    assert_eq!(bed.add("c1").unwrap(), ["10.5.0.7/24", "10.1.2.2/24", "10.3.0.2/24"]);
}

#[test]
fn h9_addresses_come_in_the_order_of_the_sets() {
    let bed = Bed::new(json!({"ranges": [[{"subnet": "fd00::/64"}], [{"subnet": "10.1.2.0/24"}]]}));
    assert_eq!(bed.add("c1").unwrap(), ["fd00::2/64", "10.1.2.2/24"]);
    assert_eq!(bed.reserved(), ["10.1.2.2", "fd00::2"]);
}

#[test]
fn h10_a_second_add_for_an_interface_is_refused_and_another_interface_is_not() {
    let bed = Bed::new(json!({"subnet": "10.1.2.0/24"}));
    bed.add("c1").unwrap();
    assert!(bed.error("c1").contains("10.1.2.2 has been allocated to c1"));
    assert_eq!(bed.result("c1", "net2").unwrap().ips[0].address.to_string(), "10.1.2.3/24");
    assert_eq!(bed.reserved(), ["10.1.2.2", "10.1.2.3"]);
}

#[test]
fn h13_a_resolver_file_is_reported_and_a_missing_one_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
    let bed = Bed::new(json!({"subnet": "10.1.2.0/24", "resolvConf": file}));
    assert_eq!(bed.result("c1", "net1").unwrap().dns["nameservers"], json!(["192.0.2.1"]));
    fs::remove_file(&file).unwrap();
    assert!(bed.error("c2").contains("resolvConf"));
    assert_eq!(bed.reserved(), ["10.1.2.2"]);
}

#[test]
fn h17_the_oldest_versions_have_room_for_one_address_of_a_family() {
    let mut bed = Bed::new(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.3.0.0/24"}]]}));
    bed.version = "0.2.0";
    assert!(bed.error("c1").contains("CNI version 0.2.0 does not support more than 1 address per family"));
    bed.version = "0.3.0";
    bed.add("c1").unwrap();
}

#[test]
fn h18_gc_frees_all_but_valid_reservations() {
    let bed = Bed::new(json!({"subnet": "10.1.2.0/24"}));
    for container in ["c1", "c2"] {
        bed.add(container).unwrap();
    }
    bed.result("c1", "net2").unwrap();
    fs::write(bed.dir.path().join("net/10.1.2.90"), "c2").unwrap();
    fs::write(bed.dir.path().join("net/10.1.2.91"), "c9").unwrap();
    collect(&bed.fields(), &[owner("c1", "net2"), owner("c2", "eth0")], LIMIT).unwrap();
    assert_eq!(bed.reserved(), ["10.1.2.4", "10.1.2.90"]);
}

#[test]
fn h19_a_dense_network_of_ten_thousand_still_gives_the_one_free_address() {
    let bed = Bed::new(json!({"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.39.17"}));
    let store = bed.dir.path().join("net");
    fs::create_dir(&store).unwrap();
    let free: IpAddr = "10.1.30.0".parse().unwrap();
    let spec = bed.parse().unwrap();
    let addresses =
        spec.sets[0].0.candidates(None).map(|(address, _)| address).filter(|address| *address != free);
    for (number, address) in addresses.enumerate() {
        fs::write(store.join(address.to_string()), format!("c{number}\r\nnet1")).unwrap();
    }
    assert_eq!(bed.add("new").unwrap(), ["10.1.30.0/16"]);
    assert!(bed.add("newer").unwrap_err().is_shortage());
    bed.del("c9000");
    assert_eq!(bed.add("newer").unwrap().len(), 1);
}

#[test]
fn p9_p12_h20_giving_back_needs_no_valid_configuration() {
    let mut bed = Bed::new(json!({"subnet": "10.1.2.0/24"}));
    bed.add("c1").unwrap();
    bed.config["ipam"]["subnet"] = json!("nonsense");
    bed.del("c1");
    bed.del("c1");
    bed.del("never-added");
    assert_eq!(bed.reserved(), Vec::<String>::new());
}

#[test]
fn check_wants_a_reservation_of_the_interface_or_an_old_one_of_the_container() {
    let bed = Bed::new(json!({"subnet": "10.1.2.0/24"}));
    let check = |container: &str| check(&bed.fields(), &owner(container, "net1"), LIMIT);
    assert!(check("c1").unwrap_err().to_string().contains("c1"));
    bed.add("c1").unwrap();
    check("c1").unwrap();
    fs::write(bed.dir.path().join("net/10.1.2.90"), "c2").unwrap();
    check("c2").unwrap();
}
