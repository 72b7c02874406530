use fairlead_kernel::route::{AddressFlags, MAIN_TABLE, NewRoute, Rule};
use ipnet::IpNet;

use crate::support::sandboxes;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn rules_are_added_listed_and_removed_and_a_family_does_not_touch_the_other() {
    let Some([mut sandbox]) = sandboxes("rules") else { return };
    let before = sandbox.route.rules().unwrap();
    assert!(before.iter().any(|rule| rule.table == MAIN_TABLE && rule.src == net("0.0.0.0/0")), "{before:?}");
    assert!(before.iter().any(|rule| rule.table == MAIN_TABLE && rule.src == net("::/0")), "{before:?}");
    let rules = [
        Rule { priority: Some(400), ..Rule::from_host("10.1.1.5".parse().unwrap(), 100) },
        Rule { priority: Some(500), ..Rule::from_host("fd00::5".parse().unwrap(), 1000) },
        Rule {
            dst: Some(net("10.2.0.0/16")),
            iif: Some("lo".to_owned()),
            oif: Some("net1".to_owned()),
            priority: Some(9),
            ..Rule::from_host("10.1.1.6".parse().unwrap(), 7)
        },
    ];
    for rule in &rules {
        sandbox.route.add_rule(rule).unwrap();
        let again = sandbox.route.add_rule(rule).unwrap_err();
        assert!(again.already_exists(), "{again}");
    }
    let listed = sandbox.route.rules().unwrap();
    assert!(rules.iter().all(|rule| listed.contains(rule)), "{listed:#?}");
    for rule in &rules {
        sandbox.route.del_rule(rule).unwrap();
        let again = sandbox.route.del_rule(rule).unwrap_err();
        assert!(again.is_missing(), "{again}");
    }
    assert_eq!(sandbox.route.rules().unwrap(), before);
}

#[test]
fn a_table_is_in_use_by_a_rule_or_a_route_of_either_family() {
    let Some([mut sandbox]) = sandboxes("tables") else { return };
    let link = sandbox.add_veth("pf0", "pf0p");
    sandbox.route.add_rule(&Rule::from_host("10.1.1.5".parse().unwrap(), 100)).unwrap();
    for (dst, table) in [("10.3.0.0/16", 101), ("fd00:3::/64", 70_000)] {
        let route = NewRoute { oif: Some(link.index), table, ..NewRoute::to(net(dst)) };
        sandbox.route.add_route(&route).unwrap();
    }
    let tables = sandbox.route.tables_in_use().unwrap();
    assert!([100, 101, 70_000, MAIN_TABLE].iter().all(|table| tables.contains(table)), "{tables:?}");
    assert!(!tables.contains(&102), "{tables:?}");
}

#[test]
fn a_route_that_was_read_can_be_removed_and_added_again_as_it_was() {
    let Some([mut sandbox]) = sandboxes("routes again") else { return };
    let link = sandbox.add_veth("pf0", "pf0p");
    // Without any address the kernel knows no gateway as such.
    sandbox.route.add_address(&link, &net("10.1.1.5/24"), AddressFlags::default()).unwrap();
    let gateway = |text: &str| Some(text.parse().unwrap());
    let routes = [
        NewRoute {
            gateway: gateway("172.16.0.1"),
            onlink: true,
            priority: Some(7),
            ..NewRoute::to(net("0.0.0.0/0"))
        },
        NewRoute { gateway: gateway("fd00:9::1"), onlink: true, table: 300, ..NewRoute::to(net("::/0")) },
    ];
    for route in &routes {
        sandbox.route.add_route(&NewRoute { oif: Some(link.index), ..route.clone() }).unwrap();
    }
    let read = sandbox.route.routes(&link).unwrap();
    for entry in read.iter().filter(|entry| !entry.by_kernel) {
        assert!(entry.onlink, "{entry:?}");
        sandbox.route.del_route(&entry.into()).unwrap();
        sandbox.route.add_route(&entry.into()).unwrap();
    }
    assert_eq!(sandbox.route.routes(&link).unwrap(), read);
}
