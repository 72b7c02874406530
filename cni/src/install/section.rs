//! What `00-fairlead.conflist` says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::files::failed;
use crate::{
    config::{Fields, NetworkConfig},
    meta::config::{KEYS, MetaConfig, POD_ANNOTATIONS, TYPE},
    protocol::error::{CniError, code},
};

/// Everything that runtimes are known to pass. One that is not declared here reaches no network of the pod.
const CAPABILITIES: [&str; 11] = [
    "aliases",
    "bandwidth",
    "cgroupPath",
    "deviceID",
    "dns",
    "infinibandGUID",
    POD_ANNOTATIONS,
    "ipRanges",
    "ips",
    "mac",
    "portMappings",
];
/// Keys of our section that are not the operator's.
const OURS: [&str; 7] =
    ["cniVersion", "name", "type", "capabilities", "runtimeConfig", "prevResult", "primaryDir"];
/// Where runtimes look, and so do we unless told otherwise.
pub(super) const CONF_DIR: &str = "/etc/cni/net.d";

/// Where the operator's options are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// On the command line.
    Text(String),
    /// In a file, say of a ConfigMap; read again at each look.
    File(PathBuf),
}

impl Source {
    /// What an option says: an object, or the file that it is in.
    pub(super) fn of(text: String) -> Self {
        if text.trim_start().starts_with('{') { Self::Text(text) } else { Self::File(text.into()) }
    }

    /// The options, checked.
    pub(super) fn read(&self, conf_dir: &Path) -> Result<Section, CniError> {
        let (text, from) = match self {
            Self::Text(text) => (text.clone(), "--section".to_owned()),
            Self::File(file) => (
                fs::read_to_string(file).map_err(|error| failed("read", file, &error))?,
                file.display().to_string(),
            ),
        };
        Section::parse(&text, conf_dir).map_err(|error| error.context(from))
    }
}

/// What the options of our section mean; `option` is an object, or the file that it is in.
///
/// # Errors
/// As `fairlead install` refuses them.
pub fn section(option: &str) -> Result<MetaConfig, CniError> {
    Ok(Source::of(option.to_owned()).read(Path::new(CONF_DIR))?.meta)
}

/// Our section, without capabilities.
#[derive(Debug)]
pub(super) struct Section {
    fields: Fields,
    /// The same, as it will be understood.
    pub(super) meta: MetaConfig,
}

impl Section {
    fn parse(text: &str, conf_dir: &Path) -> Result<Self, CniError> {
        let options: Fields = serde_json::from_str(text).map_err(|error| {
            CniError::new(code::DECODING, "the options are no JSON object").details(error.to_string())
        })?;
        if let Some(key) = OURS.iter().find(|key| options.get(key).is_some()) {
            let text = format!("key \"{key}\" is not an option: it is filled in by this program");
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
        let unknown = |name: &&String| !KEYS.iter().any(|key| key.eq_ignore_ascii_case(name));
        if let Some(key) = options.0.keys().find(unknown) {
            return Err(CniError::new(code::INVALID_CONFIG, format!("key \"{key}\" is unknown")));
        }
        let mut fields = Fields(Map::new());
        fields.set("type", json!(TYPE));
        if conf_dir != Path::new(CONF_DIR) {
            fields.set("primaryDir", json!(conf_dir));
        }
        for (key, value) in options.0 {
            fields.set(&key, value);
        }
        let mut call = fields.clone();
        call.set("name", json!(TYPE));
        call.set("cniVersion", json!("1.0.0"));
        let meta = MetaConfig::parse(&Value::Object(call.0).to_string())?;
        Ok(Self { fields, meta })
    }

    /// The whole file. The capabilities are all that are known and those that the primary network declares, so that each
    /// reaches it.
    pub(super) fn document(&self, primary: Option<&NetworkConfig>) -> String {
        let mut capabilities: Map<String, Value> =
            CAPABILITIES.iter().map(|name| ((*name).to_owned(), json!(true))).collect();
        for plugin in primary.iter().flat_map(|network| &network.plugins) {
            let declared = plugin.fields.object("capabilities").ok().flatten().unwrap_or_default();
            for (name, value) in declared.0 {
                if value == json!(true) {
                    capabilities.insert(name, value);
                }
            }
        }
        capabilities.sort_keys();
        let mut plugin = self.fields.clone();
        plugin.set("capabilities", Value::Object(capabilities));
        let document = json!({
            "cniVersion": "1.0.0",
            "cniVersions": ["1.0.0", "1.1.0"],
            "name": TYPE,
            "disableCheck": true,
            "plugins": [plugin],
        });
        format!("{document:#}\n")
    }
}

/// Whether a file is a configuration of ours.
pub fn is_ours(text: &str) -> bool {
    NetworkConfig::parse(text).is_ok_and(|network| network.plugins.iter().any(|plugin| plugin.kind == TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(options: &str) -> Result<Section, CniError> {
        Section::parse(options, Path::new(CONF_DIR))
    }

    fn primary(text: &str) -> NetworkConfig {
        NetworkConfig::parse(text).unwrap()
    }

    #[test]
    fn the_file_has_a_fixed_name_both_versions_every_capability_and_the_primarys() {
        let primary = primary(
            r#"{"cniVersion":"0.3.1","name":"n","plugins":[{"type":"a","capabilities":{"portMappings":true,"odd":true,"off":false}}]}"#,
        );
        let text = section(r#"{"builtins":["bridge"]}"#).unwrap().document(Some(&primary));
        assert!(is_ours(&text));
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["cniVersion"], "1.0.0");
        assert_eq!(document["cniVersions"], json!(["1.0.0", "1.1.0"]));
        let plugin = &document["plugins"][0];
        assert_eq!((&plugin["type"], &plugin["builtins"]), (&json!("fairlead"), &json!(["bridge"])));
        let capabilities = plugin["capabilities"].as_object().unwrap();
        for name in CAPABILITIES.into_iter().chain(["odd"]) {
            assert_eq!(capabilities.get(name), Some(&json!(true)), "{name}");
        }
        assert_eq!(capabilities.get("off"), None);
        assert_eq!(plugin.get("primaryDir"), None);
    }

    #[test]
    fn another_folder_of_configurations_is_told_to_the_program() {
        let section = Section::parse("{}", Path::new("/var/lib/rancher/k3s/agent/etc/cni/net.d")).unwrap();
        assert_eq!(section.meta.primary_dir, Path::new("/var/lib/rancher/k3s/agent/etc/cni/net.d"));
    }

    #[test]
    fn options_that_would_not_be_understood_are_refused_by_name() {
        for (options, word) in [
            ("[]", "JSON object"),
            (r#"{"builtins":"bridge"}"#, "builtins"),
            (r#"{"Type":"x"}"#, "\"type\""),
            (r#"{"primaryDir":"/x"}"#, "primaryDir"),
            (r#"{"primary":"a/b"}"#, "primary"),
            (r#"{"buildins":[]}"#, "buildins"),
        ] {
            let error = section(options).unwrap_err();
            assert!(error.to_string().contains(word), "{options}: {error}");
        }
        let error = Source::File("/nonexistent/x".into()).read(Path::new(CONF_DIR)).unwrap_err();
        assert!(error.msg.contains("/nonexistent/x"), "{error}");
    }

    #[test]
    fn files_of_others_are_not_ours() {
        for text in ["", "{}", r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}"#] {
            assert!(!is_ours(text), "{text}");
        }
    }
}
