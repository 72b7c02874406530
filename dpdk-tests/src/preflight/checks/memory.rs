//! Huge pages and locked memory.

use super::Needs;
use crate::preflight::{Check, DeviceFacts, Facts, PagePool, Verdict};

/// One check for each size that the node has; they fail when none of them is enough.
pub(super) fn pools(facts: &Facts, needs: &Needs) -> Vec<Check> {
    let (bytes, programs) = (needs.tuning.memory(), needs.programs);
    let need = format!("needed are {} MiB for each of {programs} programs", bytes >> 20);
    let pools: Vec<&PagePool> = facts.hugepages.pools.iter().filter(|pool| pool.total > 0).collect();
    if pools.is_empty() {
        let remedy = "reserve some on the node (hugepages= on the kernel's command line, or vm.nr_hugepages)";
        return vec![Check::fail("huge pages", format!("the node has none; {need}"), remedy)];
    }
    let suffices = facts.hugepages.sufficient(bytes, programs as u64).is_some();
    pools
        .into_iter()
        .map(|pool| {
            let what = format!("huge pages {}", pool.size_name());
            if suffices {
                return Check::ok(what, describe(pool));
            }
            let remedy = if pool.usable() < pool.free {
                format!("raise hugepages-{} in the container's limits and requests", pool.size_name())
            } else {
                "reserve more on the node, or end programs that use them".to_owned()
            };
            Check::fail(what, format!("{}; {need}", describe(pool)), remedy)
        })
        .collect()
}

fn describe(pool: &PagePool) -> String {
    let mut text = format!("{} of {} free", pool.free, pool.total);
    match pool.allowed {
        Some(_) if pool.usable() < pool.free => {
            text += &format!(", of which the container may use {}", pool.usable());
        }
        Some(_) => text += ", within the container's limit",
        None => {}
    }
    text
}

pub(super) fn mount(facts: &Facts) -> Check {
    let mounts: Vec<String> = facts.hugepages.mounts.iter().map(|path| path.display().to_string()).collect();
    if !mounts.is_empty() {
        return Check::ok("hugetlbfs", format!("mounted at {}", mounts.join(", ")));
    }
    Check {
        what: "hugetlbfs".to_owned(),
        verdict: Verdict::Warn,
        found: "not mounted; this check does without (--in-memory), most DPDK programs do not".to_owned(),
        remedy: Some("mount an emptyDir with medium HugePages, at /dev/hugepages for example".to_owned()),
    }
}

/// What is mapped for devices is pinned, and counts. Packet sockets pin nothing.
pub(super) fn locking(facts: &Facts, needs: &Needs) -> Option<Check> {
    let what = "locked memory";
    let (process, need) = (&facts.process, needs.tuning.memory());
    if facts.devices.is_empty() {
        return None;
    }
    if facts.devices.iter().all(DeviceFacts::is_noiommu) {
        return Some(Check::ok(what, "not needed without an IOMMU"));
    }
    if process.ipc_lock == Some(true) {
        return Some(Check::ok(what, "CAP_IPC_LOCK"));
    }
    let remedy = "add the capability IPC_LOCK to the container (securityContext.capabilities.add)";
    Some(match process.memlock {
        Some(u64::MAX) => Check::ok(what, "no memlock limit"),
        Some(limit) if limit >= need => Check::ok(what, format!("memlock limit of {} MiB", limit >> 20)),
        Some(limit) => {
            let (limit, need) = (limit >> 10, need >> 10);
            let found = format!("no CAP_IPC_LOCK, and a memlock limit of {limit} KiB (needed: {need} KiB)");
            Check::fail(what, found, remedy)
        }
        None => Check::fail(what, "no CAP_IPC_LOCK, and the memlock limit cannot be read", remedy),
    })
}
