//! Short forms of the kernel layer, for what is done without any plugin.

use std::net::{IpAddr, Ipv4Addr};

use fairlead_kernel::{Netns, Request, Route};
use fairlead_resource_config::error_text;
use ipnet::{IpNet, Ipv4Net};

use crate::{Result, Sandbox};

pub(crate) fn netns(sandbox: &Sandbox) -> Result<Netns> {
    Netns::open(&sandbox.path).map_err(|error| error_text(&error))
}

pub(crate) fn route_in(netns: &Netns) -> Result<Route> {
    Route::open_in(netns).map_err(|error| error_text(&error))
}

/// Sends all of them at once, and fails when one fails.
pub(crate) fn all(route: &mut Route, requests: &[Request<'_>]) -> Result<()> {
    route
        .batch(requests)
        .into_iter()
        .find_map(std::result::Result::err)
        .map_or(Ok(()), |error| Err(error_text(&error)))
}

pub(crate) fn index(route: &mut Route, name: &str) -> Result<u32> {
    let link = route.link_by_name(name).map_err(|error| error_text(&error))?;
    link.map(|link| link.index).ok_or_else(|| format!("there is no link {name}"))
}

/// An address of network number `network`.
pub(crate) fn address(network: u8, host: u8) -> Result<IpNet> {
    Ipv4Net::new(Ipv4Addr::new(10, 200 + network, 0, host), 16)
        .map(IpNet::V4)
        .map_err(|error| error.to_string())
}

pub(crate) fn gateway(network: u8) -> IpAddr {
    Ipv4Addr::new(10, 200 + network, 0, 1).into()
}

/// Fails unless the sandbox's links are these and its own `lo`.
pub(crate) fn expect_links(sandbox: &Sandbox, wanted: &[&str]) -> Result<()> {
    let links = route_in(&netns(sandbox)?)?.links().map_err(|error| error_text(&error))?;
    let mut names: Vec<&str> =
        links.iter().map(|link| link.name.as_str()).filter(|name| *name != "lo").collect();
    names.sort_unstable();
    if names == wanted {
        Ok(())
    } else {
        Err(format!("{} has the links {names:?}, not {wanted:?}", sandbox.id))
    }
}
