//! Writing a `netlink.json`, with the names that iproute2 has for things.

use serde_json::{Map, Value, json};

use super::{Devlink, Link, Network};
use crate::inventory::EswitchMode;

impl Network {
    /// The text of a `netlink.json` that reads back as this.
    pub(crate) fn to_json(&self) -> String {
        let routes = self.default_routes.iter().map(|dev| json!({"dst": "default", "dev": dev}));
        let devlink: Map<String, Value> =
            self.devlink.iter().map(|(address, told)| (format!("pci/{address}"), device(told))).collect();
        let mut document = json!({
            "links": self.links.iter().map(link).collect::<Vec<Value>>(),
            "routes": routes.collect::<Vec<Value>>(),
            "devlink": devlink,
        });
        if !self.notes.is_empty() {
            document["notes"] = json!(self.notes);
        }
        // The alternate form is indented. A Value's Display cannot fail.
        format!("{document:#}\n")
    }
}

fn link(link: &Link) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        value.map(|value| fields.insert(name.to_owned(), value));
    };
    put("ifindex", link.index.map(Value::from));
    put("ifname", Some(json!(link.name)));
    put("altnames", Some(json!(link.altnames)).filter(|_| !link.altnames.is_empty()));
    put("link_type", link.link_type.as_ref().map(|text| json!(text)));
    put("address", link.mac.as_ref().map(|text| json!(text)));
    put("mtu", link.mtu.map(Value::from));
    put("operstate", link.operstate.as_ref().map(|text| json!(text.to_uppercase())));
    put("flags", link.carrier.map(|carrier| json!(["UP", if carrier { "LOWER_UP" } else { "NO-CARRIER" }])));
    put("master", link.master.as_ref().map(|name| json!(name)));
    let several = link.lowers.len() > 1;
    put("link", link.lowers.first().filter(|_| !several).map(|name| json!(name)));
    put("lowers", Some(json!(link.lowers)).filter(|_| several));
    put("phys_port_name", link.phys_port_name.as_ref().map(|text| json!(text)));
    put("phys_switch_id", link.phys_switch_id.as_ref().map(|text| json!(text)));
    let addresses = link.addresses.iter().map(|net| {
        let family = if net.addr().is_ipv4() { "inet" } else { "inet6" };
        json!({"family": family, "local": net.addr(), "prefixlen": net.prefix_len(), "scope": "global"})
    });
    put("addr_info", Some(addresses.collect()).filter(|_| !link.addresses.is_empty()));
    Value::Object(fields)
}

fn device(told: &Devlink) -> Value {
    let mut fields = Map::new();
    if let Some(mode) = told.eswitch_mode {
        let mode = match mode {
            EswitchMode::Legacy => "legacy",
            EswitchMode::Switchdev => "switchdev",
        };
        fields.insert("mode".to_owned(), json!(mode));
    }
    if let Some(package) = &told.ddp_profile {
        fields.insert("versions".to_owned(), json!({"running": {"fw.app.name": package}}));
    }
    Value::Object(fields)
}
