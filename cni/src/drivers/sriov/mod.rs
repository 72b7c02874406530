//! SR-IOV: a VF for the pod, as a network interface or, bound to vfio-pci and the like, as a device in user space.
//!
//! What the pod's network asks for (VLAN, hardware address, ...) is set through the PF; only what differs is written, and only
//! what was written is put back.

mod netdev;
mod patience;
mod settings;
mod upstream;

use fairlead_kernel::{
    Mac, NetlinkError,
    route::{VfChange, VfState},
};
use fairlead_resource_config::{
    PciAddress,
    inventory::{self, VfLocation},
};
use serde::{Deserialize, Serialize};

pub use self::upstream::{State, States};

use self::{
    netdev::NetdevState,
    patience::{Announcements, Patience, Readiness, persist},
    settings::{Listening, Settings},
};
use super::{Attached, Difference, Host, Pod, Request, kernel};
use crate::protocol::{
    error::{CniError, code},
    result::Interface,
};

/// Keys that this driver does not do although upstream's plugin does: none.
pub const LEFT_OUT: &[&str] = &[];

/// Drivers that take a function to user space (as upstream's plugin knows them).
const USER_SPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The VF.
    pub address: PciAddress,
    interface: String,
    pf: VfLocation,
    pf_index: u32,
    /// Its driver takes it to user space: it has no network device.
    is_in_user_space: bool,
    settings: Settings,
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// The VF.
    pub address: PciAddress,
    /// Name of the interface inside the pod.
    pub interface: String,
    /// What the PF had set for the VF.
    vf: VfState,
    /// What is changed of it.
    change: VfChange,
    /// The VF's network device; none when it is in user space.
    netdev: Option<NetdevState>,
    /// What the network device is made to hear.
    #[serde(default)]
    listening: Listening,
}

impl Spec {
    /// Keys: `deviceID` (filled in by the meta plugin), `vlan`, `vlanQoS`, `vlanProto`, `mac`, `spoofchk`, `trust`,
    /// `link_state`, `min_tx_rate`, `max_tx_rate`, `mtu`, `promisc`, `allmulti`.
    ///
    /// # Errors
    /// Code 7, naming the key or the device.
    pub fn validate(request: Request<'_>, host: &mut Host) -> Result<Self, CniError> {
        let settings = Settings::parse(request)?;
        let address = device(request)?;
        let device_error = |error: &dyn std::error::Error| {
            let text = format!("sriov: device {address}: {}", fairlead_resource_config::error_text(error));
            CniError::new(code::INVALID_CONFIG, text)
        };
        let function = inventory::read_function(&host.sys, &address).map_err(|error| device_error(&error))?;
        let pf = inventory::vf_location(&host.sys, &address).map_err(|error| device_error(&error))?;
        let Some(driver) = function.driver.as_deref() else {
            let text =
                format!("sriov: VF {address} has no driver: bind it to its network driver, or to vfio-pci");
            return Err(CniError::new(code::TRY_AGAIN, text));
        };
        let is_in_user_space = function.is_vfio() || USER_SPACE.contains(&driver);
        let pf_link = host.route.link_by_name(&pf.pf_netdev).map_err(kernel)?.ok_or_else(|| {
            let text =
                format!("sriov: PF {} of VF {address} is not in the host's network namespace", pf.pf_netdev);
            CniError::new(code::INVALID_CONFIG, text)
        })?;
        if !pf_link.is_ether {
            let text = format!(
                "sriov: PF {} of VF {address} is no Ethernet port: use a network of type ib-sriov",
                pf.pf_netdev
            );
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
        if let Some(mtu) = settings.mtu.filter(|mtu| *mtu > pf_link.mtu) {
            let text = format!("sriov: mtu {mtu} is above {}, the MTU of PF {}", pf_link.mtu, pf.pf_netdev);
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
        let spec = Self {
            address,
            interface: request.interface.to_owned(),
            pf_index: pf_link.index,
            pf,
            is_in_user_space,
            settings,
        };
        spec.check_listening(host)?;
        Ok(spec)
    }

    /// A VF that is not trusted is let hear its own frames only, whatever it asks for: drivers say nothing then.
    fn check_listening(&self, host: &mut Host) -> Result<(), CniError> {
        let Some(key) = self.settings.listening.beyond_own() else { return Ok(()) };
        let invalid = |text: &str| {
            let text = format!("sriov: key \"{key}\" of VF {}: {text}", self.address);
            Err(CniError::new(code::INVALID_CONFIG, text))
        };
        if self.is_in_user_space {
            return invalid("the VF is in user space, where its program asks for this");
        }
        let trust = match self.settings.trust {
            Some(on) => Some(on),
            None => self.vf(host).map_err(kernel)?.trust,
        };
        if trust == Some(false) {
            return invalid("it takes a trusted VF: add \"trust\": \"on\"");
        }
        Ok(())
    }

    fn vf(&self, host: &mut Host) -> Result<VfState, NetlinkError> {
        host.route.vf(self.pf_index, self.pf.index)
    }

    /// Reads what must be put back later.
    pub(super) fn prepare(&self, host: &mut Host) -> Result<Original, CniError> {
        let vf = self.vf(host).map_err(kernel)?;
        let netdev = match self.is_in_user_space {
            false => Some(NetdevState::read(host, &self.address, self.settings.mac.is_some())?),
            true => None,
        };
        let mut change = self.settings.change(&vf);
        if netdev.is_some() {
            change.mac = self.settings.mac;
        }
        Ok(Original {
            address: self.address,
            interface: self.interface.clone(),
            change,
            vf,
            netdev,
            listening: self.settings.listening,
        })
    }

    pub(super) fn attach(
        &self,
        original: &Original,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Attached, CniError> {
        let context = |error: CniError| error.context(format_args!("sriov: VF {}", self.address));
        let mut patience = Announcements::default();
        if let (Some(state), Some(mac)) = (&original.netdev, original.change.mac) {
            state.set_mac(self, mac, host, &mut patience).map_err(context)?;
        }
        self.set_on_pf(&original.change, host, &mut patience).map_err(context)?;
        let mut interface = Interface {
            name: self.interface.clone(),
            sandbox: Some(pod.netns.path().display().to_string()),
            pci_id: Some(self.address.to_string()),
            ..Interface::default()
        };
        let link = match &original.netdev {
            Some(state) => {
                let (name, mtu, listening) = (&self.interface, self.settings.mtu, self.settings.listening);
                let wanted = netdev::Wanted { name, mtu, listening };
                let link = state.hand_over(&self.address, &wanted, host, pod).map_err(context)?;
                interface.mac = link.mac.map(|mac| mac.to_string());
                interface.mtu = Some(link.mtu);
                Some(link.index)
            }
            None => {
                // A device in user space has no address but the one that the PF gives it.
                let administrative = self.settings.mac.or(original.vf.mac).filter(|mac| !mac.is_zero());
                interface.mac = administrative.map(|mac| mac.to_string());
                let pf = host.route.link_by_index(self.pf_index).map_err(kernel)?;
                interface.mtu = self.settings.mtu.or(pf.map(|link| link.mtu));
                None
            }
        };
        Ok(Attached { interfaces: vec![interface], main: 0, link })
    }

    /// Has the PF make a change, all of it in one message, and makes sure that the hardware address has come to be.
    fn set_on_pf(
        &self,
        change: &VfChange,
        host: &mut Host,
        patience: &mut dyn Patience,
    ) -> Result<(), CniError> {
        if *change == VfChange::default() {
            return Ok(());
        }
        let done = persist(patience, || {
            host.route.set_vf(self.pf_index, self.pf.index, change)?;
            match change.mac {
                Some(mac) if self.vf(host)?.mac != Some(mac) => Ok(Readiness::NotYet),
                _ => Ok(Readiness::Done),
            }
        });
        let pf = &self.pf.pf_netdev;
        done.map_err(|refusal| match refusal {
            Some(error) => match self.vf(host).ok().and_then(|now| settings::refused(change, &now)) {
                Some(key) => {
                    kernel(error).context(format_args!("the driver of PF {pf} refuses key \"{key}\""))
                }
                None => kernel(error),
            },
            None => {
                CniError::new(code::TRY_AGAIN, format!("PF {pf} did not take the hardware address in time"))
            }
        })
    }
}

impl Original {
    pub(super) fn check(
        &self,
        made: &Interface,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Vec<Difference>, CniError> {
        let mut found = match &self.netdev {
            Some(_) => netdev::check(self, made, pod)?,
            None => Vec::new(),
        };
        let Some((pf, index)) = self.on_pf(host)? else {
            let text = format!("VF {} has no PF in the host any more", self.address);
            return Ok(vec![Difference::fatal(text)]);
        };
        let now = host.route.vf(pf, index).map_err(kernel)?;
        let changed = settings::differences(&self.change, &now);
        found.extend(
            changed.into_iter().map(|text| Difference::other(format!("VF {}: {text}", self.address))),
        );
        Ok(found)
    }

    /// Puts the VF back, in the order that igb was measured to need: the PF forgets the address that it gave, the device comes
    /// home and takes its own again, the PF sets back the rest, the device is brought up.
    pub(super) fn detach(&self, host: &mut Host, mut pod: Option<&mut Pod>) -> Vec<CniError> {
        let context = |error: CniError| error.context(format_args!("sriov: VF {}", self.address));
        // Somebody else has it by now, say another stack: what its PF has for it is not ours to change any more.
        let reach = self.netdev.iter().try_for_each(|state| state.reach(self, host, pod.as_deref_mut()));
        if let Err(error) = reach {
            return vec![context(error)];
        }
        let mut errors = Vec::new();
        let mut note = |result: Result<(), CniError>| errors.extend(result.map_err(context).err());
        if let Some(state) = &self.netdev {
            if self.change.mac.is_some() {
                note(self.set_administrative_mac(Mac::ZERO, host));
            }
            note(state.fetch_home(self, host, pod));
            note(state.restore(self, host));
        }
        note(self.restore_vf(host));
        if let Some(state) = &self.netdev {
            note(state.bring_up(self, host));
        }
        errors
    }

    /// Puts back what was changed through the PF.
    fn restore_vf(&self, host: &mut Host) -> Result<(), CniError> {
        let Some((pf, index)) = self.on_pf(host)? else { return Ok(()) };
        let now = host.route.vf(pf, index).map_err(kernel)?;
        let mut change = settings::undo(&self.change, &self.vf, &now);
        change.mac = match &self.netdev {
            Some(state) => state.administrative_mac(self, now.mac),
            // Also when nobody asked for one: the program that had the device has reset it, and with some drivers (igb) that
            // takes away the address that the PF had for it.
            None => self.vf.mac.filter(|mac| now.mac != Some(*mac)),
        };
        self.set_vf(&change, host)
    }

    fn set_administrative_mac(&self, mac: Mac, host: &mut Host) -> Result<(), CniError> {
        self.set_vf(&VfChange { mac: Some(mac), ..VfChange::default() }, host)
    }

    /// A VF that is gone needs nothing set.
    fn set_vf(&self, change: &VfChange, host: &mut Host) -> Result<(), CniError> {
        match self.on_pf(host)? {
            Some((pf, index)) if *change != VfChange::default() => {
                let done = persist(&mut Announcements::default(), || {
                    host.route.set_vf(pf, index, change).map(|()| Readiness::Done)
                });
                done.map_err(|refusal| refusal.map_or_else(out_of_patience, kernel))
            }
            _ => Ok(()),
        }
    }

    /// The PF's link and the VF's number on it, looked up anew: names and numbers may have changed since.
    fn on_pf(&self, host: &mut Host) -> Result<Option<(u32, u32)>, CniError> {
        let Ok(pf) = inventory::vf_location(&host.sys, &self.address) else { return Ok(None) };
        let link = host.route.link_by_name(&pf.pf_netdev).map_err(kernel)?;
        Ok(link.map(|link| (link.index, pf.index)))
    }
}

/// For a device that refuses nothing and yet does not do it.
fn out_of_patience() -> CniError {
    CniError::new(code::TRY_AGAIN, "the device did not do in time what was asked of it")
}

/// The VF's address, from where the meta plugin or an operator put it.
fn device(request: Request<'_>) -> Result<PciAddress, CniError> {
    let runtime = request.fields.object("runtimeConfig")?.unwrap_or_default();
    let text = match request.fields.text("deviceID")?.filter(|text| !text.is_empty()) {
        Some(text) => Some(text),
        None => runtime.text("deviceID")?,
    };
    let Some(text) = text else {
        let text = "sriov: no device: the network's definition needs the annotation k8s.v1.cni.cncf.io/resourceName, and \
                    the pod a container with a limit of that resource (or set key \"deviceID\" to the VF's PCI address)";
        return Err(CniError::new(code::INVALID_CONFIG, text));
    };
    text.parse().map_err(|error| {
        let text = format!(
            "sriov: key \"deviceID\": {error}; only a VF on the PCI bus is done here, not a scalable function"
        );
        CniError::new(code::INVALID_CONFIG, text)
    })
}

#[cfg(test)]
mod fake_pf;
#[cfg(test)]
mod tests;
