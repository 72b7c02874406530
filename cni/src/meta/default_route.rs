//! Default routes that a pod wants over certain networks: in the kernel, and in what is known of the attachments.
//!
//! As with Multus: when any network has `default-route`, each family's default route is that of the network which names a
//! gateway of the family; networks whose list is empty keep what their plugins made; all others lose theirs.

use std::net::IpAddr;

use fairlead_kernel::{
    Link, Request,
    route::{NewRoute, RouteEntry},
    sysctl,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    drivers::{Pod, kernel},
    protocol::{
        error::{CniError, code},
        result::Route,
    },
    record::{Record, Store},
};

/// The default route of one family.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// Over this attachment, through this gateway.
    Through(usize, IpAddr),
    /// These attachments keep theirs.
    Keep(Vec<usize>),
}

impl Wish {
    /// `wishes` is what each attachment's network has for `default-route`.
    fn of(v4: bool, wishes: &[Option<Vec<IpAddr>>]) -> Self {
        let mut gateways = wishes
            .iter()
            .enumerate()
            .flat_map(|(place, wish)| wish.iter().flatten().map(move |gateway| (place, *gateway)));
        if let Some((place, gateway)) = gateways.find(|(_, gateway)| gateway.is_ipv4() == v4) {
            return Self::Through(place, gateway);
        }
        let keeps = |wish: &Option<Vec<IpAddr>>| wish.as_ref().is_some_and(Vec::is_empty);
        Self::Keep((0..wishes.len()).filter(|place| keeps(&wishes[*place])).collect())
    }

    /// What becomes of an attachment's reported routes.
    fn apply(&self, v4: bool, place: usize, routes: &mut Vec<Route>) {
        let is_default =
            |route: &Route| route.dst.prefix_len() == 0 && route.dst.addr().is_ipv4() == v4 && in_main(route);
        match self {
            Self::Keep(places) if places.contains(&place) => {}
            Self::Keep(_) => routes.retain(|route| !is_default(route)),
            Self::Through(chosen, gateway) => {
                routes.retain(|route| !is_default(route));
                if *chosen == place {
                    routes.push(Route { gw: Some(*gateway), ..Route::to(everywhere(v4)) });
                }
            }
        }
    }
}

fn in_main(route: &Route) -> bool {
    route.table.is_none_or(|table| table == fairlead_kernel::route::MAIN_TABLE)
}

fn everywhere(v4: bool) -> IpNet {
    if v4 { Ipv4Net::default().into() } else { Ipv6Net::default().into() }
}

/// Moves the pod's default routes to where it wants them, and says so in the attachments' results. `wishes` has an entry for
/// each record.
///
/// # Errors
/// When the kernel refuses, or the routes are not as asked for in the end.
pub(super) fn settle(
    records: &mut [Record],
    wishes: &[Option<Vec<IpAddr>>],
    pod: &mut Pod,
    store: &Store,
) -> Result<(), CniError> {
    if wishes.iter().all(Option::is_none) {
        return Ok(());
    }
    let links = records
        .iter()
        .map(|record| pod.route.link_by_name(&record.interface).map_err(kernel))
        .collect::<Result<Vec<_>, _>>()?;
    for v4 in [true, false] {
        let wish = Wish::of(v4, wishes);
        let label = |error: CniError| match &wish {
            Wish::Through(place, gateway) => error.context(format_args!(
                "network {} for interface {}: default route through {gateway}",
                records[*place].network, records[*place].interface
            )),
            Wish::Keep(_) => error.context("default routes of the pod"),
        };
        in_kernel(v4, &wish, &links, pod).map_err(label)?;
        for (place, record) in records.iter_mut().enumerate() {
            // Routes that a step moved to a table of its own are no business of the pod's default route.
            let is_moved = record.steps.iter().any(|step| !step.work.tables().is_empty());
            let is_chosen = matches!(wish, Wish::Through(chosen, _) if chosen == place);
            if let Some(result) = record.result.as_mut().filter(|_| is_chosen || !is_moved) {
                wish.apply(v4, place, &mut result.routes);
            }
        }
    }
    records.iter().try_for_each(|record| store.save(record, false))
}

fn in_kernel(v4: bool, wish: &Wish, links: &[Option<Link>], pod: &mut Pod) -> Result<(), CniError> {
    let index = |place: &usize| links.get(*place).and_then(Option::as_ref).map(|link| link.index);
    let wanted = match wish {
        Wish::Keep(_) => None,
        Wish::Through(place, gateway) => {
            let Some(oif) = index(place) else {
                let text = "the interface is none of the kernel's, so no route can lead over it";
                return Err(CniError::new(code::INVALID_CONFIG, text));
            };
            Some((oif, *gateway))
        }
    };
    let kept: Vec<u32> = match wish {
        Wish::Keep(places) => places.iter().filter_map(index).collect(),
        Wish::Through(..) => Vec::new(),
    };
    let is_right = |route: &RouteEntry| match wanted {
        Some((oif, gateway)) => route.oif == Some(oif) && route.gateway == Some(gateway) && !route.by_router,
        None => route.oif.is_some_and(|oif| kept.contains(&oif)),
    };
    if !v4 {
        let others = links.iter().flatten().filter(|link| !kept.contains(&link.index));
        refuse_advertised(others, pod);
    }
    let (right, wrong): (Vec<_>, Vec<_>) = default_routes(v4, pod)?.into_iter().partition(is_right);
    remove(&wrong.iter().map(NewRoute::from).collect::<Vec<_>>(), pod)?;
    if let Some((oif, gateway)) = wanted.filter(|_| right.is_empty()) {
        let route = NewRoute { gateway: Some(gateway), oif: Some(oif), ..NewRoute::to(everywhere(v4)) };
        pod.route.add_route(&route).map_err(|error| {
            kernel(error).details("the gateway must be within a subnet of the interface's addresses")
        })?;
    }
    verify(v4, wanted.is_some(), is_right, pod)
}

fn default_routes(v4: bool, pod: &mut Pod) -> Result<Vec<RouteEntry>, CniError> {
    let mut routes = pod.route.default_routes().map_err(kernel)?;
    routes.retain(|route| route.dst.addr().is_ipv4() == v4);
    Ok(routes)
}

fn remove(routes: &[NewRoute], pod: &mut Pod) -> Result<(), CniError> {
    let requests: Vec<Request<'_>> = routes.iter().map(Request::del_route).collect();
    let refused =
        pod.route.batch(&requests).into_iter().filter_map(Result::err).find(|error| !error.is_missing());
    refused.map_or(Ok(()), |error| Err(kernel(error)))
}

/// Routers' advertisements bring no default route any more. Where there is no IPv6, there are none.
fn refuse_advertised<'a>(links: impl Iterator<Item = &'a Link>, pod: &Pod) {
    let keys: Vec<String> =
        links.map(|link| format!("net/ipv6/conf/{}/accept_ra_defrtr", link.name)).collect();
    let settings: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "0")).collect();
    let _ = sysctl::set_all(Some(&pod.netns), &settings);
}

/// Compares what the kernel has in the end.
fn verify(
    v4: bool,
    is_wanted: bool,
    is_right: impl Fn(&RouteEntry) -> bool,
    pod: &mut Pod,
) -> Result<(), CniError> {
    let routes = default_routes(v4, pod)?;
    let wrong: Vec<String> = routes.iter().filter(|route| !is_right(route)).map(text).collect();
    if !wrong.is_empty() {
        let text = format!("the kernel has another one still: {}", wrong.join(", "));
        return Err(CniError::new(code::OTHER, text));
    }
    if is_wanted && routes.len() != 1 {
        let text = format!("the kernel has {} of them instead of one", routes.len());
        return Err(CniError::new(code::OTHER, text));
    }
    Ok(())
}

fn text(route: &RouteEntry) -> String {
    let gateway = route.gateway.map(|gateway| format!(" through {gateway}")).unwrap_or_default();
    format!("to {}{gateway} on link number {}", route.dst, route.oif.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(dst: &str, gw: Option<&str>) -> Route {
        Route { gw: gw.map(ip), ..Route::to(dst.parse().unwrap()) }
    }

    fn after(wish: &Wish, v4: bool, place: usize, routes: &[Route]) -> Vec<Route> {
        let mut routes = routes.to_vec();
        wish.apply(v4, place, &mut routes);
        routes
    }

    #[test]
    fn each_family_has_one_chosen_network_or_those_that_keep_theirs() {
        let wishes = [None, Some(vec![ip("10.1.1.1")]), Some(vec![]), Some(vec![ip("fd00::1")])];
        assert_eq!(Wish::of(true, &wishes), Wish::Through(1, ip("10.1.1.1")));
        assert_eq!(Wish::of(false, &wishes), Wish::Through(3, ip("fd00::1")));
        assert_eq!(Wish::of(false, &wishes[..3]), Wish::Keep(vec![2]));
        assert_eq!(Wish::of(false, &wishes[..2]), Wish::Keep(vec![]));
    }

    #[test]
    fn results_lose_and_gain_default_routes_of_the_family_in_the_main_table_only() {
        let own = Route { table: Some(100), ..route("0.0.0.0/0", Some("10.0.0.9")) };
        let routes = [
            route("0.0.0.0/0", None),
            route("::/0", Some("fd00::9")),
            route("10.9.0.0/16", None),
            own.clone(),
        ];
        let through = Wish::Through(1, ip("10.1.1.1"));
        let rest = [routes[1].clone(), routes[2].clone(), own];
        assert_eq!(after(&through, true, 0, &routes), rest);
        let mut chosen = rest.to_vec();
        chosen.push(route("0.0.0.0/0", Some("10.1.1.1")));
        assert_eq!(after(&through, true, 1, &routes), chosen);
        let keep = Wish::Keep(vec![0]);
        assert_eq!(after(&keep, false, 0, &routes), routes);
        assert_eq!(after(&keep, false, 1, &routes).len(), 3);
    }
}
