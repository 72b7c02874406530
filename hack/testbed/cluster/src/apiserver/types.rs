//! Does an object have the shape of its kind? The real API server decodes into its types; so does this.

use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    errors::{ApiError, Result},
    kinds::Kind,
};

pub(super) fn check(kind: &Kind, name: &str, object: &Value) -> Result<()> {
    match kind.kind {
        "Pod" => decodes::<Pod>(kind, object),
        "Node" => decodes::<Node>(kind, object),
        "Namespace" => decodes::<Namespace>(kind, object),
        "Event" => decodes::<Event>(kind, object),
        // The definition's schema: spec.config is text.
        _ => match &object["spec"]["config"] {
            Value::Null | Value::String(_) => Ok(()),
            other => {
                let problem = format!(
                    "spec.config: Invalid value: \"{other}\": spec.config in body must be of type string"
                );
                Err(ApiError::invalid(kind, name, &[problem]))
            }
        },
    }
}

fn decodes<T: DeserializeOwned>(kind: &Kind, object: &Value) -> Result<()> {
    T::deserialize(object).map(drop).map_err(|error| {
        let (kind, version) = (kind.kind, kind.version);
        ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"
        ))
    })
}
