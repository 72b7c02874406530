//! Reading a `netlink.json`. People write such files by hand, and put the answers of iproute2's tools together: so keys are
//! known by several names and in any case, and what makes no sense becomes a note.

mod addresses;
mod devlink;
mod links;
mod routes;

use serde_json::{Map, Value};

use super::Network;

/// What to call the file in notes.
const FILE: &str = "netlink.json";

/// Reads the text of a `netlink.json`.
pub(crate) fn parse(text: &str) -> Network {
    let mut network = Network::default();
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(document)) => read(&document, &mut network),
        // What `ip -j -d addr` prints, alone.
        Ok(Value::Array(links)) => links::read(&Value::Array(links), &mut network),
        Ok(_) => network
            .notes
            .push(format!("{FILE}: wanted an object with links, routes and devlink; nothing of it is used")),
        Err(error) => network.notes.push(format!("{FILE}: {error}; nothing of it is used")),
    }
    network
}

fn read(document: &Map<String, Value>, network: &mut Network) {
    if let Some(links) = field(document, &["links", "link", "interfaces", "netdevs"]) {
        links::read(links, network);
    }
    if let Some(addresses) = field(document, &["addresses", "addrs", "addr", "addrinfo"]) {
        addresses::read(addresses, network);
    }
    for name in ["routes", "routes4", "routes6", "route", "defaultroutes"] {
        if let Some(routes) = field(document, &[name]) {
            routes::read(routes, name == "defaultroutes", network);
        }
    }
    if let Some(devlink) = field(document, &["devlink"]) {
        devlink::read(devlink, network);
    }
    if let Some(notes) = field(document, &["notes"]) {
        network.notes.extend(texts(notes));
    }
}

/// The first field of one of these names, which are given in lower case and without `_` and `-`.
fn field<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| {
        let is_it = |key: &str| {
            let key = key.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
            key.map(|byte| byte.to_ascii_lowercase()).eq(name.bytes())
        };
        object.iter().find(|(key, value)| is_it(key) && !value.is_null()).map(|(_, value)| value)
    })
}

fn text(object: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let text = field(object, names)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A number, written as one or as a text.
fn number(object: &Map<String, Value>, names: &[&str]) -> Option<u32> {
    match field(object, names)? {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// One text or a list of them.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// A link that is named by its name, or by its number.
fn link_name(value: &Value, network: &Network) -> Option<String> {
    match value {
        Value::String(name) => Some(name.trim().to_owned()).filter(|name| !name.is_empty()),
        Value::Number(index) => {
            let index = u32::try_from(index.as_u64()?).ok()?;
            network.links.iter().find(|link| link.index == Some(index)).map(|link| link.name.clone())
        }
        _ => None,
    }
}

/// The objects in a list, or in an object that has them by name: then with the name in front.
fn entries(value: &Value) -> Vec<(Option<&str>, &Value)> {
    match value {
        Value::Array(values) => values.iter().map(|value| (None, value)).collect(),
        Value::Object(object) => object.iter().map(|(key, value)| (Some(key.as_str()), value)).collect(),
        _ => Vec::new(),
    }
}
