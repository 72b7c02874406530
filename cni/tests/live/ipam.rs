//! Addresses given in process: nothing is executed here, there is no folder of plugins.

use serde_json::json;

use crate::support::Bed;

#[test]
fn an_attachment_gets_its_address_and_gives_it_back_without_any_plugin_on_disk() {
    let Some(bed) = Bed::new("host-local in process") else { return };
    let pod = bed.pod();
    let record = bed.attach("c1", "net1", &pod, &bed.macvlan("10.1.2.0/24")).unwrap();
    assert_eq!(pod.addresses("net1"), ["10.1.2.2/24"]);
    assert_eq!(record.result.unwrap().routes.len(), 1);
    assert_eq!(bed.reserved(), ["10.1.2.2"]);
    bed.detach("c1", Some(&pod)).unwrap();
    assert!(pod.link("net1").is_none());
    assert_eq!(bed.reserved(), Vec::<String>::new());
}

#[test]
fn static_addresses_need_no_plugin_on_disk_either() {
    let Some(bed) = Bed::new("static in process") else { return };
    let pod = bed.pod();
    let mut config = bed.macvlan("10.1.2.0/24");
    config["ipam"] =
        json!({"type": "static", "addresses": [{"address": "10.7.0.5/24"}, {"address": "fd00::5/64"}]});
    bed.attach("c1", "net1", &pod, &config).unwrap();
    assert_eq!(pod.addresses("net1"), ["10.7.0.5/24", "fd00::5/64"]);
    bed.detach("c1", Some(&pod)).unwrap();
}

#[test]
fn p10_p11_addresses_are_given_back_when_the_namespace_is_gone() {
    let Some(bed) = Bed::new("DEL without namespace") else { return };
    let pod = bed.pod();
    bed.attach("c1", "net1", &pod, &bed.macvlan("10.1.2.0/24")).unwrap();
    drop(pod);
    bed.detach("c1", None).unwrap();
    bed.detach("c1", None).unwrap();
    assert_eq!(bed.reserved(), Vec::<String>::new());
}

#[test]
fn p18_a_failing_ipam_leaves_neither_link_nor_address() {
    let Some(bed) = Bed::new("rollback") else { return };
    let (first, second) = (bed.pod(), bed.pod());
    let config = bed.macvlan("10.1.2.0/30");
    bed.attach("c1", "net1", &first, &config).unwrap();
    let error = bed.attach("c2", "net1", &second, &config).unwrap_err();
    assert!(error.msg.contains("no IP addresses available"), "{error}");
    assert!(second.link("net1").is_none());
    assert_eq!(bed.reserved(), ["10.1.2.2"]);
    // A wrong configuration is refused before anything is done.
    let mut wrong = config.clone();
    wrong["ipam"]["subnet"] = json!("10.1.2.1/24");
    assert!(bed.attach("c2", "net1", &second, &wrong).unwrap_err().msg.contains("host bits"));
}

#[test]
fn p19_an_ipam_that_gives_no_address_is_an_error_that_leaves_nothing() {
    let Some(bed) = Bed::new("no address") else { return };
    let pod = bed.pod();
    let mut config = bed.macvlan("10.1.2.0/24");
    config["ipam"] = json!({"type": "static"});
    assert!(bed.attach("c1", "net1", &pod, &config).unwrap_err().msg.contains("gave no address"));
    assert!(pod.link("net1").is_none());
}

#[test]
fn a_full_network_takes_back_what_dead_sandboxes_of_ours_had() {
    let Some(bed) = Bed::new("reservations of the dead") else { return };
    let config = bed.macvlan("10.1.2.0/29");
    for number in 0..5 {
        let dead = bed.pod();
        bed.attach(&format!("dead{number}"), "net1", &dead, &config).unwrap();
    }
    let (pod, other) = (bed.pod(), bed.pod());
    bed.attach("c1", "net1", &pod, &config).unwrap();
    assert_eq!(bed.reserved().len(), 1, "all five were given back, not only one");
    // An address that is asked for and that a dead sandbox has.
    let mut wanted = config.clone();
    wanted["runtimeConfig"] = json!({"ips": ["10.1.2.5"]});
    bed.attach("dead", "net1", &bed.pod(), &wanted).unwrap();
    bed.attach("c2", "net1", &other, &wanted).unwrap();
    assert_eq!(other.addresses("net1"), ["10.1.2.5/29"]);
    let error = bed.attach("c3", "net1", &bed.pod(), &wanted).unwrap_err();
    assert!(error.msg.contains("10.1.2.5 is not available"), "{error}");
}
