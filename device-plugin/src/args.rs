//! The command line: upstream's options, in Go's spelling too, and ours.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use fairlead_resource_config::SysRoot;
use fairlead_resource_config::config::DEFAULT_PREFIX;
use fairlead_resource_config::provision::DEFAULT_RUN_DIR;

use crate::{ConfigSource, Node, Options, Registration};

/// Advertises the SR-IOV devices of this node to kubelet.
#[derive(Debug, Parser)]
#[command(name = "fairlead-device-plugin", version)]
pub struct Args {
    /// Configuration of the resource pools.
    #[arg(long, value_name = "FILE", default_value = "/etc/pcidp/config.json")]
    pub config_file: PathBuf,
    /// Prefix of resources that name none.
    #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX)]
    pub resource_prefix: String,
    /// kubelet's root folder.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_root: PathBuf,
    /// Where sysfs is.
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    pub sysfs: PathBuf,
    /// Where the proc file system is.
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub proc: PathBuf,
    /// Where the host's device nodes are.
    #[arg(long, value_name = "DIR", default_value = "/dev")]
    pub dev: PathBuf,
    /// Where device-information files go.
    #[arg(long, value_name = "DIR", default_value = "/var/run/k8s.cni.cncf.io/devinfo/dp")]
    pub devinfo_dir: PathBuf,
    /// Where fairlead-config says which PFs it is setting up.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_RUN_DIR)]
    pub provision_run_dir: PathBuf,
    /// Seconds between two scans of the node's devices when the kernel announces no change.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub rescan_interval: Duration,
    /// How kubelet learns of the plugin.
    #[arg(long, value_enum, value_name = "WAY", default_value = "auto")]
    pub registration: Registration,
    /// Hand device nodes over through CDI instead of kubelet. The runtime must have it enabled.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = boolean
    )]
    pub use_cdi: bool,
    /// Where CDI specifications go.
    #[arg(long, value_name = "DIR", default_value = "/var/run/cdi")]
    pub cdi_dir: PathBuf,
    /// Address for /metrics, /healthz and /readyz, or none.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9807", value_parser = http_address)]
    pub http_address: HttpAddress,
    /// How much is logged: error, warn, info, debug, trace, or upstream's number, where 5 and more is debug.
    #[arg(long, value_name = "LEVEL", alias = "v", default_value = "info", value_parser = level)]
    pub log_level: tracing::Level,
    /// How the log looks.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    #[command(flatten)]
    ignored: Ignored,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// Where to serve, if at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpAddress(pub Option<SocketAddr>);

/// Options of upstream's logging library and of its image's entry point. They are accepted, so that manifests need no change.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Accepted without effect")]
struct Ignored {
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    logtostderr: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    alsologtostderr: Option<String>,
    #[arg(long, value_name = "LEVEL")]
    stderrthreshold: Option<String>,
    #[arg(long, value_name = "PATTERNS")]
    vmodule: Option<String>,
    #[arg(long = "log_dir", value_name = "DIR", alias = "log-dir")]
    log_dir: Option<String>,
    #[arg(long = "log_backtrace_at", value_name = "PLACE")]
    log_backtrace_at: Option<String>,
    #[arg(long = "log_link", value_name = "DIR")]
    log_link: Option<String>,
    #[arg(long = "logbuflevel", value_name = "LEVEL")]
    logbuflevel: Option<String>,
}

impl Args {
    /// Reads a command line, the first element being the program's name. Ends the process with a message on a wrong one.
    #[must_use]
    pub fn read(argv: impl IntoIterator<Item = String>) -> Self {
        Self::parse_from(normalised(argv))
    }

    /// The given options that have no effect, for a note in the log.
    #[must_use]
    pub fn ignored(&self) -> Vec<&'static str> {
        let Ignored {
            logtostderr,
            alsologtostderr,
            stderrthreshold,
            vmodule,
            log_dir,
            log_backtrace_at,
            log_link,
            logbuflevel,
        } = &self.ignored;
        [
            ("logtostderr", logtostderr),
            ("alsologtostderr", alsologtostderr),
            ("stderrthreshold", stderrthreshold),
            ("vmodule", vmodule),
            ("log_dir", log_dir),
            ("log_backtrace_at", log_backtrace_at),
            ("log_link", log_link),
            ("logbuflevel", logbuflevel),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|_| name))
        .collect()
    }

    /// What the plugin works on.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            config: ConfigSource {
                path: self.config_file.clone(),
                default_prefix: self.resource_prefix.clone(),
            },
            node: Node {
                kubelet_root: self.kubelet_root.clone(),
                sysfs: SysRoot::new(&self.sysfs),
                proc: self.proc.clone(),
                dev: self.dev.clone(),
                devinfo_dir: self.devinfo_dir.clone(),
                run_dir: self.provision_run_dir.clone(),
            },
            rescan_interval: self.rescan_interval,
            registration: self.registration,
            cdi: self.use_cdi,
            cdi_dir: self.cdi_dir.clone(),
            http: self.http_address.0,
        }
    }
}

/// Turns Go's spelling (`-config-file=X`, `-v 10`) into ours. Only `-h` and `-V` are short options here.
fn normalised(argv: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    argv.into_iter().map(|arg| match arg.strip_prefix('-') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) && rest != "h" && rest != "V" => {
            format!("--{rest}")
        }
        _ => arg,
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a number of seconds above zero is wanted".to_owned())
}

/// What Go's flag package takes for a boolean.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false is wanted".to_owned()),
    }
}

fn level(text: &str) -> Result<tracing::Level, String> {
    match text.parse::<u32>() {
        Ok(0..=4) => Ok(tracing::Level::INFO),
        Ok(5..) => Ok(tracing::Level::DEBUG),
        Err(_) => text
            .parse()
            .map_err(|_| "error, warn, info, debug, trace or a whole number from 0 on is wanted".to_owned()),
    }
}

fn http_address(text: &str) -> Result<HttpAddress, String> {
    if text == "none" {
        return Ok(HttpAddress(None));
    }
    let address = text.parse().map_err(|_| "an address with a port (127.0.0.1:9807) or none is wanted");
    Ok(HttpAddress(Some(address?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, clap::Error> {
        let argv = std::iter::once("fairlead-device-plugin").chain(line.split_whitespace());
        Args::try_parse_from(normalised(argv.map(str::to_owned)))
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn both_spellings_are_read() {
        for line in ["-config-file /a -resource-prefix=b.io", "--config-file=/a --resource-prefix b.io"] {
            let args = read(line).unwrap();
            assert_eq!((args.config_file, args.resource_prefix), (PathBuf::from("/a"), "b.io".to_owned()));
        }
    }

    #[test]
    fn logging_options_of_upstream_are_accepted_and_named() {
        let line =
            "-v 10 -logtostderr -alsologtostderr=false -stderrthreshold=INFO --log-dir=sriovdp -vmodule a=1";
        let args = read(line).unwrap();
        let expected = ["logtostderr", "alsologtostderr", "stderrthreshold", "vmodule", "log_dir"];
        assert_eq!(args.ignored(), expected);
        assert_eq!(args.log_level, tracing::Level::DEBUG);
        assert!(read("").unwrap().ignored().is_empty());
    }

    #[test]
    fn log_levels_are_words_or_numbers() {
        for (line, level) in [
            ("", tracing::Level::INFO),
            ("-v=2", tracing::Level::INFO),
            ("--log-level=10", tracing::Level::DEBUG),
            ("--log-level warn", tracing::Level::WARN),
        ] {
            assert_eq!(read(line).unwrap().log_level, level, "{line}");
        }
    }

    #[test]
    fn cdi_is_asked_for_as_go_does_it() {
        for (line, cdi) in [("", false), ("-use-cdi=false", false), ("-use-cdi", true), ("--use-cdi=T", true)]
        {
            assert_eq!(read(line).unwrap().use_cdi, cdi, "{line}");
        }
    }

    #[test]
    fn the_address_of_metrics_may_be_none() {
        assert_eq!(read("--http-address none").unwrap().http_address, HttpAddress(None));
        let address = read("--http-address=[::1]:1").unwrap().http_address;
        assert_eq!(address, HttpAddress(Some("[::1]:1".parse().unwrap())));
    }

    /// The image's entry point splits at the first `=` only where upstream loses what follows.
    #[test]
    fn values_keep_their_equals_signs() {
        assert_eq!(read("--config-file=/a=b").unwrap().config_file, PathBuf::from("/a=b"));
    }

    #[test]
    fn a_wrong_line_is_an_error() {
        for line in [
            "--colour",
            "--rescan-interval 0",
            "--rescan-interval -1",
            "config.json",
            "--log-level=loud",
            "--use-cdi=maybe",
            "--http-address=9807",
            "--registration=both",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
