//! Results of ADD, in every version of the specification.
//!
//! Inside, a result always has the shape of 1.1.0; [`CniResult::parse`] and [`CniResult::render`] convert, by the rules of
//! the reference library, which callers rely on.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    error::{CniError, code},
    version,
};

/// An interface that an attachment made or moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name, in its namespace.
    pub name: String,
    /// Hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Network namespace; absent for an interface of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Socket of an interface in user space (1.1.0).
    #[serde(default, rename = "socketPath", skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// PCI address of the device behind it (1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// Place of its interface in `interfaces`; IPAM plugins give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// Address with the prefix length of its network; host bits are kept.
    pub address: IpNet,
    /// Gateway of its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; absent means the first gateway of the family among the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Advertised segment size in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope (1.1.0); 0 differs from absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route to `dst` with nothing else said.
    pub fn to(dst: IpNet) -> Self {
        Self { dst, gw: None, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// A result, in the shape of 1.1.0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CniResult {
    /// Interfaces; IPAM plugins give none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name service settings, as given.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub dns: Map<String, Value>,
}

impl CniResult {
    /// The pod's interface of this name; one of the host may have the same.
    pub fn interface_of_pod_mut(&mut self, name: &str) -> Option<&mut Interface> {
        let is_pods =
            |interface: &Interface| interface.sandbox.as_deref().is_some_and(|path| !path.is_empty());
        let named = |interface: &Interface| interface.name == name;
        let place = self.interfaces.iter().position(|interface| named(interface) && is_pods(interface));
        let place = place.or_else(|| self.interfaces.iter().position(named));
        place.and_then(|place| self.interfaces.get_mut(place))
    }

    /// Whether it tells of no interface and no address, as that of plugins which only change what others made.
    pub fn is_bare(&self) -> bool {
        self.interfaces.is_empty() && self.ips.is_empty()
    }

    /// The addresses of the interface of this name, and those of which nothing says whose they are.
    pub fn ips_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Ip> {
        self.ips.iter().filter(move |ip| match ip.interface.and_then(|place| self.interfaces.get(place)) {
            Some(interface) => interface.name == name,
            None => true,
        })
    }

    /// Reads the result that a plugin printed. A document without its own version has the version of the configuration.
    ///
    /// # Errors
    /// Code 6 for what is no result, code 1 for one in a version that we do not speak.
    pub fn parse(document: &Value, config_version: &str) -> Result<Self, CniError> {
        if document.is_null() {
            return Ok(Self::default());
        }
        let own = document.get("cniVersion").and_then(Value::as_str).filter(|text| !text.is_empty());
        let version = version::check(Some(own.unwrap_or(config_version)))?;
        if version::at_least(version, "0.3.0") {
            let mut document = document.clone();
            if let Some(fields) = document.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            return serde_json::from_value(document).map_err(|error| undecodable(&error));
        }
        let old: OldResult = serde_json::from_value(document.clone()).map_err(|error| undecodable(&error))?;
        Ok(old.into_new())
    }

    /// The document in a configuration's version.
    ///
    /// # Errors
    /// For 0.1.0 and 0.2.0, which cannot say "no address".
    pub fn render(&self, version: &str) -> Result<Value, CniError> {
        if !version::at_least(version, "0.3.0") {
            return self.render_old(version);
        }
        let mut document = serde_json::to_value(self).map_err(|error| undecodable(&error))?;
        document["cniVersion"] = json!(version);
        if !version::at_least(version, "1.1.0") {
            for interface in document["interfaces"].as_array_mut().into_iter().flatten() {
                if let Some(fields) = interface.as_object_mut() {
                    fields.retain(|key, _| !matches!(key.as_str(), "mtu" | "socketPath" | "pciID"));
                }
            }
        }
        if !version::at_least(version, "1.0.0") {
            for (ip, rendered) in self.ips.iter().zip(document["ips"].as_array_mut().into_iter().flatten()) {
                rendered["version"] = json!(if ip.address.addr().is_ipv4() { "4" } else { "6" });
            }
            // Readers of the older versions expect the key.
            document["dns"] = Value::Object(self.dns.clone());
        }
        if let Some(fields) = document.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        Ok(document)
    }

    fn render_old(&self, version: &str) -> Result<Value, CniError> {
        let family = |v4: bool| {
            let ip = self.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4)?;
            let routes: Vec<Value> = self
                .routes
                .iter()
                .filter(|route| route.dst.addr().is_ipv4() == v4)
                .map(|route| match route.gw {
                    Some(gw) => json!({"dst": route.dst, "gw": gw}),
                    None => json!({"dst": route.dst}),
                })
                .collect();
            let mut block = json!({"ip": ip.address});
            if let Some(gateway) = ip.gateway {
                block["gateway"] = json!(gateway);
            }
            if !routes.is_empty() {
                block["routes"] = Value::Array(routes);
            }
            Some(block)
        };
        let (v4, v6) = (family(true), family(false));
        if v4.is_none() && v6.is_none() {
            // Upstream's words and no more: callers compare them.
            let text = "cannot convert: no valid IP addresses";
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
        let mut document = json!({"cniVersion": version, "dns": self.dns});
        if let Some(block) = v4 {
            document["ip4"] = block;
        }
        if let Some(block) = v6 {
            document["ip6"] = block;
        }
        Ok(document)
    }
}

/// The result of 0.1.0 and 0.2.0: one address of each family.
#[derive(Deserialize)]
struct OldResult {
    ip4: Option<OldFamily>,
    ip6: Option<OldFamily>,
    #[serde(default)]
    dns: Map<String, Value>,
}

#[derive(Deserialize)]
struct OldFamily {
    ip: IpNet,
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Vec<Route>,
}

impl OldResult {
    fn into_new(self) -> CniResult {
        let mut result = CniResult { dns: self.dns, ..CniResult::default() };
        for family in [self.ip4, self.ip6].into_iter().flatten() {
            result.ips.push(Ip { interface: None, address: family.ip, gateway: family.gateway });
            result.routes.extend(family.routes);
        }
        result
    }
}

fn undecodable(error: &serde_json::Error) -> CniError {
    CniError::new(code::DECODING, "the plugin's result is no CNI result").details(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> CniResult {
        serde_json::from_value(json!({
            "interfaces": [
                {"name": "veth1"},
                {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/run/netns/a", "pciID": "0000:03:10.0"}
            ],
            "ips": [
                {"interface": 1, "address": "10.1.2.3/16", "gateway": "10.1.0.1"},
                {"interface": 1, "address": "fd00::3/64"}
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd01::/64", "gw": "fd00::1", "priority": 7}],
            "dns": {"nameservers": ["10.1.0.1"]}
        }))
        .unwrap()
    }

    #[test]
    fn p2_every_version_that_can_hold_it_gives_the_result_back() {
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let rendered = full().render(version).unwrap();
            assert_eq!(rendered["cniVersion"], version);
            let mut wanted = full();
            if version != "1.1.0" {
                wanted.interfaces[1].mtu = None;
                wanted.interfaces[1].pci_id = None;
            }
            assert_eq!(CniResult::parse(&rendered, "0.1.0").unwrap(), wanted, "{version}");
        }
    }

    #[test]
    fn p2_address_versions_are_given_before_1_0_only() {
        assert_eq!(full().render("0.4.0").unwrap()["ips"][1]["version"], "6");
        assert!(full().render("1.0.0").unwrap()["ips"][0].get("version").is_none());
    }

    #[test]
    fn p2_the_oldest_versions_hold_one_address_of_each_family() {
        let rendered = full().render("0.2.0").unwrap();
        assert_eq!(rendered["ip4"]["ip"], "10.1.2.3/16");
        assert_eq!(rendered["ip4"]["routes"], json!([{"dst": "0.0.0.0/0"}]));
        assert_eq!(rendered["ip6"]["routes"], json!([{"dst": "fd01::/64", "gw": "fd00::1"}]));
        let back = CniResult::parse(&rendered, "0.2.0").unwrap();
        assert_eq!(back.ips.len(), 2);
        assert_eq!(back.routes.len(), 2);
    }

    #[test]
    fn an_attachment_without_address_cannot_be_said_in_0_2() {
        let error = CniResult::default().render("0.2.0").unwrap_err();
        assert!(error.msg.contains("no valid IP addresses"), "{error}");
    }

    #[test]
    fn p2_a_document_without_version_has_the_configurations_and_nulls_are_nothing() {
        let document = json!({"ips": null, "interfaces": [{"name": "a"}]});
        assert_eq!(CniResult::parse(&document, "0.4.0").unwrap().interfaces[0].name, "a");
        assert_eq!(CniResult::parse(&Value::Null, "0.4.0").unwrap(), CniResult::default());
        assert_eq!(CniResult::parse(&json!({"ips": 5}), "0.4.0").unwrap_err().code, code::DECODING);
        assert_eq!(
            CniResult::parse(&json!({"cniVersion": "7.0.0"}), "0.4.0").unwrap_err().code,
            code::INCOMPATIBLE_VERSION
        );
    }
}
