//! The judgement: from facts to verdicts, each with what was found and what to do about it.

use std::path::PathBuf;

use super::facts::{DeviceFacts, Facts, NodeState};
use super::hugepages::PagePool;
use super::{Check, Verdict};
use crate::cores::{self, Cores};
use crate::testpmd::arguments::IovaMode;

/// What one testpmd takes: 24 MiB measured with DPDK 24.11 and [`crate::testpmd::arguments`], and some to spare.
const MEMORY: u64 = 32 << 20;
/// One testpmd per port.
const PROGRAMS: u64 = 2;

/// What a run needs to know of what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The program.
    pub testpmd: PathBuf,
    /// The processors of each port.
    pub cores: [Cores; 2],
    /// How addresses look to the devices.
    pub iova_mode: IovaMode,
}

/// What to run with; `None` when something is missing (then [`checks`] has a failure).
#[must_use]
pub fn plan(facts: &Facts) -> Option<Plan> {
    Some(Plan {
        testpmd: facts.testpmd.clone().ok()?,
        cores: cores::share(facts.process.cores.as_deref()?)?,
        iova_mode: if facts.devices.iter().any(is_noiommu) { IovaMode::Pa } else { IovaMode::Va },
    })
}

/// Judges everything, in the order in which things are put right.
#[must_use]
pub fn checks(facts: &Facts) -> Vec<Check> {
    if let Some(error) = &facts.sysfs_error {
        let remedy = "mount sysfs at /sys in the container (readable is enough)";
        return vec![fail("sysfs", error.clone(), remedy)];
    }
    let mut checks: Vec<Check> = facts.devices.iter().map(device).collect();
    checks.extend(shared_group(&facts.devices));
    checks.push(container_node(facts));
    checks.push(memory(facts));
    checks.push(mount(facts));
    checks.push(locking(facts));
    checks.extend(raw_io(facts));
    checks.push(processors(facts));
    checks.push(match &facts.testpmd {
        Ok(path) => ok("testpmd", path.display().to_string()),
        Err(why) => {
            fail("testpmd", why.clone(), "install testpmd in the image (Debian: dpdk-dev), or give --testpmd")
        }
    });
    checks
}

fn device(facts: &DeviceFacts) -> Check {
    let name = &facts.address.to_string();
    let Some(function) = &facts.function else {
        return if facts.exists {
            fail(name, "is not a network device", "name network devices with --device")
        } else {
            let remedy = "restart the pod: its devices have changed since it began (VFs created anew?)";
            fail(name, "there is no such PCI device", remedy)
        };
    };
    let driver = function.driver.as_deref();
    if !function.is_vfio() {
        let found = driver
            .map_or_else(|| "has no driver".to_owned(), |driver| format!("driver {driver}, not vfio-pci"));
        let remedy = "bind it to vfio-pci on the node (driver_override, then unbind and drivers_probe), or request the \
                      resource whose devices are";
        return fail(name, found, remedy);
    }
    let Some(group) = &facts.group else {
        let remedy = "turn the IOMMU on (firmware, and intel_iommu=on), or vfio's enable_unsafe_noiommu_mode";
        return fail(name, "has no IOMMU group", remedy);
    };
    if let Some(blocker) = group.blocker() {
        let driver = blocker.driver.as_deref().unwrap_or_default();
        let found = format!("its IOMMU group {} has {} on {driver} too", group.number, blocker.name);
        return fail(name, found, "bind every device of the group to vfio-pci, or to nothing");
    }
    let node = facts.node.display();
    match &facts.node_state {
        NodeState::Opens { viable: true } => {
            let driver = driver.unwrap_or_default();
            ok(name, format!("driver {driver}, {node} opens"))
        }
        NodeState::Opens { viable: false } => fail(
            name,
            format!("the kernel says that IOMMU group {} is not viable", group.number),
            "bind every device of the group to vfio-pci, or to nothing",
        ),
        NodeState::Missing => fail(
            name,
            format!("{node} is missing here"),
            "give the container the device: request it as a resource of the device plugin (privileged is not needed)",
        ),
        NodeState::InUse => fail(
            name,
            format!("{node} is in use by another program"),
            "stop the other DPDK program, in this pod or a left-over one on the node",
        ),
        NodeState::Bad(why) => fail(name, why.clone(), ACCESS),
    }
}

const ACCESS: &str = "run as root, or let the runtime give device nodes to the pod's user \
                      (device_ownership_from_security_context), and allow the device in the container's cgroup";

fn is_noiommu(device: &DeviceFacts) -> bool {
    device.group.as_ref().is_some_and(|group| group.noiommu)
}

/// A group can be opened once, and each port has its own testpmd.
fn shared_group(devices: &[DeviceFacts; 2]) -> Option<Check> {
    let [a, b] = devices;
    let number = a.group.as_ref()?.number;
    (b.group.as_ref()?.number == number).then(|| {
        let found =
            format!("{} and {} share IOMMU group {number}, which opens only once", a.address, b.address);
        fail("IOMMU groups", found, "take VFs of ports with ACS, which have groups of their own")
    })
}

fn container_node(facts: &Facts) -> Check {
    let node = facts.vfio.display().to_string();
    match &facts.vfio_state {
        NodeState::Opens { .. } => ok(node, "opens"),
        NodeState::Missing => fail(
            node,
            "is missing here",
            "give the container the device; the device plugin does with any vfio device",
        ),
        NodeState::InUse => fail(node, "is in use", "see which program has it open"),
        NodeState::Bad(why) => fail(node, why.clone(), ACCESS),
    }
}

fn memory(facts: &Facts) -> Check {
    let pools = &facts.hugepages.pools;
    if let Some(pool) = facts.hugepages.sufficient(MEMORY, PROGRAMS) {
        return ok("huge pages", describe(pool));
    }
    let need = format!("needed are {} MiB for each of {PROGRAMS} programs", MEMORY >> 20);
    let described: Vec<String> = pools.iter().filter(|pool| pool.total > 0).map(describe).collect();
    if described.is_empty() {
        let remedy = "reserve some on the node (hugepages= on the kernel's command line, or vm.nr_hugepages)";
        return fail("huge pages", format!("the node has none; {need}"), remedy);
    }
    let limited = pools.iter().any(|pool| pool.usable() < pool.free);
    let remedy = if limited {
        "raise hugepages-2Mi (or hugepages-1Gi) in the container's limits and requests"
    } else {
        "reserve more on the node, or end programs that use them"
    };
    fail("huge pages", format!("{}; {need}", described.join(", ")), remedy)
}

fn describe(pool: &PagePool) -> String {
    let size = pool.size_name();
    let mut text = format!("{} of {} of {size} free", pool.free, pool.total);
    if pool.usable() < pool.free {
        text += &format!(", of which the container may use {}", pool.usable());
    }
    text
}

fn mount(facts: &Facts) -> Check {
    let mounts: Vec<String> = facts.hugepages.mounts.iter().map(|path| path.display().to_string()).collect();
    if !mounts.is_empty() {
        return ok("hugetlbfs", format!("mounted at {}", mounts.join(", ")));
    }
    Check {
        what: "hugetlbfs".to_owned(),
        verdict: Verdict::Warn,
        found: "not mounted; this check does without (--in-memory), most DPDK programs do not".to_owned(),
        remedy: Some("mount an emptyDir with medium HugePages, at /dev/hugepages for example".to_owned()),
    }
}

fn locking(facts: &Facts) -> Check {
    let what = "locked memory";
    let process = &facts.process;
    if process.ipc_lock == Some(true) {
        return ok(what, "CAP_IPC_LOCK");
    }
    let remedy = "add the capability IPC_LOCK to the container (securityContext.capabilities.add)";
    match process.memlock {
        Some(u64::MAX) => ok(what, "no memlock limit"),
        Some(limit) if limit >= MEMORY => ok(what, format!("memlock limit of {} MiB", limit >> 20)),
        Some(limit) => {
            let (limit, need) = (limit >> 10, MEMORY >> 10);
            fail(
                what,
                format!("no CAP_IPC_LOCK, and a memlock limit of {limit} KiB (needed: {need} KiB)"),
                remedy,
            )
        }
        None => fail(what, "no CAP_IPC_LOCK, and the memlock limit cannot be read", remedy),
    }
}

fn raw_io(facts: &Facts) -> Option<Check> {
    facts.devices.iter().any(is_noiommu).then(|| match facts.process.sys_rawio {
        Some(true) => ok("noiommu", "CAP_SYS_RAWIO, which devices without an IOMMU ask for"),
        _ => fail(
            "noiommu",
            "no CAP_SYS_RAWIO, which devices without an IOMMU ask for",
            "add the capability SYS_RAWIO to the container",
        ),
    })
}

fn processors(facts: &Facts) -> Check {
    let what = "processors";
    let Some(usable) = &facts.process.cores else {
        return fail(what, "/proc/self/status does not say which can be used", "mount proc at /proc");
    };
    let count = usable.len();
    match count {
        0 | 1 => {
            let remedy = "give the container two or more (with the static CPU manager: cpu limit of 2)";
            fail(what, format!("{count} usable, needed are 2"), remedy)
        }
        2 => ok(what, "2 usable, so that the ports share them with their consoles"),
        _ => ok(what, format!("{count} usable")),
    }
}

fn ok(what: impl Into<String>, found: impl Into<String>) -> Check {
    Check { what: what.into(), verdict: Verdict::Ok, found: found.into(), remedy: None }
}

fn fail(what: impl Into<String>, found: impl Into<String>, remedy: &str) -> Check {
    let remedy = Some(remedy.to_owned());
    Check { what: what.into(), verdict: Verdict::Fail, found: found.into(), remedy }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use fairlead_resource_config::test_support::SysfsTree;

    use super::super::{Hugepages, ProcessFacts, Roots};
    use super::*;

    const A: &str = "0000:01:10.0";
    const B: &str = "0000:01:10.2";

    fn facts(tree: &SysfsTree) -> Facts {
        let roots = Roots { sys: tree.root(), proc: tree.proc(), dev: tree.dev(), path: OsString::new() };
        let mut facts = Facts::gather(&roots, [A, B].map(|text| text.parse().unwrap()), None);
        // What no made-up tree has: nodes that answer.
        for device in &mut facts.devices {
            if device.node.exists() {
                device.node_state = NodeState::Opens { viable: true };
            }
        }
        facts.vfio_state = NodeState::Opens { viable: true };
        let pool = PagePool { size: 2 << 20, total: 256, free: 200, allowed: None };
        facts.hugepages = Hugepages { pools: vec![pool], mounts: vec!["/dev/hugepages".into()] };
        facts.process = ProcessFacts {
            ipc_lock: Some(true),
            sys_rawio: Some(false),
            memlock: Some(65536),
            cores: Some(vec![0, 1]),
        };
        facts.testpmd = Ok("/usr/bin/dpdk-testpmd".into());
        facts
    }

    fn bound() -> SysfsTree {
        let tree = SysfsTree::igb(2);
        tree.bind_vfio(A);
        tree.bind_vfio(B);
        tree
    }

    fn good() -> Facts {
        facts(&bound())
    }

    /// The one check that is not well, as text.
    fn only_fault(facts: &Facts, verdict: Verdict) -> String {
        let checks = checks(facts);
        let faults: Vec<&Check> = checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
        let [fault] = faults.as_slice() else { panic!("not one fault: {checks:#?}") };
        assert_eq!(fault.verdict, verdict);
        assert!(fault.remedy.is_some());
        fault.to_string()
    }

    fn assert_says(text: &str, words: &[&str]) {
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
    }

    #[test]
    fn all_is_well() {
        let facts = good();
        assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok && check.remedy.is_none()));
        let plan = plan(&facts).unwrap();
        assert_eq!(plan.iova_mode, IovaMode::Va);
        assert_eq!(plan.cores[0].forwarding, 0);
    }

    #[test]
    fn a_device_on_a_kernel_driver() {
        let tree = SysfsTree::igb(2);
        tree.bind_vfio(A);
        assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[B, "igbvf", "driver_override"]);
    }

    #[test]
    fn a_device_that_is_gone_or_no_network_device() {
        let tree = bound();
        tree.set(A, "class", "0x010802");
        assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[A, "not a network device"]);
        tree.remove(A);
        assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[A, "no such", "restart the pod"]);
    }

    #[test]
    fn nodes_that_do_not_open() {
        let cases = [
            (NodeState::Opens { viable: false }, "not viable"),
            (NodeState::Missing, "request it as a resource"),
            (NodeState::InUse, "in use"),
            (NodeState::Bad("cannot open it: Permission denied".into()), "Permission denied"),
        ];
        for (state, words) in cases {
            let mut facts = good();
            facts.devices[1].node_state = state;
            assert_says(&only_fault(&facts, Verdict::Fail), &[B, words]);
        }
        for (state, words) in [
            (NodeState::Missing, "missing"),
            (NodeState::InUse, "in use"),
            (NodeState::Bad("no".into()), "device_ownership"),
        ] {
            let mut facts = good();
            facts.vfio_state = state;
            assert_says(&only_fault(&facts, Verdict::Fail), &["vfio/vfio", words]);
        }
    }

    #[test]
    fn groups_that_are_shared() {
        let tree = bound();
        tree.group(7, &[A, B]);
        std::fs::write(tree.dev().join("vfio/7"), "").unwrap();
        assert_says(&only_fault(&facts(&tree), Verdict::Fail), &["share IOMMU group 7", "ACS"]);

        let tree = bound();
        tree.igb_vf(2);
        tree.group(8, &[B, "0000:01:10.4"]);
        std::fs::write(tree.dev().join("vfio/8"), "").unwrap();
        assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[B, "0000:01:10.4 on igbvf"]);
    }

    #[test]
    fn a_device_without_group() {
        let tree = bound();
        tree.unset(A, "iommu_group");
        assert_says(&only_fault(&facts(&tree), Verdict::Fail), &[A, "intel_iommu=on"]);
    }

    #[test]
    fn without_iommu_addresses_are_physical_and_raw_io_is_asked_for() {
        let tree = bound();
        tree.noiommu(10);
        let mut facts = facts(&tree);
        assert_says(&only_fault(&facts, Verdict::Fail), &["SYS_RAWIO"]);
        facts.process.sys_rawio = Some(true);
        assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok));
        assert_eq!(plan(&facts).unwrap().iova_mode, IovaMode::Pa);
    }

    #[test]
    fn too_few_huge_pages_on_the_node_or_for_the_container() {
        let mut facts = good();
        facts.hugepages.pools[0].free = 31;
        assert_says(&only_fault(&facts, Verdict::Fail), &["31 of 256 of 2Mi", "reserve more"]);
        facts.hugepages.pools[0].free = 32;
        assert_eq!(checks(&facts).iter().filter(|check| check.verdict != Verdict::Ok).count(), 0);
        facts.hugepages.pools[0].allowed = Some(0);
        assert_says(&only_fault(&facts, Verdict::Fail), &["may use 0", "limits and requests"]);
        facts.hugepages.pools.clear();
        assert_says(&only_fault(&facts, Verdict::Fail), &["the node has none", "nr_hugepages"]);
    }

    #[test]
    fn no_mount_of_huge_pages_is_only_a_warning() {
        let mut facts = good();
        facts.hugepages.mounts.clear();
        assert_says(&only_fault(&facts, Verdict::Warn), &["emptyDir"]);
    }

    #[test]
    fn locked_memory_by_capability_or_by_limit() {
        let mut facts = good();
        facts.process.ipc_lock = Some(false);
        assert_says(&only_fault(&facts, Verdict::Fail), &["64 KiB", "IPC_LOCK"]);
        facts.process.memlock = None;
        assert_says(&only_fault(&facts, Verdict::Fail), &["cannot be read"]);
        for enough in [u64::MAX, MEMORY] {
            facts.process.memlock = Some(enough);
            assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok));
        }
    }

    #[test]
    fn two_processors_are_needed() {
        let mut facts = good();
        facts.process.cores = Some(vec![5]);
        assert_says(&only_fault(&facts, Verdict::Fail), &["1 usable"]);
        assert_eq!(plan(&facts), None);
        facts.process.cores = None;
        assert_says(&only_fault(&facts, Verdict::Fail), &["/proc"]);
    }

    #[test]
    fn no_testpmd_and_no_sysfs() {
        let mut facts = good();
        facts.testpmd = Err("there is none".into());
        assert_says(&only_fault(&facts, Verdict::Fail), &["there is none", "--testpmd"]);
        assert_eq!(plan(&facts), None);
        facts.sysfs_error = Some("cannot list".into());
        assert_says(&only_fault(&facts, Verdict::Fail), &["sysfs", "cannot list", "/sys"]);
    }
}
