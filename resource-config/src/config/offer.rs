//! How the devices of a pool are offered: keys of ours, which upstream's device plugin passes over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys;
use crate::document::{self, Node, Place, Report};

/// How a device plugin offers the devices of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// What a PF without link means for its VFs.
    pub link_down: LinkDown,
    /// How long the link must have been down for that.
    pub link_down_hold: Duration,
    /// Which devices are given to a container that wants several.
    pub preferred_allocation: Preference,
    /// Which device nodes a container gets for a device on VFIO.
    pub vfio_mode: VfioMode,
    /// Who may open device nodes that are handed over by CDI.
    pub cdi_access: NodeAccess,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            link_down: LinkDown::default(),
            link_down_hold: Duration::from_secs(10),
            preferred_allocation: Preference::default(),
            vfio_mode: VfioMode::default(),
            cdi_access: NodeAccess::default(),
        }
    }
}

/// `linkDown` of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LinkDown {
    /// Nothing: VFs of one PF reach each other without a link, and a switch that flaps must not empty a node.
    #[default]
    Ignore,
    /// They are not handed out until there is a link again.
    Unhealthy,
}

/// `preferredAllocation` of a pool: which devices of the same NUMA node are taken first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preference {
    /// Those of as few PFs as possible.
    #[default]
    Packed,
    /// Those of as many PFs as possible, so that not all are lost with one port.
    Spread,
}

/// `vfioMode` of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VfioMode {
    /// The node of the IOMMU group, and the VFIO container.
    #[default]
    Group,
    /// The device's own node, and `/dev/iommu`.
    Cdev,
    /// All of them.
    Both,
}

/// `cdi` of a pool: owner and mode of device nodes in the container; what is left out is as on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeAccess {
    /// User.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// Names in configurations with their values, the default first.
type Names<T> = &'static [(&'static str, T)];

pub(super) const LINK_DOWN: Names<LinkDown> =
    &[("ignore", LinkDown::Ignore), ("unhealthy", LinkDown::Unhealthy)];
pub(super) const PREFERENCE: Names<Preference> =
    &[("packed", Preference::Packed), ("spread", Preference::Spread)];
pub(super) const VFIO_MODE: Names<VfioMode> =
    &[("group", VfioMode::Group), ("cdev", VfioMode::Cdev), ("both", VfioMode::Both)];

/// The largest permission bits: reading and writing for all. A device node has no use for others.
const MOST_MODE: u32 = 0o666;

/// What may stand at `cdi.mode`.
const MODE: &str = "octal permissions of reading and writing as a text, such as \"0660\"";

/// Reads the keys of an entry that are about this.
pub(super) fn read(fields: &BTreeMap<&'static str, &Node>, place: &Place, report: &mut Report) -> Offer {
    let mut one = Fields { fields, place, report };
    let default = Offer::default();
    Offer {
        link_down: one.of("linkDown", LINK_DOWN),
        link_down_hold: one
            .number("linkDownSeconds")
            .map_or(default.link_down_hold, |seconds| Duration::from_secs(seconds.into())),
        preferred_allocation: one.of("preferredAllocation", PREFERENCE),
        vfio_mode: one.of("vfioMode", VFIO_MODE),
        cdi_access: fields
            .get("cdi")
            .map(|value| access(value, &place.key("cdi"), report))
            .unwrap_or_default(),
    }
}

fn access(value: &Node, place: &Place, report: &mut Report) -> NodeAccess {
    let fields = document::fields(value, &keys::names(keys::CDI), place, report);
    let mut one = Fields { fields: &fields, place, report };
    NodeAccess { uid: one.number("uid"), gid: one.number("gid"), mode: one.mode("mode") }
}

struct Fields<'a> {
    fields: &'a BTreeMap<&'static str, &'a Node>,
    place: &'a Place,
    report: &'a mut Report,
}

impl Fields<'_> {
    fn of<T: Copy + Default>(&mut self, key: &str, names: Names<T>) -> T {
        let Some(value) = self.fields.get(key) else { return T::default() };
        let found = names.iter().find(|(name, _)| value.as_text() == Some(name));
        if found.is_none() {
            let allowed: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            self.report.problem(&self.place.key(key), document::describe(value), allowed.join(", "));
        }
        found.map(|(_, value)| *value).unwrap_or_default()
    }

    fn number(&mut self, key: &str) -> Option<u32> {
        let value = self.fields.get(key)?;
        let number = value.as_number().and_then(|text| text.parse().ok());
        if number.is_none() {
            self.report.problem(&self.place.key(key), document::describe(value), "a whole number from 0 on");
        }
        number
    }

    fn mode(&mut self, key: &str) -> Option<u32> {
        let value = self.fields.get(key)?;
        let bits = value.as_text().and_then(|text| u32::from_str_radix(text, 8).ok());
        let bits = bits.filter(|bits| bits & !MOST_MODE == 0);
        if bits.is_none() {
            self.report.problem(&self.place.key(key), document::describe(value), MODE);
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Loaded};

    fn load(keys: &str) -> Result<Loaded, config::ConfigError> {
        let text = format!(r#"{{"resourceList":[{{"resourceName":"a",{keys}}}]}}"#);
        config::parse(&text, Path::new("config.json"), config::DEFAULT_PREFIX)
    }

    fn offer(keys: &str) -> Offer {
        let loaded = load(keys).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        loaded.config.resources[0].offer
    }

    #[test]
    fn what_is_left_out_is_as_upstream_does_it() {
        let expected = Offer {
            link_down: LinkDown::Ignore,
            link_down_hold: Duration::from_secs(10),
            preferred_allocation: Preference::Packed,
            vfio_mode: VfioMode::Group,
            cdi_access: NodeAccess { uid: None, gid: None, mode: None },
        };
        assert_eq!(offer(r#""cdi":null,"linkDown":null"#), expected);
    }

    #[test]
    fn every_key_is_read_in_any_case() {
        let keys = r#""LinkDown":"unhealthy","linkdownseconds":3,"preferredAllocation":"spread","vfioMode":"both",
            "CDI":{"uid":1000,"gid":0,"Mode":"0660"}"#;
        let expected = Offer {
            link_down: LinkDown::Unhealthy,
            link_down_hold: Duration::from_secs(3),
            preferred_allocation: Preference::Spread,
            vfio_mode: VfioMode::Both,
            cdi_access: NodeAccess { uid: Some(1000), gid: Some(0), mode: Some(0o660) },
        };
        assert_eq!(offer(keys), expected);
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_place() {
        for (keys, part) in [
            (r#""linkDown":"down""#, r#"linkDown: found "down"; allowed: ignore, unhealthy"#),
            (r#""linkDownSeconds":-1"#, "linkDownSeconds: found -1; allowed: a whole number from 0 on"),
            (r#""linkDownSeconds":"1""#, r#"linkDownSeconds: found "1""#),
            (r#""preferredAllocation":true"#, "allowed: packed, spread"),
            (r#""vfioMode":"iommufd""#, "allowed: group, cdev, both"),
            (r#""cdi":{"mode":"0770"}"#, r#"cdi.mode: found "0770"; allowed: octal"#),
            (r#""cdi":{"mode":660}"#, "cdi.mode: found 660"),
            (r#""cdi":{"uid":4294967296}"#, "cdi.uid: found 4294967296"),
            (r#""cdi":true"#, "cdi: found true; allowed: an object"),
        ] {
            let error = load(keys).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
