//! Requests to the API server, by kind and name.

use anyhow::{Context, Result};
use axum::http::{Method, Request, header};
use kube::Client;
use serde_json::{Value, json};

use crate::apiserver::Kind;

/// One object.
#[derive(Debug, Clone)]
pub(super) struct Which {
    pub(super) kind: &'static Kind,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Which {
    pub(super) fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// Kind and name, as kubectl's messages have them.
    pub(super) fn text(&self) -> String {
        format!("{}/{}", super::display::kind_name(self.kind), self.name)
    }
}

/// A client of the API server.
pub(super) struct Rest {
    client: Client,
}

impl Rest {
    pub(super) fn new(server: &str) -> Result<Self> {
        Ok(Self { client: crate::kubelet::client(server)? })
    }

    pub(super) async fn get(&self, which: &Which) -> Result<Value> {
        self.call(Method::GET, &path(which), None).await
    }

    /// None when there is no such object.
    pub(super) async fn find(&self, which: &Which) -> Result<Option<Value>> {
        match self.request(Method::GET, &path(which), None).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(explain(error)),
        }
    }

    pub(super) async fn list(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Vec<Value>> {
        let mut path = collection(kind, namespace);
        for (i, (key, value)) in
            [("labelSelector", labels), ("fieldSelector", fields)].into_iter().enumerate()
        {
            let value = value.unwrap_or_default().replace('=', "%3D").replace('!', "%21");
            path = format!("{path}{}{key}={value}", if i == 0 { '?' } else { '&' });
        }
        let mut list = self.call(Method::GET, &path, None).await?;
        let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(items.into_iter().map(|item| with_type(kind, item)).collect())
    }

    pub(super) async fn create(&self, kind: &Kind, namespace: &str, object: &Value) -> Result<Value> {
        self.call(Method::POST, &collection(kind, Some(namespace)), Some(object)).await
    }

    pub(super) async fn merge(&self, which: &Which, object: &Value) -> Result<Value> {
        self.call(Method::PATCH, &path(which), Some(object)).await
    }

    /// Returns the UID of what is deleted.
    pub(super) async fn delete(&self, which: &Which, grace: Option<u32>) -> Result<Value> {
        let options = grace.map(|seconds| json!({ "gracePeriodSeconds": seconds }));
        let answer = self.call(Method::DELETE, &path(which), options.as_ref()).await?;
        // The object, or a Status about it.
        let uid = if answer["kind"] == "Status" { &answer["details"] } else { &answer["metadata"] };
        Ok(uid["uid"].clone())
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.request(method, path, body).await.map_err(explain)
    }

    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> kube::Result<Value> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let bytes = body.map(serde_json::to_vec).transpose().map_err(kube::Error::SerdeError)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT, "application/json")
            .body(bytes.unwrap_or_default())
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

/// The server's own text when it answered, else what stood in the way.
fn explain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("from server ({}): {}", status.reason, status.message),
        other => anyhow::Error::new(other)
            .context("the API server cannot be reached (is `testbed apiserver` running?)"),
    }
}

fn collection(kind: &Kind, namespace: Option<&str>) -> String {
    let group =
        if kind.group.is_empty() { "/api/v1".into() } else { format!("/apis/{}", kind.api_version()) };
    match namespace.filter(|_| kind.namespaced) {
        Some(namespace) => format!("{group}/namespaces/{namespace}/{}", kind.plural),
        None => format!("{group}/{}", kind.plural),
    }
}

fn path(which: &Which) -> String {
    format!("{}/{}", collection(which.kind, Some(&which.namespace)), which.name)
}

/// Lists leave kind and apiVersion out of their items; people expect them.
fn with_type(kind: &Kind, item: Value) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("apiVersion".into(), json!(kind.api_version()));
    object.insert("kind".into(), json!(kind.kind));
    if let Value::Object(fields) = item {
        object.extend(fields);
    }
    Value::Object(object)
}

/// The type of an object that somebody wrote.
pub(super) fn kind_of(object: &Value) -> Result<&'static Kind> {
    let (version, kind) =
        (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    let found = Kind::named(kind).filter(|k| k.api_version() == version);
    found.with_context(|| {
        format!("the stand-in API server does not serve kind {kind:?} of apiVersion {version:?}")
    })
}
