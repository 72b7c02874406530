//! `routes`: as `ip -j route` and `ip -j -6 route` print them. Only default routes matter.

use serde_json::{Map, Value};

use super::{FILE, entries, field, link_name, text};
use crate::network::Network;

/// Destinations that mean everywhere.
const EVERYWHERE: [&str; 4] = ["default", "0.0.0.0/0", "::/0", "0/0"];

/// Routes that lead nowhere.
const REJECTING: [&str; 5] = ["unreachable", "blackhole", "prohibit", "throw", "local"];

/// `only_default`: the list is of default routes, whether their destinations say so or not.
pub(super) fn read(value: &Value, only_default: bool, network: &mut Network) {
    let alone = value.as_object().filter(|object| device(object).is_some());
    if let Some(route) = alone.filter(|route| only_default || is_default(route)) {
        default_route(route, network);
        return;
    }
    for (_, value) in entries(value) {
        match value {
            // A list for each family.
            Value::Array(_) => read(value, only_default, network),
            Value::Object(route) if only_default || is_default(route) => default_route(route, network),
            Value::String(name) if only_default => drop(network.default_routes.insert(name.clone())),
            _ => {}
        }
    }
    network.default_routes.remove("lo");
}

fn is_default(route: &Map<String, Value>) -> bool {
    if text(route, &["type"]).is_some_and(|kind| REJECTING.contains(&kind.as_str())) {
        return false;
    }
    match field(route, &["dst", "destination"]) {
        Some(Value::String(dst)) => EVERYWHERE.contains(&dst.trim().to_lowercase().as_str()),
        // Netlink itself leaves it out.
        None => field(route, &["gateway", "via", "gw"]).is_some(),
        _ => false,
    }
}

fn default_route(route: &Map<String, Value>, network: &mut Network) {
    let hops = field(route, &["nexthops", "multipath"]).and_then(Value::as_array);
    let hops = hops.into_iter().flatten().filter_map(Value::as_object);
    let devices: Vec<String> =
        hops.chain([route]).filter_map(device).filter_map(|value| link_name(value, network)).collect();
    if devices.is_empty() {
        let route = Value::Object(route.clone());
        network.notes.push(format!("{FILE}: the default route {route} names no dev that is known"));
    }
    network.default_routes.extend(devices);
}

fn device(route: &Map<String, Value>) -> Option<&Value> {
    field(route, &["dev", "oif", "ifname", "interface", "link", "netdev"])
}
