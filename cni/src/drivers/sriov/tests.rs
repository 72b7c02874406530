//! What the emulated NIC's driver cannot do, on a PF at the kernel crate's edge.

use serde_json::{Value, json};

use super::{
    fake_pf::{Node, VF_LINK_STATE, VF_RATE, Vf},
    patience::Looks,
    *,
};
use crate::protocol::env::CniArgs;

fn spec(node: &mut Node, keys: Value) -> Result<Spec, CniError> {
    spec_in(&mut node.host, keys)
}

fn spec_in(host: &mut Host, keys: Value) -> Result<Spec, CniError> {
    let mut keys = keys;
    if keys.get("deviceID").is_none() {
        keys["deviceID"] = json!("0000:01:10.2");
    }
    let fields = serde_json::from_value(keys).unwrap();
    let args = CniArgs::default();
    Spec::validate(Request { fields: &fields, interface: "net1", args: &args }, host)
}

/// ADD, what the VF has then, DEL.
fn comes_and_goes(keys: Value) -> (Vf, Attached) {
    let mut node = Node::new(4);
    let before = node.vfs();
    let spec = spec(&mut node, keys).unwrap();
    let original = spec.prepare(&mut node.host).unwrap();
    let attached = spec.attach(&original, &mut node.host, &mut node.pod).unwrap();
    let during = node.vfs();
    let original: Original = serde_json::from_str(&serde_json::to_string(&original).unwrap()).unwrap();
    assert_eq!(original.detach(&mut node.host, None), []);
    assert_eq!(node.vfs(), before);
    assert!(during.iter().zip(&before).enumerate().all(|(index, (now, then))| index == 1 || now == then));
    (during[1].clone(), attached)
}

fn numbers(vf: &Vf, kind: u16) -> Vec<u32> {
    vf.0[&kind].chunks(4).map(|bytes| u32::from_ne_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn s4_a_providers_vlan_is_set_and_taken_back() {
    let (vf, _) = comes_and_goes(json!({"vlan": 100, "vlanQoS": 3, "vlanProto": "802.1AD"}));
    let tag = &vf.0[&12];
    assert_eq!((tag[8], tag[12], &tag[16..18]), (100, 3, &[0x88, 0xa8][..]));
}

#[test]
fn s8_every_link_state_is_set_and_taken_back() {
    for (state, number) in [("enable", 1), ("disable", 2), ("auto", 0)] {
        let (vf, _) = comes_and_goes(json!({"link_state": state}));
        assert_eq!(numbers(&vf, VF_LINK_STATE), [number]);
    }
}

#[test]
fn s8_s9_a_driver_that_lacks_a_setting_is_named_and_all_is_as_before() {
    for (refused, keys, key) in [
        (VF_LINK_STATE, json!({"vlan": 7, "trust": "on", "link_state": "enable"}), "link_state"),
        (VF_RATE, json!({"vlan": 7, "mac": "02:11:22:33:44:55", "max_tx_rate": 50}), "max_tx_rate"),
    ] {
        let mut node = Node::new(4);
        let before = node.vfs();
        node.driver.lock().unwrap().refuses = Some(refused);
        let spec = spec(&mut node, keys).unwrap();
        let original = spec.prepare(&mut node.host).unwrap();
        let error = spec.attach(&original, &mut node.host, &mut node.pod).unwrap_err();
        assert!(error.msg.contains(key) && error.msg.contains("ens1f0"), "{error}");
        assert_ne!(node.vfs(), before, "the kernel did what came before it");
        assert_eq!(original.detach(&mut node.host, None), []);
        assert_eq!(node.vfs(), before);
    }
}

#[test]
fn s9_rates_alone_and_together_are_set_and_taken_back() {
    for (keys, rates) in [
        (json!({"max_tx_rate": 100}), [0, 100]),
        (json!({"min_tx_rate": 5}), [5, 0]),
        (json!({"min_tx_rate": 5, "max_tx_rate": 100}), [5, 100]),
    ] {
        assert_eq!(numbers(&comes_and_goes(keys).0, VF_RATE), rates);
    }
}

#[test]
fn s11_a_driver_that_is_busy_is_asked_again_but_not_for_ever() {
    for (busy, looks, is_done) in [(5, 10, true), (50, 10, false)] {
        let mut node = Node::new(4);
        let spec = spec(&mut node, json!({"mac": "02:11:22:33:44:55"})).unwrap();
        let change = spec.prepare(&mut node.host).unwrap().change;
        node.driver.lock().unwrap().busy = busy;
        let done = spec.set_on_pf(&change, &mut node.host, &mut Looks(looks));
        assert_eq!(done.is_ok(), is_done, "{done:?}");
        assert!(
            done.is_ok_and(|()| node.vfs()[1].0[&1][..6] == [2, 0x11, 0x22, 0x33, 0x44, 0x55]) == is_done
        );
    }
}

#[test]
fn s17_sixteen_vfs_of_one_pf_come_and_go_at_once() {
    let node = Node::new(16);
    let before = node.vfs();
    let address = |index: u32| format!("0000:01:{:02x}.{}", 0x10 + index / 4, index % 4 * 2);
    let add = |index: u32, mut host: Host, mut pod: Pod| {
        let keys = json!({"deviceID": address(index), "vlan": 100 + index, "trust": "on"});
        let spec = spec_in(&mut host, keys).unwrap();
        let original = spec.prepare(&mut host).unwrap();
        spec.attach(&original, &mut host, &mut pod).unwrap();
        (original, host)
    };
    let made: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..16)
            .map(|index| {
                let (host, pod) = node.another_call();
                scope.spawn(move || add(index, host, pod))
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for (index, vf) in node.vfs().iter().enumerate() {
        assert_eq!((usize::from(vf.0[&12][8]), numbers(vf, 9)), (100 + index, vec![1]));
    }
    std::thread::scope(|scope| {
        for (original, mut host) in made {
            scope.spawn(move || assert_eq!(original.detach(&mut host, None), []));
        }
    });
    assert_eq!(node.vfs(), before);
}

#[test]
fn s22_a_vf_in_user_space_gets_its_settings_in_one_message_and_reports_its_address() {
    let mut node = Node::new(2);
    let spec = spec(&mut node, json!({"mac": "02:11:22:33:44:55", "vlan": 5, "trust": "on"})).unwrap();
    let original = spec.prepare(&mut node.host).unwrap();
    let attached = spec.attach(&original, &mut node.host, &mut node.pod).unwrap();
    assert_eq!(node.driver.lock().unwrap().changes, 1);
    let interface = &attached.interfaces[0];
    assert_eq!(interface.mac.as_deref(), Some("02:11:22:33:44:55"));
    assert_eq!((interface.pci_id.as_deref(), interface.mtu), (Some("0000:01:10.2"), Some(9000)));
    assert!(interface.sandbox.is_some() && attached.link.is_none());
    let (_, attached) = comes_and_goes(json!({}));
    assert_eq!(attached.interfaces[0].mac.as_deref(), Some("02:00:00:00:00:01"), "the administrative one");
}

#[test]
fn s31_the_last_of_256_virtual_functions_is_read_and_set() {
    let mut node = Node::new(256);
    let device = "0000:02:17.7";
    let spec = spec(&mut node, json!({"deviceID": device, "vlan": 9})).unwrap();
    let original = spec.prepare(&mut node.host).unwrap();
    assert_eq!(original.vf.vf, 255);
    spec.attach(&original, &mut node.host, &mut node.pod).unwrap();
    assert_eq!(node.vfs()[255].0[&12][8], 9);
    assert_eq!(original.detach(&mut node.host, None), []);
}

#[test]
fn s35_s5_devices_that_are_no_vf_on_the_pci_bus_are_refused_and_named() {
    let mut node = Node::new(4);
    for (device, word) in [
        ("mlx5_core.sf.4", "scalable function"),
        ("0000:01:10", "0000:01:10"),
        ("0000:01:00.0", "virtual function"),
        ("0000:7f:10.2", "does not exist"),
    ] {
        let error = spec(&mut node, json!({"deviceID": device})).unwrap_err();
        assert!(error.msg.contains(device) && error.msg.contains(word), "{error}");
    }
    assert_eq!(node.driver.lock().unwrap().changes, 0);
}

#[test]
fn hearing_more_than_its_own_takes_a_trusted_network_device() {
    let mut node = Node::new(4);
    let error = spec(&mut node, json!({"promisc": true})).unwrap_err();
    assert!(error.msg.contains("promisc") && error.msg.contains("user space"), "{error}");
}
