//! A VF's network device: into the pod and back.

use std::{
    thread,
    time::{Duration, Instant},
};

use fairlead_kernel::{Errno, Link, LinkChange, Mac, NetlinkError, Route, route::VfChange};
use fairlead_resource_config::{PciAddress, inventory};
use serde::{Deserialize, Serialize};

use super::{
    Announcements, Host, Listening, Original, Patience, Pod, Readiness, Spec, kernel, out_of_patience,
    patience::is_busy, persist,
};
use crate::{
    drivers::{Difference, ipv6::before_up},
    protocol::{
        error::{CniError, code},
        result::Interface,
    },
};

/// How long the kernel may take to bring a VF home from a namespace that is gone (it does so by itself, in the background).
const HOMECOMING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);
/// How often a device may be renamed between reading its name and asking for it.
const RENAMES: usize = 3;

/// A network device as it was in the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetdevState {
    pub(super) name: String,
    /// `None` when they are not known, and stay as they are: upstream's plugin does not note them.
    pub(super) altnames: Option<Vec<String>>,
    pub(super) mac: Option<Mac>,
    /// Bytes; 0 when it is not known.
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// The PF forbids the VF to change its address: an administrator has set one. Known only when a change is asked for.
    #[serde(default)]
    pub(super) pinned: bool,
    /// What it heard; nothing when it is not known.
    #[serde(default)]
    pub(super) listening: Listening,
}

/// What it is to become in the pod.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) mtu: Option<u32>,
    pub(super) listening: Listening,
}

/// Compares the device in the pod with what ADD reported.
pub(super) fn check(
    original: &Original,
    made: &Interface,
    pod: &mut Pod,
) -> Result<Vec<Difference>, CniError> {
    let links = pod.route.links().map_err(kernel)?;
    let Some(link) = links.iter().find(|link| original.is(link)) else {
        return Ok(vec![Difference::fatal(format!("VF {} is not in the pod", original.address))]);
    };
    let mut found = Difference::of_link(link, made);
    if link.name != original.interface {
        let text =
            format!("VF {} is called {} instead of {}", original.address, link.name, original.interface);
        found.push(Difference::other(text));
    }
    if let Some(key) = original.listening.beyond(Listening::of(link)).beyond_own() {
        found.push(Difference::other(format!("{} is not set to {key} any more", link.name)));
    }
    Ok(found)
}

impl Original {
    /// Whether a link of the pod is the VF: whatever the pod has renamed it to, it is the device with its address.
    fn is(&self, link: &Link) -> bool {
        match &link.device {
            Some(device) => *device == self.address.to_string(),
            None => link.name == self.interface && link.kind.is_none(),
        }
    }
}

impl NetdevState {
    /// Reads the device's state. With `probe` it is found out whether the PF forbids the VF to change its address, by setting
    /// the one that it has: that cannot be read (drivers without an administrative address report the VF's own instead).
    pub(super) fn read(host: &mut Host, address: &PciAddress, probe: bool) -> Result<Self, CniError> {
        let link = in_host(host, address)?.ok_or_else(|| {
            let text = format!(
                "sriov: VF {address} has no network device in the host: a pod that was not made here may still hold it, or it \
                 must be bound again"
            );
            CniError::new(code::TRY_AGAIN, text)
        })?;
        let same = LinkChange { mac: link.mac, ..LinkChange::default() };
        // A device that is merely busy, or must be down for it, forbids nothing.
        let is_forbidden = |result: Result<(), NetlinkError>| result.is_err_and(|error| !is_busy(&error));
        let pinned = probe && link.mac.is_some() && is_forbidden(host.route.set_link(&link, &same));
        Ok(Self {
            listening: Listening::of(&link),
            name: link.name,
            altnames: Some(link.altnames),
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            pinned,
        })
    }

    /// Moves the device into the pod under its new name, which no program of the host gets to see, and brings it up.
    pub(super) fn hand_over(
        &self,
        address: &PciAddress,
        wanted: &Wanted<'_>,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Link, CniError> {
        let link = in_host(host, address)?
            .ok_or_else(|| CniError::new(code::TRY_AGAIN, format!("{} vanished from the host", self.name)))?;
        // A device cannot take a name that is an alternative one of its own.
        if link.altnames.iter().any(|altname| altname == wanted.name) {
            ignore_missing(host.route.del_altname(&link, wanted.name))?;
        }
        let change = LinkChange {
            netns: Some(&pod.netns),
            name: Some(wanted.name.to_owned()),
            ..LinkChange::default()
        };
        host.route.set_link(&link, &change).map_err(kernel)?;
        let link = in_pod(pod, wanted.name)?;
        before_up(pod, wanted.name)?;
        let Listening { promisc, allmulti } = wanted.listening.beyond(Listening::of(&link));
        let mtu = wanted.mtu.filter(|mtu| *mtu != link.mtu);
        let change = LinkChange { mtu, promisc, allmulti, up: Some(true), ..LinkChange::default() };
        pod.route.set_link(&link, &change).map_err(kernel)?;
        in_pod(pod, wanted.name)
    }

    /// Makes sure that the device is in the pod or at home, where the kernel may have to bring it first, or is none any more.
    ///
    /// # Errors
    /// Code 11 when another namespace holds it.
    pub(super) fn reach(
        &self,
        original: &Original,
        host: &mut Host,
        pod: Option<&mut Pod>,
    ) -> Result<(), CniError> {
        match pod {
            Some(pod) => {
                let links = pod.route.links().map_err(kernel)?;
                if links.iter().any(|link| original.is(link)) {
                    return Ok(());
                }
            }
            None => Self::await_home(original, host)?,
        }
        Self::at_home(original, host).map(drop)
    }

    /// Brings the device home if it is in the pod, or waits for the kernel to do so when the pod's namespace is gone.
    pub(super) fn fetch_home(
        &self,
        original: &Original,
        host: &mut Host,
        pod: Option<&mut Pod>,
    ) -> Result<(), CniError> {
        let Some(pod) = pod else { return Self::await_home(original, host) };
        let links = pod.route.links().map_err(kernel)?;
        let Some(link) = links.iter().find(|link| original.is(link)) else { return Ok(()) };
        let change = LinkChange {
            up: Some(false),
            netns: Some(&host.netns),
            name: Some(self.name.clone()),
            ..LinkChange::default()
        };
        pod.route.set_link(link, &change).map_err(kernel)
    }

    fn await_home(original: &Original, host: &mut Host) -> Result<(), CniError> {
        let start = Instant::now();
        while in_host(host, &original.address)?.is_none()
            && start.elapsed() < HOMECOMING
            && Self::is_bound(original, host)
        {
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether the VF is bound to a network driver: when it was removed, or taken to user space, there is no device to wait for.
    fn is_bound(original: &Original, host: &Host) -> bool {
        let function = inventory::read_function(&host.sys, &original.address);
        function.is_ok_and(|function| function.driver.is_some() && !function.is_vfio())
    }

    /// Puts the device's own settings back and leaves it down. A VF that was removed, or taken to user space, by an operator
    /// meanwhile needs none.
    ///
    /// udev makes the device's former name an alternative one when it comes home under the pod's name, at any time: a name that
    /// is taken is looked at again.
    pub(super) fn restore(&self, original: &Original, host: &mut Host) -> Result<(), CniError> {
        for _ in 1..RENAMES {
            match self.try_restore(original, host)? {
                Err(error) if error.already_exists() => thread::sleep(PAUSE),
                other => return other.map_err(kernel),
            }
        }
        self.try_restore(original, host)?.map_err(kernel)
    }

    fn try_restore(
        &self,
        original: &Original,
        host: &mut Host,
    ) -> Result<Result<(), NetlinkError>, CniError> {
        let Some(link) = Self::at_home(original, host)? else { return Ok(Ok(())) };
        // Older kernels rename only what is down; and addresses are taken while it is.
        let down = LinkChange { up: Some(false), ..LinkChange::default() };
        host.route.set_link(&link, &down).map_err(kernel)?;
        let altnames = self.altnames.as_ref().unwrap_or(&link.altnames);
        // The name that it had may be among them, which must be gone before it can be the name again.
        let surplus = |name: &&String| !altnames.contains(name) || **name == self.name;
        for altname in link.altnames.iter().filter(surplus) {
            ignore_missing(host.route.del_altname(&link, altname))?;
        }
        // Also when the device has the right address: a PF that has just forgotten it is told again.
        let mac = self.mac.filter(|mac| link.mac != Some(*mac) || original.change.mac.is_some());
        let name = (link.name != self.name).then(|| self.name.clone());
        let mtu = (self.mtu != 0 && link.mtu != self.mtu).then_some(self.mtu);
        let Listening { promisc, allmulti } = self.listening.beyond(Listening::of(&link));
        let change = LinkChange { mac, mtu, name, promisc, allmulti, ..LinkChange::default() };
        let done = persist(&mut Announcements::default(), || {
            host.route.set_link(&link, &change).map(|()| Readiness::Done)
        });
        if let Err(refusal) = done {
            return refusal.map(Err).ok_or_else(out_of_patience);
        }
        for altname in altnames.iter().filter(|name| !link.altnames.contains(name)) {
            match host.route.add_altname(&link, altname) {
                Err(error) if !error.already_exists() => return Err(kernel(error)),
                _ => {}
            }
        }
        Ok(Ok(()))
    }

    /// Brings the device up if it was.
    pub(super) fn bring_up(&self, original: &Original, host: &mut Host) -> Result<(), CniError> {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        match Self::at_home(original, host)? {
            Some(link) if self.up => host.route.set_link(&link, &up).map_err(kernel),
            _ => Ok(()),
        }
    }

    fn at_home(original: &Original, host: &mut Host) -> Result<Option<Link>, CniError> {
        match in_host(host, &original.address)? {
            None if Self::is_bound(original, host) => {
                let text =
                    "its network device is neither in the pod nor in the host: another namespace holds it";
                Err(CniError::new(code::TRY_AGAIN, text))
            }
            found => Ok(found),
        }
    }

    /// Gives the device an address while it is still in the host; the PF is told the same afterwards, with all else.
    ///
    /// The device comes first: once the PF has been told, some drivers (igb) refuse any change by the VF. A PF that has been
    /// told before the pod was thought of is made to forget.
    pub(super) fn set_mac(
        &self,
        spec: &Spec,
        mac: Mac,
        host: &mut Host,
        patience: &mut dyn Patience,
    ) -> Result<(), CniError> {
        let administrative = |host: &mut Host, mac: Mac, patience: &mut dyn Patience| {
            let change = VfChange { mac: Some(mac), ..VfChange::default() };
            spec.set_on_pf(&change, host, patience)
        };
        if self.pinned {
            administrative(host, Mac::ZERO, patience)?;
        }
        match set_own_mac(&mut host.route, &self.name, mac, patience) {
            Ok(()) => return Ok(()),
            Err(None) => return Err(not_taken(&self.name, mac)),
            // What igbvf says when the PF forbids it, and also when the PF did not answer in time.
            Err(Some(refusal)) if refusal.errno() == Some(Errno::EADDRNOTAVAIL) => {
                administrative(host, Mac::ZERO, patience)?;
                if set_own_mac(&mut host.route, &self.name, mac, patience).is_ok() {
                    return Ok(());
                }
            }
            Err(Some(_)) => {}
        }
        // And some let the VF take only what the PF has said.
        administrative(host, mac, patience)?;
        set_own_mac(&mut host.route, &self.name, mac, patience)
            .map_err(|refusal| refusal.map_or_else(|| not_taken(&self.name, mac), kernel))
    }

    /// The administrative address that must be set in the end: the one that an administrator had set. What a driver reports in
    /// the place of one that was never set comes back with the device's own.
    pub(super) fn administrative_mac(&self, original: &Original, now: Option<Mac>) -> Option<Mac> {
        let before = original.vf.mac.filter(|mac| original.change.mac.is_some() && !mac.is_zero())?;
        (self.pinned || now != Some(before)).then_some(before)
    }
}

/// Sets a device's address while it is down, as most drivers want it, and makes sure that it has come to be.
fn set_own_mac(
    route: &mut Route,
    name: &str,
    mac: Mac,
    patience: &mut dyn Patience,
) -> Result<(), Option<NetlinkError>> {
    persist(patience, || {
        let Some(link) = route.link_by_name(name)? else { return Ok(Readiness::NotYet) };
        if link.mac == Some(mac) {
            return Ok(Readiness::Done);
        }
        if link.up {
            route.set_link(&link, &LinkChange { up: Some(false), ..LinkChange::default() })?;
        }
        route.set_link(&link, &LinkChange { mac: Some(mac), ..LinkChange::default() })?;
        let has_it = route.link_by_name(name)?.is_some_and(|link| link.mac == Some(mac));
        Ok(if has_it { Readiness::Done } else { Readiness::NotYet })
    })
}

fn not_taken(name: &str, mac: Mac) -> CniError {
    CniError::new(code::TRY_AGAIN, format!("{name} did not take the hardware address {mac} in time"))
}

/// The VF's network device, if it is in the host, by whatever name: udev gives it one when it comes home.
fn in_host(host: &mut Host, address: &PciAddress) -> Result<Option<Link>, CniError> {
    for _ in 0..RENAMES {
        // A VF that is gone has none.
        let Ok(function) = inventory::read_function(&host.sys, address) else { return Ok(None) };
        let Some(netdev) = function.netdevs.first() else { return Ok(None) };
        if let Some(link) = host.route.link_by_name(&netdev.name).map_err(kernel)? {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// What somebody else has removed is removed.
fn ignore_missing(result: Result<(), NetlinkError>) -> Result<(), CniError> {
    match result {
        Err(error) if !error.is_missing() => Err(kernel(error)),
        _ => Ok(()),
    }
}

fn in_pod(pod: &mut Pod, name: &str) -> Result<Link, CniError> {
    pod.route
        .link_by_name(name)
        .map_err(kernel)?
        .ok_or_else(|| CniError::new(code::OTHER, format!("{name} vanished from the pod")))
}
