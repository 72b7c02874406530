//! A link of the pod's own that is made for it: what macvlan, ipvlan, vlan and dummy have in common.

use fairlead_kernel::{Link, LinkChange, LinkKind, Mac, NewLink};
use serde::{Deserialize, Serialize};

use super::{
    Attached, Difference, Host, LINK_GROUP, Pod, Request,
    ipv6::before_up,
    kernel,
    master::{Found, Master},
};
use crate::protocol::{
    error::{CniError, code},
    result::{CniResult, Interface},
};

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(super) interface: String,
    /// Name of the link's kind, which is the plugin's.
    pub(super) kind: &'static str,
    /// The kind with what it needs. Its parent is put in when that is known.
    pub(super) link: LinkKind<'static>,
    /// What it is made on.
    pub(super) master: Option<Master>,
    pub(super) mtu: Option<u32>,
    pub(super) mac: Option<Mac>,
}

/// What undoing needs: nothing but name and kind, since the link and all on it go together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Name of the link inside the pod.
    pub interface: String,
    /// Kind of the link. Layout 1 knew macvlan only.
    #[serde(default = "macvlan")]
    pub kind: String,
    /// What it was made on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// That is in the pod, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub master_in_pod: bool,
    /// Its mode, or number of a VLAN, in the kernel's numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<u32>,
}

fn macvlan() -> String {
    "macvlan".into()
}

impl Spec {
    /// Checks what can be without the pod.
    pub(super) fn checked(self) -> Result<Self, CniError> {
        if let Some(master) = self.master.as_ref().and_then(Master::in_host) {
            self.check_mtu(master)?;
        }
        Ok(self)
    }

    fn find_master(
        &self,
        host: &mut Host,
        pod: &mut Pod,
        previous: &CniResult,
    ) -> Result<Option<Found>, CniError> {
        self.master.as_ref().map(|master| master.find(self.kind, host, pod, previous)).transpose()
    }

    /// An MTU is at most the master's; upstream's ipvlan leaves it to the kernel, which does not mind.
    fn check_mtu(&self, master: &Link) -> Result<(), CniError> {
        let is_above = |mtu: &u32| *mtu > master.mtu && !matches!(self.link, LinkKind::Ipvlan { .. });
        let Some(mtu) = self.mtu.filter(is_above) else { return Ok(()) };
        // Upstream's words, which its tests compare.
        let text = format!("invalid MTU {mtu}, must be [0, master MTU({})]", master.mtu);
        Err(CniError::new(code::INVALID_CONFIG, text))
    }

    pub(super) fn prepare(
        &self,
        host: &mut Host,
        pod: &mut Pod,
        previous: &CniResult,
    ) -> Result<Original, CniError> {
        let master = self.find_master(host, pod, previous)?;
        if let Some(master) = &master {
            self.check_mtu(&master.link)?;
        }
        Ok(Original {
            interface: self.interface.clone(),
            kind: self.kind.into(),
            master_in_pod: master.as_ref().is_some_and(|master| master.in_pod),
            master: master.map(|master| master.link.name),
            variant: self.link.variant(),
        })
    }

    pub(super) fn attach(
        &self,
        original: &Original,
        host: &mut Host,
        pod: &mut Pod,
        previous: &CniResult,
    ) -> Result<Attached, CniError> {
        let context = |error: CniError| match &original.master {
            Some(master) => error.context(format_args!("{} on {master}", self.kind)),
            None => error.context(self.kind),
        };
        let master = self.find_master(host, pod, previous)?;
        self.create(master.as_ref(), host, pod).map_err(context)?;
        let link = self.in_pod(pod).map_err(context)?;
        before_up(pod, &self.interface).map_err(context)?;
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        pod.route.set_link(&link, &up).map_err(kernel).map_err(context)?;
        // What is reported is what there is when it is up: udev may have given it another address before.
        let link = self.in_pod(pod).map_err(context)?;
        Ok(Attached {
            interfaces: vec![Interface {
                name: self.interface.clone(),
                mac: link.mac.map(|mac| mac.to_string()),
                mtu: Some(link.mtu),
                sandbox: Some(pod.netns.path().display().to_string()),
                ..Interface::default()
            }],
            main: 0,
            link: Some(link.index),
        })
    }

    fn in_pod(&self, pod: &mut Pod) -> Result<Link, CniError> {
        pod.route.link_by_name(&self.interface).map_err(kernel)?.ok_or_else(|| {
            CniError::new(code::OTHER, format!("{} vanished right after it was made", self.interface))
        })
    }

    /// Makes the link right inside the pod. The kernel looks for the name in the namespace of the socket, too; when it is taken
    /// in the host, the link is made under another name and renamed.
    fn create(&self, master: Option<&Found>, host: &mut Host, pod: &mut Pod) -> Result<(), CniError> {
        let kind = match master {
            Some(master) => on(self.link.clone(), master.link.index),
            None => self.link.clone(),
        };
        let new = |name: String| NewLink {
            mtu: self.mtu,
            mac: self.mac,
            group: Some(LINK_GROUP),
            ..NewLink::new(name, kind.clone())
        };
        if master.is_some_and(|master| master.in_pod) {
            return pod.route.add_link(&new(self.interface.clone())).map_err(kernel);
        }
        let netns = Some(&pod.netns);
        match host.route.add_link(&NewLink { netns, ..new(self.interface.clone()) }) {
            Err(error) if error.already_exists() => {}
            other => return other.map_err(kernel),
        }
        if pod.route.link_by_name(&self.interface).map_err(kernel)?.is_some() {
            let text = format!("the pod has an interface {} already", self.interface);
            return Err(CniError::new(code::OTHER, text));
        }
        let passing = format!("fl{:x}", std::process::id());
        host.route.add_link(&NewLink { netns, ..new(passing.clone()) }).map_err(kernel)?;
        let rename = LinkChange { name: Some(self.interface.clone()), ..LinkChange::default() };
        let Some(link) = pod.route.link_by_name(&passing).map_err(kernel)? else { return Ok(()) };
        let renamed = pod.route.set_link(&link, &rename).map_err(kernel);
        if renamed.is_err() {
            // The record knows the link by its final name only.
            let _ = pod.route.delete_link(&link);
        }
        renamed
    }
}

/// The same kind of link on another parent.
fn on(kind: LinkKind<'static>, parent: u32) -> LinkKind<'static> {
    match kind {
        LinkKind::Macvlan { mode, bc_queue_len, .. } => LinkKind::Macvlan { parent, mode, bc_queue_len },
        LinkKind::Ipvlan { mode, flag, .. } => LinkKind::Ipvlan { parent, mode, flag },
        LinkKind::Vlan { id, protocol, .. } => LinkKind::Vlan { parent, id, protocol },
        other => other,
    }
}

impl Original {
    pub(super) fn check(
        &self,
        made: &Interface,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Vec<Difference>, CniError> {
        let name = &self.interface;
        match pod.route.link_by_name(name).map_err(kernel)? {
            Some(link) if link.kind.as_ref() == Some(&self.kind) => {
                let mut found = Difference::of_link(&link, made);
                found.extend(self.check_kind(&link, host, pod)?);
                Ok(found)
            }
            Some(_) => Ok(vec![Difference::fatal(format!("{name} is no {} any more", self.kind))]),
            None => Ok(vec![Difference::fatal(format!("the pod has no interface {name}"))]),
        }
    }

    fn check_kind(
        &self,
        link: &Link,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Option<Difference>, CniError> {
        let name = &self.interface;
        if self.variant.is_some() && link.variant != self.variant {
            let what = if self.kind == "vlan" { "number" } else { "mode" };
            return Ok(Some(Difference::other(format!("{name} has another {what} than it was made with"))));
        }
        let Some(master) = &self.master else { return Ok(None) };
        let route = if self.master_in_pod { &mut pod.route } else { &mut host.route };
        let index = route.link_by_name(master).map_err(kernel)?.map(|master| master.index);
        let text = format!("{name} is not on {master} any more");
        Ok((index != link.parent).then(|| Difference::other(text)))
    }

    pub(super) fn detach(&self, pod: Option<&mut Pod>) -> Vec<CniError> {
        // With the namespace the kernel has removed the link.
        let Some(pod) = pod else { return Vec::new() };
        let removed = match pod.route.link_by_name(&self.interface) {
            Ok(Some(link)) if link.kind.as_ref() == Some(&self.kind) => pod.route.delete_link(&link),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if !error.is_missing() => vec![kernel(error)],
            _ => Vec::new(),
        }
    }
}

/// 0 is as absent.
///
/// Keys:
/// - `mtu`: Bytes; 0 or absent: what the kernel gives it.
pub(super) fn mtu(request: Request<'_>) -> Result<Option<u32>, CniError> {
    Ok(request.fields.number("mtu")?.filter(|mtu| *mtu != 0))
}
