//! static: addresses that the configuration names. Nothing is kept.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{IpamError, Request, block, fits_version, keys};
use crate::protocol::result::{CniResult, Ip, Route};

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Static {
    addresses: Vec<Address>,
    routes: Vec<Route>,
    dns: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
struct Address {
    address: IpNet,
    gateway: Option<IpAddr>,
}

impl Static {
    /// `CNI_ARGS` key `IP` adds to `addresses`, `GATEWAY` is for what is added; `args.cni.ips`, and after it capability `ips`,
    /// come in their place.
    ///
    /// Keys:
    /// - `addresses`: A list of objects.
    /// - `address`: In `addresses`: with the length of its network; needed.
    /// - `gateway`: In `addresses`: the gateway that goes with it.
    /// - `dns`: Name service settings of the result.
    pub(super) fn parse(request: &Request<'_>) -> Result<Self, IpamError> {
        let ipam = block(request.fields)?;
        let mut addresses = configured(&ipam.objects("addresses")?)?;
        let written = addresses.len();
        for text in list(request.args.get("IP")) {
            addresses.push(plain(text, "the 'ip' field is expected to be")?);
        }
        for text in list(request.args.get("GATEWAY")) {
            let gateway =
                text.parse::<IpAddr>().map_err(|_| keys::wrong("GATEWAY", text, "an IP address"))?;
            // Those of the configuration keep theirs.
            let added = addresses.iter_mut().skip(written);
            added
                .filter(|address| address.address.contains(&gateway))
                .for_each(|address| address.gateway = Some(gateway));
        }
        for texts in keys::requested_lists(request.fields)?.iter().filter(|texts| !texts.is_empty()) {
            addresses = texts
                .iter()
                .map(|text| plain(text, "an entry in the 'ips' field is NOT"))
                .collect::<Result<_, _>>()?;
        }
        fits_version(request.version, addresses.iter().map(|address| address.address.addr().is_ipv4()))?;
        Ok(Self { addresses, routes: keys::routes(&ipam)?, dns: ipam.object("dns")?.unwrap_or_default().0 })
    }

    pub(super) fn result(&self) -> CniResult {
        let ip =
            |address: &Address| Ip { interface: None, address: address.address, gateway: address.gateway };
        CniResult {
            ips: self.addresses.iter().map(ip).collect(),
            routes: self.routes.clone(),
            dns: self.dns.clone(),
            ..CniResult::default()
        }
    }

    /// Where the result has an address of ours, it must have its gateway, too.
    pub(super) fn check(&self, result: &CniResult) -> Result<(), IpamError> {
        for address in self.addresses.iter().filter(|address| address.gateway.is_some()) {
            let same = result.ips.iter().find(|ip| ip.address.addr() == address.address.addr());
            if same.is_some_and(|ip| ip.gateway != address.gateway) {
                return Err(IpamError::OtherGateway { address: address.address.addr() });
            }
        }
        Ok(())
    }
}

fn configured(items: &[crate::config::Fields]) -> Result<Vec<Address>, IpamError> {
    let address = |item: &crate::config::Fields| {
        let text = keys::text(item, "address")?
            .ok_or_else(|| IpamError::Config("an entry of \"addresses\" has no key \"address\"".into()))?;
        Ok(Address {
            gateway: keys::address(item, "gateway")?,
            ..plain(text, "the 'address' field is expected to be")?
        })
    };
    items.iter().map(address).collect()
}

/// An address without gateway, in CIDR notation. `words` begin what is said of one that is not: it is said in upstream's words,
/// which its tests compare.
fn plain(text: &str, words: &str) -> Result<Address, IpamError> {
    let wrong = |_| IpamError::Config(format!("{words} in CIDR notation, got: '{text}'"));
    Ok(Address { address: text.trim().parse().map_err(wrong)?, gateway: None })
}

/// The parts of a list with commas.
fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::Fields, protocol::env::CniArgs};

    fn parse(config: Value, args: &str, version: &str) -> Result<Static, IpamError> {
        let fields: Fields = serde_json::from_value(config).unwrap();
        let args = CniArgs::parse(args).unwrap();
        Static::parse(&Request { fields: &fields, args: &args, version })
    }

    fn ips(spec: &Static) -> Value {
        spec.result().render("1.0.0").unwrap().get("ips").cloned().unwrap_or_default()
    }

    fn two() -> Value {
        json!([{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"address": "fd00::5/64"}])
    }

    #[test]
    fn x4_configured_addresses_routes_and_dns_are_reported() {
        let config =
            json!({"ipam": {"addresses": two(), "routes": [{"dst": "0.0.0.0/0"}], "dns": {"domain": "d"}}});
        let spec = parse(config, "", "1.0.0").unwrap();
        assert_eq!(ips(&spec), two());
        assert_eq!((spec.result().routes.len(), spec.result().dns.len()), (1, 1));
    }

    #[test]
    fn x4_arguments_add_and_lists_replace_the_later_one_last() {
        let added = parse(
            json!({"ipam": {"addresses": two()}}),
            "IP=10.9.0.5/24, fd09::5/64;GATEWAY=10.9.0.1,10.0.0.9",
            "1.0.0",
        );
        let added = ips(&added.unwrap());
        assert_eq!(added.as_array().unwrap().len(), 4);
        assert_eq!(added[0]["gateway"], "10.0.0.1");
        assert_eq!(added[2], json!({"address": "10.9.0.5/24", "gateway": "10.9.0.1"}));
        let cni = json!({"ipam": {"addresses": two()}, "args": {"cni": {"ips": ["10.7.0.1/24"]}}});
        assert_eq!(ips(&parse(cni.clone(), "", "1.0.0").unwrap()), json!([{"address": "10.7.0.1/24"}]));
        let mut both = cni;
        both["runtimeConfig"] = json!({"IPs": ["10.8.0.1/24"]});
        assert_eq!(ips(&parse(both, "", "1.0.0").unwrap()), json!([{"address": "10.8.0.1/24"}]));
    }

    #[test]
    fn x4_a_wrong_address_is_named_with_where_it_came_from() {
        for (config, args, word) in [
            (json!({}), "", "ipam"),
            (json!({"ipam": {"addresses": [{"address": "10.0.0.5"}]}}), "", "'address' field"),
            (json!({"ipam": {"addresses": [{}]}}), "", "\"address\""),
            (json!({"ipam": {"addresses": [{"address": "10.0.0.5/24", "gateway": "x"}]}}), "", "\"gateway\""),
            (json!({"ipam": {}}), "IP=10.0.0.5", "'ip' field"),
            (json!({"ipam": {}}), "GATEWAY=x", "\"GATEWAY\""),
            (json!({"ipam": {}, "args": {"cni": {"ips": ["10.0.0.5"]}}}), "", "'ips' field"),
            (json!({"ipam": {}, "runtimeConfig": {"ips": ["10.0.0.5"]}}), "", "'ips' field"),
        ] {
            let error = parse(config, args, "1.0.0").unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn the_oldest_versions_have_room_for_one_address_of_a_family() {
        let config = json!({"ipam": {"addresses": [{"address": "10.0.0.5/24"}, {"address": "10.0.0.6/24"}]}});
        assert!(parse(config.clone(), "", "0.2.0").unwrap_err().to_string().contains("more than 1 address"));
        assert!(parse(config, "", "0.3.0").is_ok());
        assert!(parse(json!({"ipam": {"addresses": two()}}), "", "0.1.0").is_ok());
    }

    #[test]
    fn check_compares_gateways() {
        let spec = parse(json!({"ipam": {"addresses": two()}}), "", "1.0.0").unwrap();
        let mut result = spec.result();
        spec.check(&result).unwrap();
        result.ips[0].gateway = None;
        assert!(spec.check(&result).unwrap_err().to_string().contains("10.0.0.5"));
        spec.check(&CniResult::default()).unwrap();
    }
}
