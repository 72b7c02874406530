//! From options to ports: which devices and interfaces, and what is known of them beforehand.

use std::path::Path;

use fairlead_dpdk_tests::devices::{self, DevicesError};
use fairlead_dpdk_tests::network_status::{self, Attachment, USUAL_FILE};
use fairlead_dpdk_tests::plan::PathKind;
use fairlead_dpdk_tests::preflight::{self, Check, Facts, Needs, Roots, Verdict, Wanted};
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::Outcome;
use fairlead_dpdk_tests::settings::PortSettings;
use fairlead_resource_config::{PciAddress, error_text};

use super::Failure;
use super::options::PortOptions;

/// The ports of this pod.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    pub(crate) devices: Vec<PciAddress>,
    pub(crate) interfaces: Vec<String>,
    pub(crate) attachments: Vec<Attachment>,
}

impl Ports {
    /// Those that the options name, or the environment; at least `wanted` of each kind and at most `most`.
    pub(crate) fn choose(options: &PortOptions, wanted: usize, most: usize) -> Result<Self, Failure> {
        let attachments = attachments(options).map_err(|why| (Outcome::Usage, why))?;
        let failed = |error: DevicesError| {
            let outcome = if error.is_usage() { Outcome::Usage } else { Outcome::PreflightFailed };
            (outcome, error_text(&error))
        };
        let interfaces = if options.interfaces.is_empty() {
            Vec::new()
        } else {
            let too_few =
                |error: DevicesError| (Outcome::Usage, error_text(&error).replace("device", "interface"));
            devices::choose(&options.interfaces, wanted, most).map_err(too_few)?
        };
        let only_interfaces =
            !interfaces.is_empty() && options.devices.is_empty() && options.resource.is_none();
        let devices = if only_interfaces {
            Vec::new()
        } else {
            let named = named_devices(options, &attachments).map_err(failed)?;
            devices::choose(&named, wanted, most).map_err(failed)?
        };
        Ok(Self { devices, interfaces, attachments })
    }

    /// The paths on which there are ports, and how many ports.
    pub(crate) fn paths(&self) -> Vec<(PathKind, usize)> {
        let all = [(PathKind::Dpdk, self.devices.len()), (PathKind::Kernel, self.interfaces.len())];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Gathers the facts about them.
    pub(crate) fn facts(&self, options: &PortOptions) -> Facts {
        let wanted = Wanted {
            devices: &self.devices,
            interfaces: &self.interfaces,
            testpmd: options.testpmd.as_deref(),
            macs: &options.macs,
            attachments: &self.attachments,
        };
        Facts::gather(&Roots::default(), &wanted)
    }
}

fn attachments(options: &PortOptions) -> Result<Vec<Attachment>, String> {
    match &options.network_status {
        Some(path) => network_status::read(path),
        None if Path::new(USUAL_FILE).exists() => network_status::read(Path::new(USUAL_FILE)),
        None => Ok(Vec::new()),
    }
}

fn named_devices(options: &PortOptions, attachments: &[Attachment]) -> Result<Vec<PciAddress>, DevicesError> {
    if !options.devices.is_empty() {
        return Ok(options.devices.clone());
    }
    // Not all variables need be UTF-8; the device plugin's are.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    match devices::from_environment(variables, options.resource.as_deref()) {
        // A pod whose device plugin sets no variables still has its attachments.
        Err(DevicesError::NoVariable) if attachments.iter().any(|one| one.pci_address.is_some()) => {
            Ok(attachments.iter().filter_map(|one| one.pci_address).collect())
        }
        found => found,
    }
}

/// Looks whether all is there, and says it. The checks are kept in `kept` also when some fail.
pub(crate) fn look(
    facts: &Facts,
    needs: &Needs,
    progress: &mut Progress,
    kept: &mut Vec<Check>,
) -> Result<(), Failure> {
    *kept = preflight::checks(facts, needs);
    for check in &*kept {
        progress.say(check);
    }
    let failed = kept.iter().filter(|check| check.verdict == Verdict::Fail).count();
    if failed > 0 {
        return Err((Outcome::PreflightFailed, format!("{failed} of {} checks failed", kept.len())));
    }
    Ok(())
}

/// The settings of all ports, path by path. After a good preflight there are processors.
pub(crate) fn port_settings(facts: &Facts, ports: &Ports, needs: &Needs) -> Vec<PortSettings> {
    let mut settings = Vec::new();
    for (path, count) in ports.paths() {
        let cores = preflight::share_cores(facts, count, needs.tuning).unwrap_or_default();
        let known: Vec<(String, Option<String>, Option<u64>)> = match path {
            PathKind::Dpdk => facts
                .devices
                .iter()
                .map(|device| (device.address.to_string(), device.driver().map(str::to_owned), None))
                .collect(),
            PathKind::Kernel => facts
                .interfaces
                .iter()
                .map(|interface| (interface.name.clone(), interface.driver.clone(), interface.speed))
                .collect(),
        };
        settings.extend(known.into_iter().zip(cores).map(|((device, driver, speed), cores)| PortSettings {
            path,
            device,
            driver,
            cores,
            speed,
        }));
    }
    settings
}
