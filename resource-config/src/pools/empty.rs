//! Why a pool has no device: what people ask when a node's allocatable reads 0.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::checks::Subject;
use super::{Assignment, candidate, hints, matching};
use crate::config::{Config, Resource, ResourceName};
use crate::inventory::Inventory;

/// A pool without a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyPool {
    /// The resource.
    pub resource: ResourceName,
    /// What turned devices away, that which turned away most first.
    pub turned_away: Vec<TurnedAway>,
    /// Pools before it that have devices which it selects too.
    pub taken: Vec<Taken>,
    /// PFs that it names and that do not exist, or have no VFs (scalable functions); for people.
    pub hints: Vec<String>,
}

/// A selector or rule that turned devices away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnedAway {
    /// As in [`super::Reason::selector`].
    pub selector: &'static str,
    /// How many devices.
    pub devices: usize,
    /// What they have, each value once; empty for nothing of the kind.
    pub found: Vec<String>,
    /// What the pool wants.
    pub wanted: Vec<String>,
}

/// A pool that has devices which another selects too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// Its resource.
    pub resource: ResourceName,
    /// How many devices.
    pub devices: usize,
}

/// Says of each pool without a device why no device is in it. `assignment` is that of this inventory and configuration.
#[must_use]
pub fn why_empty(inventory: &Inventory, config: &Config, assignment: &Assignment) -> Vec<EmptyPool> {
    let empty = |resource: &&Resource| {
        assignment.pools.iter().any(|pool| pool.resource == resource.name && pool.devices.is_empty())
    };
    config.resources.iter().filter(empty).map(|resource| why(inventory, resource, assignment)).collect()
}

fn why(inventory: &Inventory, resource: &Resource, assignment: &Assignment) -> EmptyPool {
    let mut tally: BTreeMap<&'static str, TurnedAway> = BTreeMap::new();
    for candidate in &candidate::all(inventory) {
        let it = Subject { inventory, candidate };
        if let Err(mismatch) = matching::select(resource, &it) {
            count(&mut tally, mismatch.reason(resource, &it));
        }
    }
    let shared = assignment.unassigned.iter().flat_map(|device| &device.reasons);
    for reason in
        shared.filter(|reason| reason.selector == super::IOMMU_GROUP && reason.resource == resource.name)
    {
        count(&mut tally, reason.clone());
    }
    let mut turned_away: Vec<TurnedAway> = tally.into_values().collect();
    turned_away.sort_by_key(|turned| std::cmp::Reverse(turned.devices));
    EmptyPool {
        resource: resource.name.clone(),
        turned_away,
        taken: taken(resource, assignment),
        hints: hints::of_pfs(inventory, resource),
    }
}

fn count(tally: &mut BTreeMap<&'static str, TurnedAway>, reason: super::Reason) {
    let super::Reason { selector, found, wanted, .. } = reason;
    let turned = tally.entry(selector).or_insert(TurnedAway {
        selector,
        devices: 0,
        found: Vec::new(),
        wanted: Vec::new(),
    });
    turned.devices += 1;
    let once = |list: &mut Vec<String>, value| {
        if !list.contains(&value) {
            list.push(value);
        }
    };
    once(&mut turned.found, found);
    wanted.into_iter().for_each(|value| once(&mut turned.wanted, value));
}

fn taken(resource: &Resource, assignment: &Assignment) -> Vec<Taken> {
    let mut counts: BTreeMap<&ResourceName, usize> = BTreeMap::new();
    for overlap in assignment.overlaps.iter().filter(|overlap| overlap.also.contains(&resource.name)) {
        *counts.entry(&overlap.resource).or_default() += 1;
    }
    counts.into_iter().map(|(resource, devices)| Taken { resource: resource.clone(), devices }).collect()
}

impl fmt::Display for EmptyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no device: ", self.resource)?;
        let first = self.hints.iter().cloned().chain(self.taken.iter().map(ToString::to_string));
        let parts: Vec<String> = first.chain(self.turned_away.iter().map(ToString::to_string)).collect();
        if parts.is_empty() {
            f.write_str("the node has none at all")
        } else {
            f.write_str(&parts.join("; "))
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, which comes before it, has {} that it selects", self.resource, devices(self.devices))
    }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 4;
        let mut found: Vec<&str> = self
            .found
            .iter()
            .take(MOST)
            .map(|found| if found.is_empty() { "nothing" } else { found })
            .collect();
        if self.found.len() > MOST {
            found.push("others");
        }
        let (found, wanted) = (found.join(", "), self.wanted.join(" or "));
        write!(f, "{} turned away {} (found {found}; wanted {wanted})", self.selector, devices(self.devices))
    }
}

fn devices(count: usize) -> String {
    format!("{count} {}", if count == 1 { "device" } else { "devices" })
}
