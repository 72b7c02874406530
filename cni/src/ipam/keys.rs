//! Reading what IPAM plugins have in their configurations: addresses, networks, routes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::IpamError;
use crate::{config::Fields, protocol::result::Route};

/// An address.
pub(super) fn address(fields: &Fields, key: &str) -> Result<Option<IpAddr>, IpamError> {
    let Some(text) = text(fields, key)? else { return Ok(None) };
    let address = text.parse::<IpAddr>().map_err(|_| wrong(key, text, "an IP address"))?;
    Ok(Some(address.to_canonical()))
}

/// An address with prefix length; host bits are kept.
pub(super) fn network(fields: &Fields, key: &str) -> Result<Option<IpNet>, IpamError> {
    let Some(text) = text(fields, key)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| wrong(key, text, "in CIDR notation"))
}

/// A text that is not empty.
pub(super) fn text<'a>(fields: &'a Fields, key: &str) -> Result<Option<&'a str>, IpamError> {
    Ok(fields.text(key)?.filter(|text| !text.is_empty()))
}

/// A list of routes. Keys that are no part of a route are passed over, as upstream does it.
///
/// Keys:
/// - `routes`: Routes of the result: a list of objects.
/// - `dst`: In `routes`: where to; needed.
/// - `gw`: In `routes`: by which gateway; absent: that of the addresses.
/// - `mtu`, `advmss`, `priority`, `table`: In `routes`: as the kernel has them.
/// - `scope`: In `routes`: 0 to 255.
/// - `ips`: In `args.cni` and as a capability, not in `ipam`: addresses that are asked for.
pub(super) fn routes(fields: &Fields) -> Result<Vec<Route>, IpamError> {
    let route = |item: Fields| {
        let dst =
            network(&item, "dst")?.ok_or_else(|| IpamError::Config("a route has no key \"dst\"".into()))?;
        let scope = item.number("scope")?.map(|scope| {
            u8::try_from(scope).map_err(|_| wrong("scope", &scope.to_string(), "from 0 to 255"))
        });
        Ok(Route {
            dst,
            gw: address(&item, "gw")?,
            mtu: item.number("mtu")?,
            advmss: item.number("advmss")?,
            priority: item.number("priority")?,
            table: item.number("table")?,
            scope: scope.transpose()?,
        })
    };
    fields.objects("routes")?.into_iter().map(route).collect()
}

/// The error for a value that is not what it must be.
pub(super) fn wrong(key: &str, value: &str, wanted: &str) -> IpamError {
    IpamError::Config(format!("key \"{key}\" must be {wanted}, it is \"{value}\""))
}

/// A requested address: with or without prefix length, which does not count.
pub(super) fn requested(key: &str, text: &str) -> Result<IpAddr, IpamError> {
    let plain = text.trim();
    let address = plain.parse::<IpNet>().map(|net| net.addr()).or_else(|_| plain.parse::<IpAddr>());
    address
        .map(|address| address.to_canonical())
        .map_err(|_| wrong(key, plain, "an IP address, with or without prefix length"))
}

/// The lists of requested addresses in a configuration, in upstream's order: `args.cni.ips`, then `runtimeConfig.ips`.
pub(super) fn requested_lists(fields: &Fields) -> Result<[Vec<String>; 2], IpamError> {
    let cni = fields.object("args")?.unwrap_or_default().object("cni")?.unwrap_or_default();
    let runtime = fields.object("runtimeConfig")?.unwrap_or_default();
    Ok([cni.texts("ips")?, runtime.texts("ips")?])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: serde_json::Value) -> Fields {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn routes_are_read_whole_with_keys_in_any_case() {
        let value =
            json!({"Routes": [{"Dst": "10.0.0.1/8", "GW": "10.0.0.9", "scope": 0, "mtu": 1400, "odd": 1}]});
        let routes = routes(&fields(value)).unwrap();
        assert_eq!(
            serde_json::to_value(&routes).unwrap(),
            json!([{"dst": "10.0.0.1/8", "gw": "10.0.0.9", "mtu": 1400, "scope": 0}])
        );
    }

    #[test]
    fn bad_values_are_named_with_their_key() {
        for (value, word) in [
            (json!({"routes": [{"gw": "10.0.0.1"}]}), "\"dst\""),
            (json!({"routes": [{"dst": "10.0.0.0"}]}), "\"dst\""),
            (json!({"routes": [{"dst": "10.0.0.0/8", "gw": "x"}]}), "\"gw\""),
            (json!({"routes": [{"dst": "10.0.0.0/8", "scope": 256}]}), "\"scope\""),
            (json!({"routes": [1]}), "\"routes\""),
        ] {
            let error = routes(&fields(value)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_requested_address_may_have_a_prefix_length() {
        assert_eq!(requested("ips", "10.0.0.5/24").unwrap(), requested("ips", " 10.0.0.5").unwrap());
        assert!(requested("ips", "10.0.0").unwrap_err().to_string().contains("\"ips\""));
    }
}
