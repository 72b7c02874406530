//! What each pool lists: decided from the inventory, the configuration, what pods have, and what was listed before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fairlead_resource_config::PciAddress;
use fairlead_resource_config::config::{Config, LinkDown, Resource};
use fairlead_resource_config::inventory::{Inventory, Netdev, pf_netdev};
use fairlead_resource_config::pools::{Assignment, Device, DeviceId};
use tokio::time::Instant;

use crate::health::Reason;
use crate::in_use::InUse;
use crate::member::{Member, Source};
use crate::pool::Listing;

/// All that a decision is made from.
pub(crate) struct View<'a> {
    pub(crate) inventory: &'a Inventory,
    pub(crate) config: &'a Config,
    pub(crate) in_use: &'a InUse,
    /// PFs that are being set up.
    pub(crate) provisioning: &'a BTreeSet<PciAddress>,
    pub(crate) now: Instant,
}

/// What is remembered from one decision to the next.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What was listed, by the full name of the resource.
    listed: BTreeMap<String, Listing>,
    /// Ports without link, and since when.
    link_down: BTreeMap<PciAddress, Instant>,
}

/// What there is to list.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// By the full name of the resource. One that is configured no more is here while pods have devices of it.
    pub(crate) pools: BTreeMap<String, Listing>,
    /// When to decide anew although nothing has changed by then.
    pub(crate) again: Option<Instant>,
}

/// Decides what each pool lists.
///
/// A device that a pod has stays in the pool that the pod has it from, whatever has become of it. One that nobody has and that
/// left its pool because its driver did, stays too, as unhealthy, unless another pool has it now: people see the reason there.
pub(crate) fn plan(view: &View<'_>, assignment: Assignment, memory: &mut Memory) -> Plan {
    let mut plan = Plan::default();
    note_links(view, memory);
    let claims = Claims::of(view);
    let assigned: BTreeSet<DeviceId> =
        assignment.pools.iter().flat_map(|pool| &pool.devices).map(|device| device.id.clone()).collect();
    for (resource, pool) in view.config.resources.iter().zip(assignment.pools) {
        let name = resource.name.to_string();
        let before = memory.listed.remove(&name);
        let resource = match &before {
            Some(before) if *before.resource == *resource => before.resource.clone(),
            _ => Arc::new(resource.clone()),
        };
        let mut members = Vec::with_capacity(pool.devices.len());
        for device in pool.devices.into_iter().filter(|device| claims.allow(view, &name, device)) {
            members.extend(offered(view, &resource, device, memory, &mut plan.again));
        }
        keep(view, &resource, before.as_ref(), &assigned, &mut members);
        finish(view, &name, &mut members);
        plan.pools.insert(name, Listing { resource, members: Arc::new(members) });
    }
    retire(view, memory, &mut plan);
    memory.listed = plan.pools.clone();
    plan
}

/// Devices that pods have, which nobody else can get.
struct Claims {
    owners: BTreeMap<DeviceId, String>,
    /// IOMMU groups of such devices on VFIO, with the device.
    groups: BTreeMap<u32, DeviceId>,
}

impl Claims {
    fn of(view: &View<'_>) -> Self {
        let mut claims = Self { owners: BTreeMap::new(), groups: BTreeMap::new() };
        for resource in view.in_use.resources() {
            for id in view.in_use.of(resource) {
                let function = Source::of(view.inventory, &id).and_then(Source::function);
                if let Some(group) = function.filter(|f| f.is_vfio()).and_then(|f| f.iommu_group) {
                    claims.groups.insert(group, id.clone());
                }
                claims.owners.insert(id, resource.to_owned());
            }
        }
        claims
    }

    /// Whether a pool may list a device: no pod has it, or another member of its group, from elsewhere.
    fn allow(&self, view: &View<'_>, resource: &str, device: &Device) -> bool {
        let is_foreign = self.owners.get(&device.id).is_some_and(|owner| owner != resource);
        let function = Source::of(view.inventory, &device.id).and_then(Source::function);
        let group = function.filter(|f| f.is_vfio()).and_then(|f| f.iommu_group);
        let holder = group.and_then(|group| self.groups.get(&group));
        !is_foreign && holder.is_none_or(|holder| *holder == device.id)
    }
}

/// A device that the pool selects, and whether it can be used.
fn offered(
    view: &View<'_>,
    resource: &Resource,
    device: Device,
    memory: &Memory,
    again: &mut Option<Instant>,
) -> Option<Member> {
    let mut member = Member::new(view.inventory, resource, device)?;
    let port = member.device.pf_address.or(member.address)?;
    member.problem = if let Some(problem) = &member.device.problem {
        Some(Reason::Group(problem.clone()))
    } else if view.provisioning.contains(&port) {
        Some(Reason::Provisioning(port))
    } else {
        link_problem(view, resource, port, memory, again)
    };
    Some(member)
}

fn link_problem(
    view: &View<'_>,
    resource: &Resource,
    port: PciAddress,
    memory: &Memory,
    again: &mut Option<Instant>,
) -> Option<Reason> {
    let since = memory.link_down.get(&port)?;
    if resource.offer.link_down == LinkDown::Ignore {
        return None;
    }
    let due = *since + resource.offer.link_down_hold;
    if due <= view.now {
        return Some(Reason::LinkDown(port));
    }
    *again = Some(again.map_or(due, |time| time.min(due)));
    None
}

/// Notes which ports have no link, and since when. A port whose network device is not to be seen (it is in a pod, or on VFIO) is
/// not known to have none.
fn note_links(view: &View<'_>, memory: &mut Memory) {
    let is_down = |netdev: &Netdev| {
        netdev.carrier == Some(false)
            || matches!(netdev.operstate.as_deref(), Some("down" | "lowerlayerdown"))
    };
    let down: BTreeSet<PciAddress> = view
        .inventory
        .functions
        .iter()
        .filter(|function| function.as_vf().is_none() && pf_netdev(&function.netdevs).is_some_and(is_down))
        .map(|function| function.address)
        .collect();
    memory.link_down.retain(|port, _| down.contains(port));
    for port in down {
        memory.link_down.entry(port).or_insert(view.now);
    }
}

/// Adds what the pool does not select now and lists all the same.
fn keep(
    view: &View<'_>,
    resource: &Arc<Resource>,
    before: Option<&Listing>,
    assigned: &BTreeSet<DeviceId>,
    members: &mut Vec<Member>,
) {
    let listed: BTreeSet<DeviceId> = members.iter().map(|member| member.id().clone()).collect();
    let before_members = before.map(|before| before.members.as_slice()).unwrap_or_default();
    for id in view.in_use.of(&resource.name.to_string()) {
        if !listed.contains(&id) {
            let known = before_members.iter().find(|member| *member.id() == id);
            members.push(held(view, resource, id, known));
        }
    }
    // What another configuration listed was not meant by this one.
    let is_same = before.is_some_and(|before| Arc::ptr_eq(&before.resource, resource));
    for member in before_members.iter().filter(|member| is_same && !member.in_use) {
        if !listed.contains(member.id()) && !assigned.contains(member.id()) {
            members.extend(left_behind(view, resource, member));
        }
    }
}

/// A device that a pod has and the pool does not select (any more), or not at this moment.
fn held(view: &View<'_>, resource: &Resource, id: DeviceId, before: Option<&Member>) -> Member {
    let source = Source::of(view.inventory, &id);
    let found = source.and_then(Source::driver);
    let is_wanted = found.is_some_and(|driver| asks_for(resource, driver));
    let problem = match source {
        None => Some(Reason::Gone),
        Some(_) if is_wanted => None,
        Some(_) => Some(Reason::Driver { found: found.map(str::to_owned), wanted: drivers(resource) }),
    };
    let mut member = match before {
        Some(before) => before.clone(),
        None => unselected(view, resource, id),
    };
    if let Some(driver) = found.filter(|_| is_wanted) {
        driver.clone_into(&mut member.device.driver);
    }
    member.problem = problem;
    member
}

/// A device of which only kubelet knows that it belongs to the pool.
fn unselected(view: &View<'_>, resource: &Resource, id: DeviceId) -> Member {
    let function = Source::of(view.inventory, &id).and_then(Source::function);
    let device = Device {
        driver: drivers(resource),
        numa_node: function.and_then(|function| function.numa_node),
        pf_address: function.and_then(|function| function.as_vf()).map(|vf| vf.pf_address),
        selectors: 0,
        group_peers: Vec::new(),
        problem: None,
        notes: Vec::new(),
        id,
    };
    let address = device.id.pci_address();
    Member::new(view.inventory, resource, device.clone()).unwrap_or(Member {
        device,
        address,
        rdma: Vec::new(),
        vdpa: None,
        representor: None,
        problem: None,
        in_use: true,
    })
}

/// Whether any alternative of the pool asks for the driver, or for none in particular.
fn asks_for(resource: &Resource, driver: &str) -> bool {
    resource.selectors.iter().any(|s| s.drivers.is_empty() || s.drivers.iter().any(|d| d == driver))
}

/// The drivers that the pool asks for, for people.
fn drivers(resource: &Resource) -> String {
    let all: BTreeSet<&str> =
        resource.selectors.iter().flat_map(|s| &s.drivers).map(String::as_str).collect();
    if all.is_empty() { "any".to_owned() } else { all.into_iter().collect::<Vec<_>>().join(" or ") }
}

/// A device that was listed, that no pool selects and no pod has: it stays when it lacks what may come back.
fn left_behind(view: &View<'_>, resource: &Resource, before: &Member) -> Option<Member> {
    let source = Source::of(view.inventory, before.id())?;
    let selectors = crate::member::selectors(resource, before);
    let vdpa_type = selectors.and_then(|selectors| selectors.vdpa_type);
    let problem = if source.driver() != Some(before.device.driver.as_str()) {
        let found = source.driver().map(str::to_owned);
        Reason::Driver { found, wanted: before.device.driver.clone() }
    } else if selectors.is_some_and(|selectors| selectors.is_rdma) && source.rdma().is_empty() {
        Reason::NoRdma
    } else if let Some(kind) = vdpa_type
        && !source.vdpa().iter().any(|vdpa| vdpa.bus_driver.as_deref() == Some(kind.bus_driver()))
    {
        Reason::NoVdpa(kind)
    } else {
        return None;
    };
    Some(Member { problem: Some(problem), ..before.clone() })
}

/// Marks what pods have, and sorts. What a pod has is not taken from it because its PF is being set up.
fn finish(view: &View<'_>, resource: &str, members: &mut [Member]) {
    for member in members.iter_mut() {
        member.in_use = view.in_use.contains(resource, member.id());
        if member.in_use && matches!(member.problem, Some(Reason::Provisioning(_))) {
            member.problem = None;
        }
    }
    members.sort_by(|a, b| a.id().cmp(b.id()));
}

/// Lists the devices in use of pools that are configured no more.
fn retire(view: &View<'_>, memory: &mut Memory, plan: &mut Plan) {
    for (name, before) in std::mem::take(&mut memory.listed) {
        let in_use = view.in_use.of(&name);
        let mut members: Vec<Member> =
            before.members.iter().filter(|member| in_use.contains(member.id())).cloned().collect();
        for member in &mut members {
            member.problem = Some(Reason::NotConfigured);
            member.in_use = true;
        }
        if !members.is_empty() {
            plan.pools.insert(name, Listing { resource: before.resource, members: Arc::new(members) });
        }
    }
}

/// How often what ends without an announcement is looked at: the provisioning of a PF.
pub(crate) const PROVISIONING_POLL: Duration = Duration::from_millis(200);
