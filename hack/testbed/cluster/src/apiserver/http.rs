//! Requests: from method, path, query and body to the store, and back.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Shared, discovery,
    errors::{ApiError, Result},
    kinds::{Target, parse_path},
    objects::{self, Deleted, Deletion, Part, Place},
    selectors::Selector,
    views::View,
    watching::{self, Wanted},
};

/// The real limit of a request is 3 MiB.
const LARGEST_BODY: usize = 3 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Parameters {
    field_selector: Option<String>,
    label_selector: Option<String>,
    resource_version: Option<String>,
    watch: Option<String>,
    allow_watch_bookmarks: Option<String>,
    send_initial_events: Option<String>,
    timeout_seconds: Option<u64>,
    grace_period_seconds: Option<i64>,
    limit: Option<usize>,
    r#continue: Option<String>,
    dry_run: Option<String>,
}

struct Call<'a> {
    shared: &'a Arc<Shared>,
    target: Target<'a>,
    parameters: Parameters,
    view: View,
    content_type: &'a str,
    body: Bytes,
}

/// Answers any request.
pub(super) async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    let response = match answer(&shared, &parts, body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    tracing::debug!(target: "apiserver", "{line}: {}", response.status());
    response
}

async fn answer(shared: &Arc<Shared>, parts: &axum::http::request::Parts, body: Body) -> Result<Response> {
    let path = parts.uri.path();
    if let Some(found) = discovery::answer(path) {
        return Ok(found);
    }
    let text =
        |name: header::HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Query(parameters) =
        Query::try_from_uri(&parts.uri).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let body = to_bytes(body, LARGEST_BODY).await.map_err(|e| ApiError::bad_request(e.to_string()))?;
    let call = Call {
        shared,
        target: parse_path(path).ok_or_else(ApiError::no_such_path)?,
        parameters,
        view: View::of_accept(text(header::ACCEPT)),
        content_type: media_type(&parts.headers),
        body,
    };
    if call.parameters.dry_run.is_some() {
        return Err(ApiError::bad_request("dryRun: this stand-in has no dry run"));
    }
    call.dispatch(&parts.method)
}

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

impl Call<'_> {
    fn dispatch(&self, method: &Method) -> Result<Response> {
        let Target { kind, name, subresource, .. } = self.target;
        match (method.as_str(), name, subresource) {
            ("GET", None, None) => self.list_or_watch(),
            ("POST", None, None) => self.create(),
            ("POST", Some(name), Some("binding")) if kind.kind == "Pod" => self.bind(name),
            ("GET", Some(name), None) => self.get(name),
            ("PUT" | "PATCH", Some(name), None) => self.write(method, name, Part::Main),
            ("GET", Some(name), Some("status")) if kind.has_status => self.get(name),
            ("PUT" | "PATCH", Some(name), Some("status")) if kind.has_status => {
                self.write(method, name, Part::Status)
            }
            ("DELETE", Some(name), None) => self.delete(name),
            (_, _, None) => Err(ApiError::method_not_allowed()),
            (_, _, Some("status")) if kind.has_status => Err(ApiError::method_not_allowed()),
            _ => Err(ApiError::no_such_path()),
        }
    }

    fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place { kind: self.target.kind, namespace: self.target.namespace, name }
    }

    fn json_body(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ApiError::bad_request(format!("the body is no JSON: {error}")))
    }

    fn show(&self, code: StatusCode, object: &Value) -> Response {
        (code, Json(self.view.object(object))).into_response()
    }

    fn get(&self, name: &str) -> Result<Response> {
        let place = self.place(name);
        let found =
            self.shared.store.get(&place.key()).ok_or_else(|| ApiError::not_found(place.kind, name))?;
        Ok(self.show(StatusCode::OK, &found))
    }

    fn list_or_watch(&self) -> Result<Response> {
        let p = &self.parameters;
        let kind = self.target.kind;
        let selector = Selector::parse(
            kind,
            self.target.namespace,
            p.field_selector.as_deref(),
            p.label_selector.as_deref(),
        )?;
        if !is_set(p.watch.as_deref()) {
            return self.page(&selector);
        }
        let from =
            match p.resource_version.as_deref() {
                None | Some("") => None,
                Some(text) => Some(text.parse().map_err(|_| {
                    ApiError::bad_request(format!("resourceVersion: Invalid value: {text:?}"))
                })?),
            };
        let wanted = Wanted {
            kind,
            selector,
            view: self.view,
            from,
            bookmarks: is_set(p.allow_watch_bookmarks.as_deref()),
            initial_events: is_set(p.send_initial_events.as_deref()),
            timeout: Duration::from_secs(p.timeout_seconds.unwrap_or(1800)),
        };
        let shared = self.shared;
        let body = watching::body(
            shared.store.clone(),
            shared.closing.subscribe(),
            wanted,
            shared.options.bookmark_every,
        );
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    }

    /// A list, or a page of one. A list goes on only while nothing has changed: there is no older state to go on from.
    fn page(&self, selector: &Selector) -> Result<Response> {
        let p = &self.parameters;
        let kind = self.target.kind;
        let (objects, version) = self.shared.store.list(kind, selector);
        let start = match p.r#continue.as_deref().filter(|token| !token.is_empty()) {
            None => 0,
            Some(token) => {
                let wrong = || ApiError::bad_request(format!("continue key is not valid: {token:?}"));
                let (of, start) = token.split_once('-').ok_or_else(wrong)?;
                let of: u64 = of.parse().map_err(|_| wrong())?;
                if of != version {
                    return Err(ApiError::expired(of, version));
                }
                start.parse().map_err(|_| wrong())?
            }
        };
        let end = p.limit.filter(|limit| *limit > 0).map_or(objects.len(), |limit| start + limit);
        let rest = objects.len().saturating_sub(end);
        let page = objects.into_iter().skip(start).take(end.saturating_sub(start));
        let mut list = self.view.list(kind, page, version);
        if rest > 0 {
            list["metadata"]["continue"] = json!(format!("{version}-{end}"));
            list["metadata"]["remainingItemCount"] = json!(rest);
        }
        Ok(Json(list).into_response())
    }

    fn create(&self) -> Result<Response> {
        let Target { kind, namespace, .. } = self.target;
        if kind.namespaced && namespace.is_none() {
            return Err(ApiError::method_not_allowed());
        }
        let object = self.json_body()?;
        let stored = self.shared.store.write(|inner| objects::create(inner, kind, namespace, object))?;
        Ok(self.show(StatusCode::CREATED, &stored))
    }

    fn bind(&self, name: &str) -> Result<Response> {
        let binding = self.json_body()?;
        self.shared.store.write(|inner| objects::bind(inner, self.place(name), &binding))?;
        let success =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        Ok((StatusCode::CREATED, Json(success)).into_response())
    }

    fn write(&self, method: &Method, name: &str, part: Part) -> Result<Response> {
        let place = self.place(name);
        let stored = if method == Method::PUT {
            let object = self.json_body()?;
            self.shared.store.write(|inner| objects::update(inner, place, part, |_| Ok(object)))?
        } else {
            let patch = Patch::parse(self.content_type, self.json_body()?)?;
            self.shared
                .store
                .write(|inner| objects::update(inner, place, part, |before| patch.apply(before)))?
        };
        Ok(self.show(StatusCode::OK, &stored))
    }

    fn delete(&self, name: &str) -> Result<Response> {
        let options = self.deletion()?;
        let place = self.place(name);
        let kind = place.kind;
        let (code, object) = match self.shared.store.write(|inner| objects::delete(inner, place, &options))? {
            Deleted::Marked(object) => (StatusCode::OK, object),
            // Pods are given back as they were; for the rest there is a Status.
            Deleted::Gone(object) if kind.kind == "Pod" => (StatusCode::OK, object),
            Deleted::Gone(object) => {
                let details = json!({
                    "name": name, "group": kind.group, "kind": kind.plural, "uid": object["metadata"]["uid"],
                });
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
                });
                return Ok(Json(status).into_response());
            }
        };
        Ok(self.show(code, &object))
    }

    fn deletion(&self) -> Result<Deletion> {
        let body = if self.body.is_empty() { Value::Null } else { self.json_body()? };
        if body["dryRun"].as_array().is_some_and(|d| !d.is_empty()) {
            return Err(ApiError::bad_request("dryRun: this stand-in has no dry run"));
        }
        let precondition = |key: &str| body["preconditions"][key].as_str().map(Into::into);
        Ok(Deletion {
            grace_period: self.parameters.grace_period_seconds.or(body["gracePeriodSeconds"].as_i64()),
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
        })
    }
}

fn is_set(parameter: Option<&str>) -> bool {
    matches!(parameter, Some("true" | "1"))
}

/// A patch of a kind that is served.
enum Patch {
    Merge(Value),
    Json(json_patch::Patch),
}

impl Patch {
    fn parse(content_type: &str, body: Value) -> Result<Self> {
        match content_type {
            "application/merge-patch+json" => Ok(Self::Merge(body)),
            "application/json-patch+json" => serde_json::from_value(body)
                .map(Self::Json)
                .map_err(|error| ApiError::bad_request(format!("the JSON patch cannot be read: {error}"))),
            other => Err(ApiError::unsupported_patch(other)),
        }
    }

    fn apply(&self, mut object: Value) -> Result<Value> {
        match self {
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Json(patch) => json_patch::patch(&mut object, patch).map_err(|error| {
                ApiError::bad_request(format!("the server rejected our request: {error}"))
            })?,
        }
        Ok(object)
    }
}
