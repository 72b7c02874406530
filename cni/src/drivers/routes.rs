//! Routes of a link that are put back as they were.

use fairlead_kernel::{
    Request, Route,
    route::{NewRoute, RouteEntry, RouteMode},
};

use super::kernel;
use crate::{protocol::error::CniError, say::say};

/// Routes without a gateway come first: they are how the gateways of the others are reached.
pub(super) fn by_dependence(routes: &mut [RouteEntry]) {
    routes.sort_by_key(|entry| entry.gateway.is_some());
}

/// Adds routes; those that are there already stay.
///
/// # Errors
/// The first that the kernel refuses; all are tried.
pub(super) fn add(route: &mut Route, routes: &[NewRoute]) -> Result<(), CniError> {
    let requests: Vec<Request<'_>> = routes.iter().map(Request::add_route).collect();
    let refused =
        route.batch(&requests).into_iter().filter_map(Result::err).find(|error| !error.already_exists());
    refused.map_or(Ok(()), |error| Err(kernel(error)))
}

/// As [`add`], of routes that were there before. What the kernel refuses is said only: such a route depends on an address or
/// another route that somebody has removed since.
pub(super) fn put_back(route: &mut Route, routes: &[NewRoute]) {
    if let Err(error) = add(route, routes) {
        say(error);
    }
}

/// Removes routes; those that are gone are gone.
///
/// # Errors
/// As [`add`].
pub(super) fn remove(route: &mut Route, routes: &[NewRoute]) -> Result<(), CniError> {
    let requests: Vec<Request<'_>> = routes.iter().map(Request::del_route).collect();
    let refused =
        route.batch(&requests).into_iter().filter_map(Result::err).find(|error| !error.is_missing());
    refused.map_or(Ok(()), |error| Err(kernel(error)))
}

/// A route as it was, whatever others there are to the same destination by now.
pub(super) fn again(entry: &RouteEntry) -> NewRoute {
    NewRoute { mode: RouteMode::Append, ..entry.into() }
}
