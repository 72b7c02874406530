//! One plugin by itself: the executable called by an upstream plugin's name, say through a link `/opt/cni/bin/host-local`.

mod driver;
mod elsewhere;
mod ipam;
mod loopback;

use std::path::Path;

use fairlead_kernel::Netns;
use serde_json::Value;

use crate::{
    agent_protocol::PodRef,
    config::Fields,
    drivers::{self, kernel},
    ipam::Kind,
    protocol::{
        env::{Call, Verb, check_identifier},
        error::{CniError, code},
        result::CniResult,
        version,
    },
    say::to_system_log,
};

/// A plugin that the executable can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Gives addresses.
    Ipam(Kind),
    /// Makes an interface.
    Driver(&'static str),
    /// Switches the pod's loopback on.
    Loopback,
}

/// Name of [`Plugin::Loopback`].
const LOOPBACK: &str = "loopback";

impl Plugin {
    /// The plugin that a program's path names.
    pub fn named(program: &Path) -> Option<Self> {
        let name = program.file_name()?.to_str()?;
        if name == LOOPBACK {
            return Some(Self::Loopback);
        }
        let driver = || drivers::NAMES.iter().find(|driver| **driver == name).copied().map(Self::Driver);
        Kind::named(name).map(Self::Ipam).or_else(driver)
    }

    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let ipam = [Kind::HostLocal, Kind::Static].map(Kind::name);
        drivers::NAMES.iter().copied().chain(ipam).chain([LOOPBACK])
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipam(kind) => kind.name(),
            Self::Driver(kind) => kind,
            Self::Loopback => LOOPBACK,
        }
    }

    /// Does one call. What is returned goes to standard output.
    ///
    /// # Errors
    /// What the caller is to be told.
    pub fn handle(self, call: &Call, stdin: &str) -> Result<Option<String>, CniError> {
        let config = Config::parse(stdin)?;
        version::allows(config.version, call.verb)?;
        if config.fields.flag("systemLog")?.unwrap_or(true) {
            to_system_log(self.about(call, &config));
        }
        foreign_netns(call)?;
        if self == Self::Driver("tuning") && matches!(call.verb, Verb::Add | Verb::Check) {
            drivers::tuning::refuse_duplicates(stdin)?;
        }
        match self {
            Self::Ipam(kind) => ipam::handle(kind, call, &config),
            Self::Driver(kind) => driver::handle(kind, call, &config),
            Self::Loopback => loopback::handle(call, &config),
        }
    }

    /// What lines in the system's log are about.
    fn about(self, call: &Call, config: &Config) -> String {
        let mut about = format!("{} of {}, network {}", call.verb, self.name(), config.name);
        let pod = PodRef::of(&call.args);
        if !pod.namespace.is_empty() && !pod.name.is_empty() {
            about.push_str(&format!(", pod {pod}"));
        }
        if !call.container_id.is_empty() {
            about.push_str(&format!(", interface {} (sandbox {})", call.interface, call.container_id));
        }
        about
    }
}

/// A plugin's configuration as the runtime, or the plugin that delegates to it, hands it over.
struct Config {
    name: String,
    version: &'static str,
    fields: Fields,
}

impl Config {
    /// Reads standard input.
    fn parse(stdin: &str) -> Result<Self, CniError> {
        let undecodable = |details: String| {
            CniError::new(code::DECODING, "standard input is no JSON object").details(details)
        };
        let document: Value = serde_json::from_str(stdin).map_err(|error| undecodable(error.to_string()))?;
        let Value::Object(map) = document else { return Err(undecodable("it is another value".into())) };
        let fields = Fields(map);
        let name = fields.text("name")?.unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(CniError::new(code::INVALID_CONFIG, "missing network name"));
        }
        check_identifier("network name", &name)
            .map_err(|error| CniError { code: code::INVALID_CONFIG, ..error })?;
        Ok(Self { name, version: version::check(fields.text("cniVersion")?)?, fields })
    }

    /// The result of the plugins before.
    fn previous(&self) -> Result<Option<CniResult>, CniError> {
        self.fields.get("prevResult").map(|result| CniResult::parse(result, self.version)).transpose()
    }
}

/// Refuses the network namespace that we are in ourselves. One that cannot be opened is not it.
fn foreign_netns(call: &Call) -> Result<(), CniError> {
    let Some(path) = call.netns_path().filter(|_| !call.own_netns) else { return Ok(()) };
    let Ok(netns) = Netns::open(path) else { return Ok(()) };
    let own = Netns::current().and_then(|own| own.id()).map_err(kernel)?;
    if netns.id().map_err(kernel)? != own {
        return Ok(());
    }
    let text = format!(
        "CNI_NETNS {} is the plugin's own network namespace: nothing was done, set it to the container's",
        path.display()
    );
    Err(CniError::new(code::INVALID_NETNS, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_what_it_is_called() {
        assert_eq!(Plugin::named(Path::new("/opt/cni/bin/host-local")), Some(Plugin::Ipam(Kind::HostLocal)));
        assert_eq!(Plugin::named(Path::new("static")), Some(Plugin::Ipam(Kind::Static)));
        assert_eq!(Plugin::named(Path::new("macvlan")), Some(Plugin::Driver("macvlan")));
        assert_eq!(Plugin::named(Path::new("/opt/cni/bin/loopback")), Some(Plugin::Loopback));
        assert_eq!(Plugin::named(Path::new("/opt/cni/bin/fairlead")), None);
    }

    #[test]
    fn a_kernel_setting_that_is_written_twice_is_refused_before_anything_is_done() {
        let variables = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/nonexistent"),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", "/nonexistent"),
        ];
        let get =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        let stdin = r#"{"name":"a","sysctl":{"net.core.x":"1","net.core.x":"2"}}"#;
        let error = Plugin::Driver("tuning").handle(&Call::read(get).unwrap(), stdin).unwrap_err();
        assert!(error.msg.contains("duplicated"), "{error}");
    }

    #[test]
    fn p3_p5_bad_input_has_the_codes_of_the_protocol() {
        for (stdin, code) in [
            ("{", code::DECODING),
            ("[]", code::DECODING),
            ("{}", code::INVALID_CONFIG),
            (r#"{"name":"../a"}"#, code::INVALID_CONFIG),
            (r#"{"name":"a","cniVersion":"9.0.0"}"#, code::INCOMPATIBLE_VERSION),
        ] {
            assert_eq!(Config::parse(stdin).err().map(|error| error.code), Some(code), "{stdin}");
        }
    }
}
