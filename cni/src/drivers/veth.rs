//! A pair of links, one end in the host and one in the pod: what bridge and ptp have in common.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::{Duration, Instant},
};

use fairlead_kernel::{
    Link, LinkChange, LinkKind, Mac, NetlinkError, NewLink,
    monitor::{Bell, Event, Heard, Monitor},
    route::{OperState, PeerEnd},
    sysctl,
};
use serde::{Deserialize, Serialize};

use super::{
    Difference, Host, LINK_GROUP, Pod, Request,
    ipv6::{Dad, before_up},
    kernel, link,
};
use crate::protocol::{
    error::{CniError, code},
    result::Interface,
};

/// How long the host's end may take to come up once the pod's is (upstream's bridge plugin waits as long).
const UP_LIMIT: Duration = Duration::from_millis(2550);

/// What tells a pair from all others. Chosen, and recorded, before the pair is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// Name of the pod's end.
    pub interface: String,
    /// Name of the host's end.
    pub host_name: String,
    /// Hardware address of the host's end.
    pub host_mac: Mac,
}

/// How a pair is made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    /// Of both; none for the kernel's choice.
    pub(super) mtu: Option<u32>,
    /// Of the pod's end; none for the kernel's choice.
    pub(super) pod_mac: Option<Mac>,
    /// Index of the bridge that the host's end belongs to.
    pub(super) master: Option<u32>,
}

/// Key `mtu`, within what the kernel takes for such a link (it says no more than "invalid"); 0 is as absent.
pub(super) fn mtu(kind: &str, request: Request<'_>) -> Result<Option<u32>, CniError> {
    let mtu = link::mtu(request)?;
    match mtu.filter(|mtu| !(68..=65535).contains(mtu)) {
        Some(mtu) => {
            let text = format!(
                "{kind}: key \"mtu\" must be from 68 to 65535, or 0 for the kernel's choice; it is {mtu}"
            );
            Err(CniError::new(code::INVALID_CONFIG, text))
        }
        None => Ok(mtu),
    }
}

impl Pair {
    /// A pair that is not there yet.
    pub(super) fn choose(interface: &str) -> Self {
        // A bridge that nobody gave an address takes the lowest of its ports': not this one, while it has another port.
        Self { interface: interface.into(), host_name: random_name(), host_mac: random_mac_from(0xfe) }
    }

    /// Makes the pair: the host's end is up and where it belongs, the pod's end is down.
    pub(super) fn make(&self, ends: Ends, host: &mut Host, pod: &Pod) -> Result<(), NetlinkError> {
        let kind = LinkKind::Veth { peer_name: self.interface.clone(), peer_netns: Some(&pod.netns) };
        host.route.add_link(&NewLink {
            mtu: ends.mtu,
            mac: Some(self.host_mac),
            master: ends.master,
            up: true,
            peer: PeerEnd { mtu: ends.mtu, mac: ends.pod_mac, group: Some(LINK_GROUP) },
            ..NewLink::new(self.host_name.clone(), kind)
        })?;
        own_routes(&self.host_name);
        Ok(())
    }

    /// Switches the pod's end on. `dad` is what is done about duplicates of its addresses, unless the network says so itself.
    pub(super) fn bring_up(&self, dad: Option<Dad>, pod: &mut Pod) -> Result<(), CniError> {
        pod.ipv6.dad = dad.unwrap_or(pod.ipv6.dad);
        before_up(pod, &self.interface)?;
        let link = self.in_pod(pod)?;
        pod.route.set_link(&link, &LinkChange { up: Some(true), ..LinkChange::default() }).map_err(kernel)
    }

    /// The pod's end.
    pub(super) fn in_pod(&self, pod: &mut Pod) -> Result<Link, CniError> {
        pod.route
            .link_by_name(&self.interface)
            .map_err(kernel)?
            .ok_or_else(|| CniError::new(code::OTHER, format!("{} vanished from the pod", self.interface)))
    }

    /// The host's end. Another link of that name is not it.
    pub(super) fn in_host(&self, host: &mut Host) -> Result<Option<Link>, CniError> {
        let link = host.route.link_by_name(&self.host_name).map_err(kernel)?;
        Ok(link.filter(|link| link.kind.as_deref() == Some("veth") && link.mac == Some(self.host_mac)))
    }

    /// The host's end, which is there.
    pub(super) fn host_end(&self, host: &mut Host) -> Result<Link, CniError> {
        self.in_host(host)?.ok_or_else(|| {
            let text = format!("{}, the host's end of {}, vanished", self.host_name, self.interface);
            CniError::new(code::OTHER, text)
        })
    }

    /// Both ends as they are reported: the host's, the pod's.
    pub(super) fn interfaces(&self, host: &mut Host, pod: &mut Pod) -> Result<[Interface; 2], CniError> {
        let sandbox = Some(pod.netns.path().display().to_string());
        let inside = Interface { sandbox, ..reported(&self.in_pod(pod)?) };
        Ok([reported(&self.host_end(host)?), inside])
    }

    /// Waits until frames can pass, and returns the host's end. Since Linux 6.8 looking at a link is enough; before, the
    /// kernel takes note of a pair that came up when it finds time.
    pub(super) fn await_up(&self, host: &mut Host) -> Result<Link, CniError> {
        let link = self.host_end(host)?;
        if link.oper_state == OperState::Up {
            return Ok(link);
        }
        let until = Instant::now() + UP_LIMIT;
        let mut monitor = Bell::new().and_then(Monitor::of_links).map_err(kernel)?;
        loop {
            let link = self.host_end(host)?;
            if link.oper_state == OperState::Up {
                return Ok(link);
            }
            if !hears_of(&mut monitor, link.index, until)? {
                let text = format!("{} did not come up: it is {:?}", self.host_name, link.oper_state);
                return Err(CniError::new(code::TRY_AGAIN, text));
            }
        }
    }

    /// Compares both ends with what was reported of the pod's.
    pub(super) fn check(
        &self,
        made: &Interface,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Vec<Difference>, CniError> {
        let name = &self.interface;
        let mut found = match pod.route.link_by_name(name).map_err(kernel)? {
            Some(link) if link.kind.as_deref() == Some("veth") => Difference::of_link(&link, made),
            Some(_) => vec![Difference::fatal(format!("{name} is no veth any more"))],
            None => vec![Difference::fatal(format!("the pod has no interface {name}"))],
        };
        match self.in_host(host)? {
            Some(link) if !link.up => found.push(Difference::other(format!("{} is down", self.host_name))),
            Some(_) => {}
            None => {
                let text = format!("{}, the host's end of {name}, is gone", self.host_name);
                found.push(Difference::fatal(text));
            }
        }
        Ok(found)
    }

    /// Removes the pair, wherever its ends are. Without the pod's namespace the kernel removes it too, but when it finds time.
    pub(super) fn detach(&self, host: &mut Host, pod: Option<&mut Pod>) -> Vec<CniError> {
        let removed = self.remove_in_pod(pod).and_then(|()| match self.in_host(host)? {
            Some(link) => gone(host.route.delete_link(&link)),
            None => Ok(()),
        });
        removed.err().into_iter().collect()
    }

    fn remove_in_pod(&self, pod: Option<&mut Pod>) -> Result<(), CniError> {
        let Some(pod) = pod else { return Ok(()) };
        match pod.route.link_by_name(&self.interface).map_err(kernel)? {
            Some(link) if link.kind.as_deref() == Some("veth") => gone(pod.route.delete_link(&link)),
            _ => Ok(()),
        }
    }
}

/// What is gone already is removed.
pub(super) fn gone(result: Result<(), NetlinkError>) -> Result<(), CniError> {
    match result {
        Err(error) if !error.is_missing() => Err(kernel(error)),
        _ => Ok(()),
    }
}

/// A link of the host as it is reported.
pub(super) fn reported(link: &Link) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()),
        mtu: Some(link.mtu),
        ..Interface::default()
    }
}

/// Has the host take no routes from what it hears on a link of ours, as the reference plugins do. Without IPv6 there is
/// nothing to be set.
pub(super) fn own_routes(link: &str) {
    let _ = sysctl::set_new(None, &[(&format!("net/ipv6/conf/{link}/accept_ra"), "0")]);
}

/// Lets the host pass on packets, of the families that there are addresses of.
pub(super) fn enable_forwarding(v4: bool, v6: bool) -> Result<(), CniError> {
    let keys = [(v4, "net/ipv4/ip_forward"), (v6, "net/ipv6/conf/all/forwarding")];
    for (_, key) in keys.into_iter().filter(|(wanted, _)| *wanted) {
        sysctl::set(None, key, "1").map_err(kernel)?;
    }
    Ok(())
}

/// Waits for news of a link; none within the time is false.
fn hears_of(monitor: &mut Monitor, index: u32, until: Instant) -> Result<bool, CniError> {
    loop {
        match monitor.next(Some(until)).map_err(kernel)? {
            Heard::Event(Event::Link(event)) if event.link.index != index => {}
            Heard::Event(_) | Heard::Bell => return Ok(true),
            Heard::Nothing => return Ok(false),
        }
    }
}

/// A number that nobody has seen before: the keys of a new hash table's state are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A name as the reference plugins give the host's end; tools know it by the beginning.
pub(super) fn random_name() -> String {
    format!("veth{:08x}", random() & 0xffff_ffff)
}

/// A hardware address of the local kind. One that is given is left alone by udev, and by a bridge that gets ports.
pub(super) fn random_mac() -> Mac {
    random_mac_from(random().to_ne_bytes()[0])
}

fn random_mac_from(first: u8) -> Mac {
    let [second, third, fourth, fifth, sixth, ..] = random().to_ne_bytes();
    Mac::from([first & 0xfe | 2, second, third, fourth, fifth, sixth])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_names_and_addresses_are_valid_and_differ() {
        let pairs: Vec<Pair> = (0..100).map(|_| Pair::choose("eth0")).collect();
        for (place, pair) in pairs.iter().enumerate() {
            assert_eq!(pair.host_name.len(), 12);
            let bytes = pair.host_mac.ethernet().unwrap();
            assert_eq!(bytes[0] & 3, 2, "local and unicast: {}", pair.host_mac);
            let same = |other: &Pair| other.host_name == pair.host_name || other.host_mac == pair.host_mac;
            assert!(!pairs[..place].iter().any(same));
        }
    }

    #[test]
    fn a_pair_survives_its_record() {
        let pair = Pair::choose("eth0");
        let text = serde_json::to_string(&pair).unwrap();
        assert_eq!(serde_json::from_str::<Pair>(&text).unwrap(), pair);
    }
}
