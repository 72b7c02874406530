//! Network configurations: parsed for what we need, kept whole for those that we execute.

use serde_json::{Map, Value, json};

use crate::protocol::{
    env::check_identifier,
    error::{CniError, code},
    version,
};

/// A JSON object whose keys are looked up without regard to case, as every upstream tool does it. All keys, known or not,
/// stay as they were written.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Fields(pub Map<String, Value>);

impl Fields {
    /// The value of a key; `null` counts as absent. An exact spelling wins over another one, a later key over an earlier.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let other =
            || self.0.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        self.0.get(key).or_else(other).filter(|value| !value.is_null())
    }

    /// Sets a key, whatever spelling it has.
    pub fn set(&mut self, key: &str, value: Value) {
        self.0.retain(|name, _| name == key || !name.eq_ignore_ascii_case(key));
        self.0.insert(key.to_owned(), value);
    }

    /// A text.
    ///
    /// # Errors
    /// Code 7 when the value is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, CniError> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| wrong(key, value, "a text"))).transpose()
    }

    /// A whole number from 0 to 4294967295.
    ///
    /// # Errors
    /// Code 7 when the value is something else.
    pub fn number(&self, key: &str) -> Result<Option<u32>, CniError> {
        let number = |value: &Value| {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| wrong(key, value, "a whole number from 0 to 4294967295"))
        };
        self.get(key).map(number).transpose()
    }

    /// A truth value; the texts "true" and "false" count too (reference library, for list keys).
    ///
    /// # Errors
    /// Code 7 when the value is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, CniError> {
        let flag = |value: &Value| match value {
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(wrong(key, value, "true or false")),
        };
        self.get(key).map(flag).transpose()
    }

    /// An object.
    ///
    /// # Errors
    /// Code 7 when the value is something else.
    pub fn object(&self, key: &str) -> Result<Option<Self>, CniError> {
        let object = |value: &Value| match value {
            Value::Object(map) => Ok(Self(map.clone())),
            _ => Err(wrong(key, value, "an object")),
        };
        self.get(key).map(object).transpose()
    }

    /// A list of objects.
    ///
    /// # Errors
    /// Code 7 when the value is something else.
    pub fn objects(&self, key: &str) -> Result<Vec<Self>, CniError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let objects = value.as_array().and_then(|list| {
            list.iter().map(|item| item.as_object().map(|map| Self(map.clone()))).collect::<Option<Vec<_>>>()
        });
        objects.ok_or_else(|| wrong(key, value, "a list of objects"))
    }

    /// A list of texts.
    ///
    /// # Errors
    /// Code 7 when the value is something else.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, CniError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let texts = value.as_array().and_then(|list| {
            list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        texts.ok_or_else(|| wrong(key, value, "a list of texts"))
    }
}

/// The error for a value of the wrong type.
fn wrong(key: &str, value: &Value, wanted: &str) -> CniError {
    CniError::new(code::INVALID_CONFIG, format!("key \"{key}\" must be {wanted}, it is {value}"))
}

/// One plugin of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// `type`: the plugin's name.
    pub kind: String,
    /// Every key as written.
    pub fields: Fields,
}

impl PluginConfig {
    /// Reads the keys of one plugin.
    ///
    /// # Errors
    /// Code 7 when they have no `type`, or one that is no file name.
    pub fn parse(fields: Fields) -> Result<Self, CniError> {
        let kind = fields.text("type")?.unwrap_or_default().to_owned();
        if kind.is_empty() {
            return Err(CniError::new(code::INVALID_CONFIG, "a plugin of the network has no \"type\""));
        }
        if kind.contains('/') {
            let text = format!("plugin type \"{kind}\" holds a slash: it is a file name, not a path");
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
        Ok(Self { kind, fields })
    }
}

/// A network: a list of plugins, each of which gets the result of the one before it.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    /// Name of the network.
    pub name: String,
    /// Version that its plugins are run with.
    pub version: &'static str,
    /// The plugins, in the order of ADD.
    pub plugins: Vec<PluginConfig>,
}

impl NetworkConfig {
    /// Reads a configuration list or a single configuration (told apart by the key `plugins`).
    ///
    /// # Errors
    /// Code 6 for what is no JSON object, 7 for a missing or wrong key, 1 for a version that we do not speak.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let (fields, mut network) = Self::head(text)?;
        network.plugins = match fields.get("plugins") {
            None => vec![PluginConfig::parse(fields.clone())?],
            Some(plugins) => plugins_of_list(plugins)?,
        };
        network.with_plugins()
    }

    /// Reads a configuration list that may have further plugins elsewhere, unless it says `loadOnlyInlinedPlugins`: `further`
    /// gives them for the list's name.
    ///
    /// # Errors
    /// As [`NetworkConfig::parse`], and what `further` says.
    pub fn parse_list(
        text: &str,
        further: &dyn Fn(&str) -> Result<Vec<Fields>, CniError>,
    ) -> Result<Self, CniError> {
        let (fields, mut network) = Self::head(text)?;
        let inlined = fields.get("plugins");
        if let Some(plugins) = inlined {
            network.plugins = plugins_of_list(plugins)?;
        }
        // An empty list is a mistake, none at all is not.
        let goes_on = inlined.is_none() || !network.plugins.is_empty();
        if goes_on && !fields.flag("loadOnlyInlinedPlugins")?.unwrap_or(false) {
            for plugin in further(&network.name)? {
                network.plugins.push(PluginConfig::parse(plugin)?);
            }
        }
        network.with_plugins()
    }

    /// All but the plugins.
    fn head(text: &str) -> Result<(Fields, Self), CniError> {
        let document: Value = serde_json::from_str(text).map_err(|error| {
            CniError::new(code::DECODING, "the network configuration is no JSON").details(error.to_string())
        })?;
        let Value::Object(map) = document else {
            return Err(CniError::new(code::DECODING, "the network configuration is no JSON object"));
        };
        let fields = Fields(map);
        let name = fields.text("name")?.unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(CniError::new(code::INVALID_CONFIG, "missing network name"));
        }
        check_identifier("network name", &name)
            .map_err(|error| CniError { code: code::INVALID_CONFIG, ..error })?;
        let version = version::choose(fields.text("cniVersion")?, &fields.texts("cniVersions")?)?;
        Ok((fields, Self { name, version, plugins: Vec::new() }))
    }

    fn with_plugins(self) -> Result<Self, CniError> {
        if self.plugins.is_empty() {
            return Err(CniError::new(
                code::INVALID_CONFIG,
                format!("network {} lists no plugins", self.name),
            ));
        }
        Ok(self)
    }

    /// Whether any plugin declares a capability.
    pub fn takes(&self, capability: &str) -> bool {
        let declares = |plugin: &PluginConfig| {
            let declared = plugin.fields.object("capabilities").ok().flatten();
            declared.is_some_and(|declared| declared.flag(capability) == Ok(Some(true)))
        };
        self.plugins.iter().any(declares)
    }
}

fn plugins_of_list(plugins: &Value) -> Result<Vec<PluginConfig>, CniError> {
    match plugins {
        Value::Array(list) => list.iter().map(plugin_of_list).collect(),
        other => Err(wrong("plugins", other, "a list of objects")),
    }
}

fn plugin_of_list(item: &Value) -> Result<PluginConfig, CniError> {
    match item {
        Value::Object(map) => PluginConfig::parse(Fields(map.clone())),
        other => Err(wrong("plugins", other, "a list of objects")),
    }
}

/// What is put into a plugin's configuration before it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Injection {
    /// Values for capabilities; a plugin gets those that it declares.
    pub capability_args: Map<String, Value>,
    /// Merged into `args.cni`.
    pub cni_args: Map<String, Value>,
    /// The device, under the keys that plugins read it from.
    pub device_id: Option<String>,
}

impl Injection {
    /// The configuration as the plugin gets it on standard input, without `prevResult`: the author's keys, `name` and
    /// `cniVersion` of the network, `runtimeConfig` with the declared capabilities, the device as `deviceID` and `pciBusID`
    /// (as Multus does it).
    ///
    /// # Errors
    /// Code 7 when `capabilities`, `args` or `args.cni` are no objects.
    pub fn apply(&self, network: &NetworkConfig, plugin: &PluginConfig) -> Result<Fields, CniError> {
        let mut fields = plugin.fields.clone();
        fields.set("name", json!(network.name));
        fields.set("cniVersion", json!(network.version));
        if let Some(device) = &self.device_id {
            fields.set("deviceID", json!(device));
            fields.set("pciBusID", json!(device));
        }
        if !self.cni_args.is_empty() {
            let mut args = fields.object("args")?.unwrap_or_default();
            let mut cni = args.object("cni")?.unwrap_or_default();
            for (key, value) in &self.cni_args {
                cni.set(key, value.clone());
            }
            args.set("cni", Value::Object(cni.0));
            fields.set("args", Value::Object(args.0));
        }
        let declared = fields.object("capabilities")?.unwrap_or_default();
        let mut runtime = fields.object("runtimeConfig")?.unwrap_or_default();
        for (key, value) in &self.capability_args {
            if declared.flag(key)?.unwrap_or(false) {
                runtime.set(key, value.clone());
            }
        }
        if !runtime.0.is_empty() {
            fields.set("runtimeConfig", Value::Object(runtime.0));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Fields {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn p16_keys_are_found_in_any_case_and_wrong_types_are_named() {
        let fields =
            fields(json!({"Master": "eth0", "MTU": 9000, "vlan": "x", "gone": null, "Flag": "True"}));
        assert_eq!(fields.text("master").unwrap(), Some("eth0"));
        assert_eq!(fields.number("mtu").unwrap(), Some(9000));
        assert_eq!(fields.flag("flag").unwrap(), Some(true));
        assert_eq!(fields.get("gone"), None);
        let error = fields.number("vlan").unwrap_err();
        assert!(error.msg.contains("\"vlan\"") && error.msg.contains("\"x\""), "{error}");
    }

    #[test]
    fn a_single_configuration_is_a_list_of_one() {
        let network =
            NetworkConfig::parse(r#"{"cniVersion":"0.3.1","name":"a","type":"macvlan","x":{"y":1}}"#)
                .unwrap();
        assert_eq!((network.name.as_str(), network.version), ("a", "0.3.1"));
        assert_eq!(network.plugins[0].kind, "macvlan");
        assert_eq!(network.plugins[0].fields.get("x"), Some(&json!({"y": 1})));
    }

    #[test]
    fn p5_bad_configurations_say_what_is_wrong() {
        for (text, code, word) in [
            ("{", code::DECODING, "JSON"),
            ("[]", code::DECODING, "object"),
            (r#"{"type":"a"}"#, code::INVALID_CONFIG, "name"),
            (r#"{"name":"../a","type":"a"}"#, code::INVALID_CONFIG, "malformed"),
            (r#"{"name":"a","plugins":[]}"#, code::INVALID_CONFIG, "no plugins"),
            (r#"{"name":"a","plugins":[{"type":""}]}"#, code::INVALID_CONFIG, "type"),
            (r#"{"name":"a","plugins":[1]}"#, code::INVALID_CONFIG, "plugins"),
            (r#"{"name":"a","type":"../sh"}"#, code::INVALID_CONFIG, "slash"),
            (r#"{"name":"a","type":"b","cniVersion":"3"}"#, code::INCOMPATIBLE_VERSION, "versions"),
        ] {
            let error = NetworkConfig::parse(text).unwrap_err();
            assert_eq!(error.code, code, "{text}");
            assert!(error.msg.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn p17_a_plugin_gets_what_it_declares_and_keeps_what_it_had() {
        let network = NetworkConfig::parse(
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[
                {"type":"a","capabilities":{"mac":true,"ips":false},"custom":[1],"args":{"cni":{"k":1}}},
                {"type":"b"}]}"#,
        )
        .unwrap();
        let injection = Injection {
            capability_args: serde_json::from_value(json!({"mac": "02::1", "ips": ["10.0.0.1"]})).unwrap(),
            cni_args: serde_json::from_value(json!({"l": 2})).unwrap(),
            device_id: Some("0000:03:10.0".into()),
        };
        let first = injection.apply(&network, &network.plugins[0]).unwrap();
        assert_eq!(first.get("runtimeConfig"), Some(&json!({"mac": "02::1"})));
        assert_eq!(first.get("args"), Some(&json!({"cni": {"k": 1, "l": 2}})));
        assert_eq!(first.get("custom"), Some(&json!([1])));
        assert_eq!(first.text("deviceID").unwrap(), Some("0000:03:10.0"));
        let second = injection.apply(&network, &network.plugins[1]).unwrap();
        assert_eq!(second.get("runtimeConfig"), None);
        assert_eq!(second.text("cniVersion").unwrap(), Some("1.0.0"));
    }
}
