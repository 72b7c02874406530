//! loopback: the pod's `lo`. Runtimes call it by itself for every pod; nothing of it needs a record, since `lo` goes with the
//! namespace.

use fairlead_kernel::{Link, LinkChange};

use super::{Pod, kernel};
use crate::protocol::{
    error::{CniError, code},
    result::{CniResult, Interface, Ip},
};

/// The one link that it works on, whatever interface is asked for.
const NAME: &str = "lo";

fn link(pod: &mut Pod) -> Result<Link, CniError> {
    let link = pod.route.link_by_name(NAME).map_err(kernel)?;
    link.ok_or_else(|| CniError::new(code::OTHER, "loopback: the pod has no interface lo"))
}

/// Switches it on. Result: the one of the plugins before, or its own addresses, the first of each family.
///
/// # Errors
/// When it has an address that is none of a loopback.
pub fn bring_up(pod: &mut Pod, previous: Option<CniResult>) -> Result<CniResult, CniError> {
    let link = link(pod)?;
    pod.route.set_link(&link, &LinkChange { up: Some(true), ..LinkChange::default() }).map_err(kernel)?;
    let addresses = pod.route.addresses(&link).map_err(kernel)?;
    if let Some(other) = addresses.iter().find(|address| !address.net.addr().is_loopback()) {
        let text = format!("loopback: lo has {}, which is no loopback address", other.net);
        return Err(CniError::new(code::OTHER, text));
    }
    if let Some(previous) = previous {
        return Ok(previous);
    }
    let first = |v4: bool| addresses.iter().find(|address| address.net.addr().is_ipv4() == v4);
    let ip = |address: &fairlead_kernel::route::Address| Ip {
        interface: Some(0),
        address: address.net,
        gateway: None,
    };
    let interface = Interface {
        name: NAME.into(),
        mac: Some("00:00:00:00:00:00".into()),
        sandbox: Some(pod.netns.path().display().to_string()),
        ..Interface::default()
    };
    Ok(CniResult {
        interfaces: vec![interface],
        ips: [first(true), first(false)].into_iter().flatten().map(ip).collect(),
        ..CniResult::default()
    })
}

/// Switches it off.
///
/// # Errors
/// The kernel's.
pub fn bring_down(pod: &mut Pod) -> Result<(), CniError> {
    let link = link(pod)?;
    pod.route.set_link(&link, &LinkChange { up: Some(false), ..LinkChange::default() }).map_err(kernel)
}

/// Makes sure that it is on.
///
/// # Errors
/// When it is not.
pub fn check(pod: &mut Pod) -> Result<(), CniError> {
    match link(pod)?.up {
        true => Ok(()),
        false => Err(CniError::new(code::OTHER, "loopback: lo is down")),
    }
}
