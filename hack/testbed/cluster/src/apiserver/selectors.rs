//! Field and label selectors.

use serde_json::Value;

use super::{
    errors::{ApiError, Result},
    kinds::Kind,
};

/// What a list or watch is narrowed to.
#[derive(Debug, Default)]
pub(super) struct Selector {
    namespace: Option<String>,
    /// Path, wanted value, and whether it must be equal (or must not).
    fields: Vec<(String, String, bool)>,
    labels: Vec<LabelTerm>,
}

#[derive(Debug, PartialEq, Eq)]
enum LabelTerm {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Missing(String),
}

impl Selector {
    /// Reads the query's selectors; terms are ANDed.
    pub(super) fn parse(
        kind: &Kind,
        namespace: Option<&str>,
        fields: Option<&str>,
        labels: Option<&str>,
    ) -> Result<Self> {
        Ok(Self {
            namespace: namespace.map(Into::into),
            fields: terms(fields).map(|t| field_term(kind, t)).collect::<Result<_>>()?,
            labels: terms(labels).map(label_term).collect::<Result<_>>()?,
        })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let in_namespace = self.namespace.as_deref().is_none_or(|n| metadata["namespace"] == n);
        in_namespace
            && self.fields.iter().all(|(path, value, equal)| (field(object, path) == *value) == *equal)
            && self.labels.iter().all(|term| term.matches(&metadata["labels"]))
    }
}

impl LabelTerm {
    fn matches(&self, labels: &Value) -> bool {
        match self {
            Self::Equals(key, value) => labels[key] == value.as_str(),
            Self::Differs(key, value) => labels[key] != value.as_str(),
            Self::Exists(key) => !labels[key].is_null(),
            Self::Missing(key) => labels[key].is_null(),
        }
    }
}

fn terms(selector: Option<&str>) -> impl Iterator<Item = &str> {
    selector.unwrap_or_default().split(',').map(str::trim).filter(|t| !t.is_empty())
}

fn field_term(kind: &Kind, term: &str) -> Result<(String, String, bool)> {
    let (path, value, equal) = split_term(term)
        .ok_or_else(|| ApiError::bad_request(format!("invalid field selector: {term}; use path=value")))?;
    let known = path == "metadata.name"
        || (kind.namespaced && path == "metadata.namespace")
        || kind.selectable.contains(&path);
    if !known {
        return Err(ApiError::bad_request(format!("field label not supported: {path}")));
    }
    Ok((path.into(), value.into(), equal))
}

fn label_term(term: &str) -> Result<LabelTerm> {
    if term.contains(['(', ')', ' ']) {
        let text =
            format!("label selector {term:?}: this stand-in does equality and existence only, not sets");
        return Err(ApiError::bad_request(text));
    }
    Ok(match (split_term(term), term.strip_prefix('!')) {
        (Some((key, value, true)), _) => LabelTerm::Equals(key.into(), value.into()),
        (Some((key, value, false)), _) => LabelTerm::Differs(key.into(), value.into()),
        (None, Some(key)) => LabelTerm::Missing(key.into()),
        (None, None) => LabelTerm::Exists(term.into()),
    })
}

/// `a=b`, `a==b`, `a!=b`: key, value, equal.
fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    if let Some((key, value)) = term.split_once("!=") {
        return Some((key, value, false));
    }
    let (key, value) = term.split_once("==").or_else(|| term.split_once('='))?;
    Some((key, value, true))
}

/// A field as selectors see it: text, empty when absent.
fn field(object: &Value, path: &str) -> String {
    let value = path.split('.').fold(object, |value, key| &value[key]);
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": { "name": "a", "namespace": "x", "labels": { "app": "web" } },
            "spec": { "nodeName": "n1" },
        })
    }

    fn matches(fields: &str, labels: &str) -> bool {
        let kind = Kind::named("pod").unwrap();
        Selector::parse(kind, None, Some(fields), Some(labels)).unwrap().matches(&pod())
    }

    #[test]
    fn fields() {
        assert!(matches("spec.nodeName=n1,metadata.name=a", ""));
        assert!(!matches("spec.nodeName=n2", ""));
        assert!(matches("spec.nodeName!=", ""));
        assert!(!matches("spec.nodeName=", ""));
        assert!(matches("status.phase=", ""), "an absent field is empty");
    }

    #[test]
    fn labels() {
        for yes in ["app=web", "app==web", "app!=db", "app", "!tier", "tier!=x"] {
            assert!(matches("", yes), "{yes}");
        }
        for no in ["app=db", "!app", "tier", "app=web,tier=x"] {
            assert!(!matches("", no), "{no}");
        }
    }

    #[test]
    fn what_cannot_be_selected_is_refused() {
        let kind = Kind::named("pod").unwrap();
        assert!(Selector::parse(kind, None, Some("spec.containers=x"), None).is_err());
        assert!(Selector::parse(kind, None, Some("spec.nodeName"), None).is_err());
        assert!(Selector::parse(kind, None, None, Some("app in (a,b)")).is_err());
    }
}
