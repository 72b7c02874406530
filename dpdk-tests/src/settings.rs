//! What is run, as it is in the report: enough to do it again.

use std::path::PathBuf;
use std::time::Duration;

use fairlead_resource_config::PciAddress;
use serde::{Deserialize, Serialize};

use crate::cores::Cores;
use crate::devices::Target;
use crate::plan::{PathKind, Plan};
use crate::station::Station;
use crate::testpmd::arguments::{Arguments, IovaMode};
use crate::testpmd::child::Patience;
use crate::testpmd::{Testpmd, TestpmdError};

/// One port of this pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortSettings {
    /// How frames get to it.
    pub path: PathKind,
    /// Its PCI address, or interface.
    pub device: String,
    /// The device's kernel driver, where there is a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Its processors.
    pub cores: Cores,
    /// In Mbit/s, what the kernel says of an interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<u64>,
}

impl PortSettings {
    /// What testpmd is given.
    #[must_use]
    pub fn target(&self) -> Target {
        match (self.path, self.device.parse::<PciAddress>()) {
            (PathKind::Dpdk, Ok(address)) => Target::Pci(address),
            _ => Target::Interface(self.device.clone()),
        }
    }
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The program.
    pub testpmd: PathBuf,
    /// The ports of this pod: A and B, or A alone with a peer, and the third where there is one; for each path.
    pub ports: Vec<PortSettings>,
    /// Where port B is, when it is in another pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// How addresses look to the devices.
    pub iova_mode: IovaMode,
    /// What is measured.
    pub plan: Plan,
    /// Seconds that testpmd has to get ready.
    pub start_limit: f64,
    /// Seconds that the links have to come up.
    pub link_limit: f64,
}

impl Settings {
    /// Starts a testpmd on each port of this pod on that path. When one cannot be started, those before it end.
    pub fn launch(&self, path: PathKind, patience: Patience) -> Result<Vec<Box<dyn Station>>, TestpmdError> {
        let ports = self.ports.iter().filter(|port| port.path == path).zip('a'..);
        let start = |(port, side): (&PortSettings, char)| {
            let arguments = Arguments {
                target: port.target(),
                cores: port.cores.clone(),
                iova: self.iova_mode,
                file_prefix: format!("fairlead-{side}"),
                frame_size: self.plan.frame_sizes.first().copied().unwrap_or(64),
                tuning: self.plan.tuning,
            };
            let limit = Duration::try_from_secs_f64(self.start_limit).unwrap_or_default();
            let testpmd = Testpmd::start(&self.testpmd, &arguments, limit, port.speed, patience)?;
            Ok(Box::new(testpmd) as Box<dyn Station>)
        };
        ports.map(start).collect()
    }
}
