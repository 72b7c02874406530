//! What the kernel lets this process do, and so what it will let testpmd do.

use std::fs;
use std::path::Path;

use crate::cores;

/// Numbers of capabilities, from the kernel's `linux/capability.h`.
const CAP_NET_RAW: u32 = 13;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_RAWIO: u32 = 17;

/// Of this process. What cannot be read is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProcessFacts {
    /// It may lock any amount of memory.
    pub ipc_lock: Option<bool>,
    /// It may do raw I/O, which VFIO without IOMMU asks for.
    pub sys_rawio: Option<bool>,
    /// It may open packet sockets, and raw queues of bifurcated drivers.
    pub net_raw: Option<bool>,
    /// How much memory it may lock otherwise, in bytes; `u64::MAX` is no limit.
    pub memlock: Option<u64>,
    /// The processors that it may use.
    pub cores: Option<Vec<u32>>,
    /// The processors that the machine has.
    pub online: Option<Vec<u32>>,
    /// How many processors' time its cgroup gives it, where that is limited.
    pub quota: Option<f64>,
}

impl ProcessFacts {
    /// Reads `self/status` and `self/limits`, the machine's list of processors, and the container's cgroup (version 2, seen at
    /// `/sys/fs/cgroup`).
    #[must_use]
    pub fn gather(proc: &Path, sys: &Path) -> Self {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let own = |name: &str| read(&proc.join("self").join(name));
        let online = fs::read_to_string(sys.join("devices/system/cpu/online")).ok();
        Self {
            online: online.and_then(|list| cores::parse_list(&list)),
            quota: quota(&read(&sys.join("fs/cgroup/cpu.max"))),
            ..Self::parse(&own("status"), &own("limits"))
        }
    }

    fn parse(status: &str, limits: &str) -> Self {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let effective = field("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let has = |capability: u32| effective.map(|effective| effective >> capability & 1 == 1);
        Self {
            ipc_lock: has(CAP_IPC_LOCK),
            sys_rawio: has(CAP_SYS_RAWIO),
            net_raw: has(CAP_NET_RAW),
            memlock: limits
                .lines()
                .find_map(|line| line.strip_prefix("Max locked memory"))
                .and_then(soft_limit),
            cores: field("Cpus_allowed_list:").and_then(cores::parse_list),
            ..Self::default()
        }
    }
}

/// Of `cpu.max`: microseconds in each so many, or `max`.
fn quota(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let (quota, period): (f64, f64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

fn soft_limit(line: &str) -> Option<u64> {
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max locked memory         8388608              unlimited            bytes     \n";

    #[test]
    fn status_and_limits_are_read() {
        let status = "Name:\tx\nCapEff:\t00000000a80425fb\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n";
        let facts = ProcessFacts::parse(status, LIMITS);
        assert_eq!(facts.ipc_lock, Some(false));
        assert_eq!(facts.sys_rawio, Some(false));
        assert_eq!(facts.memlock, Some(8_388_608));
        assert_eq!(facts.cores, Some(vec![0, 1]));
        let all = ProcessFacts::parse("CapEff:\t000001ffffffffff\n", &LIMITS.replace("8388608", "unlimited"));
        assert_eq!((all.ipc_lock, all.sys_rawio, all.memlock), (Some(true), Some(true), Some(u64::MAX)));
    }

    #[test]
    fn a_quota_is_a_number_of_processors() {
        assert_eq!(quota("150000 100000\n"), Some(1.5));
        assert_eq!(quota("max 100000\n"), None);
        assert_eq!(quota(""), None);
    }

    #[test]
    fn garbled_files_are_unknown_not_wrong() {
        assert_eq!(ProcessFacts::parse("CapEff: x\n", "Max locked memory\n"), ProcessFacts::default());
    }
}
