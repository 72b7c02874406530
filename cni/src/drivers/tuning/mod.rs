//! tuning: kernel settings and properties of an interface that another plugin made.
//!
//! Unlike with upstream's plugin, whatever is changed is put back at DEL, kernel settings too.

mod allow_list;
mod backup;
mod duplicates;
mod settings;

use std::path::Path;

use fairlead_kernel::{Link, LinkChange, Mac, sysctl};
use serde::{Deserialize, Serialize};

pub(super) use self::backup::{forget_upstream, of_upstream};
pub use self::duplicates::refuse_duplicates;
use self::settings::Settings;
use super::{Difference, Pod, Request, kernel, pod_link};
use crate::protocol::{
    error::{CniError, code},
    result::{CniResult, Interface},
};

/// Upstream's file, as on every node that restricts its networks.
const ALLOW_LIST: &str = "/etc/cni/tuning/allowlist.conf";

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Spec {
    interface: String,
    settings: Settings,
}

/// What was there before, and what it was changed to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// Name of the interface inside the pod.
    interface: String,
    /// Kernel settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sysctls: Vec<Sysctl>,
    /// The interface's properties, of which only those that are changed.
    before: Properties,
    /// The same, as they are set.
    set: Properties,
}

/// A kernel setting that is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sysctl {
    /// Path below `/proc/sys`.
    key: String,
    /// None for one that cannot be read.
    before: Option<String>,
    set: String,
}

/// Properties of a link; absent is "as it is".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "txQLen")]
    tx_queue_len: Option<u32>,
}

impl Properties {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those of `link` that are given here.
    fn of(&self, link: &Link) -> Self {
        Self {
            mac: self.mac.and(link.mac),
            mtu: self.mtu.map(|_| link.mtu),
            promisc: self.promisc.map(|_| link.promisc),
            allmulti: self.allmulti.map(|_| link.allmulti),
            tx_queue_len: self.tx_queue_len.map(|_| link.tx_queue_len),
        }
    }

    /// What makes them so, where they are not.
    fn change(&self, link: &Link) -> LinkChange<'static> {
        let now = self.of(link);
        LinkChange {
            mac: self.mac.filter(|_| self.mac != now.mac),
            mtu: self.mtu.filter(|_| self.mtu != now.mtu),
            promisc: self.promisc.filter(|_| self.promisc != now.promisc),
            allmulti: self.allmulti.filter(|_| self.allmulti != now.allmulti),
            tx_queue_len: self.tx_queue_len.filter(|_| self.tx_queue_len != now.tx_queue_len),
            ..LinkChange::default()
        }
    }

    /// Makes them so.
    fn apply(&self, pod: &mut Pod, link: &Link) -> Result<(), CniError> {
        if *self == self.of(link) {
            return Ok(());
        }
        pod.route.set_link(link, &self.change(link)).map_err(kernel)
    }
}

impl Spec {
    /// Keys: `sysctl`, `mac`, `promisc`, `mtu`, `txQLen`, `allmulti`, each also below `args.cni`, which comes last; `mac` also
    /// by capability and `CNI_ARGS`.
    ///
    /// # Errors
    /// Code 7, naming the key.
    pub(super) fn validate(request: Request<'_>) -> Result<Self, CniError> {
        let settings = Settings::parse(request)?;
        allow_list::check(Path::new(ALLOW_LIST), settings.names())?;
        Ok(Self { interface: request.interface.to_owned(), settings })
    }

    pub(super) fn prepare(&self, pod: &mut Pod) -> Result<Original, CniError> {
        let set = self.settings.link.clone();
        // A device in user space has no link, and kernel settings need none.
        let before = match set.is_empty() {
            true => Properties::default(),
            false => set.of(&pod_link(pod, &self.interface, "tuning")?),
        };
        let keys: Vec<&str> = self.settings.sysctls.iter().map(|sysctl| sysctl.path.as_str()).collect();
        let read = sysctl::get_all(Some(&pod.netns), &keys).map_err(kernel)?;
        let mut sysctls = Vec::new();
        for (wanted, before) in self.settings.sysctls.iter().zip(read) {
            let before = match before {
                Err(error) if error.is_missing() => {
                    let text = format!(
                        "tuning: the pod's network namespace has no kernel setting {} (key \"sysctl\": {}): its module is not \
                         loaded, or it is the host's alone",
                        wanted.path, wanted.name
                    );
                    return Err(CniError::new(code::INVALID_CONFIG, text));
                }
                // Some can only be written.
                before => before.ok(),
            };
            sysctls.push(Sysctl { key: wanted.path.clone(), before, set: wanted.value.clone() });
        }
        Ok(Original { interface: self.interface.clone(), sysctls, before, set })
    }

    pub(super) fn attach(
        &self,
        original: &Original,
        pod: &mut Pod,
        previous: &CniResult,
    ) -> Result<CniResult, CniError> {
        let context = |error: CniError| error.context("tuning");
        let settings: Vec<(&str, &str)> =
            original.sysctls.iter().map(|sysctl| (sysctl.key.as_str(), sysctl.set.as_str())).collect();
        for done in sysctl::set_all(Some(&pod.netns), &settings).map_err(kernel)? {
            done.map_err(kernel).map_err(context)?;
        }
        let mut result = previous.clone();
        if original.set.is_empty() {
            return Ok(result);
        }
        let link = pod_link(pod, &self.interface, "tuning")?;
        original.set.apply(pod, &link).map_err(context)?;
        let link = pod_link(pod, &self.interface, "tuning")?;
        if let Some(made) = result.interface_of_pod_mut(&self.interface) {
            if original.set.mac.is_some() {
                made.mac = link.mac.map(|mac| mac.to_string());
            }
            if original.set.mtu.is_some() {
                made.mtu = Some(link.mtu);
            }
        }
        Ok(result)
    }
}

impl Original {
    pub(super) fn check(&self, made: &Interface, pod: &mut Pod) -> Result<Vec<Difference>, CniError> {
        let name = &self.interface;
        let mut found = match pod.route.link_by_name(name).map_err(kernel)? {
            Some(link) => self.check_link(&link, made),
            None if self.set.is_empty() => Vec::new(),
            None => return Ok(vec![Difference::fatal(format!("the pod has no interface {name}"))]),
        };
        let keys: Vec<&str> = self.sysctls.iter().map(|sysctl| sysctl.key.as_str()).collect();
        let read = sysctl::get_all(Some(&pod.netns), &keys).map_err(kernel)?;
        for (sysctl, now) in self.sysctls.iter().zip(read) {
            let what = format!("kernel setting {}", sysctl.key);
            match now {
                Ok(now) => found.extend(differs(&what, &words(&now), &words(&sysctl.set))),
                // It can only be written.
                Err(_) if sysctl.before.is_none() => {}
                Err(error) => found.push(Difference::other(error.to_string())),
            }
        }
        Ok(found)
    }

    fn check_link(&self, link: &Link, made: &Interface) -> Vec<Difference> {
        let name = &self.interface;
        let mut found = Difference::of_link(link, made);
        let now = self.set.of(link);
        let said = |value: Option<bool>| value.map_or("unset", |on| if on { "on" } else { "off" }).to_owned();
        let length = |value: Option<u32>| value.unwrap_or(0).to_string();
        found.extend(differs(&format!("promisc of {name}"), &said(now.promisc), &said(self.set.promisc)));
        found.extend(differs(&format!("allmulti of {name}"), &said(now.allmulti), &said(self.set.allmulti)));
        let (now, set) = (length(now.tx_queue_len), length(self.set.tx_queue_len));
        found.extend(differs(&format!("txQLen of {name}"), &now, &set));
        found
    }

    /// Puts the interface back as it was, and the kernel settings that are as we set them: what the pod has changed since is its
    /// own.
    pub(super) fn detach(&self, pod: Option<&mut Pod>) -> Vec<CniError> {
        // With the namespace all of it went, or came home with the device, whose own driver puts it back.
        let Some(pod) = pod else { return Vec::new() };
        let mut errors = Vec::new();
        match pod.route.link_by_name(&self.interface) {
            Ok(Some(link)) => errors.extend(self.before.apply(pod, &link).err()),
            Ok(None) => {}
            Err(error) => errors.push(kernel(error)),
        }
        errors.extend(self.restore_sysctls(pod));
        errors.into_iter().map(|error| error.context("tuning")).collect()
    }

    fn restore_sysctls(&self, pod: &Pod) -> Vec<CniError> {
        let keys: Vec<&str> = self.sysctls.iter().map(|sysctl| sysctl.key.as_str()).collect();
        if keys.is_empty() {
            return Vec::new();
        }
        let read = match sysctl::get_all(Some(&pod.netns), &keys) {
            Ok(read) => read,
            Err(error) => return vec![kernel(error)],
        };
        let is_ours = |(sysctl, now): &(&Sysctl, Result<String, _>)| {
            now.as_ref().is_ok_and(|now| words(now) == words(&sysctl.set))
        };
        // In the reverse order: one setting may have changed another.
        let back: Vec<(&str, &str)> = self
            .sysctls
            .iter()
            .zip(read)
            .filter(is_ours)
            .filter_map(|(sysctl, _)| Some((sysctl.key.as_str(), sysctl.before.as_deref()?)))
            .rev()
            .collect();
        match sysctl::set_all(Some(&pod.netns), &back) {
            Ok(done) => done.into_iter().filter_map(Result::err).map(kernel).collect(),
            Err(error) => vec![kernel(error)],
        }
    }
}

fn differs(what: &str, now: &str, set: &str) -> Option<Difference> {
    (now != set).then(|| Difference::other(format!("{what} is {now}, it was set to {set}")))
}

/// The kernel separates the numbers of a setting by tabulators, people by blanks.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}
