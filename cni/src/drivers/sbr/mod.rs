//! sbr: routing by source address. What comes from an address of the interface is routed by a table of its own, so that answers
//! leave by the interface that the question came in by.

mod plan;

use std::net::IpAddr;

use fairlead_kernel::{
    Request as Change,
    route::{MAIN_TABLE, NewRoute, RouteEntry, Rule},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use self::plan::There;
use super::{Difference, Leftover, Pod, Request, kernel, pod_link, routes};
use crate::protocol::{
    error::{CniError, code},
    result::{CniResult, Ip},
};

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Spec {
    interface: String,
    config: Config,
}

/// Where the rules lead.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Config {
    /// To a table that somebody else fills.
    Table(u32),
    /// To tables of the attachment's own.
    Own {
        /// At most one of each family; they come before those of the addresses.
        gateways: Vec<IpAddr>,
        /// The main table keeps the routes to the interface's own networks.
        hints: bool,
    },
}

/// What is done, and what leaves the main table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Original {
    /// Name of the interface inside the pod.
    interface: String,
    rules: Vec<Rule>,
    /// Tables of the attachment's own.
    tables: Vec<u32>,
    /// Routes of the main table before.
    removed: Vec<RouteEntry>,
    /// Networks that the main table has another route to instead, with the source address to use.
    hinted: Vec<(IpNet, IpAddr)>,
}

impl Spec {
    /// Keys:
    /// - `table`: Routing table to use as it is, above 0; absent: one for each address that nobody uses.
    /// - `gateways`: Gateways of those tables, at most one of each family; they come before those of the addresses.
    /// - `addSourceHints`: The main table keeps the routes to the interface's networks, with the source address to use.
    ///
    /// # Errors
    /// Code 7, naming the key.
    pub(super) fn validate(request: Request<'_>) -> Result<Self, CniError> {
        let fields = request.fields;
        let gateways = gateways(&fields.texts("gateways")?)?;
        let config = match fields.number("table")? {
            Some(0) => return Err(invalid("key \"table\" must be a number above 0")),
            Some(table) => Config::Table(table),
            None => Config::Own { gateways, hints: fields.flag("addSourceHints")?.unwrap_or(false) },
        };
        Ok(Self { interface: request.interface.to_owned(), config })
    }

    /// What there is to do. Nobody else may look for a free table of the pod until it is done.
    pub(super) fn prepare(&self, pod: &mut Pod, previous: &CniResult) -> Result<Original, CniError> {
        let plan = self.plan(pod, previous)?;
        let hint = |route: &NewRoute| route.src.map(|src| (route.dst, src));
        Ok(Original {
            interface: self.interface.clone(),
            hinted: plan.hints.iter().filter_map(hint).collect(),
            rules: plan.rules,
            tables: plan.tables,
            removed: plan.remove,
        })
    }

    /// Carries the plan out, which must still be the one that was recorded.
    pub(super) fn attach(
        &self,
        original: &Original,
        pod: &mut Pod,
        previous: &CniResult,
    ) -> Result<(), CniError> {
        let context = |error: CniError| error.context(format_args!("sbr: {}", self.interface));
        let plan = self.plan(pod, previous)?;
        if plan.tables != original.tables {
            let text = format!("tables {:?} were taken by somebody else meanwhile", original.tables);
            return Err(context(CniError::new(code::TRY_AGAIN, text)));
        }
        let rules: Vec<Change<'_>> = plan.rules.iter().map(Change::add_rule).collect();
        for added in pod.route.batch(&rules) {
            added.map_err(kernel).map_err(context)?;
        }
        routes::add(&mut pod.route, &plan.add).map_err(context)?;
        let leaving: Vec<NewRoute> = plan.remove.iter().rev().map(NewRoute::from).collect();
        routes::remove(&mut pod.route, &leaving).map_err(context)?;
        routes::add(&mut pod.route, &plan.hints).map_err(context)
    }

    fn plan(&self, pod: &mut Pod, previous: &CniResult) -> Result<plan::Plan, CniError> {
        let link = pod_link(pod, &self.interface, "sbr")?;
        let ips: Vec<Ip> = previous.ips_of(&self.interface).cloned().collect();
        if ips.is_empty() {
            let text = format!("sbr: No IP addresses supplied on interface: {}", self.interface);
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
        let there = There {
            link: link.index,
            ips: &ips,
            routes: pod.route.routes(&link).map_err(kernel)?,
            rules: &pod.route.rules().map_err(kernel)?,
            tables: &pod.route.tables_in_use().map_err(kernel)?,
        };
        Ok(plan::plan(&self.config, there))
    }
}

impl Original {
    /// The tables that routes were moved to.
    pub(super) fn tables(&self) -> &[u32] {
        &self.tables
    }

    pub(super) fn check(&self, pod: &mut Pod) -> Result<Vec<Difference>, CniError> {
        let there = pod.route.rules().map_err(kernel)?;
        let is_lost =
            |rule: &&Rule| !there.iter().any(|other| other.src == rule.src && other.table == rule.table);
        let text = |rule: &Rule| {
            format!("{} lost its rule for {} (table {})", self.interface, rule.src.addr(), rule.table)
        };
        Ok(self.rules.iter().filter(is_lost).map(text).map(Difference::other).collect())
    }

    /// Removes rules and tables, and gives the main table back what it had.
    pub(super) fn detach(&self, pod: Option<&mut Pod>) -> Vec<CniError> {
        let Some(pod) = pod else { return Vec::new() };
        let rules: Vec<Change<'_>> = self.rules.iter().map(Change::del_rule).collect();
        let mut errors: Vec<CniError> = pod
            .route
            .batch(&rules)
            .into_iter()
            .filter_map(Result::err)
            .filter(|error| !error.is_missing())
            .map(kernel)
            .collect();
        errors.extend(self.restore_routes(pod).err());
        errors.into_iter().map(|error| error.context(format_args!("sbr: {}", self.interface))).collect()
    }

    /// Routes go with the link, so there may be none left to look after.
    fn restore_routes(&self, pod: &mut Pod) -> Result<(), CniError> {
        if self.tables.is_empty() {
            return Ok(());
        }
        let Some(link) = pod.route.link_by_name(&self.interface).map_err(kernel)? else { return Ok(()) };
        let there = pod.route.routes(&link).map_err(kernel)?;
        let is_hinted = |entry: &RouteEntry| {
            entry.table == MAIN_TABLE && entry.src.is_some_and(|src| self.hinted.contains(&(entry.dst, src)))
        };
        let ours = there.iter().filter(|entry| self.tables.contains(&entry.table) || is_hinted(entry));
        let ours: Vec<NewRoute> = ours.rev().map(NewRoute::from).collect();
        routes::remove(&mut pod.route, &ours)?;
        if !link.up {
            // The kernel takes no routes for it, and has taken away those that it had.
            return Ok(());
        }
        // What a router told it tells again.
        let back = self.removed.iter().filter(|entry| !entry.by_router);
        let back: Vec<NewRoute> =
            back.map(|entry| NewRoute { oif: Some(link.index), ..routes::again(entry) }).collect();
        routes::put_back(&mut pod.route, &back);
        Ok(())
    }
}

/// What undoes what upstream's plugin did: the rules for the addresses that the interface has.
///
/// # Errors
/// When the kernel refuses to tell.
pub(super) fn of_upstream(left: &Leftover<'_>, pod: &mut Pod) -> Result<Option<Original>, CniError> {
    let Some(link) = pod.route.link_by_name(left.interface).map_err(kernel)? else { return Ok(None) };
    let table = left.fields.number("table")?;
    let addresses = pod.route.addresses(&link).map_err(kernel)?;
    let mut rules = pod.route.rules().map_err(kernel)?;
    rules.retain(|rule| {
        addresses.iter().any(|address| IpNet::from(address.net.addr()) == rule.src)
            && table.is_none_or(|table| table == rule.table)
    });
    Ok(Some(Original { interface: left.interface.to_owned(), rules, ..Original::default() }))
}

/// Key `gateways`: at most one of each family.
fn gateways(texts: &[String]) -> Result<Vec<IpAddr>, CniError> {
    let mut gateways = Vec::<IpAddr>::new();
    for text in texts {
        let gateway: IpAddr =
            text.parse().map_err(|_| invalid(format!("key \"gateways\": \"{text}\" is no IP address")))?;
        if let Some(other) = gateways.iter().find(|other| other.is_ipv4() == gateway.is_ipv4()) {
            let family = if gateway.is_ipv4() { "IPv4" } else { "IPv6" };
            let text =
                format!("key \"gateways\" contains multiple {family} addresses: {other} and {gateway}");
            return Err(invalid(text));
        }
        gateways.push(gateway);
    }
    Ok(gateways)
}

fn invalid(text: impl std::fmt::Display) -> CniError {
    CniError::new(code::INVALID_CONFIG, format!("sbr: {text}"))
}
