//! NetworkAttachmentDefinitions: what a network's name stands for.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::fields::{field, spelling};

/// Annotation of a definition that names the resource whose devices the network takes.
pub const RESOURCE_ANNOTATION: &str = "k8s.v1.cni.cncf.io/resourceName";

/// Keys under which plugins read a device.
const DEVICE_KEYS: [&str; 2] = ["deviceID", "pciBusID"];

/// The parts of a NetworkAttachmentDefinition that a plan needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAttachmentDefinition {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// `spec.config` as its author wrote it; empty when there is none.
    pub config: String,
    /// The resource in its annotation [`RESOURCE_ANNOTATION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
}

impl fmt::Display for NetworkAttachmentDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The CNI configuration of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configuration<'a> {
    /// This text.
    Text(Cow<'a, str>),
    /// The one on the node's disk that has this `name`.
    OnDisk(&'a str),
}

/// A definition has no configuration to attach with.
#[derive(Debug, Error)]
pub enum NadError {
    /// The configuration is no JSON.
    #[error("spec.config of NetworkAttachmentDefinition {network} is not JSON: correct it there")]
    Json {
        /// `namespace/name` of the definition.
        network: String,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// The configuration or its `name` is JSON of another type.
    #[error("{part} of NetworkAttachmentDefinition {network} must be {wanted}: correct it there")]
    Type {
        /// `namespace/name` of the definition.
        network: String,
        /// The part in question.
        part: &'static str,
        /// The JSON type that it must have.
        wanted: &'static str,
    },
}

impl NetworkAttachmentDefinition {
    /// The object as a manifest has it.
    ///
    /// # Errors
    /// What of it is none.
    pub fn read(document: &Value) -> Result<Self, String> {
        const KIND: &str = "NetworkAttachmentDefinition";
        if document["kind"] != KIND {
            return Err(format!("`kind` is {}, not {KIND}", document["kind"]));
        }
        let text = |value: &Value, key: &str| match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            other => Err(format!("`{key}` is no text: {other}")),
        };
        let metadata = &document["metadata"];
        let name = text(&metadata["name"], "metadata.name")?.filter(|name| !name.is_empty());
        let resource = &metadata["annotations"][RESOURCE_ANNOTATION];
        Ok(Self {
            namespace: text(&metadata["namespace"], "metadata.namespace")?
                .unwrap_or_else(|| "default".into()),
            name: name.ok_or("`metadata.name` is missing")?,
            config: text(&document["spec"]["config"], "spec.config")?.unwrap_or_default(),
            resource_name: text(resource, RESOURCE_ANNOTATION)?.filter(|resource| !resource.is_empty()),
        })
    }

    /// The CNI configuration of the network: the author's bytes, with the definition's name (without namespace) filled in
    /// when they have no `name`. A definition without one stands for that on the node's disk.
    ///
    /// # Errors
    /// When the configuration is not a JSON object.
    pub fn configuration(&self) -> Result<Configuration<'_>, NadError> {
        if self.config.trim().is_empty() {
            return Ok(Configuration::OnDisk(&self.name));
        }
        let value = serde_json::from_str(&self.config)
            .map_err(|source| NadError::Json { network: self.to_string(), source })?;
        let Value::Object(object) = value else {
            return Err(self.wrong_type("spec.config", "an object"));
        };
        match field(&object, "name") {
            Some(Value::String(name)) if !name.is_empty() => {
                Ok(Configuration::Text(Cow::Borrowed(&self.config)))
            }
            None | Some(Value::String(_)) => Ok(Configuration::Text(Cow::Owned(self.with_name(object)))),
            Some(_) => Err(self.wrong_type("`name` in spec.config", "a string")),
        }
    }

    /// The devices that the configuration's author named, under any of the keys that plugins read them from.
    pub fn own_devices(&self) -> Vec<String> {
        let Ok(Value::Object(object)) = serde_json::from_str(&self.config) else { return Vec::new() };
        let plugins = field(&object, "plugins").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let objects = std::iter::once(&object).chain(plugins.iter().filter_map(Value::as_object));
        let mut devices: Vec<String> = objects
            .flat_map(|object| DEVICE_KEYS.iter().filter_map(move |key| field(object, key)?.as_str()))
            .filter(|device| !device.is_empty())
            .map(str::to_owned)
            .collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }

    /// Puts the name in front of the author's bytes; only an empty `name` that is already there costs a new rendering.
    fn with_name(&self, mut object: Map<String, Value>) -> String {
        if let Some(key) = spelling(&object, "name").map(str::to_owned) {
            object.insert(key, self.name.clone().into());
            return Value::Object(object).to_string();
        }
        let rest = self.config.trim_start().strip_prefix('{').unwrap_or_default();
        let comma = if object.is_empty() { "" } else { "," };
        // An object's name has no character that JSON would escape.
        format!(r#"{{"name":"{}"{comma}{rest}"#, self.name)
    }

    fn wrong_type(&self, part: &'static str, wanted: &'static str) -> NadError {
        NadError::Type { network: self.to_string(), part, wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nad(config: &str) -> NetworkAttachmentDefinition {
        NetworkAttachmentDefinition {
            namespace: "default".into(),
            name: "a".into(),
            config: config.into(),
            ..NetworkAttachmentDefinition::default()
        }
    }

    fn text(nad: &NetworkAttachmentDefinition) -> String {
        match nad.configuration().unwrap() {
            Configuration::Text(text) => text.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_config_with_a_name_stays_byte_for_byte() {
        for config in [r#" {"type":"macvlan",  "Name":"x", "big":1.00}"#, r#"{"name":"b","plugins":[]}"#] {
            assert_eq!(text(&nad(config)), config);
        }
    }

    #[test]
    fn a_missing_name_is_filled_in_before_the_authors_bytes() {
        let resolved = text(&nad("\n{ \"type\":\"macvlan\", \"big\": 1.00 }"));
        assert_eq!(resolved, "{\"name\":\"a\", \"type\":\"macvlan\", \"big\": 1.00 }");
        assert_eq!(text(&nad("{}")), r#"{"name":"a"}"#);
    }

    #[test]
    fn an_empty_name_is_replaced_where_it_stands() {
        for config in [r#"{"type":"macvlan","Name":"","z":1}"#, r#"{"type":"macvlan","Name":null,"z":1}"#] {
            assert_eq!(text(&nad(config)), r#"{"type":"macvlan","Name":"a","z":1}"#);
        }
    }

    #[test]
    fn what_cannot_be_attached_is_refused() {
        assert!(matches!(nad("{").configuration(), Err(NadError::Json { .. })));
        assert!(matches!(nad("[]").configuration(), Err(NadError::Type { .. })));
        assert!(matches!(nad(r#"{"name":5}"#).configuration(), Err(NadError::Type { .. })));
    }
    #[test]
    fn an_empty_spec_stands_for_the_configuration_on_disk_of_that_name() {
        assert_eq!(nad(" \n").configuration().unwrap(), Configuration::OnDisk("a"));
    }

    #[test]
    fn devices_that_an_author_named_are_seen_in_single_configurations_and_lists() {
        let config =
            r#"{"DeviceID":"0000:01:10.1","plugins":[{"pciBusID":"0000:01:10.0"},{"deviceID":""},5]}"#;
        assert_eq!(nad(config).own_devices(), ["0000:01:10.0", "0000:01:10.1"]);
        assert!(nad("{").own_devices().is_empty() && nad("").own_devices().is_empty());
    }
}
