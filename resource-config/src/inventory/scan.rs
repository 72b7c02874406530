//! The scan of a whole node.

use std::collections::{BTreeMap, BTreeSet};

use super::function::{self, Outcome};
use super::node::{Detail, Node};
use super::places;
use super::stack::{self, Edges};
use super::{Function, Inventory, InventoryError, Netdev, auxiliary, iommu, parallel};
use crate::network::Network;
use crate::pci::PciAddress;
use crate::sysfs::SysRoot;

/// Functions that are read at once: what is read of them is held twice until it is in the inventory.
const BATCH: usize = 512;

/// Reads what sysfs has, and puts what netlink knows to it. `devlink` of the network is for the caller to fill in before
/// [`finish`], since what to ask it follows from what is found here.
pub(super) fn read(root: &SysRoot, network: &Network, detail: Detail) -> Result<Inventory, InventoryError> {
    let listed = Node::open(root, network, detail).and_then(|node| {
        let names = node.devices.names(|_| true)?;
        Ok((node, names))
    });
    let (node, names) = listed.map_err(|source| InventoryError::List { path: root.pci_devices(), source })?;
    let mut inventory = Inventory::default();
    let mut edges = Edges::of_network(network);
    let below = read_functions(&node, &names, &mut inventory, &mut edges);
    inventory.aux_devices = auxiliary::read_all(&node, below, &mut edges, &mut inventory.notes);
    places::take_netdevs_of_aux_devices(&mut inventory);
    read_stack(&node, &mut inventory, &mut edges);
    read_groups(&node, &mut inventory);
    inventory.default_route_netdevs = network.default_routes.clone();
    let addressed = network.links.iter().filter(|link| !link.addresses.is_empty());
    inventory.addressed_netdevs = addressed.map(|link| (link.name.clone(), link.addresses.clone())).collect();
    Ok(inventory)
}

/// Reads all functions; gives the auxiliary devices that are in their folders.
fn read_functions(
    node: &Node<'_>,
    names: &[String],
    inventory: &mut Inventory,
    edges: &mut Edges,
) -> BTreeMap<String, PciAddress> {
    let mut addresses: Vec<PciAddress> = Vec::with_capacity(names.len());
    for name in names {
        match name.parse::<PciAddress>() {
            Ok(address) if address.to_string() == *name => addresses.push(address),
            Ok(_) => {
                inventory.notes.push(format!("passed over: {name:?} is not how sysfs spells an address"));
            }
            Err(error) => inventory.notes.push(format!("passed over: {error}")),
        }
    }
    addresses.sort_unstable();
    let mut below = BTreeMap::new();
    let outcomes = addresses.chunks(BATCH).flat_map(|batch| {
        let outcomes = parallel::map(batch, |address| function::read(node, *address));
        batch.iter().zip(outcomes)
    });
    for (address, outcome) in outcomes {
        match outcome {
            Outcome::Wanted(read) => {
                below.extend(read.aux_devices.into_iter().map(|name| (name, *address)));
                edges.append(read.edges);
                inventory.functions.push(read.function);
            }
            Outcome::OtherClass => {}
            Outcome::Unreadable(error) => {
                inventory.notes.push(format!("{address} passed over: its folder: {error}"));
            }
        }
    }
    inventory.functions.shrink_to_fit();
    below
}

fn netdevs(inventory: &Inventory) -> impl Iterator<Item = &Netdev> {
    let of_aux_devices = inventory.aux_devices.iter().flat_map(|device| &device.netdevs);
    inventory.functions.iter().flat_map(|function| &function.netdevs).chain(of_aux_devices)
}

/// Gives each network device its master and what is stacked on it.
fn read_stack(node: &Node<'_>, inventory: &mut Inventory, edges: &mut Edges) {
    if !node.network.is_complete {
        let known: BTreeSet<&str> = netdevs(inventory).map(|netdev| netdev.name.as_str()).collect();
        stack::read_others(node, &known, edges);
    }
    let of_aux_devices = inventory.aux_devices.iter_mut().flat_map(|device| &mut device.netdevs);
    let of_functions = inventory.functions.iter_mut().flat_map(|function| &mut function.netdevs);
    for netdev in of_functions.chain(of_aux_devices) {
        netdev.master = edges.master(&netdev.name).cloned();
        netdev.uppers = edges.uppers(&netdev.name);
    }
}

fn read_groups(node: &Node<'_>, inventory: &mut Inventory) {
    let functions = &inventory.functions;
    // A pod gets a group through VFIO only.
    let wanted = functions.iter().filter(|function| node.detail == Detail::Full || function.is_vfio());
    let numbers: BTreeSet<u32> = wanted.filter_map(|function| function.iommu_group).collect();
    let numbers: Vec<u32> = numbers.into_iter().collect();
    let driver_of = |name: &str| {
        let address = name.parse().ok()?;
        let place = functions.binary_search_by_key(&address, |function| function.address).ok()?;
        functions.get(place).map(|function: &Function| function.driver.clone())
    };
    let groups = parallel::map(&numbers, |number| (*number, iommu::read(&node.root, *number, driver_of)));
    for (number, group) in groups {
        match group {
            Ok(group) => drop(inventory.iommu_groups.insert(number, group)),
            Err(error) => {
                let note = format!("the members of IOMMU group {number} cannot be read: {error}");
                inventory.notes.push(note);
            }
        }
    }
}

/// What needs all devices, and what devlink told.
pub(super) fn finish(mut inventory: Inventory, network: &Network) -> Inventory {
    places::put_devlink(&mut inventory, network);
    places::locate_vfs(&mut inventory, network);
    places::name_profiles(&mut inventory, network);
    inventory.notes.extend(network.notes.iter().cloned());
    inventory
}
