//! The names of Multus, and what of its configuration has no effect here.

use std::path::{Path, PathBuf};

use super::config::{KEYS, MetaConfig};
use crate::{
    config::Fields,
    protocol::error::{CniError, code},
};

/// The names under which runtimes call Multus: by itself, and where it has a daemon.
pub const NAMES: [&str; 2] = ["multus", "multus-shim"];

/// Where Multus looks for plugins before `CNI_PATH`.
const BIN_DIR: &str = "/opt/cni/bin";
/// What the daemon's container sees the node's root as: its configuration is written with such paths.
const ROOTS: [&str; 2] = ["/host", "/hostroot"];

/// Keys of Multus that are understood and change nothing, with what is done instead.
const VAIN: [(&[&str], &str); 5] = [
    (&["kubeconfig", "perNodeCertificate"], "only the agent talks to the API server"),
    (
        &["logFile", "logLevel", "logToStderr", "logOptions"],
        "messages go to standard error, which the runtime logs",
    ),
    (
        &["daemonSocketDir", "socketDir", "chrootDir", "connectionLimit", "metricsPort", "enablePprof"],
        "there is no daemon that attaches networks",
    ),
    (
        &[
            "multusConfigFile",
            "multusAutoconfigDir",
            "multusMasterCNI",
            "cniConfigDir",
            "overrideNetworkName",
            "forceCNIVersion",
        ],
        "fairlead install writes the configuration",
    ),
    (&["retryDeleteOnError"], "what a failed DEL needs is always kept"),
];

/// Whether a program's path is a name of Multus.
pub fn is_named(program: &Path) -> bool {
    program.file_name().is_some_and(|name| NAMES.iter().any(|known| name == *known))
}

/// A path in Multus' configuration, as the node sees it.
fn on_node(path: PathBuf) -> PathBuf {
    let stripped = || {
        let rest = ROOTS.iter().find_map(|root| path.strip_prefix(root).ok())?;
        Some(Path::new("/").join(rest))
    };
    if path.exists() { path } else { stripped().unwrap_or(path) }
}

/// Reads standard input as Multus does.
///
/// # Errors
/// As [`MetaConfig::parse`]; code 7 when no primary network is named.
pub fn parse(stdin: &str) -> Result<MetaConfig, CniError> {
    let mut config = MetaConfig::parse(stdin)?;
    if config.policy.cluster_network.is_none() && config.delegates.is_empty() {
        let text = "Multus' configuration names no primary network: give \"clusterNetwork\" or \"delegates\"";
        return Err(CniError::new(code::INVALID_CONFIG, text));
    }
    let network = config.policy.cluster_network.take();
    config.policy.cluster_network = network.map(|network| match network.starts_with('/') {
        true => on_node(network.into()).display().to_string(),
        false => network,
    });
    for path in [&mut config.conf_dir, &mut config.cni_dir] {
        *path = on_node(std::mem::take(path));
    }
    config.readiness_file = config.readiness_file.map(on_node);
    config.bin_dir = config.bin_dir.map(on_node).or_else(|| Some(BIN_DIR.into()));
    Ok(config)
}

/// What of a configuration has no effect, in one line; none when all has.
pub fn without_effect(stdin: &str) -> Option<String> {
    let fields: Fields = serde_json::from_str(stdin).ok()?;
    let mut parts: Vec<String> = Vec::new();
    for (keys, instead) in VAIN {
        let there: Vec<&str> = keys.iter().filter(|key| fields.get(key).is_some()).copied().collect();
        if !there.is_empty() {
            parts.push(format!("{} ({instead})", there.join(", ")));
        }
    }
    let unknown = unknown_keys(&fields);
    if !unknown.is_empty() {
        parts.push(format!("{} (unknown)", unknown.join(", ")));
    }
    (!parts.is_empty()).then(|| format!("keys without effect: {}", parts.join("; ")))
}

/// Keys that nobody knows.
fn unknown_keys(fields: &Fields) -> Vec<&str> {
    let is_known = |name: &str| {
        let vain = VAIN.iter().flat_map(|(keys, _)| keys.iter());
        KEYS.iter().chain(vain).any(|key| key.eq_ignore_ascii_case(name)) || name.starts_with("cni.dev/")
    };
    fields
        .0
        .iter()
        .filter(|(name, value)| !value.is_null() && !is_known(name))
        .map(|(name, _)| name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_names_are_known_wherever_they_are() {
        for name in ["multus", "/opt/cni/bin/multus-shim"] {
            assert!(is_named(Path::new(name)), "{name}");
        }
        assert!(!is_named(Path::new("/opt/multus/fairlead")));
    }

    #[test]
    fn what_has_no_effect_is_told_with_the_reason_and_the_rest_is_not() {
        let told = without_effect(&json!({
            "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus-shim", "clusterNetwork": "/a",
            "Kubeconfig": "/x", "logfile": "/y", "logLevel": "debug", "daemonSocketDir": "/z", "surprise": 1,
            "cni.dev/attachments": [], "nothing": null, "readinessIndicatorFile": "/r", "auxiliaryCNIChainName": "vendor",
        }).to_string())
        .unwrap();
        for word in ["kubeconfig (only", "logFile, logLevel (", "daemonSocketDir (", "surprise (unknown)"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        for word in ["clusterNetwork", "readiness", "cni.dev", "nothing", "auxiliary"] {
            assert!(!told.contains(word), "{word}: {told}");
        }
        assert_eq!(without_effect(r#"{"name": "a", "delegates": []}"#), None);
    }

    #[test]
    fn a_path_of_the_daemons_container_is_one_of_the_node() {
        assert_eq!(on_node("/host/etc/cni/net.d/x".into()), Path::new("/etc/cni/net.d/x"));
        assert_eq!(on_node("/hostroot/opt/x".into()), Path::new("/opt/x"));
        assert_eq!(on_node("/hosts/x".into()), Path::new("/hosts/x"));
        assert_eq!(on_node("/etc".into()), Path::new("/etc"));
    }

    #[test]
    fn the_generated_configuration_of_a_running_cluster_is_understood() {
        let config = parse(
            r#"{"capabilities":{"portMappings":true},"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim",
               "clusterNetwork":"/host/etc/cni/net.d/10-flannel.conflist","logToStderr":true,"NamespaceIsolation":true,
               "readinessindicatorfile":"/host/run/flannel/subnet.env","daemonSocketDir":"/run/multus/"}"#,
        )
        .unwrap();
        assert_eq!(config.policy.cluster_network.as_deref(), Some("/etc/cni/net.d/10-flannel.conflist"));
        assert_eq!(config.readiness_file.as_deref(), Some(Path::new("/run/flannel/subnet.env")));
        assert_eq!(config.bin_dir.as_deref(), Some(Path::new(BIN_DIR)));
        assert_eq!(config.cni_dir, Path::new("/var/lib/cni/multus"));
        assert!(config.policy.global_namespaces.is_some());
    }

    #[test]
    fn inline_delegates_are_networks_and_without_any_it_is_an_error() {
        let config = parse(
            r#"{"cniVersion":"0.3.1","name":"m","type":"multus","binDir":"/b","cniDir":"/c","delegates":[
                {"type":"bridge"},{"name":"x","plugins":[{"type":"macvlan"}]}]}"#,
        )
        .unwrap();
        let delegates: Vec<_> =
            config.delegates.iter().map(|network| (network.name.as_str(), network.version)).collect();
        assert_eq!(delegates, [("m", "0.1.0"), ("x", "0.3.1")]);
        assert_eq!((config.bin_dir, config.cni_dir), (Some("/b".into()), PathBuf::from("/c")));
        for (pair, word) in [
            ("", "clusterNetwork"),
            (r#","delegates":[{"name":"x"}]"#, "delegates"),
            (r#","delegates":{}"#, "delegates"),
        ] {
            let error = parse(&format!(r#"{{"name":"m","type":"multus"{pair}}}"#)).unwrap_err();
            assert!(error.msg.contains(word), "{pair}: {error}");
        }
    }
}
