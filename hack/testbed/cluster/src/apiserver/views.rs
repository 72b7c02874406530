//! Objects as responses show them: whole, or their metadata only.

use serde_json::{Value, json};

use super::kinds::Kind;

/// What the client's Accept header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Full,
    /// `PartialObjectMetadata`: kind, apiVersion and metadata.
    Metadata,
}

impl View {
    /// The first of the accepted forms that is known here.
    pub(super) fn of_accept(accept: &str) -> Self {
        for form in accept.split(',') {
            let mut parts = form.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "*/*" | "application/*") {
                continue;
            }
            match parts.find_map(|p| p.strip_prefix("as=")) {
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Self::Metadata,
                // Tables and whatever else: the client gives another form to fall back to.
                Some(_) => {}
                None => return Self::Full,
            }
        }
        Self::Full
    }

    pub(super) fn object(self, object: &Value) -> Value {
        match self {
            Self::Full => object.clone(),
            Self::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            }),
        }
    }

    pub(super) fn list(
        self,
        kind: &Kind,
        items: impl IntoIterator<Item = impl AsRef<Value>>,
        version: u64,
    ) -> Value {
        let (list_kind, api_version) = match self {
            Self::Full => (format!("{}List", kind.kind), kind.api_version()),
            Self::Metadata => ("PartialObjectMetadataList".into(), "meta.k8s.io/v1".into()),
        };
        let items: Vec<Value> = items.into_iter().map(|item| self.item(kind, item.as_ref())).collect();
        json!({
            "kind": list_kind,
            "apiVersion": api_version,
            "metadata": { "resourceVersion": version.to_string() },
            "items": items,
        })
    }

    /// Items of a list of a core kind do not repeat kind and apiVersion.
    fn item(self, kind: &Kind, object: &Value) -> Value {
        let mut item = self.object(object);
        if self == Self::Full
            && !kind.custom
            && let Some(map) = item.as_object_mut()
        {
            map.shift_remove("kind");
            map.shift_remove("apiVersion");
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept() {
        let partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        assert_eq!(View::of_accept(partial), View::Metadata);
        let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(View::of_accept(list), View::Metadata);
        assert_eq!(
            View::of_accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
            View::Full
        );
        assert_eq!(View::of_accept(""), View::Full);
        assert_eq!(View::of_accept("application/yaml, */*"), View::Full);
    }
}
