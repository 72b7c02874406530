//! vrf: a routing table of its own for an interface that another plugin made.
//!
//! The kernel takes an interface down and up when it comes to a VRF or leaves one: its routes go, and its IPv6 addresses may.
//! Both are put back. The rule that the kernel made for the first VRF of a namespace stays: it would not make it again.

use fairlead_kernel::{
    Link, LinkChange, LinkKind, NewLink,
    route::{AddressFlags, MAIN_TABLE, NewRoute, RouteEntry},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Difference, Leftover, Pod, Request, kernel, pod_link, routes};
use crate::protocol::{
    env::check_interface,
    error::{CniError, code},
};

/// Tables that the kernel gives a meaning: default, main, local.
const RESERVED: std::ops::RangeInclusive<u32> = 253..=255;

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Spec {
    interface: String,
    name: String,
    table: Option<u32>,
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// Name of the interface inside the pod.
    interface: String,
    /// Name of the VRF.
    vrf: String,
    /// Its table; none where upstream's plugin made it.
    table: Option<u32>,
    /// The VRF was there without any member, so somebody wants it without one.
    #[serde(default)]
    keep: bool,
    /// The interface's routes, in the tables that they were in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteEntry>,
    /// Its IPv6 addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<IpNet>,
}

impl Spec {
    /// Keys:
    /// - `vrfname`: Name of the VRF in the pod, which is made when it is missing, and goes with its last member. Needed.
    /// - `table`: Its routing table; 0 or absent: one that nobody uses.
    ///
    /// # Errors
    /// Code 7, naming the key.
    pub(super) fn validate(request: Request<'_>) -> Result<Self, CniError> {
        let name = request.fields.text("vrfname")?.unwrap_or_default();
        if name.is_empty() {
            return Err(invalid("configuration is expected to have a valid vrf name (key \"vrfname\")"));
        }
        check_interface(name).map_err(|error| invalid(format!("key \"vrfname\": {error}")))?;
        if name == request.interface {
            return Err(invalid(format!("key \"vrfname\": {name} is the interface itself")));
        }
        let table = request.fields.number("table")?.filter(|table| *table != 0);
        Ok(Self { interface: request.interface.to_owned(), name: name.to_owned(), table })
    }

    /// What there is. Nobody else may look for a free table of the pod until it is done.
    pub(super) fn prepare(&self, pod: &mut Pod) -> Result<Original, CniError> {
        let link = pod_link(pod, &self.interface, "vrf")?;
        let links = pod.route.links().map_err(kernel)?;
        if let Some(master) = link.master {
            let name =
                links.iter().find(|other| other.index == master).map_or("?", |other| other.name.as_str());
            return Err(invalid(format!("interface {} has already a master set: {name}", self.interface)));
        }
        let (table, keep) = match links.iter().find(|other| other.name == self.name) {
            Some(vrf) => (self.table_of(vrf)?, !has_members(vrf, &links)),
            None => (self.free_table(pod)?, false),
        };
        let routes = pod.route.routes(&link).map_err(kernel)?;
        let mut routes: Vec<RouteEntry> =
            routes.into_iter().filter(|entry| !entry.by_kernel && !entry.by_router).collect();
        routes::by_dependence(&mut routes);
        Ok(Original {
            interface: self.interface.clone(),
            vrf: self.name.clone(),
            table: Some(table),
            keep,
            routes,
            addresses: global_ipv6(pod, &link)?,
        })
    }

    fn table_of(&self, vrf: &Link) -> Result<u32, CniError> {
        let Some(table) = vrf.vrf_table else {
            return Err(invalid(format!("the pod's interface {} is no VRF", self.name)));
        };
        match self.table {
            Some(wanted) if wanted != table => Err(invalid(format!(
                "VRF {} already exist with different routing table {table} (key \"table\" is {wanted})",
                self.name
            ))),
            _ => Ok(table),
        }
    }

    fn free_table(&self, pod: &mut Pod) -> Result<u32, CniError> {
        let used = pod.route.tables_in_use().map_err(kernel)?;
        let is_free = |table: &u32| !used.contains(table) && !RESERVED.contains(table);
        self.table.or_else(|| (1..).find(is_free)).ok_or_else(|| invalid("the pod has no free routing table"))
    }

    pub(super) fn attach(&self, original: &Original, pod: &mut Pod) -> Result<(), CniError> {
        let context = |error: CniError| error.context(format_args!("vrf {}: {}", self.name, self.interface));
        let vrf = match pod.route.link_by_name(&self.name).map_err(kernel)? {
            Some(vrf) => vrf,
            None => original.create(pod).map_err(context)?,
        };
        let link = pod_link(pod, &self.interface, "vrf")?;
        let enslave = LinkChange { master: Some(vrf.index), ..LinkChange::default() };
        pod.route.set_link(&link, &enslave).map_err(kernel).map_err(context)?;
        let table = original.table.unwrap_or(MAIN_TABLE);
        let moved = |before: u32| if before == MAIN_TABLE { table } else { before };
        let routes = original.restore(pod, &link, moved).map_err(context)?;
        routes::add(&mut pod.route, &routes).map_err(context)
    }
}

impl Original {
    /// The table that routes were moved to.
    pub(super) fn table(&self) -> Option<u32> {
        self.table
    }

    fn create(&self, pod: &mut Pod) -> Result<Link, CniError> {
        let kind = LinkKind::Vrf { table: self.table.unwrap_or_default() };
        pod.route.add_link(&NewLink { up: true, ..NewLink::new(self.vrf.clone(), kind) }).map_err(kernel)?;
        let made = pod.route.link_by_name(&self.vrf).map_err(kernel)?;
        made.ok_or_else(|| CniError::new(code::OTHER, "it vanished right after it was made"))
    }

    /// Puts back the addresses that the kernel took from the interface, and tells what routes are to be; `table` says where
    /// those of a table go.
    fn restore(
        &self,
        pod: &mut Pod,
        link: &Link,
        table: impl Fn(u32) -> u32,
    ) -> Result<Vec<NewRoute>, CniError> {
        let there = global_ipv6(pod, link)?;
        for address in self.addresses.iter().filter(|address| !there.contains(address)) {
            // It was checked for a duplicate when it came.
            let flags = AddressFlags { nodad: true, ..AddressFlags::default() };
            match pod.route.add_address(link, address, flags) {
                Err(error) if !error.already_exists() => return Err(kernel(error)),
                _ => {}
            }
        }
        // The kernel takes no routes for a link that is down, and has taken away those that it had.
        let routes = self.routes.iter().filter(|_| link.up);
        Ok(routes
            .map(|entry| NewRoute {
                table: table(entry.table),
                oif: Some(link.index),
                ..routes::again(entry)
            })
            .collect())
    }

    pub(super) fn check(&self, pod: &mut Pod) -> Result<Vec<Difference>, CniError> {
        let links = pod.route.links().map_err(kernel)?;
        let vrf = links.iter().find(|link| link.name == self.vrf && link.vrf_table.is_some());
        let link = links.iter().find(|link| link.name == self.interface);
        let text = match (link, vrf) {
            (None, _) => {
                return Ok(vec![Difference::fatal(format!("the pod has no interface {}", self.interface))]);
            }
            (_, None) => format!("the pod has no VRF {}", self.vrf),
            (Some(link), Some(vrf)) if link.master != Some(vrf.index) => {
                format!("{} does not belong to VRF {} any more", self.interface, self.vrf)
            }
            (_, Some(vrf)) if vrf.vrf_table != self.table => format!("VRF {} has another table", self.vrf),
            _ => return Ok(Vec::new()),
        };
        Ok(vec![Difference::other(text)])
    }

    /// Takes the interface out of the VRF, and removes the VRF with its last member.
    pub(super) fn detach(&self, pod: Option<&mut Pod>) -> Vec<CniError> {
        let Some(pod) = pod else { return Vec::new() };
        let context = |error: CniError| error.context(format_args!("vrf {}: {}", self.vrf, self.interface));
        let left = self.leave(pod).and_then(|()| self.remove_unused(pod));
        left.err().map(context).into_iter().collect()
    }

    fn leave(&self, pod: &mut Pod) -> Result<(), CniError> {
        let link = pod.route.link_by_name(&self.interface).map_err(kernel)?;
        let vrf = pod.route.link_by_name(&self.vrf).map_err(kernel)?;
        let (Some(link), Some(vrf)) = (link, vrf) else { return Ok(()) };
        if link.master != Some(vrf.index) {
            return Ok(());
        }
        let release = LinkChange { master: Some(0), ..LinkChange::default() };
        pod.route.set_link(&link, &release).map_err(kernel)?;
        let routes = self.restore(pod, &link, |before| before)?;
        routes::put_back(&mut pod.route, &routes);
        Ok(())
    }

    fn remove_unused(&self, pod: &mut Pod) -> Result<(), CniError> {
        let links = pod.route.links().map_err(kernel)?;
        let vrf = links.iter().find(|link| link.name == self.vrf && link.vrf_table.is_some());
        match vrf.filter(|vrf| !self.keep && !has_members(vrf, &links)) {
            Some(vrf) => match pod.route.delete_link(vrf) {
                Err(error) if !error.is_missing() => Err(kernel(error)),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// What undoes what upstream's plugin did.
///
/// # Errors
/// Code 7 for a configuration without the VRF's name.
pub(super) fn of_upstream(left: &Leftover<'_>) -> Result<Option<Original>, CniError> {
    let vrf = left.fields.text("vrfname")?.filter(|name| !name.is_empty());
    Ok(vrf.map(|vrf| Original {
        interface: left.interface.to_owned(),
        vrf: vrf.to_owned(),
        table: None,
        keep: false,
        routes: Vec::new(),
        addresses: Vec::new(),
    }))
}

fn has_members(vrf: &Link, links: &[Link]) -> bool {
    links.iter().any(|link| link.master == Some(vrf.index))
}

/// The IPv6 addresses of a link that were given to it and that the kernel may take when it is down.
fn global_ipv6(pod: &mut Pod, link: &Link) -> Result<Vec<IpNet>, CniError> {
    let addresses = pod.route.addresses(link).map_err(kernel)?;
    let is_global = |address: &fairlead_kernel::route::Address| {
        matches!(address.net, IpNet::V6(net) if !net.addr().is_unicast_link_local()) && address.permanent
    };
    Ok(addresses.into_iter().filter(is_global).map(|address| address.net).collect())
}

fn invalid(text: impl std::fmt::Display) -> CniError {
    CniError::new(code::INVALID_CONFIG, format!("vrf: {text}"))
}
