//! The command line as it is given.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use fairlead_dpdk_tests::plan::{FRAME_SIZES, Mode, Plan, RFC_2544_SIZES};
use fairlead_dpdk_tests::report::{Outputs, Thresholds};
use fairlead_dpdk_tests::testpmd::arguments::Tuning;
use fairlead_kernel::Mac;
use fairlead_resource_config::PciAddress;

/// Says whether the DPDK path of this pod works, and how fast it is: runs DPDK's testpmd on the pod's devices, from the first to
/// the second and back, and prints packets per second.
///
/// The devices are those that the device plugin named in the environment (PCIDEVICE_*). Before anything runs, everything that
/// DPDK needs is looked at, and what is missing is told with its remedy.
#[derive(Debug, Parser)]
#[command(
    name = "fairlead-dpdk-check",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 everything was measured and is good enough; 1 the run failed; 2 wrong options; \
                  3 something that the run needs is missing; 4 too slow, or too much lost; 5 stopped by a signal or the time \
                  limit.\n\n\
                  The container needs: two devices of the device plugin, hugepages-2Mi of 64Mi or more, two processors, the \
                  capability IPC_LOCK, /sys, testpmd with the PMD of the device."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) check: CheckOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Is port B for a check in another pod, which is told --peer: obeys it, and ends when it is done
    Peer(PeerOptions),
    /// Runs one plan outside any pod and inside one, in turns, and tells the ratio
    Compare(CompareOptions),
    /// Writes a report, or the log of a pod that has one, as HTML, JUnit or JSON
    Render(RenderOptions),
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    #[command(flatten)]
    pub(crate) ports: PortOptions,
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    #[command(flatten)]
    pub(crate) tuning: TuningOptions,
    /// Port B is in another pod: where its `fairlead-dpdk-check peer` listens
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) peer: Option<String>,
    /// Seconds for the peer to answer at first
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) peer_limit: f64,
    /// Only look whether all is there
    #[arg(long)]
    pub(crate) preflight_only: bool,
    /// Seconds that the links have to come up
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) link_limit: f64,
    /// Seconds for everything; then it ends with code 5 [default: 120 and twice what the plan takes]
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    pub(crate) timeout: Option<f64>,
    #[command(flatten)]
    pub(crate) thresholds: ThresholdOptions,
    #[command(flatten)]
    pub(crate) outputs: OutputOptions,
}

#[derive(Debug, Args)]
pub(crate) struct PortOptions {
    /// The resource whose devices are used, like intel.com/sriov_dpdk; needed when the pod has several
    #[arg(long, value_name = "NAME")]
    pub(crate) resource: Option<String>,
    /// Use this device instead of those of the environment; give it for each port
    #[arg(long = "device", value_name = "ADDRESS", conflicts_with = "resource")]
    pub(crate) devices: Vec<PciAddress>,
    /// Measure the kernel's path over this interface of the pod, by packet sockets; give it for each port. With --device or
    /// --resource both paths are measured and compared
    #[arg(long = "interface", value_name = "NAME")]
    pub(crate) interfaces: Vec<String>,
    /// The testpmd to run [default: dpdk-testpmd, or testpmd, on PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) testpmd: Option<PathBuf>,
    /// The pod's network-status: a downwardAPI file of its annotations, or that annotation's value [default:
    /// /etc/podnetinfo/annotations, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) network_status: Option<PathBuf>,
    /// The MAC address that a port should have, for each port in order [default: what network-status or the PF says]
    #[arg(long = "expect-mac", value_name = "MAC")]
    pub(crate) macs: Vec<Mac>,
    /// Seconds that testpmd has to get ready
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = seconds)]
    pub(crate) start_limit: f64,
}

#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    /// What to measure, separated by commas
    #[arg(long = "mode", value_name = "MODES", value_delimiter = ',', default_value = "forth,back")]
    pub(crate) modes: Vec<Mode>,
    /// Lengths of the frames in bytes, with the checksum, from 64 to 1518, separated by commas; rfc2544 stands for its seven
    #[arg(long = "sizes", alias = "frame-size", value_name = "BYTES", value_delimiter = ',', default_value = "64", value_parser = sizes)]
    pub(crate) sizes: Vec<Sizes>,
    /// Seconds of traffic before each window that do not count
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// Seconds of traffic that count; of each trial of a search
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = positive_seconds)]
    pub(crate) window: f64,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeats: u16,
    /// Send at most so much, where the device can be told to; else as fast as it can
    #[arg(long, value_name = "MBIT/S", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate_mbps: Option<u32>,
    /// The loss that a search accepts, in per cent
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent)]
    pub(crate) search_loss: f64,
}

#[derive(Debug, Args)]
pub(crate) struct TuningOptions {
    /// Queues of each port, each way
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=128))]
    queues: u16,
    /// Processors of each port that forward
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    cores: u16,
    /// Frames that are handled at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    burst: u16,
    /// Descriptors of each queue
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(64..=8192))]
    descriptors: u16,
}

#[derive(Debug, Args)]
pub(crate) struct ThresholdOptions {
    /// Packets per second that have to arrive in each result
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "min_mpps")]
    min_pps: u32,
    /// The same in millions
    #[arg(long, value_name = "N", value_parser = positive)]
    min_mpps: Option<f64>,
    /// Gigabits of frames per second that have to arrive in each result
    #[arg(long, value_name = "N", value_parser = positive)]
    min_gbps: Option<f64>,
    /// What may be lost in each result, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_loss: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct OutputOptions {
    /// Write the report as JSON to this file, as things stand after each result; - is standard output, which then has nothing else
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write it as a page for a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write it as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print it as the last line, from which `render` takes it: for a pod's log
    #[arg(long)]
    log_report: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PeerOptions {
    #[command(flatten)]
    pub(crate) ports: PortOptions,
    #[command(flatten)]
    pub(crate) tuning: TuningOptions,
    /// Where to listen. Whoever reaches it can make the port send: let only the other pod (NetworkPolicy)
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7411")]
    pub(crate) listen: SocketAddr,
    /// Seconds to wait for the other pod
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = positive_seconds)]
    pub(crate) wait: f64,
}

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// What runs a command inside the pod, like "kubectl exec dpdk --"; split at spaces
    #[arg(long, value_name = "COMMAND")]
    pub(crate) inside: String,
    /// The program's name inside the pod
    #[arg(long, value_name = "NAME", default_value = "fairlead-dpdk-check")]
    pub(crate) program: String,
    /// How often each side runs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) runs: u16,
    /// What the pod has to reach of the host's packets per second in each result, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = positive)]
    pub(crate) min_ratio: Option<f64>,
    /// Write all reports and the ratios as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Seconds for everything
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = positive_seconds)]
    pub(crate) timeout: f64,
    /// Options of the check for both sides, after --
    #[arg(last = true, value_name = "OPTION")]
    pub(crate) plan: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RenderOptions {
    /// A JSON report, or a log with one; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) report: PathBuf,
    #[command(flatten)]
    pub(crate) outputs: OutputOptions,
}

/// One item of the list of sizes.
#[derive(Debug, Clone)]
pub(crate) struct Sizes(Vec<u16>);

fn sizes(text: &str) -> Result<Sizes, String> {
    if text.eq_ignore_ascii_case("rfc2544") {
        return Ok(Sizes(RFC_2544_SIZES.to_vec()));
    }
    let size = text.parse().ok().filter(|size| FRAME_SIZES.contains(size));
    size.map(|size| Sizes(vec![size]))
        .ok_or_else(|| format!("not from {} to {}, nor rfc2544", FRAME_SIZES.start(), FRAME_SIZES.end()))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("not from 0 to 86400".to_owned()) }
}

fn positive_seconds(text: &str) -> Result<f64, String> {
    seconds(text).and_then(|seconds| if seconds > 0.0 { Ok(seconds) } else { Err("not above 0".to_owned()) })
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("not above 0".to_owned()) }
}

/// A percentage as a part.
fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim_end_matches('%').parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&number) { Ok(number / 100.0) } else { Err("not from 0 to 100".to_owned()) }
}

impl CheckOptions {
    pub(crate) fn plan(&self) -> Plan {
        let plan = &self.plan;
        let mut frame_sizes = Vec::new();
        for size in plan.sizes.iter().flat_map(|sizes| &sizes.0) {
            if !frame_sizes.contains(size) {
                frame_sizes.push(*size);
            }
        }
        let mut modes = Vec::new();
        for mode in &plan.modes {
            if !modes.contains(mode) {
                modes.push(*mode);
            }
        }
        Plan {
            modes,
            frame_sizes,
            repeats: plan.repeats,
            warm_up: plan.warm_up,
            window: plan.window,
            rate_mbps: plan.rate_mbps,
            search_loss: plan.search_loss,
            tuning: self.tuning.tuning(),
        }
    }
}

impl TuningOptions {
    pub(crate) fn tuning(&self) -> Tuning {
        let Self { queues, cores, burst, descriptors } = *self;
        Tuning { queues, cores, burst, descriptors }
    }
}

impl ThresholdOptions {
    pub(crate) fn thresholds(&self) -> Thresholds {
        let min_pps = self.min_mpps.map_or_else(|| f64::from(self.min_pps), |millions| millions * 1e6);
        Thresholds { min_pps, min_gbps: self.min_gbps, max_loss: self.max_loss }
    }
}

impl OutputOptions {
    pub(crate) fn outputs(&self) -> Outputs {
        Outputs {
            json: self.json.clone(),
            html: self.html.clone(),
            junit: self.junit.clone(),
            log: self.log_report,
        }
    }
}
