//! Which devices to give to a container that wants several.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_resource_config::PciAddress;
use fairlead_resource_config::config::Preference;
use fairlead_resource_config::pools::DeviceId;

use crate::pool::Listing;

/// Where a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    /// `None` where the platform names no node.
    numa_node: Option<u32>,
    /// The PF, or for what is no VF the device itself.
    port: Option<PciAddress>,
}

/// `size` of the available devices, those that must be among them first: from as few NUMA nodes as possible, and within a node as
/// the pool prefers. What is not in the pool is taken last. Fewer where fewer are available.
pub(crate) fn preferred(
    listing: &Listing,
    available: &[String],
    must: &[String],
    size: usize,
) -> Vec<String> {
    let mut choice = Choice::new(listing);
    for id in must {
        choice.take(id);
    }
    let mut free: BTreeMap<Spot, BTreeSet<(DeviceId, String)>> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    for id in available.iter().filter(|id| !choice.chosen.contains(id)) {
        match (spot(listing, id), id.parse()) {
            (Some(spot), Ok(key)) => drop(free.entry(spot).or_default().insert((key, id.clone()))),
            _ => drop(unknown.insert(id.clone())),
        }
    }
    while choice.chosen.len() < size {
        let Some(spot) = choice.next_spot(&free, size) else { break };
        let Some((_, id)) = free.get_mut(&spot).and_then(BTreeSet::pop_first) else { break };
        free.retain(|_, ids| !ids.is_empty());
        choice.take(&id);
    }
    let missing = size.saturating_sub(choice.chosen.len());
    choice.chosen.extend(unknown.into_iter().take(missing));
    choice.chosen
}

fn spot(listing: &Listing, id: &str) -> Option<Spot> {
    let member = listing.member(id)?;
    let port = member.device.pf_address.or(member.address);
    Some(Spot { numa_node: member.device.numa_node, port })
}

struct Choice<'a> {
    listing: &'a Listing,
    chosen: Vec<String>,
    /// How many of each.
    by_node: BTreeMap<Option<u32>, usize>,
    by_port: BTreeMap<Spot, usize>,
}

impl<'a> Choice<'a> {
    fn new(listing: &'a Listing) -> Self {
        Self { listing, chosen: Vec::new(), by_node: BTreeMap::new(), by_port: BTreeMap::new() }
    }

    fn take(&mut self, id: &str) {
        if self.chosen.iter().any(|chosen| chosen == id) {
            return;
        }
        self.chosen.push(id.to_owned());
        if let Some(spot) = spot(self.listing, id) {
            *self.by_node.entry(spot.numa_node).or_default() += 1;
            *self.by_port.entry(spot).or_default() += 1;
        }
    }

    /// Where the next device is taken from.
    fn next_spot(&self, free: &BTreeMap<Spot, BTreeSet<(DeviceId, String)>>, size: usize) -> Option<Spot> {
        let wanted = size - self.chosen.len();
        let mut by_node: BTreeMap<Option<u32>, usize> = BTreeMap::new();
        for (spot, ids) in free {
            *by_node.entry(spot.numa_node).or_default() += ids.len();
        }
        // A node that is used already; else the smallest that has enough, so that larger ones stay free for larger wishes; else
        // the largest.
        let node = by_node.iter().min_by_key(|(node, count)| {
            (!self.by_node.contains_key(*node), best_fit(**count, wanted), **node)
        });
        let node = *node?.0;
        let spots = free.iter().filter(|(spot, _)| spot.numa_node == node);
        let taken = |spot: &Spot| self.by_port.get(spot).copied().unwrap_or_default();
        let spot = match self.listing.resource.offer.preferred_allocation {
            Preference::Packed => {
                spots.min_by_key(|(spot, ids)| (taken(spot) == 0, best_fit(ids.len(), wanted), **spot))
            }
            Preference::Spread => {
                spots.min_by_key(|(spot, ids)| (taken(spot), std::cmp::Reverse(ids.len()), **spot))
            }
        };
        Some(*spot?.0)
    }
}

/// Sorts the smallest that has enough first, then what has not, the largest first.
fn best_fit(count: usize, wanted: usize) -> (bool, usize) {
    if count >= wanted { (false, count) } else { (true, usize::MAX - count) }
}
