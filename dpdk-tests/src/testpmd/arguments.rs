//! testpmd's command line.

use fairlead_resource_config::PciAddress;

use crate::cores::Cores;

/// Bytes of the Ethernet checksum, which the device adds: testpmd's lengths are without it.
const FCS: u16 = 4;
/// Buffers of a port with one queue of 512 descriptors each way, the caches and bursts: about 10 MiB.
const BUFFERS: u32 = 4096;

/// How addresses look to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
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

/// What one testpmd is to do.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// Its one port.
    pub device: PciAddress,
    /// Its processors.
    pub cores: Cores,
    /// How addresses look to the device.
    pub iova: IovaMode,
    /// Sets its run-time files apart from those of any other DPDK program.
    pub file_prefix: String,
    /// Length of the frames to send, with the checksum, as RFC 2544 counts.
    pub frame_size: u16,
}

impl Arguments {
    /// The command line without the program.
    #[must_use]
    pub fn line(&self) -> Vec<String> {
        let lcores = self.cores.lcores();
        let device = self.device.to_string();
        let payload = format!("--txpkts={}", self.frame_size.saturating_sub(FCS));
        let buffers = format!("--total-num-mbufs={BUFFERS}");
        let eal = [
            "--lcores",
            &lcores,
            "-a",
            &device,
            "--file-prefix",
            &self.file_prefix,
            // Anonymous huge pages: no mount needed, and nothing left behind however the program ends.
            "--in-memory",
            "--iova-mode",
            self.iova.as_str(),
        ];
        let own = [
            "--",
            "-i",
            &buffers,
            &payload,
            "--nb-cores=1",
            "--port-topology=loop",
            // It would count against the pod's memory and needs a privilege; huge pages are never swapped anyway.
            "--no-mlockall",
            // We wait for the link ourselves, with a limit and a reason.
            "--disable-link-check",
        ];
        eal.into_iter().chain(own).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_device_and_counts_frames_without_checksum() {
        let arguments = Arguments {
            device: "0000:01:10.0".parse().unwrap(),
            cores: Cores { main: 1, forwarding: 0 },
            iova: IovaMode::Va,
            file_prefix: "fairlead-a".into(),
            frame_size: 64,
        };
        let line = arguments.line().join(" ");
        assert!(line.starts_with(
            "--lcores 0@1,1@0 -a 0000:01:10.0 --file-prefix fairlead-a --in-memory --iova-mode va -- -i "
        ));
        assert!(line.contains(" --txpkts=60 "));
    }
}
