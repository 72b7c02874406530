//! testpmd's command line.

use serde::{Deserialize, Serialize};

use crate::cores::Cores;
use crate::devices::Target;

/// Bytes of the Ethernet checksum, which the device adds: testpmd's lengths are without it.
pub const FCS: u16 = 4;
/// The fewest buffers: what a port with one queue of 512 descriptors each way, the caches and bursts take; about 10 MiB.
const BUFFERS: u32 = 4096;
/// What the caches of one forwarding processor and its bursts hold at most.
const BUFFERS_PER_CORE: u32 = 512;
/// Bytes of a buffer with its headers.
const BUFFER: u64 = 2432;
/// What testpmd takes beside its buffers: measured with DPDK 24.11, and some to spare.
const BESIDE: u64 = 22 << 20;

/// How addresses look to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IovaMode {
    /// Virtual: what an IOMMU makes possible.
    Va,
    /// Physical: all that is possible without one (vfio's noiommu mode).
    Pa,
}

impl IovaMode {
    /// As EAL wants it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Va => "va",
            Self::Pa => "pa",
        }
    }
}

/// How a port is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tuning {
    /// Queues each way.
    pub queues: u16,
    /// Processors that forward.
    pub cores: u16,
    /// Frames that are handled at a time.
    pub burst: u16,
    /// Descriptors of each queue.
    pub descriptors: u16,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { queues: 1, cores: 1, burst: 32, descriptors: 512 }
    }
}

impl Tuning {
    /// How many buffers a testpmd has.
    #[must_use]
    pub fn buffers(self) -> u32 {
        let queued = u32::from(self.queues) * 2 * u32::from(self.descriptors);
        let cached = (u32::from(self.cores) + 1) * (BUFFERS_PER_CORE + u32::from(self.burst));
        BUFFERS.max(queued + cached)
    }

    /// How many bytes of huge pages a testpmd takes.
    #[must_use]
    pub fn memory(self) -> u64 {
        (BESIDE + u64::from(self.buffers()) * BUFFER).next_multiple_of(2 << 20)
    }
}

/// What one testpmd is to do.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// Its one port.
    pub target: Target,
    /// Its processors.
    pub cores: Cores,
    /// How addresses look to the device.
    pub iova: IovaMode,
    /// Sets its run-time files apart from those of any other DPDK program.
    pub file_prefix: String,
    /// Length of the first frames to send, with the checksum, as RFC 2544 counts.
    pub frame_size: u16,
    /// How the port is used.
    pub tuning: Tuning,
}

impl Arguments {
    /// The command line without the program.
    #[must_use]
    pub fn line(&self) -> Vec<String> {
        let Tuning { queues, cores, burst, descriptors } = self.tuning;
        let mut line: Vec<String> = ["--lcores", &self.cores.lcores()].map(str::to_owned).to_vec();
        match &self.target {
            Target::Pci(address) => line.extend(["-a".to_owned(), address.to_string()]),
            Target::Interface(name) => {
                line.extend([
                    "--no-pci".to_owned(),
                    format!("--vdev={},iface={name},qpairs={queues}", self.target.dpdk_name()),
                ]);
            }
        }
        let rest = [
            "--file-prefix",
            &self.file_prefix,
            // Anonymous huge pages: no mount needed, and nothing left behind however the program ends.
            "--in-memory",
            "--iova-mode",
            self.iova.as_str(),
            "--",
            "-i",
            &format!("--total-num-mbufs={}", self.tuning.buffers()),
            &format!("--txpkts={}", self.frame_size.saturating_sub(FCS)),
            &format!("--nb-cores={cores}"),
            &format!("--rxq={queues}"),
            &format!("--txq={queues}"),
            &format!("--rxd={descriptors}"),
            &format!("--txd={descriptors}"),
            &format!("--burst={burst}"),
            "--port-topology=loop",
            // It would count against the pod's memory and needs a privilege; huge pages are never swapped anyway.
            "--no-mlockall",
            // We wait for the link ourselves, with a limit and a reason.
            "--disable-link-check",
        ];
        line.extend(rest.map(str::to_owned));
        if queues > 1 {
            // One flow would fill one queue only.
            line.extend(["--rss-udp", "--txonly-multi-flow"].map(str::to_owned));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(target: Target, tuning: Tuning) -> String {
        let cores = Cores { main: 1, forwarding: vec![0] };
        let file_prefix = "fairlead-a".into();
        Arguments { target, cores, iova: IovaMode::Va, file_prefix, frame_size: 64, tuning }.line().join(" ")
    }

    #[test]
    fn the_line_names_the_device_and_counts_frames_without_checksum() {
        let line = arguments(Target::Pci("0000:01:10.0".parse().unwrap()), Tuning::default());
        assert!(line.starts_with(
            "--lcores 0@1,1@0 -a 0000:01:10.0 --file-prefix fairlead-a --in-memory --iova-mode va -- -i "
        ));
        assert!(line.contains(" --txpkts=60 ") && line.contains(" --rxd=512 "), "{line}");
        assert!(!line.contains("multi-flow"));
    }

    #[test]
    fn an_interface_of_the_kernel_is_a_virtual_device_and_several_queues_get_several_flows() {
        let tuning = Tuning { queues: 4, cores: 2, burst: 64, descriptors: 1024 };
        let line = arguments(Target::Interface("net1".to_owned()), tuning);
        assert!(line.contains(" --no-pci --vdev=net_af_packet0,iface=net1,qpairs=4 "), "{line}");
        assert!(
            line.contains("--nb-cores=2 --rxq=4 --txq=4") && line.ends_with("--txonly-multi-flow"),
            "{line}"
        );
    }

    #[test]
    fn memory_grows_with_queues() {
        let usual = Tuning::default();
        assert_eq!((usual.buffers(), usual.memory() >> 20), (4096, 32));
        let large = Tuning { queues: 8, descriptors: 4096, ..usual };
        assert!(large.buffers() > 65_536 && large.memory() > 150 << 20);
    }
}
