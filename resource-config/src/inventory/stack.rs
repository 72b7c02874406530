//! What is stacked on what: masters, VLANs, macvlans on the network devices below them.

use std::collections::{BTreeMap, BTreeSet};

use super::attributes::Attributes;
use super::node::Node;
use crate::network::Network;
use crate::sysfs::{NET, last_part};

/// Names of network devices, each with those directly on it.
#[derive(Debug, Default)]
pub(super) struct Edges {
    uppers: BTreeMap<String, BTreeSet<String>>,
    /// Whose master each is, as far as masters say.
    masters: BTreeMap<String, String>,
}

impl Edges {
    fn add(&mut self, lower: &str, upper: &str) {
        if lower != upper {
            self.uppers.entry(lower.to_owned()).or_default().insert(upper.to_owned());
        }
    }

    fn add_master(&mut self, lower: &str, master: &str) {
        self.add(lower, master);
        self.masters.insert(lower.to_owned(), master.to_owned());
    }

    pub(super) fn append(&mut self, other: Self) {
        for (lower, uppers) in other.uppers {
            self.uppers.entry(lower).or_default().extend(uppers);
        }
        self.masters.extend(other.masters);
    }

    /// What the links of netlink say.
    pub(super) fn of_network(network: &Network) -> Self {
        let mut edges = Self::default();
        for link in &network.links {
            link.lowers.iter().for_each(|lower| edges.add(lower, &link.name));
            if let Some(master) = &link.master {
                edges.add_master(&link.name, master);
            }
        }
        edges
    }

    /// What the folder of a network device says: links to neighbours, and the members of bonds and bridges.
    pub(super) fn read(&mut self, name: &str, attributes: &mut Attributes<'_>) {
        for entry in attributes.names {
            if let Some(upper) = entry.strip_prefix("upper_") {
                self.add(name, upper);
            } else if let Some(lower) = entry.strip_prefix("lower_") {
                self.add(lower, name);
            }
        }
        if let Some(master) = attributes.link("master").or_else(|| bridge_of(attributes)) {
            self.add_master(name, &master);
        }
        if attributes.has("bonding") {
            let members = attributes.folder.text("bonding/slaves").unwrap_or_default();
            members.split_whitespace().for_each(|member| self.add_master(member, name));
        }
        attributes.names_in("brif", |_| true).iter().for_each(|port| self.add_master(port, name));
    }

    /// The master of a network device.
    pub(super) fn master(&self, name: &str) -> Option<&String> {
        self.masters.get(name)
    }

    /// Everything on a network device, directly or not.
    pub(super) fn uppers(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut to_follow = vec![name];
        while let Some(lower) = to_follow.pop() {
            for upper in self.uppers.get(lower).into_iter().flatten() {
                if upper != name && found.insert(upper.clone()) {
                    to_follow.push(upper);
                }
            }
        }
        found
    }
}

fn bridge_of(attributes: &Attributes<'_>) -> Option<String> {
    if !attributes.has("brport") {
        return None;
    }
    attributes.folder.link("brport/bridge").ok().map(|target| last_part(&target).to_owned())
}

/// Which names in a network device's folder say what it is stacked on.
pub(super) fn is_wanted(name: &str) -> bool {
    matches!(name, "master" | "bonding" | "brif" | "brport")
        || name.starts_with("upper_")
        || name.starts_with("lower_")
}

/// What the folders of network devices say that belong to no function (bonds, bridges, VLANs): all but `known`.
pub(super) fn read_others(node: &Node<'_>, known: &BTreeSet<&str>, edges: &mut Edges) {
    let Ok(folder) = node.root.open(NET) else { return };
    for name in folder.names(|name| !known.contains(name)).unwrap_or_default() {
        // `bonding_masters` is a file in there.
        let Ok(netdev) = folder.open(&name) else { continue };
        let names = netdev.names(is_wanted).unwrap_or_default();
        let mut notes = Vec::new();
        edges.read(&name, &mut Attributes::new(&netdev, &names, "", &mut notes));
    }
}
