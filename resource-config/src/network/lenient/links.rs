//! `links`: as `ip -j -d addr` prints them.

use serde_json::{Map, Value};

use super::{FILE, addresses, entries, field, link_name, number, text, texts};
use crate::network::{Link, Network, link_type_name};

/// Links whose `link` is a peer, not what they are made on.
const PAIRED: [&str; 2] = ["veth", "netkit"];

pub(super) fn read(value: &Value, network: &mut Network) {
    let mut read = Vec::new();
    for (place, (key, value)) in entries(value).into_iter().enumerate() {
        let named = value
            .as_object()
            .and_then(|object| Some((text(object, &["ifname", "name"]).or(key.map(str::to_owned))?, object)));
        match named {
            Some((name, object)) => read.push((link(name, object, &mut network.notes), object)),
            // iproute2 prints empty objects for links that a filter hid.
            None if value.as_object().is_some_and(Map::is_empty) => {}
            None => network.notes.push(format!("{FILE}: links[{place}] has no ifname and is passed over")),
        }
    }
    let objects: Vec<&Map<String, Value>> = read.iter().map(|(_, object)| *object).collect();
    network.links = read.into_iter().map(|(link, _)| link).collect();
    // Only now: a link may be named by its number, before it is listed.
    for (place, object) in objects.into_iter().enumerate() {
        let (master, lowers) = (master(object, network), lowers(object, network));
        if let Some(link) = network.links.get_mut(place) {
            link.master = master;
            link.lowers = lowers;
        }
    }
}

fn link(name: String, object: &Map<String, Value>, notes: &mut Vec<String>) -> Link {
    let addresses = field(object, &["addrinfo", "addresses", "addrs", "ips"]);
    Link {
        index: number(object, &["ifindex", "index"]),
        altnames: field(object, &["altnames", "altname"]).map(texts).unwrap_or_default(),
        mac: text(object, &["address", "mac", "lladdr"]),
        mtu: number(object, &["mtu"]),
        operstate: text(object, &["operstate", "state"]).map(|text| text.to_lowercase()),
        carrier: carrier(object),
        link_type: text(object, &["linktype"])
            .or_else(|| number(object, &["linktype"]).map(link_type_name))
            .map(|name| name.to_lowercase()),
        phys_port_name: text(object, &["physportname"]),
        phys_switch_id: text(object, &["physswitchid"]),
        addresses: addresses.map(|value| addresses::all(value, &name, notes)).unwrap_or_default(),
        name,
        ..Link::default()
    }
}

/// A link that is down has no carrier to tell of.
fn carrier(object: &Map<String, Value>) -> Option<bool> {
    if let Some(Value::Bool(carrier)) = field(object, &["carrier"]) {
        return Some(*carrier);
    }
    let flags = texts(field(object, &["flags"])?);
    let has = |wanted: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(wanted));
    match (has("NO-CARRIER"), has("LOWER_UP") && has("UP")) {
        (true, _) => Some(false),
        (_, true) => Some(true),
        _ => None,
    }
}

fn master(object: &Map<String, Value>, network: &Network) -> Option<String> {
    link_name(field(object, &["master"])?, network)
}

/// What a link is made on: VLANs and macvlans have one, for masters it is the same as their members' `master`.
fn lowers(object: &Map<String, Value>, network: &Network) -> Vec<String> {
    let kind = field(object, &["linkinfo"]).and_then(Value::as_object);
    let kind = kind.and_then(|info| text(info, &["infokind", "kind"])).or_else(|| text(object, &["kind"]));
    let is_elsewhere = field(object, &["linknetnsid"]).is_some();
    let is_paired = kind.is_some_and(|kind| PAIRED.contains(&kind.as_str()));
    let one = field(object, &["link", "linkindex", "parent"]).filter(|_| !is_elsewhere && !is_paired);
    let several = field(object, &["lowers", "slaves", "ports"]).and_then(Value::as_array);
    let values = one.into_iter().chain(several.into_iter().flatten());
    values.filter_map(|value| link_name(value, network)).collect()
}
