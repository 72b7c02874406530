use fairlead_kernel::route::{IpvlanFlag, IpvlanMode, MacvlanMode, VlanProtocol};
use fairlead_kernel::{Errno, LinkChange, LinkKind, Mac, NewLink, Request};

use crate::support::{sandboxes, skip};

fn macvlan(parent: u32) -> LinkKind<'static> {
    LinkKind::Macvlan { parent, mode: MacvlanMode::Bridge, bc_queue_len: None }
}

#[test]
fn a_link_is_found_by_name_alternative_name_and_index() {
    let Some([mut sandbox]) = sandboxes("looking links up") else { return };
    let link = sandbox.add_veth("pf0", "pf0p");
    let long = "an-alternative-name-that-is-longer-than-any-name";
    for altname in ["short", long] {
        sandbox.route.add_altname(&link, altname).unwrap();
        assert_eq!(sandbox.link(altname).index, link.index);
    }
    assert_eq!(sandbox.link("pf0").altnames, ["short", long]);
    assert_eq!(sandbox.route.link_by_index(link.index).unwrap().unwrap().name, "pf0");
    sandbox.route.del_altname(&link, long).unwrap();
    assert!(!sandbox.has(long));
    assert!(!sandbox.has("no-such-link"));
    assert!(!sandbox.has("no-such-link-of-a-name-as-long-as-this"));
    assert!(sandbox.route.link_by_index(9999).unwrap().is_none());
    let names: Vec<String> = sandbox.route.links().unwrap().into_iter().map(|link| link.name).collect();
    assert!(["lo", "pf0", "pf0p"].iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
}

#[test]
fn what_is_set_is_read_back() {
    let Some([mut sandbox]) = sandboxes("changing links") else { return };
    sandbox.route.add_link(&NewLink::new("br0", LinkKind::Bridge)).unwrap();
    let bridge = sandbox.link("br0");
    assert_eq!(bridge.kind.as_deref(), Some("bridge"));
    let link = sandbox.add_veth("pf0", "pf0p");
    let mac: Mac = "02:00:00:00:00:2a".parse().unwrap();
    let change = LinkChange {
        name: Some("net1".to_owned()),
        mac: Some(mac),
        mtu: Some(1400),
        up: Some(false),
        alias: Some("pod a, uid 1".to_owned()),
        group: Some(17),
        master: Some(bridge.index),
        promisc: Some(true),
        allmulti: Some(true),
        tx_queue_len: Some(321),
        arp_notify: Some(true),
        netns: None,
    };
    sandbox.route.set_link(&link, &change).unwrap();
    let changed = sandbox.link("net1");
    assert_eq!((changed.index, changed.mac, changed.mtu, changed.group), (link.index, Some(mac), 1400, 17));
    assert_eq!(changed.tx_queue_len, 321);
    assert_eq!((changed.up, changed.promisc, changed.allmulti, changed.carrier), (false, true, true, None));
    assert_eq!((changed.alias.as_deref(), changed.master), (Some("pod a, uid 1"), Some(bridge.index)));
    assert!(changed.is_ether && changed.arp_notify);
    let back = LinkChange {
        alias: Some(String::new()),
        master: Some(0),
        promisc: Some(false),
        up: Some(true),
        ..LinkChange::default()
    };
    sandbox.route.set_link(&changed, &back).unwrap();
    let back = sandbox.link("net1");
    assert_eq!(
        (back.alias, back.master, back.promisc, back.allmulti, back.up),
        (None, None, false, true, true)
    );
}

#[test]
fn a_link_is_moved_and_renamed_in_one_message() {
    let Some([mut host, mut pod]) = sandboxes("moving links") else { return };
    let link = host.add_veth("pf0", "pf0p");
    // Its old name is taken in the target: the new one is used at once.
    pod.add_veth("pf0", "other");
    let change = LinkChange {
        netns: Some(&pod.netns),
        name: Some("net1".to_owned()),
        up: Some(true),
        ..LinkChange::default()
    };
    host.route.set_link(&link, &change).unwrap();
    assert!(!host.has("pf0"));
    let moved = pod.link("net1");
    assert!(moved.up);
    assert!(moved.parent_in_other_ns);
    let back = LinkChange { netns: Some(&host.netns), name: Some("pf0".to_owned()), ..LinkChange::default() };
    pod.route.set_link(&moved, &back).unwrap();
    assert_eq!(host.link("pf0").mac, link.mac);
}

#[test]
fn a_rename_that_fails_after_the_move_leaves_the_link_in_the_target() {
    let Some([mut host, mut pod]) = sandboxes("failing renames") else { return };
    let link = host.add_veth("pf0", "pf0p");
    pod.add_veth("net1", "other");
    let change =
        LinkChange { netns: Some(&pod.netns), name: Some("net1".to_owned()), ..LinkChange::default() };
    let error = host.route.set_link(&link, &change).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
    // Documented in LinkChange: look in both places.
    assert_eq!((host.has("pf0"), pod.has("pf0")), (false, true), "{error}");
}

#[test]
fn macvlans_are_made_in_the_pod_and_removed_as_a_group() {
    let Some([mut host, mut pod]) = sandboxes("macvlans") else { return };
    let parent = host.add_veth("pf0", "pf0p");
    let names = ["net1", "net2", "net3"];
    let links: Vec<NewLink<'_>> = names
        .iter()
        .map(|name| NewLink {
            netns: Some(&pod.netns),
            group: Some(42),
            mtu: Some(1300),
            up: true,
            ..NewLink::new(*name, macvlan(parent.index))
        })
        .collect();
    let requests: Vec<Request<'_>> = links.iter().map(Request::add_link).collect();
    for verdict in host.route.batch(&requests) {
        verdict.unwrap();
    }
    for name in names {
        let link = pod.link(name);
        assert_eq!((link.kind.as_deref(), link.group, link.mtu), (Some("macvlan"), 42, 1300));
        assert_eq!((link.parent, link.parent_in_other_ns), (Some(parent.index), true));
    }
    pod.route.delete_group(42).unwrap();
    assert!(names.iter().all(|name| !pod.has(name)));
    let error = pod.route.delete_group(42).unwrap_err();
    assert!(error.is_missing(), "{error}");
}

#[test]
fn the_other_kinds_are_made_where_the_kernel_has_them() {
    let Some([mut sandbox]) = sandboxes("other kinds of links") else { return };
    let parent = sandbox.add_veth("pf0", "pf0p").index;
    let kinds = [
        ("vlan", LinkKind::Vlan { parent, id: 100, protocol: VlanProtocol::Dot1Ad }),
        ("ipvlan", LinkKind::Ipvlan { parent, mode: IpvlanMode::L3s, flag: IpvlanFlag::Private }),
        ("dummy", LinkKind::Dummy),
        ("bridge", LinkKind::Bridge),
    ];
    for (kind, made) in kinds {
        match sandbox.route.add_link(&NewLink::new(kind, made)) {
            Err(error) if error.kernel_text() == Some("Unknown device type") => {
                skip(&format!("this kernel has no {kind} links"));
            }
            result => {
                result.unwrap();
                assert_eq!(sandbox.link(kind).kind.as_deref(), Some(kind));
            }
        }
    }
}

#[test]
fn the_kernel_goes_on_after_a_refused_request_of_a_batch() {
    let Some([mut sandbox]) = sandboxes("batches") else { return };
    let parent = sandbox.add_veth("pf0", "pf0p");
    let mac = Some([2, 0, 0, 0, 0, 1].into());
    let first = NewLink { mac, ..NewLink::new("mv1", macvlan(parent.index)) };
    let taken = NewLink::new("mv1", macvlan(parent.index));
    let last = NewLink::new("mv2", macvlan(parent.index));
    let verdicts = sandbox.route.batch(&[first, taken, last].map(|link| Request::add_link(&link)));
    assert!(verdicts[0].is_ok() && verdicts[2].is_ok(), "{verdicts:?}");
    assert!(verdicts[1].as_ref().unwrap_err().already_exists());
    assert!(sandbox.has("mv2"));
}

#[test]
fn the_kernels_own_reason_is_in_the_error() {
    let Some([mut sandbox]) = sandboxes("reasons") else { return };
    let link = sandbox.add_veth("pf0", "pf0p");
    let change = LinkChange { mtu: Some(1), ..LinkChange::default() };
    let error = sandbox.route.set_link(&link, &change).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    assert_eq!(
        error.to_string(),
        "set link pf0: MTU 1: Invalid argument (kernel: mtu less than device minimum)"
    );
}

#[test]
fn many_requests_and_long_lists_all_arrive() {
    let Some([mut sandbox]) = sandboxes("many links") else { return };
    let parent = sandbox.add_veth("pf0", "pf0p");
    let links: Vec<NewLink<'_>> = (0..200)
        .map(|number| NewLink {
            group: Some(9),
            mac: Some([2, 0, 0, 0, 1, number].into()),
            ..NewLink::new(format!("mv{number}"), macvlan(parent.index))
        })
        .collect();
    let requests: Vec<Request<'_>> = links.iter().map(Request::add_link).collect();
    let failed: Vec<_> = sandbox.route.batch(&requests).into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let listed = sandbox.route.links().unwrap();
    assert_eq!(listed.iter().filter(|link| link.kind.as_deref() == Some("macvlan")).count(), 200);
    sandbox.route.delete_group(9).unwrap();
    assert_eq!(sandbox.route.links().unwrap().len(), 3);
}

#[test]
fn a_link_without_virtual_functions_reports_none() {
    let Some([mut sandbox]) = sandboxes("virtual functions of a plain link") else { return };
    let link = sandbox.add_veth("pf0", "pf0p");
    assert!(sandbox.route.vfs(&link).unwrap().is_empty());
    let error = sandbox.route.vf(&link, 3).unwrap_err();
    assert!(error.to_string().starts_with("read VF 3 of link pf0: the PF reports no VF"), "{error}");
    let change = fairlead_kernel::route::VfChange { trust: Some(true), ..Default::default() };
    let error = sandbox.route.set_vf(&link, 3, &change).unwrap_err();
    assert_eq!(error.to_string(), "set VF 3 of link pf0: trust on: Operation not supported");
}
