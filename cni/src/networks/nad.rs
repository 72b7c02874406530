//! NetworkAttachmentDefinitions: what a network's name stands for.

use std::{borrow::Cow, fmt};

use serde_json::{Map, Value};
use thiserror::Error;

use super::fields::{field, spelling};

/// Annotation of a definition that names the resource whose devices the network takes.
pub const RESOURCE_ANNOTATION: &str = "k8s.v1.cni.cncf.io/resourceName";

/// The parts of a NetworkAttachmentDefinition that a plan needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkAttachmentDefinition {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// `spec.config` as its author wrote it; empty when there is none.
    pub config: String,
    /// The resource in its annotation [`RESOURCE_ANNOTATION`].
    pub resource_name: Option<String>,
}

impl fmt::Display for NetworkAttachmentDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A definition has no configuration to attach with.
#[derive(Debug, Error)]
pub enum NadError {
    /// The configuration is to come from the node's disk.
    #[error(
        "NetworkAttachmentDefinition {0} has no spec.config: a configuration from the node's disk is not supported \
         yet, put it into spec.config"
    )]
    Empty(String),
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
    /// The CNI configuration of the network: the author's bytes, with the definition's name (without namespace) filled in
    /// when they have no `name`.
    ///
    /// # Errors
    /// When there is no configuration or it is not a JSON object.
    pub fn resolved_config(&self) -> Result<Cow<'_, str>, NadError> {
        if self.config.trim().is_empty() {
            return Err(NadError::Empty(self.to_string()));
        }
        let value = serde_json::from_str(&self.config)
            .map_err(|source| NadError::Json { network: self.to_string(), source })?;
        let Value::Object(object) = value else {
            return Err(self.wrong_type("spec.config", "an object"));
        };
        match field(&object, "name") {
            Some(Value::String(name)) if !name.is_empty() => Ok(Cow::Borrowed(&self.config)),
            None | Some(Value::String(_)) => Ok(Cow::Owned(self.with_name(object))),
            Some(_) => Err(self.wrong_type("`name` in spec.config", "a string")),
        }
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

    #[test]
    fn a_config_with_a_name_stays_byte_for_byte() {
        for config in [r#" {"type":"macvlan",  "Name":"x", "big":1.00}"#, r#"{"name":"b","plugins":[]}"#] {
            assert_eq!(nad(config).resolved_config().unwrap(), config);
        }
    }

    #[test]
    fn a_missing_name_is_filled_in_before_the_authors_bytes() {
        let resolved =
            nad("\n{ \"type\":\"macvlan\", \"big\": 1.00 }").resolved_config().unwrap().into_owned();
        assert_eq!(resolved, "{\"name\":\"a\", \"type\":\"macvlan\", \"big\": 1.00 }");
        assert_eq!(nad("{}").resolved_config().unwrap(), r#"{"name":"a"}"#);
    }

    #[test]
    fn an_empty_name_is_replaced_where_it_stands() {
        for config in [r#"{"type":"macvlan","Name":"","z":1}"#, r#"{"type":"macvlan","Name":null,"z":1}"#] {
            assert_eq!(nad(config).resolved_config().unwrap(), r#"{"type":"macvlan","Name":"a","z":1}"#);
        }
    }

    #[test]
    fn what_cannot_be_attached_is_refused() {
        assert!(
            matches!(nad(" ").resolved_config(), Err(NadError::Empty(network)) if network == "default/a")
        );
        assert!(matches!(nad("{").resolved_config(), Err(NadError::Json { .. })));
        assert!(matches!(nad("[]").resolved_config(), Err(NadError::Type { .. })));
        assert!(matches!(nad(r#"{"name":5}"#).resolved_config(), Err(NadError::Type { .. })));
    }
}
