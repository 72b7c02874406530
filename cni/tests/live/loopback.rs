//! loopback, as containerd calls it.

use serde_json::json;

use crate::support::Bed;

#[test]
fn lo_comes_up_with_its_addresses_and_goes_down_again() {
    let Some(bed) = Bed::new("loopback") else { return };
    let pod = bed.pod();
    let config = json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"});
    let call = |verb, config| bed.call("loopback", verb, config, "c1", &pod.path());
    let result = call("ADD", &config).unwrap();
    assert_eq!(result["interfaces"][0]["name"], "lo");
    assert_eq!(result["interfaces"][0]["mac"], "00:00:00:00:00:00");
    assert_eq!(result["interfaces"][0]["sandbox"], json!(pod.path()));
    assert_eq!(
        (&result["ips"][0]["address"], &result["ips"][0]["interface"]),
        (&json!("127.0.0.1/8"), &json!(0))
    );
    assert!(pod.link("lo").unwrap().up);
    let mut check = config.clone();
    check["cniVersion"] = json!("0.4.0");
    call("CHECK", &check).unwrap();
    for _ in 0..2 {
        call("DEL", &config).unwrap();
        assert!(!pod.link("lo").unwrap().up);
    }
    assert!(call("CHECK", &check).unwrap_err()["msg"].as_str().unwrap().contains("lo is down"));
    bed.call("loopback", "DEL", &config, "c1", &bed.dir.path().join("gone")).unwrap();
    assert!(!bed.dir.path().join("state").exists(), "nothing is recorded");
}

#[test]
fn the_result_of_the_plugin_before_is_handed_on() {
    let Some(bed) = Bed::new("chained loopback") else { return };
    let before = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}]});
    let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "loopback", "prevResult": before});
    assert_eq!(bed.call("loopback", "ADD", &config, "c1", &bed.pod().path()).unwrap(), before);
}
