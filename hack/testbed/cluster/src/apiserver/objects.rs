//! Create, update and delete: the rules between a request's body and the store.

use std::sync::Arc;

use rand::Rng;
use serde_json::{Value, json};

use super::{
    errors::{ApiError, Result},
    kinds::Kind,
    names, pods,
    store::{Inner, Key},
    types,
};
use crate::time;

/// Which object a write is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) kind: &'static Kind,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
}

impl Place<'_> {
    pub(super) fn key(&self) -> Key {
        Key::new(self.kind, self.namespace, self.name)
    }
}

/// Which part a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything but the status, where there is a status subresource.
    Main,
    /// Status and metadata: pods and nodes take changes of labels and annotations here, but never of the spec.
    Status,
}

/// `metav1.DeleteOptions`, as far as it is heeded.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    pub(super) grace_period: Option<i64>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
}

/// What a delete did.
#[derive(Debug)]
pub(super) enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Value>),
    /// The object is marked; somebody else finishes (kubelet, or whoever owns a finalizer).
    Marked(Arc<Value>),
}

/// Adds a new object.
pub(super) fn create(
    inner: &mut Inner,
    kind: &'static Kind,
    namespace: Option<&str>,
    mut object: Value,
) -> Result<Arc<Value>> {
    check_type(kind, &mut object)?;
    check_namespace(inner, &object, namespace)?;
    if !object["metadata"]["resourceVersion"].as_str().unwrap_or_default().is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let name = name_of_new(kind, &object)?;
    let place = Place { kind, namespace, name: &name };
    if inner.get(&place.key()).is_some() {
        return Err(ApiError::already_exists(kind, &name));
    }
    let metadata = metadata_of(&mut object)?;
    for server_side in ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"] {
        metadata.remove(server_side);
    }
    metadata.insert("name".into(), json!(name));
    if let Some(namespace) = namespace {
        metadata.insert("namespace".into(), json!(namespace));
    }
    metadata.insert("uid".into(), json!(new_uid()));
    metadata.insert("creationTimestamp".into(), json!(time::now()));
    if kind.custom {
        metadata.insert("generation".into(), json!(1));
    }
    match kind.kind {
        "Pod" => {
            pods::set_defaults(&mut object);
            let problems = pods::problems(&object);
            if !problems.is_empty() {
                return Err(ApiError::invalid(kind, &name, &problems));
            }
        }
        "Namespace" => object["status"] = json!({ "phase": "Active" }),
        _ => {}
    }
    types::check(kind, &name, &object)?;
    Ok(inner.put(place.key(), object))
}

/// Changes an object: `change` gets its present state and gives the wanted one.
pub(super) fn update(
    inner: &mut Inner,
    place: Place<'_>,
    part: Part,
    change: impl FnOnce(Value) -> Result<Value>,
) -> Result<Arc<Value>> {
    let Place { kind, namespace, name } = place;
    let before = inner.get(&place.key()).cloned().ok_or_else(|| ApiError::not_found(kind, name))?;
    let mut after = change(Value::clone(&before))?;
    check_type(kind, &mut after)?;
    if after["metadata"]["name"].as_str().is_some_and(|n| n != name)
        || after["metadata"]["namespace"].as_str().is_some_and(|n| Some(n) != namespace)
    {
        return Err(ApiError::bad_request(
            "the name or namespace of the object does not match the one on the URL",
        ));
    }
    let given = |key: &str| after["metadata"][key].as_str().filter(|v| !v.is_empty()).map(String::from);
    let stored = |key: &str| before["metadata"][key].as_str().unwrap_or_default();
    if let Some(uid) = given("uid").filter(|uid| uid != stored("uid")) {
        return Err(ApiError::precondition(kind, name, "UID", &uid, stored("uid")));
    }
    if given("resourceVersion").is_some_and(|version| version != stored("resourceVersion")) {
        return Err(ApiError::stale(kind, name));
    }
    keep_what_is_not_theirs(kind, part, &before, &mut after)?;
    if kind.kind == "Pod"
        && let Some(problem) = pods::spec_change_problem(&before, &after)
    {
        return Err(ApiError::invalid(kind, name, &[problem]));
    }
    if *before == after {
        return Ok(before);
    }
    types::check(kind, name, &after)?;
    if kind.custom && before["spec"] != after["spec"] {
        let generation = before["metadata"]["generation"].as_i64().unwrap_or(1) + 1;
        after["metadata"]["generation"] = json!(generation);
    }
    let stored = inner.put(place.key(), after);
    let marked = !stored["metadata"]["deletionTimestamp"].is_null();
    if marked && !has_finalizers(&stored) && stored["metadata"]["deletionGracePeriodSeconds"] == 0 {
        remove(inner, place);
    }
    Ok(stored)
}

/// Puts back what this write may not change.
fn keep_what_is_not_theirs(kind: &Kind, part: Part, before: &Value, after: &mut Value) -> Result<()> {
    const SERVERS: [&str; 8] = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ];
    let metadata = metadata_of(after)?;
    for field in ["managedFields", "selfLink"] {
        metadata.remove(field);
    }
    let restore = |metadata: &mut serde_json::Map<String, Value>, field: &str| {
        match &before["metadata"][field] {
            Value::Null => metadata.remove(field),
            value => metadata.insert(field.into(), value.clone()),
        };
    };
    for field in SERVERS {
        restore(metadata, field);
    }
    if part == Part::Status {
        restore(metadata, "ownerReferences");
    }
    let keep = match part {
        Part::Main if kind.has_status => "status",
        Part::Main => return Ok(()),
        Part::Status => "spec",
    };
    if let Some(after) = after.as_object_mut() {
        match before.get(keep) {
            Some(value) => after.insert(keep.into(), value.clone()),
            None => after.remove(keep),
        };
    }
    Ok(())
}

/// Deletes an object, at once or gracefully.
pub(super) fn delete(inner: &mut Inner, place: Place<'_>, options: &Deletion) -> Result<Deleted> {
    let Place { kind, name, .. } = place;
    let before = inner.get(&place.key()).cloned().ok_or_else(|| ApiError::not_found(kind, name))?;
    for (what, key, asked) in
        [("UID", "uid", &options.uid), ("ResourceVersion", "resourceVersion", &options.resource_version)]
    {
        let stored = before["metadata"][key].as_str().unwrap_or_default();
        if let Some(asked) = asked.as_deref().filter(|asked| *asked != stored) {
            return Err(ApiError::precondition(kind, name, what, asked, stored));
        }
    }
    if kind.kind == "Namespace" {
        return Ok(delete_namespace(inner, place, &before));
    }
    let grace = if kind.kind == "Pod" { pods::grace_period(&before, options.grace_period) } else { 0 };
    if grace == 0 && !has_finalizers(&before) {
        remove(inner, place);
        return Ok(Deleted::Gone(before));
    }
    // A second delete can only shorten what the first one allowed.
    if before["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|running| running <= grace) {
        return Ok(Deleted::Marked(before));
    }
    Ok(Deleted::Marked(mark(inner, place, &before, grace)))
}

/// Marks an object as being deleted, `grace` seconds from now.
fn mark(inner: &mut Inner, place: Place<'_>, before: &Value, grace: i64) -> Arc<Value> {
    let mut after = before.clone();
    after["metadata"]["deletionTimestamp"] = json!(time::after(grace));
    after["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    inner.put(place.key(), after)
}

/// A namespace goes after everything in it; until then it takes nothing new.
fn delete_namespace(inner: &mut Inner, place: Place<'_>, before: &Value) -> Deleted {
    let mut marked = before.clone();
    marked["status"]["phase"] = json!("Terminating");
    let marked = mark(inner, place, &marked, 0);
    for key in inner.in_namespace(place.name) {
        let Some(kind) = key.kind() else { continue };
        let place = Place { kind, namespace: Some(key.namespace()), name: key.name() };
        // Cannot fail: it exists, and nothing is insisted on.
        let _ = delete(inner, place, &Deletion::default());
    }
    finish_namespace(inner, place.name);
    if inner.get(&place.key()).is_some() { Deleted::Marked(marked) } else { Deleted::Gone(marked) }
}

/// Removes an object, and its namespace when that was only waiting for it.
fn remove(inner: &mut Inner, place: Place<'_>) {
    inner.remove(&place.key());
    if let Some(namespace) = place.namespace {
        finish_namespace(inner, namespace);
    }
}

fn finish_namespace(inner: &mut Inner, name: &str) {
    let Some(kind) = Kind::named("Namespace") else { return };
    let key = Key::new(kind, None, name);
    let terminating = inner.get(&key).is_some_and(|n| n["status"]["phase"] == "Terminating");
    if terminating && inner.in_namespace(name).is_empty() {
        inner.remove(&key);
    }
}

/// The `binding` subresource of pods: the scheduler's decision.
pub(super) fn bind(inner: &mut Inner, place: Place<'_>, binding: &Value) -> Result<()> {
    let Place { kind, name, .. } = place;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::invalid(kind, name, &["target.name: Required value".into()]));
    }
    let before = inner.get(&place.key()).ok_or_else(|| ApiError::not_found(kind, name))?;
    if !before["metadata"]["deletionTimestamp"].is_null() {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(ApiError::conflict(kind, name, &why));
    }
    if let Some(other) = before["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        let why = format!("pod {name} is already assigned to node \"{other}\"");
        return Err(ApiError::conflict(kind, name, &why));
    }
    let mut after = Value::clone(before);
    after["spec"]["nodeName"] = json!(node);
    let mut conditions = after["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|c| c["type"] != "PodScheduled");
    conditions.push(json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": time::now() }));
    after["status"]["conditions"] = json!(conditions);
    inner.put(place.key(), after);
    Ok(())
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

/// Fills in kind and apiVersion, or refuses others.
fn check_type(kind: &Kind, object: &mut Value) -> Result<()> {
    let wanted = kind.api_version();
    let Some(map) = object.as_object_mut() else {
        return Err(ApiError::bad_request("the body is no JSON object"));
    };
    for (key, wanted) in [("apiVersion", wanted.as_str()), ("kind", kind.kind)] {
        let given = map.entry(key).or_insert_with(|| json!(wanted));
        if given != wanted {
            let text = format!(
                "the API version in the data ({given}) does not match the expected API version ({wanted})"
            );
            return Err(ApiError::bad_request(text));
        }
    }
    Ok(())
}

fn check_namespace(inner: &Inner, object: &Value, namespace: Option<&str>) -> Result<()> {
    let Some(namespace) = namespace else { return Ok(()) };
    if object["metadata"]["namespace"].as_str().is_some_and(|n| n != namespace) {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(text));
    }
    let Some(kind) = Kind::named("Namespace") else { return Ok(()) };
    let Some(found) = inner.get(&Key::new(kind, None, namespace)) else {
        return Err(ApiError::not_found(kind, namespace));
    };
    if found["status"]["phase"] == "Terminating" {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        return Err(ApiError::forbidden(kind, namespace, &why));
    }
    Ok(())
}

fn name_of_new(kind: &Kind, object: &Value) -> Result<String> {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let mut name = text("name").to_string();
    if name.is_empty() && !text("generateName").is_empty() {
        name = format!("{}{}", text("generateName"), random_suffix());
    }
    let problem = if name.is_empty() {
        "metadata.name: Required value: name or generateName is required".into()
    } else if kind.kind == "Namespace" && !names::is_label(&name) {
        names::bad_label("metadata.name", &name)
    } else if !names::is_subdomain(&name) {
        names::bad_subdomain("metadata.name", &name)
    } else {
        return Ok(name);
    };
    Err(ApiError::invalid(kind, &name, &[problem]))
}

fn metadata_of(object: &mut Value) -> Result<&mut serde_json::Map<String, Value>> {
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().ok_or_else(|| ApiError::bad_request("metadata is no JSON object"))
}

/// Five letters and digits that cannot make words.
fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// A random (version 4) UUID.
fn new_uid() -> String {
    let random: u128 = rand::rng().random();
    let uuid = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{uuid:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
