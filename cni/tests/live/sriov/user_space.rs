//! VFs for programs that bring their own driver.

use serde_json::json;

use super::node::{Node, bind};

#[test]
fn s22_s23_a_vf_in_user_space_is_set_up_through_its_pf_and_let_go_at_the_first_del() {
    let Some(node) = Node::new("user space", 1) else { return };
    let vf = &node.vfs[0];
    for driver in ["vfio-pci", "uio_pci_generic"] {
        assert!(std::process::Command::new("modprobe").arg(driver).status().unwrap().success());
        bind(vf, driver);
        let before = node.state(0);
        assert_eq!(before.link, None);
        let ipam = json!({"type": "static", "addresses": [{"address": "10.22.0.2/24"}]});
        let keys =
            json!({"mac": "02:fa:00:00:22:01", "vlan": 22, "trust": "on", "spoofchk": "off", "ipam": ipam});
        let (pod, mut config) = (node.bed.pod(), node.config(0, &keys));
        let result = node.add("c1", &pod, &config).unwrap();
        let interface = &result["interfaces"][0];
        assert_eq!((&interface["name"], &interface["mac"]), (&json!("net1"), &json!("02:fa:00:00:22:01")));
        assert_eq!((&interface["pciID"], &interface["mtu"]), (&json!(vf), &json!(1500)));
        assert_eq!(interface["sandbox"], json!(pod.path()));
        assert_eq!(result["ips"][0]["address"], "10.22.0.2/24");
        let during = node.state(0).vf;
        assert_eq!((during.vlan, during.trust, during.spoof_check), (Some(22), Some(true), Some(false)));
        assert_eq!(during.mac.unwrap().to_string(), "02:fa:00:00:22:01");
        assert_eq!(pod.route().links().unwrap().len(), 1);
        config["prevResult"] = result;
        node.bed.call("sriov", "CHECK", &config, "c1", &pod.path()).unwrap();
        node.del("c1", &pod, &config);
        assert_eq!(node.state(0), before, "{driver}");
        let wanting = node.config(0, &json!({"promisc": true, "trust": "on"}));
        let error = node.add("c1", &pod, &wanting).unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains("user space"), "{error}");
    }
    node.rebind(0);
}

#[test]
fn s24_s25_s35_devices_that_cannot_be_handed_over_are_named() {
    let Some(node) = Node::new("devices that are no use", 1) else { return };
    let pod = node.bed.pod();
    let says = |keys: &serde_json::Value, words: [&str; 2]| {
        let error = node.add("c1", &pod, &node.config(0, keys)).unwrap_err();
        let text = error["msg"].as_str().unwrap();
        assert!(words.iter().all(|word| text.contains(word)) && !text.contains("not found"), "{error}");
    };
    says(&json!({"deviceID": ""}), ["resourceName", "deviceID"]);
    says(&json!({"deviceID": "0000:ff:10.0"}), ["0000:ff:10.0", "does not exist"]);
    says(&json!({"deviceID": "0000:01:00.0"}), ["0000:01:00.0", "virtual function"]);
    says(&json!({"deviceID": "mlx5_core.sf.2"}), ["mlx5_core.sf.2", "scalable function"]);
    let vf = &node.vfs[0];
    bind(vf, "none");
    says(&json!({}), [vf, "driver"]);
    node.rebind(0);
}
