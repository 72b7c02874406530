//! What source-based routing comes to, decided from plain data.

use std::{collections::BTreeSet, net::IpAddr};

use fairlead_kernel::route::{MAIN_TABLE, NewRoute, RouteEntry, RouteMode, Rule, Scope};
use ipnet::IpNet;

use super::Config;
use crate::{drivers::routes, protocol::result::Ip};

/// The first table that is taken, as upstream's plugin has it.
const FIRST_TABLE: u32 = 100;

/// What is there: the interface's addresses as they were reported, and what the kernel has.
pub(super) struct There<'a> {
    /// Index of the interface.
    pub(super) link: u32,
    pub(super) ips: &'a [Ip],
    /// Routes out of it, of every table.
    pub(super) routes: Vec<RouteEntry>,
    pub(super) rules: &'a [Rule],
    /// Tables that somebody uses.
    pub(super) tables: &'a BTreeSet<u32>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Tables that are taken.
    pub(super) tables: Vec<u32>,
    pub(super) rules: Vec<Rule>,
    /// Routes of the tables, to be added in this order.
    pub(super) add: Vec<NewRoute>,
    /// Routes that leave the main table when the tables are complete.
    pub(super) remove: Vec<RouteEntry>,
    /// Routes that come to the main table after that.
    pub(super) hints: Vec<NewRoute>,
}

/// One table for each address, in which its packets find the interface's own routes and gateway; the main table keeps none of
/// them. In a table that the configuration names the routes are somebody else's affair.
pub(super) fn plan(config: &Config, there: There<'_>) -> Plan {
    match config {
        Config::Table(table) => Plan {
            rules: there.ips.iter().filter_map(|ip| rule(ip, *table, there.rules)).collect(),
            ..Plan::default()
        },
        Config::Own { gateways, hints } => plan_tables(gateways, *hints, there),
    }
}

/// None when there is such a rule, which is not ours then.
fn rule(ip: &Ip, table: u32, there: &[Rule]) -> Option<Rule> {
    let rule = Rule::from_host(ip.address.addr(), table);
    let is_there =
        there.iter().any(|other| other.src == rule.src && other.table == table && other.dst.is_none());
    (!is_there).then_some(rule)
}

fn plan_tables(gateways: &[IpAddr], hints: bool, mut there: There<'_>) -> Plan {
    there.routes.retain(|entry| entry.table == MAIN_TABLE);
    routes::by_dependence(&mut there.routes);
    let mut plan = Plan::default();
    let mut free = (FIRST_TABLE..).filter(|table| !there.tables.contains(table));
    for ip in there.ips {
        let Some(table) = free.next() else { break };
        plan.tables.push(table);
        plan.rules.push(Rule::from_host(ip.address.addr(), table));
        plan.add.extend(routes_of(ip, table, gateways, &there));
    }
    if hints {
        add_hints(&mut plan, &there);
    } else {
        // Neighbours by their link-local addresses are reached by no other way than by the main table.
        plan.remove.extend(there.routes.iter().filter(|entry| !is_link_local(&entry.dst)).cloned());
    }
    plan
}

/// The routes that packets from this address take.
fn routes_of(ip: &Ip, table: u32, gateways: &[IpAddr], there: &There<'_>) -> Vec<NewRoute> {
    let family = |entry: &&RouteEntry| entry.dst.addr().is_ipv4() == ip.address.addr().is_ipv4();
    let concerns = |entry: &&RouteEntry| match (entry.src, entry.gateway) {
        (None, None) => true,
        (src, gateway) => [src, gateway].into_iter().flatten().any(|address| ip.address.contains(&address)),
    };
    let copies = there.routes.iter().filter(family).filter(concerns);
    let copies = copies.map(|entry| NewRoute { table, mode: RouteMode::Append, ..entry.into() });
    let (mut near, mut far): (Vec<NewRoute>, Vec<NewRoute>) =
        copies.partition(|route| route.gateway.is_none());
    if let Some(gateway) = gateway(ip, gateways, there) {
        // The configured one is the only one.
        far.retain(|route| route.dst.prefix_len() > 0);
        near.push(NewRoute { gateway: Some(gateway), oif: Some(there.link), table, ..everywhere(gateway) });
    }
    near.extend(far);
    near
}

/// A configured gateway comes before the address's own, and that before the one of a default route, say by a router.
fn gateway(ip: &Ip, gateways: &[IpAddr], there: &There<'_>) -> Option<IpAddr> {
    let of_family = |address: &IpAddr| address.is_ipv4() == ip.address.addr().is_ipv4();
    let defaults: Vec<IpAddr> = there
        .routes
        .iter()
        .filter(|entry| entry.dst.prefix_len() == 0)
        .filter_map(|entry| entry.gateway.filter(|_| of_family(&entry.dst.addr())))
        .collect();
    let near = defaults.iter().find(|gateway| ip.address.contains(*gateway));
    let configured = gateways.iter().find(|gateway| of_family(gateway));
    configured.copied().or(ip.gateway).or(near.or(defaults.first()).copied())
}

fn everywhere(gateway: IpAddr) -> NewRoute {
    let dst = if gateway.is_ipv4() { [0; 4].into() } else { IpAddr::from([0; 16]) };
    let dst = IpNet::new(dst, 0).unwrap_or_else(|_| dst.into());
    NewRoute::to(dst)
}

/// The main table keeps the routes to the interface's own networks, with the source address to use; all others leave it.
fn add_hints(plan: &mut Plan, there: &There<'_>) {
    for ip in there.ips {
        let subnet = ip.address.trunc();
        let is_hinted =
            |src: Option<IpAddr>| src.is_some_and(|src| there.ips.iter().any(|ip| ip.address.addr() == src));
        let existing = there.routes.iter().find(|entry| entry.dst == subnet && entry.gateway.is_none());
        let already = plan.hints.iter().any(|route| route.dst == subnet);
        if already || existing.is_some_and(|entry| is_hinted(entry.src)) {
            continue;
        }
        let scope = subnet.addr().is_ipv4().then_some(Scope::LINK);
        let hinted = match existing {
            Some(entry) => NewRoute::from(entry),
            None => NewRoute { oif: Some(there.link), scope, ..NewRoute::to(subnet) },
        };
        plan.remove.extend(existing.cloned());
        // Another interface may be in the same network: its route stays.
        plan.hints.push(NewRoute { src: Some(ip.address.addr()), mode: RouteMode::Append, ..hinted });
    }
    plan.remove.extend(there.routes.iter().filter(|entry| entry.gateway.is_some()).cloned());
}

fn is_link_local(dst: &IpNet) -> bool {
    matches!(dst, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(address: &str, gateway: Option<&str>) -> Ip {
        Ip {
            interface: None,
            address: address.parse().unwrap(),
            gateway: gateway.map(|text| text.parse().unwrap()),
        }
    }

    fn entry(dst: &str, gateway: Option<&str>, src: Option<&str>) -> RouteEntry {
        RouteEntry {
            dst: dst.parse().unwrap(),
            gateway: gateway.map(|text| text.parse().unwrap()),
            oif: Some(5),
            table: MAIN_TABLE,
            priority: None,
            scope: if gateway.is_some() { Scope::UNIVERSE } else { Scope::LINK },
            mtu: None,
            advmss: None,
            src: src.map(|text| text.parse().unwrap()),
            onlink: false,
            by_kernel: gateway.is_none(),
            by_router: false,
        }
    }

    fn own(gateways: &[&str]) -> Config {
        Config::Own { gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(), hints: false }
    }

    fn plan_for(config: &Config, ips: &[Ip], routes: &[RouteEntry], tables: &[u32]) -> Plan {
        let tables = tables.iter().copied().collect();
        plan(config, There { link: 5, ips, routes: routes.to_vec(), rules: &[], tables: &tables })
    }

    /// Destination, gateway and table of every route, in words.
    fn words(routes: &[NewRoute]) -> Vec<String> {
        let word = |route: &NewRoute| match route.gateway {
            Some(gateway) => format!("{} via {gateway} in {}", route.dst, route.table),
            None => format!("{} in {}", route.dst, route.table),
        };
        routes.iter().map(word).collect()
    }

    #[test]
    fn x6_each_address_has_the_lowest_table_that_nobody_uses() {
        let ips = [ip("10.1.1.5/24", Some("10.1.1.1")), ip("fd00::5/64", None)];
        let routes = [
            entry("0.0.0.0/0", Some("10.1.1.1"), None),
            entry("10.9.0.0/16", Some("10.1.1.9"), None),
            entry("10.1.1.0/24", None, Some("10.1.1.5")),
            entry("fd00::/64", None, None),
            entry("fe80::/64", None, None),
        ];
        let plan = plan_for(&own(&[]), &ips, &routes, &[254, 100, 102]);
        assert_eq!(plan.tables, [101, 103]);
        let sources: Vec<String> =
            plan.rules.iter().map(|rule| format!("{} {}", rule.src, rule.table)).collect();
        assert_eq!(sources, ["10.1.1.5/32 101", "fd00::5/128 103"]);
        let wanted = [
            "10.1.1.0/24 in 101",
            "0.0.0.0/0 via 10.1.1.1 in 101",
            "10.9.0.0/16 via 10.1.1.9 in 101",
            "fd00::/64 in 103",
            "fe80::/64 in 103",
        ];
        assert_eq!(words(&plan.add), wanted);
        let left: Vec<String> = plan.remove.iter().map(|entry| entry.dst.to_string()).collect();
        assert_eq!(left, ["10.1.1.0/24", "fd00::/64", "0.0.0.0/0", "10.9.0.0/16"]);
    }

    #[test]
    fn the_gateway_is_the_configured_one_then_the_addresses_then_a_routes() {
        let routes = [entry("10.1.1.0/24", None, None), entry("0.0.0.0/0", Some("10.1.1.3"), None)];
        for (gateways, own_gateway, wanted) in [
            (&["10.1.1.1", "fd00::1"][..], Some("10.1.1.2"), "10.1.1.1"),
            (&["fd00::1"][..], Some("10.1.1.2"), "10.1.1.2"),
            (&[][..], None, "10.1.1.3"),
        ] {
            let plan = plan_for(&own(gateways), &[ip("10.1.1.5/24", own_gateway)], &routes, &[]);
            assert_eq!(words(&plan.add), ["10.1.1.0/24 in 100", &format!("0.0.0.0/0 via {wanted} in 100")]);
        }
        let router = RouteEntry { by_router: true, ..entry("::/0", Some("fe80::1"), None) };
        let plan = plan_for(&own(&[]), &[ip("fd00::5/64", None)], &[router], &[]);
        assert_eq!(words(&plan.add), ["::/0 via fe80::1 in 100"]);
    }

    #[test]
    fn a_named_table_gets_rules_only_and_none_that_is_there() {
        let ips = [ip("10.1.1.5/24", Some("10.1.1.1")), ip("10.1.2.5/24", None)];
        let there = There {
            link: 5,
            ips: &ips,
            routes: vec![entry("10.1.1.0/24", None, None)],
            rules: &[Rule::from_host("10.1.1.5".parse().unwrap(), 5000)],
            tables: &BTreeSet::new(),
        };
        let rules = vec![Rule::from_host("10.1.2.5".parse().unwrap(), 5000)];
        assert_eq!(plan(&Config::Table(5000), there), Plan { rules, ..Plan::default() });
    }

    #[test]
    fn with_hints_the_main_table_keeps_the_own_networks() {
        let config = Config::Own { gateways: Vec::new(), hints: true };
        let ips = [ip("10.1.1.5/24", Some("10.1.1.1")), ip("fd00::5/64", None)];
        let routes = [
            entry("10.1.1.0/24", None, Some("10.1.1.5")),
            entry("fd00::/64", None, None),
            entry("0.0.0.0/0", Some("10.1.1.1"), None),
        ];
        let plan = plan_for(&config, &ips, &routes, &[]);
        assert_eq!(words(&plan.hints), ["fd00::/64 in 254"]);
        assert_eq!(plan.hints[0].src, Some("fd00::5".parse().unwrap()));
        let left: Vec<String> = plan.remove.iter().map(|entry| entry.dst.to_string()).collect();
        assert_eq!(left, ["fd00::/64", "0.0.0.0/0"]);
    }
}
