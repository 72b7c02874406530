//! Processors: how many, whose, how near.

use super::{Needs, share_cores};
use crate::cores::{busy, write_list};
use crate::preflight::{Check, Facts};

pub(super) fn processors(facts: &Facts, needs: &Needs) -> Vec<Check> {
    let what = "processors";
    let Some(usable) = &facts.process.cores else {
        return vec![Check::fail(
            what,
            "/proc/self/status does not say which can be used",
            "mount proc at /proc",
        )];
    };
    let count = usable.len();
    if count < 2 {
        let remedy = "give the container two or more (with the static CPU manager: cpu limit of 2)";
        return vec![Check::fail(what, format!("{count} usable, needed are 2"), remedy)];
    }
    let (busy, list) = (busy(needs.programs, needs.tuning.cores), write_list(usable));
    let mut checks = Vec::new();
    checks.push(if busy > count {
        let remedy =
            format!("give the container {} (with the static CPU manager: a cpu limit of {0})", busy + 1);
        Check::warn(
            what,
            format!("{count} usable ({list}), on which {busy} threads are busy: they take turns"),
            remedy,
        )
    } else if busy == count {
        Check::ok(what, format!("{count} usable ({list}), so that the ports share them with their consoles"))
    } else {
        Check::ok(what, format!("{count} usable ({list})"))
    });
    if let Some(quota) = facts.process.quota.filter(|quota| *quota < as_f64(busy.min(count))) {
        checks.push(Check::warn(
            "processor time",
            format!("the container gets {quota} processors' time, {busy} threads are busy all the time: they are halted again and again"),
            format!("raise the container's cpu limit to {} or leave it out", busy + 1),
        ));
    }
    // Exclusive processors are fewer than the machine has: the kubelet keeps some for the rest.
    if facts.pod && facts.process.online.as_ref().is_some_and(|online| online.len() == count) {
        checks.push(Check::warn(
            "processor set",
            "the container may use every processor of the machine, and so may all others: figures will vary with them",
            "for figures that can be repeated: kubelet's static CPU manager, and a Guaranteed pod with whole processors",
        ));
    }
    checks
}

/// Whether processors and memory are where the devices are.
pub(super) fn numa(facts: &Facts, needs: &Needs) -> Vec<Check> {
    let shares = share_cores(facts, needs.programs, needs.tuning).unwrap_or_default();
    let devices = facts.devices.iter().enumerate();
    devices
        .filter_map(|(index, device)| {
            let what = format!("NUMA of {}", device.address);
            let Some(number) = device.function.as_ref()?.numa_node else {
                return Some(Check::ok(what, "the platform names no node"));
            };
            let node = facts.numa.get(&number)?;
            let far: Vec<u32> = shares.get(index).map_or_else(Vec::new, |share| {
                share.forwarding.iter().copied().filter(|core| !node.processors.contains(core)).collect()
            });
            Some(if !far.is_empty() {
                Check::warn(
                    what,
                    format!(
                        "node {number}, its port forwards on processors {} of another node",
                        write_list(&far)
                    ),
                    "let kubelet's Topology Manager (single-numa-node) and static CPU manager place the pod",
                )
            } else if node.free < needs.tuning.memory() {
                Check::warn(
                    what,
                    format!("node {number}, which has only {} MiB of free huge pages", node.free >> 20),
                    "reserve huge pages on that node (/sys/devices/system/node/nodeN/hugepages)",
                )
            } else {
                Check::ok(what, format!("node {number}, as its processors and huge pages are"))
            })
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "no machine has so many processors")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
