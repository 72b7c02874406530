//! The JSON form of the networks annotation: its keys, and which values each takes.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{
    super::{fields::field, syntax::hardware_address_len},
    AnnotationError, NetworkSelection, Problem, Source, checked_interface, checked_network,
};

const RATES: [&str; 4] = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
const IPS_RULE: &str = "an IPv4 or IPv6 address, with or without prefix length";
const MAC_RULE: &str = "6, 8 or 20 bytes in hexadecimal, as in 02:00:5e:10:00:01";
const GUID_RULE: &str = "8 bytes in hexadecimal, as in 02:00:5e:10:00:00:00:01";

pub(super) fn parse(text: &str, source: Source<'_>) -> Result<Vec<NetworkSelection>, AnnotationError> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| source.error(0, "", Problem::NoJson(error.to_string())))?;
    let Value::Array(elements) = &value else {
        return Err(source.error(0, "", Problem::NoList(kind(&value))));
    };
    let read = |(index, element): (usize, &Value)| {
        let Value::Object(object) = element else {
            return Err(source.error(index + 1, "", Problem::NoObject(kind(element))));
        };
        let name = field(object, "name").and_then(Value::as_str).unwrap_or_default();
        selection(object, source.namespace).map_err(|problem| source.error(index + 1, name, problem))
    };
    elements.iter().enumerate().map(read).collect()
}

fn selection(object: &Map<String, Value>, default_namespace: &str) -> Result<NetworkSelection, Problem> {
    let name = text(object, "name")?.ok_or(Problem::NoName)?;
    let (namespace, name) = checked_network(text(object, "namespace")?.unwrap_or(default_namespace), name)?;
    let interface = match text(object, "interface")? {
        Some(interface) => Some(interface),
        None => text(object, "interfaceRequest")?,
    };
    Ok(NetworkSelection {
        namespace,
        name,
        interface: interface.map(checked_interface).transpose()?,
        ips: ips(object)?,
        mac: hardware_address(object, "mac", &[6, 8, 20], MAC_RULE)?,
        infiniband_guid: hardware_address(object, "infiniband-guid", &[8], GUID_RULE)?,
        bandwidth: bandwidth(object)?,
        port_mappings: list(object, "portMappings")?
            .unwrap_or_default()
            .iter()
            .map(port_mapping)
            .collect::<Result<_, _>>()?,
        default_route: default_route(object)?,
        cni_args: map(object, "cni-args")?.cloned().unwrap_or_default(),
        device_id: text(object, "deviceID")?.map(str::to_owned),
    })
}

fn ips(object: &Map<String, Value>) -> Result<Vec<String>, Problem> {
    let check = |value: &Value| {
        let text =
            value.as_str().ok_or_else(|| wrong_type("ips", value, "a list of addresses as strings"))?;
        if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
            Ok(text.to_owned())
        } else {
            Err(Problem::value("ips", text, IPS_RULE))
        }
    };
    list(object, "ips")?.unwrap_or_default().iter().map(check).collect()
}

fn hardware_address(
    object: &Map<String, Value>,
    key: &'static str,
    lengths: &[usize],
    allowed: &'static str,
) -> Result<Option<String>, Problem> {
    match text(object, key)? {
        None => Ok(None),
        Some(text) if hardware_address_len(text).is_some_and(|bytes| lengths.contains(&bytes)) => {
            Ok(Some(text.to_owned()))
        }
        Some(text) => Err(Problem::value(key, text, allowed)),
    }
}

/// All four rates with their usual spelling, as readers of the capability know them.
fn bandwidth(object: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Problem> {
    let Some(rates) = map(object, "bandwidth")? else { return Ok(None) };
    let rate = |key: &'static str| {
        let value = number(rates, key)?.unwrap_or_default();
        Ok((key.to_owned(), value.into()))
    };
    RATES.into_iter().map(rate).collect::<Result<_, _>>().map(Some)
}

fn port_mapping(value: &Value) -> Result<Value, Problem> {
    let Value::Object(entry) = value else {
        return Err(wrong_type("portMappings", value, "a list of objects with hostPort and containerPort"));
    };
    let mut mapping = Map::new();
    mapping.insert("hostPort".into(), port(entry, "hostPort")?.into());
    mapping.insert("containerPort".into(), port(entry, "containerPort")?.into());
    let protocol = text(entry, "protocol")?.unwrap_or("tcp").to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(Problem::value("protocol", &protocol, "tcp, udp or sctp"));
    }
    mapping.insert("protocol".into(), protocol.into());
    if let Some(address) = text(entry, "hostIP")? {
        if address.parse::<IpAddr>().is_err() {
            return Err(Problem::value("hostIP", address, "an IPv4 or IPv6 address"));
        }
        mapping.insert("hostIP".into(), address.into());
    }
    Ok(mapping.into())
}

fn port(entry: &Map<String, Value>, key: &'static str) -> Result<u16, Problem> {
    let allowed = "a port from 1 to 65535 must be given";
    let port = number(entry, key)?.unwrap_or_default();
    u16::try_from(port)
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| Problem::value(key, &port.to_string(), allowed))
}

fn default_route(object: &Map<String, Value>) -> Result<Option<Vec<IpAddr>>, Problem> {
    let check = |value: &Value| {
        let allowed = "a list of gateway addresses as strings";
        let text = value.as_str().ok_or_else(|| wrong_type("default-route", value, allowed))?;
        text.parse().map_err(|_| {
            Problem::value("default-route", text, "an IPv4 or IPv6 address without prefix length")
        })
    };
    list(object, "default-route")?.map(|gateways| gateways.iter().map(check).collect()).transpose()
}

/// A string; the empty one counts as absent, as in every upstream reader.
fn text<'a>(object: &'a Map<String, Value>, key: &'static str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = field(object, key) else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| wrong_type(key, value, "a string"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn list<'a>(object: &'a Map<String, Value>, key: &'static str) -> Result<Option<&'a [Value]>, Problem> {
    let Some(value) = field(object, key) else { return Ok(None) };
    value.as_array().map(|list| Some(list.as_slice())).ok_or_else(|| wrong_type(key, value, "a list"))
}

fn map<'a>(
    object: &'a Map<String, Value>,
    key: &'static str,
) -> Result<Option<&'a Map<String, Value>>, Problem> {
    let Some(value) = field(object, key) else { return Ok(None) };
    value.as_object().map(Some).ok_or_else(|| wrong_type(key, value, "an object"))
}

fn number(object: &Map<String, Value>, key: &'static str) -> Result<Option<u64>, Problem> {
    let Some(value) = field(object, key) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| wrong_type(key, value, "a whole number from 0"))
}

fn wrong_type(key: &'static str, value: &Value, allowed: &'static str) -> Problem {
    Problem::Type { key, found: kind(value), allowed }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(number) if number.is_i64() && !number.is_u64() => "a negative number",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::parse as parse_annotation, *};
    use crate::agent_protocol::PodRef;

    fn pod() -> PodRef {
        PodRef { namespace: "default".into(), name: "router".into(), uid: String::new() }
    }

    fn read(element: &Value) -> Result<NetworkSelection, Problem> {
        let mut all =
            parse_annotation(&json!([element]).to_string(), &pod()).map_err(|error| error.problem)?;
        Ok(all.remove(0))
    }

    #[test]
    fn every_key_is_read() {
        let selection = read(&json!({
            "name": "b.c", "namespace": "other", "interface": "up0",
            "ips": ["10.1.1.2/24", "fd00::2"],
            "mac": "02:00:5e:10:00:01",
            "infiniband-guid": "02:00:5e:10:00:00:00:01",
            "bandwidth": {"INGRESSRATE": 5, "egressBurst": 6},
            "portMappings": [{"hostPort": 80, "containerPort": 8080, "hostIP": "10.0.0.1"}],
            "default-route": ["10.1.1.1"],
            "cni-args": {"foo": {"bar": [1]}},
            "deviceID": "0000:01:10.0",
            "ipam-claim-reference": "x", "example.com/own": {},
        }))
        .unwrap();
        assert_eq!(
            selection,
            NetworkSelection {
                namespace: "other".into(),
                name: "b.c".into(),
                interface: Some("up0".into()),
                ips: vec!["10.1.1.2/24".into(), "fd00::2".into()],
                mac: Some("02:00:5e:10:00:01".into()),
                infiniband_guid: Some("02:00:5e:10:00:00:00:01".into()),
                bandwidth: json!({"ingressRate": 5, "ingressBurst": 0, "egressRate": 0, "egressBurst": 6})
                    .as_object()
                    .cloned(),
                port_mappings: vec![
                    json!({"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": "10.0.0.1"})
                ],
                default_route: Some(vec!["10.1.1.1".parse().unwrap()]),
                cni_args: json!({"foo": {"bar": [1]}}).as_object().cloned().unwrap(),
                device_id: Some("0000:01:10.0".into()),
            }
        );
    }

    #[test]
    fn keys_match_in_any_case_and_nulls_are_absent() {
        let selection =
            read(&json!({"Name": "a", "InterfaceRequest": "x0", "MAC": null, "ips": null, "namespace": ""}));
        let expected = NetworkSelection {
            namespace: "default".into(),
            name: "a".into(),
            interface: Some("x0".into()),
            ..NetworkSelection::default()
        };
        assert_eq!(selection, Ok(expected));
    }

    #[test]
    fn an_empty_default_route_is_kept_apart_from_none() {
        assert_eq!(read(&json!({"name": "a", "default-route": []})).unwrap().default_route, Some(vec![]));
        assert_eq!(read(&json!({"name": "a"})).unwrap().default_route, None);
    }

    #[test]
    fn bad_values_are_refused_with_what_is_allowed() {
        for (key, value) in [
            ("ips", json!(["10.1.1.300"])),
            ("mac", json!("02:00")),
            ("infiniband-guid", json!("02:00:5e:10:00:01")),
            ("interface", json!("a/b")),
            ("namespace", json!("A")),
            ("default-route", json!(["10.1.1.1/24"])),
        ] {
            let problem = read(&json!({"name": "a", key: value})).unwrap_err();
            assert!(matches!(problem, Problem::Value { key: k, .. } if k == key), "{key}: {problem}");
        }
        for (key, value) in [
            ("ips", json!("10.1.1.3")),
            ("ips", json!([5])),
            ("mac", json!(5)),
            ("bandwidth", json!([])),
            ("portMappings", json!({})),
            ("portMappings", json!(["80"])),
            ("cni-args", json!("x")),
            ("default-route", json!("10.1.1.1")),
            ("deviceID", json!(["x"])),
        ] {
            let problem = read(&json!({"name": "a", key: value})).unwrap_err();
            assert!(matches!(problem, Problem::Type { key: k, .. } if k == key), "{key}: {problem}");
        }
        assert_eq!(read(&json!({"namespace": "b"})), Err(Problem::NoName));
        assert_eq!(read(&json!("a")), Err(Problem::NoObject("a string")));
    }

    #[test]
    fn ports_rates_and_protocols_have_bounds() {
        let ports =
            |entry: &Value| read(&json!({"name": "a", "portMappings": [entry]})).unwrap_err().to_string();
        assert!(ports(&json!({"containerPort": 1})).contains("`hostPort` \"0\""));
        assert!(ports(&json!({"hostPort": 70000, "containerPort": 1})).contains("65535"));
        assert!(ports(&json!({"hostPort": 1, "containerPort": 1, "protocol": "icmp"})).contains("tcp, udp"));
        assert!(ports(&json!({"hostPort": 1, "containerPort": 1, "hostIP": "x"})).contains("hostIP"));
        let problem = read(&json!({"name": "a", "bandwidth": {"ingressRate": -1}})).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "`ingressRate` is a negative number, allowed is a whole number from 0"
        );
    }
}
