//! Addresses: within their link (`addr_info`), or in a list of their own.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{FILE, entries, field, link_name, number, text};
use crate::network::{Link, Network, is_beyond_link};

/// The addresses of one link that are valid beyond it.
pub(super) fn all(value: &Value, link: &str, notes: &mut Vec<String>) -> Vec<IpNet> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    values.iter().filter_map(|value| address(value, link, notes)).collect()
}

/// A list at the top of the file, each address with its link, or an object with a list for each link.
pub(super) fn read(value: &Value, network: &mut Network) {
    let mut notes = Vec::new();
    for (place, (key, value)) in entries(value).into_iter().enumerate() {
        let named = value.as_object().and_then(|object| {
            field(object, &["dev", "ifname", "link", "netdev", "interface", "ifindex", "index"])
        });
        let name = named.and_then(|value| link_name(value, network)).or(key.map(str::to_owned));
        let Some(name) = name else {
            notes.push(format!("{FILE}: addresses[{place}] has no dev and is passed over"));
            continue;
        };
        // A link with its own list, as `ip -j addr` prints, is fine too.
        let inner = value.as_object().and_then(|object| field(object, &["addrinfo", "addresses"]));
        let addresses = all(inner.unwrap_or(value), &name, &mut notes);
        match network.links.iter_mut().find(|link| link.name == name) {
            Some(link) => link.addresses.extend(addresses),
            None => network.links.push(Link { name, addresses, ..Link::default() }),
        }
    }
    network.notes.append(&mut notes);
}

fn address(value: &Value, link: &str, notes: &mut Vec<String>) -> Option<IpNet> {
    let (text, scope) = match value {
        Value::String(text) => (Some(text.clone()), None),
        Value::Object(object) => (net_text(object), scope(object)),
        _ => (None, None),
    };
    let Some(net) = text.as_deref().and_then(net) else {
        notes.push(format!("{FILE}: {link}: found {value} where an address, like 10.0.0.1/24, is wanted"));
        return None;
    };
    scope.unwrap_or_else(|| is_beyond_link(net.addr())).then_some(net)
}

fn net_text(object: &Map<String, Value>) -> Option<String> {
    let address = text(object, &["local", "address", "addr", "ip", "ifalocal", "ifaaddress"])?;
    match number(object, &["prefixlen", "prefix", "plen"]) {
        Some(length) if !address.contains('/') => Some(format!("{address}/{length}")),
        _ => Some(address),
    }
}

/// Without a prefix it stands for itself.
fn net(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Whether the scope goes beyond the link; `None` when there is none.
fn scope(object: &Map<String, Value>) -> Option<bool> {
    match field(object, &["scope"])? {
        Value::String(name) => Some(matches!(name.to_lowercase().as_str(), "global" | "site" | "universe")),
        // Kernel `enum rt_scope_t`: 0 is universe, 200 site.
        Value::Number(number) => Some(number.as_u64()? <= 200),
        _ => None,
    }
}
