//! The keys of tuning, as they are written.

use super::Properties;
use crate::{
    config::Fields,
    drivers::{Request, unicast_mac},
    protocol::error::{CniError, code},
};

/// Place for the interface's name in the name of a kernel setting.
const PLACEHOLDER: &str = "IFNAME";

/// What is wanted. `args.cni` may have the same keys, and wins.
///
/// Keys:
/// - `sysctl`: Settings of the network by name, such as `net.ipv4.conf.IFNAME.arp_notify`, with their values as texts. `IFNAME`
///   stands for the interface.
/// - `mac`: Hardware address of the interface; see [every plugin](#every-plugin).
/// - `mtu`: Bytes; 0 or absent: as it is.
/// - `promisc`: `true`: the interface hears everything.
/// - `allmulti`: It hears all multicast.
/// - `txQLen`: Length of the transmit queue.
/// - `dataDir`: Where upstream's plugin left what it changed: read at DEL of pods that it made; by default
///   `/run/cni/tuning`.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) sysctls: Vec<WantedSysctl>,
    pub(super) link: Properties,
}

/// A kernel setting that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedSysctl {
    /// As it is written, which is what allow-lists are about.
    pub(super) name: String,
    /// Path below `/proc/sys`.
    pub(super) path: String,
    pub(super) value: String,
}

impl Settings {
    pub(super) fn parse(request: Request<'_>) -> Result<Self, CniError> {
        request.args.only(&["MAC"])?;
        let fields = request.fields;
        let args = fields.object("args")?.unwrap_or_default().object("cni")?.unwrap_or_default();
        let mac = match args.text("mac")?.filter(|text| !text.is_empty()) {
            Some(text) => Some(unicast_mac(text)?),
            None => request.mac()?,
        };
        let flag = |key: &str| Ok::<_, CniError>(args.flag(key)?.or(fields.flag(key)?));
        let number = |key: &str| Ok::<_, CniError>(args.number(key)?.or(fields.number(key)?));
        let link = Properties {
            mac,
            // 0 is as absent; so is a promisc of false, which upstream's plugin never switches off.
            mtu: number("mtu")?.filter(|mtu| *mtu != 0),
            promisc: flag("promisc")?.filter(|on| *on),
            allmulti: flag("allmulti")?,
            tx_queue_len: number("txQLen")?,
        };
        Ok(Self { sysctls: sysctls(fields, &args, request.interface)?, link })
    }

    /// Kernel settings as they are written.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.sysctls.iter().map(|sysctl| sysctl.name.as_str())
    }
}

/// Those of the configuration, with those of `args.cni` in their place.
fn sysctls(fields: &Fields, args: &Fields, interface: &str) -> Result<Vec<WantedSysctl>, CniError> {
    let mut wanted = Vec::<WantedSysctl>::new();
    for (map, may_replace) in [(fields.object("sysctl")?, false), (args.object("sysctl")?, true)] {
        let map = map.unwrap_or_default();
        for (name, value) in &map.0 {
            let value = value.as_str().ok_or_else(|| {
                invalid(format!("key \"sysctl\": the value of {name} must be a text, it is {value}"))
            })?;
            let path = path(name, interface)?;
            let sysctl = WantedSysctl { name: name.clone(), path, value: value.to_owned() };
            match wanted.iter_mut().find(|other| other.path == sysctl.path) {
                Some(other) if may_replace => *other = sysctl,
                Some(other) => {
                    let text = format!("key \"sysctl\": {name} and {} are the same setting", other.name);
                    return Err(invalid(text));
                }
                None => wanted.push(sysctl),
            }
        }
    }
    Ok(wanted)
}

/// The setting's path below `/proc/sys`. Whichever of `.` and `/` comes first separates; the other one is then a dot within a
/// name, such as an interface's (as sysctl(8) has it).
fn path(name: &str, interface: &str) -> Result<String, CniError> {
    let path: String = match name.find(['.', '/']).and_then(|place| name.get(place..=place)) {
        Some("/") => name.to_owned(),
        _ => name.chars().map(swapped).collect(),
    };
    let path = path.replacen(PLACEHOLDER, interface, 1);
    let is_plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !is_plain || !path.starts_with("net/") {
        let text = format!(
            "key \"sysctl\": {name} is no setting of the network, such as net.ipv4.conf.{PLACEHOLDER}.arp_notify"
        );
        return Err(invalid(text));
    }
    Ok(path)
}

fn swapped(letter: char) -> char {
    match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

fn invalid(text: impl std::fmt::Display) -> CniError {
    CniError::new(code::INVALID_CONFIG, format!("tuning: {text}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::env::CniArgs;

    fn parse(config: Value, args: &str) -> Result<Settings, CniError> {
        let fields: Fields = serde_json::from_value(config).unwrap();
        let args = CniArgs::parse(args).unwrap();
        Settings::parse(Request { fields: &fields, interface: "net1.7", args: &args })
    }

    #[test]
    fn a_setting_is_named_with_dots_or_slashes_and_may_have_an_interface_with_dots() {
        for (name, wanted) in [
            ("net.ipv4.conf.IFNAME.arp_notify", "net/ipv4/conf/net1.7/arp_notify"),
            ("net/ipv4/conf/IFNAME/arp_notify", "net/ipv4/conf/net1.7/arp_notify"),
            ("net/ipv4/conf/eth0.100/arp_notify", "net/ipv4/conf/eth0.100/arp_notify"),
            ("net.ipv4.conf.eth0/100.arp_notify", "net/ipv4/conf/eth0.100/arp_notify"),
            ("net.core.somaxconn", "net/core/somaxconn"),
        ] {
            assert_eq!(path(name, "net1.7").unwrap(), wanted, "{name}");
        }
        for name in [
            "kernel.hostname",
            "net",
            "",
            "net/../kernel/hostname",
            "net..ipv4",
            "/net/core/x",
            "vm.swappiness",
        ] {
            assert!(path(name, "net1").unwrap_err().msg.contains("no setting of the network"), "{name}");
        }
    }

    #[test]
    fn the_same_setting_twice_is_refused_unless_the_arguments_replace_it() {
        let error =
            parse(json!({"sysctl": {"net.core.somaxconn": "1", "net/core/somaxconn": "2"}}), "").unwrap_err();
        assert!(error.msg.contains("the same setting"), "{error}");
        let config = json!({"sysctl": {"net.core.somaxconn": "1"}, "args": {"cni": {"sysctl": {"net/core/somaxconn": "2"}}}});
        let settings = parse(config, "").unwrap();
        assert_eq!(settings.sysctls.len(), 1);
        assert_eq!(settings.sysctls[0].value, "2");
        // Upstream's plugin dies of this one.
        assert_eq!(
            parse(json!({"args": {"cni": {"sysctl": {"net.core.a": "2"}}}}), "").unwrap().sysctls.len(),
            1
        );
    }

    #[test]
    fn x8_arguments_come_last_and_the_capability_before_cni_args() {
        let mac = |text: &str| Some(text.parse().unwrap());
        let mut config =
            json!({"mac": "02:00:00:00:00:01", "mtu": 1400, "promisc": true, "txQLen": 5, "allmulti": true});
        assert_eq!(parse(config.clone(), "").unwrap().link.mac, mac("02:00:00:00:00:01"));
        assert_eq!(
            parse(config.clone(), "MAC=02:00:00:00:00:02").unwrap().link.mac,
            mac("02:00:00:00:00:02")
        );
        config["runtimeConfig"] = json!({"mac": "02:00:00:00:00:03"});
        assert_eq!(
            parse(config.clone(), "MAC=02:00:00:00:00:02").unwrap().link.mac,
            mac("02:00:00:00:00:03")
        );
        config["args"] = json!({"cni": {"mac": "02:00:00:00:00:04", "mtu": 1300, "promisc": false, "txQLen": 0, "allmulti": false}});
        let link = parse(config, "MAC=02:00:00:00:00:02").unwrap().link;
        let wanted = Properties {
            mac: mac("02:00:00:00:00:04"),
            mtu: Some(1300),
            promisc: None,
            allmulti: Some(false),
            tx_queue_len: Some(0),
        };
        assert_eq!(link, wanted);
    }

    #[test]
    fn mistakes_are_named() {
        for (config, args, word) in [
            (json!({"sysctl": {"net.core.somaxconn": 1}}), "", "somaxconn"),
            (json!({"sysctl": []}), "", "sysctl"),
            (json!({"mac": "nonsense"}), "", "mac"),
            (json!({"mtu": -1}), "", "mtu"),
            (json!({"promisc": "maybe"}), "", "promisc"),
            (json!({"args": {"cni": {"mac": "01:00:00:00:00:01"}}}), "", "unicast"),
            (json!({}), "OTHER=1", "OTHER"),
        ] {
            let error = parse(config, args).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
