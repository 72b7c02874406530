//! The judgement: from facts to verdicts, each with what was found and what to do about it.

mod device;
mod interface;
mod memory;
mod processors;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::{Check, Drivers};
use crate::cores::{self, Cores};
use crate::testpmd::arguments::{IovaMode, Tuning};

/// The name of DPDK's driver for packet sockets.
const PACKET_DRIVER: &str = "net_af_packet";

/// What a run wants to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// How many testpmds run at the same time.
    pub programs: usize,
    /// How each is used.
    pub tuning: Tuning,
    /// The longest frame, with its checksum.
    pub frame_size: u16,
}

/// How addresses look to the devices.
#[must_use]
pub fn iova_mode(facts: &Facts) -> IovaMode {
    if facts.devices.iter().any(super::DeviceFacts::is_noiommu) { IovaMode::Pa } else { IovaMode::Va }
}

/// The processors for so many ports: those on the devices' NUMA node first. `None` when there are too few (then [`checks`] has a
/// failure).
#[must_use]
pub fn share_cores(facts: &Facts, ports: usize, tuning: Tuning) -> Option<Vec<Cores>> {
    let node = facts.devices.iter().find_map(|device| device.function.as_ref()?.numa_node);
    let near = node.and_then(|node| facts.numa.get(&node)).map(|node| node.processors.as_slice());
    let usable = cores::nearest_first(facts.process.cores.as_deref()?, near.unwrap_or_default());
    cores::share(&usable, ports, tuning.cores)
}

/// Judges everything, in the order in which things are put right.
#[must_use]
pub fn checks(facts: &Facts, needs: &Needs) -> Vec<Check> {
    if let Some(error) = &facts.sysfs_error {
        let remedy = "mount sysfs at /sys in the container (readable is enough)";
        return vec![Check::fail("sysfs", error.clone(), remedy)];
    }
    let mut checks: Vec<Check> = facts.devices.iter().map(device::device).collect();
    checks.extend(device::shared_groups(&facts.devices));
    checks.extend(device::container_node(facts));
    checks.extend(device::attached(facts));
    checks.extend(facts.interfaces.iter().map(|one| interface::interface(one, needs.frame_size)));
    checks.extend(memory::pools(facts, needs));
    checks.push(memory::mount(facts));
    checks.extend(memory::locking(facts, needs));
    checks.extend(capabilities(facts));
    checks.extend(processors::processors(facts, needs));
    checks.extend(processors::numa(facts, needs));
    checks.push(match &facts.testpmd {
        Ok(path) => Check::ok("testpmd", path.display().to_string()),
        Err(why) => {
            let remedy = "install testpmd in the image (Debian: dpdk-dev), or give --testpmd";
            Check::fail("testpmd", why.clone(), remedy)
        }
    });
    checks.extend(drivers(facts));
    checks
}

fn capabilities(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if facts.devices.iter().any(super::DeviceFacts::is_noiommu) {
        checks.push(match facts.process.sys_rawio {
            Some(true) => Check::ok("noiommu", "CAP_SYS_RAWIO, which devices without an IOMMU ask for"),
            _ => Check::fail(
                "noiommu",
                "no CAP_SYS_RAWIO, which devices without an IOMMU ask for",
                "add the capability SYS_RAWIO to the container",
            ),
        });
    }
    let bifurcated = facts.devices.iter().any(super::DeviceFacts::is_bifurcated);
    if bifurcated || !facts.interfaces.is_empty() {
        let why =
            if bifurcated { "which queues of mlx5 devices ask for" } else { "which packet sockets ask for" };
        checks.push(match facts.process.net_raw {
            Some(true) => Check::ok("raw packets", format!("CAP_NET_RAW, {why}")),
            _ => Check::fail(
                "raw packets",
                format!("no CAP_NET_RAW, {why}"),
                "add the capability NET_RAW to the container (securityContext.capabilities.add)",
            ),
        });
    }
    checks
}

/// Whether testpmd has a driver for each port.
fn drivers(facts: &Facts) -> Vec<Check> {
    if facts.testpmd.is_err() {
        return Vec::new();
    }
    let Drivers { all, folders } = &facts.drivers;
    if all.is_empty() {
        let found = if folders.is_empty() {
            "testpmd says of no driver what it is for, and there is no folder of drivers (.../dpdk/pmds-*)"
                .to_owned()
        } else {
            let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            format!("no driver in {} says what it is for", folders.join(", "))
        };
        let remedy =
            "if no port comes up, install the drivers (Debian: librte-net-...), or build them into testpmd";
        return vec![Check::warn("DPDK drivers", found, remedy)];
    }
    let of_device = facts.devices.iter().filter_map(|device| {
        let function = device.function.as_ref()?;
        let (vendor, id) = (function.vendor?, function.device?);
        let what = format!("DPDK driver of {}", device.address);
        Some(match facts.drivers.of_device(vendor.0, id.0) {
            Some(driver) => Check::ok(what, driver.name.clone()),
            None => Check::fail(
                what,
                format!("testpmd has {} drivers, none for {vendor}:{id}", all.len()),
                "put the device's PMD into the image (for igb and igbvf librte_net_e1000, with librte_bus_pci and \
                 librte_mempool_ring)",
            ),
        })
    });
    let mut checks: Vec<Check> = of_device.collect();
    if !facts.interfaces.is_empty() {
        checks.push(if facts.drivers.has(PACKET_DRIVER) {
            Check::ok("DPDK driver of interfaces", PACKET_DRIVER)
        } else {
            Check::fail(
                "DPDK driver of interfaces",
                format!("testpmd has no {PACKET_DRIVER}"),
                "put librte_net_af_packet and librte_bus_vdev into the image",
            )
        });
    }
    checks
}
