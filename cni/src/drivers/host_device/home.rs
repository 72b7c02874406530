//! A network device as it was in the host, and its way back there.

use std::{
    thread,
    time::{Duration, Instant},
};

use fairlead_kernel::{
    Link, LinkChange, Mac,
    route::{Address, AddressFlags, NewRoute, RouteEntry},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::find::has_netdevs;
use crate::{
    drivers::{Host, Pod, kernel, routes},
    protocol::error::{CniError, code},
};

/// How long the kernel may take to bring a device home from a namespace that is gone (it does so by itself, in the background).
const HOMECOMING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// A network device as it was in the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Netdev {
    pub(super) name: String,
    altnames: Vec<String>,
    alias: Option<String>,
    pub(super) mac: Option<Mac>,
    mtu: u32,
    up: bool,
    /// Kind of a virtual link; none for a device.
    kind: Option<String>,
    /// Bus address of the device.
    device: Option<String>,
    addresses: Vec<IpNet>,
    routes: Vec<RouteEntry>,
}

impl Netdev {
    pub(super) fn read(host: &mut Host, name: &str) -> Result<Self, CniError> {
        let link = host.route.link_by_name(name).map_err(kernel)?.ok_or_else(|| {
            let text = format!("host-device: {name} vanished from the host; the runtime will try again");
            CniError::new(code::TRY_AGAIN, text)
        })?;
        let addresses = host.route.addresses(&link).map_err(kernel)?;
        let mut routes = host.route.routes(&link).map_err(kernel)?;
        routes.retain(|entry| !entry.by_kernel && !entry.by_router);
        routes::by_dependence(&mut routes);
        Ok(Self {
            addresses: addresses.into_iter().filter(is_given).map(|address| address.net).collect(),
            routes,
            ..Self::of(link)
        })
    }

    fn of(link: Link) -> Self {
        Self {
            name: link.name,
            altnames: link.altnames,
            alias: link.alias,
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            kind: link.kind,
            device: link.device,
            ..Self::default()
        }
    }

    /// As upstream's plugin would bring it back that is in a pod: its alias is its name, and it is left down.
    pub(super) fn by_alias(link: &Link) -> Option<Self> {
        let name = link.alias.clone().filter(|alias| !alias.is_empty())?;
        Some(Self { name, alias: None, up: false, ..Self::of(link.clone()) })
    }

    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|altname| altname == name)
    }

    /// The device among links of the pod, whatever it is called there: its alias tells. Without that it is the interface, or
    /// has its old name still, when its move was cut short.
    pub(super) fn in_pod<'a>(&self, links: &'a [Link], interface: &str) -> Option<&'a Link> {
        let of_kind = |link: &&Link| link.kind == self.kind && link.device == self.device;
        let is_unmarked = |link: &&Link| {
            link.name == interface && self.device.is_some() || link.name == self.name && link.mac == self.mac
        };
        let mut candidates = links.iter().filter(of_kind);
        candidates.clone().find(|link| self.is_marked(link)).or_else(|| candidates.find(is_unmarked))
    }

    fn is_marked(&self, link: &Link) -> bool {
        link.alias.as_deref() == Some(self.name.as_str())
    }

    /// Brings the device home if it is in the pod, or waits for the kernel to do so when the pod's namespace is gone.
    pub(super) fn fetch(
        &self,
        interface: &str,
        host: &mut Host,
        pod: Option<&mut Pod>,
    ) -> Result<(), CniError> {
        let Some(pod) = pod else { return self.await_home(host) };
        let links = pod.route.links().map_err(kernel)?;
        let Some(link) = self.in_pod(&links, interface) else { return Ok(()) };
        // It would come home under the pod's name for it.
        if host.route.link_by_name(&self.name).map_err(kernel)?.is_some() {
            let text = format!(
                "the host has another interface {} by now: rename that one, and the device can come home",
                self.name
            );
            return Err(CniError::new(code::OTHER, text));
        }
        let change = LinkChange {
            up: Some(false),
            netns: Some(&host.netns),
            name: Some(self.name.clone()),
            ..LinkChange::default()
        };
        pod.route.set_link(link, &change).map_err(kernel)
    }

    /// Virtual links go with their namespace; devices come home.
    fn await_home(&self, host: &mut Host) -> Result<(), CniError> {
        let Some(device) = self.device.as_ref().filter(|_| self.kind.is_none()) else { return Ok(()) };
        let start = Instant::now();
        while self.at_home(host)?.is_none() && has_netdevs(&host.sys, device) {
            if start.elapsed() > HOMECOMING {
                let text = "it is neither in the pod nor in the host: another namespace holds it";
                return Err(CniError::new(code::TRY_AGAIN, text));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn at_home(&self, host: &mut Host) -> Result<Option<Link>, CniError> {
        let mut links = host.route.links().map_err(kernel)?;
        links.retain(|link| link.kind == self.kind && link.device == self.device);
        // It may have come home under another name while somebody else has its own.
        let place = links.iter().position(|link| self.is_marked(link));
        let place = place.or_else(|| links.iter().position(|link| link.name == self.name));
        Ok(place.map(|place| links.swap_remove(place)))
    }

    /// Puts the device's own settings back, and what was on it.
    pub(super) fn restore(&self, host: &mut Host) -> Result<(), CniError> {
        let Some(link) = self.at_home(host)? else { return Ok(()) };
        let back = self.difference(&link);
        if back.is_some() || !self.altnames.iter().eq(&link.altnames) {
            self.restore_link(&link, back, host)?;
        }
        self.restore_addresses(&link, host)
    }

    /// What of the link is not as it was; nothing when all is.
    fn difference(&self, link: &Link) -> Option<LinkChange<'static>> {
        let name = (link.name != self.name).then(|| self.name.clone());
        let mac = self.mac.filter(|_| self.mac != link.mac);
        let mtu = (link.mtu != self.mtu).then_some(self.mtu);
        let alias = (link.alias != self.alias).then(|| self.alias.clone().unwrap_or_default());
        let is_same =
            name.is_none() && mac.is_none() && mtu.is_none() && alias.is_none() && link.up == self.up;
        let change = LinkChange { name, mac, mtu, alias, ..LinkChange::default() };
        (!is_same).then_some(change)
    }

    fn restore_link(
        &self,
        link: &Link,
        change: Option<LinkChange<'static>>,
        host: &mut Host,
    ) -> Result<(), CniError> {
        let route = &mut host.route;
        // udev makes a device's former name an alternative one when it comes home under the pod's name; and its own name
        // may be among them, which it cannot take then.
        for altname in link.altnames.iter().filter(|name| !self.altnames.contains(name)) {
            match route.del_altname(link, altname) {
                Err(error) if !error.is_missing() => return Err(kernel(error)),
                _ => {}
            }
        }
        if let Some(change) = change {
            // Older kernels rename only what is down, and some drivers take an address only then.
            let down = LinkChange { up: Some(false), ..LinkChange::default() };
            route.set_link(link, &down).map_err(kernel)?;
            route.set_link(link, &change).map_err(kernel)?;
        }
        for altname in self.altnames.iter().filter(|name| !link.altnames.contains(name)) {
            match route.add_altname(link, altname) {
                Err(error) if !error.already_exists() => return Err(kernel(error)),
                _ => {}
            }
        }
        let up = LinkChange { up: Some(self.up), ..LinkChange::default() };
        route.set_link(link, &up).map_err(kernel)
    }

    fn restore_addresses(&self, link: &Link, host: &mut Host) -> Result<(), CniError> {
        for address in &self.addresses {
            match host.route.add_address(link, address, AddressFlags::default()) {
                Err(error) if !error.already_exists() => return Err(kernel(error)),
                _ => {}
            }
        }
        let back: Vec<NewRoute> = self
            .routes
            .iter()
            .map(|entry| NewRoute { oif: Some(link.index), ..routes::again(entry) })
            .collect();
        if self.up {
            routes::put_back(&mut host.route, &back);
        }
        Ok(())
    }
}

/// Given by hand, not by the kernel for the link alone.
fn is_given(address: &Address) -> bool {
    let is_link_local = matches!(address.net, IpNet::V6(net) if net.addr().is_unicast_link_local());
    address.permanent && !is_link_local
}
