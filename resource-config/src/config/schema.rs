//! The JSON schema of a configuration, made of the table that the reader uses.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Shape};

/// A JSON schema (draft 2020-12) of configurations.
///
/// It refuses nothing that can be used. Some of what it lets pass is refused when read, as no schema says it: names used twice,
/// ranges that run backwards, selectors that exclude each other. In YAML, values without quotes are read as texts where the
/// schema has texts.
#[must_use]
pub fn schema() -> Value {
    let about = "Which devices of a node belong to which resource. Keys may be written in any case; null means that a key is left out.";
    let mut schema = Map::from_iter([
        ("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema")),
        ("title".to_owned(), json!("Resource pools of SR-IOV devices")),
        ("description".to_owned(), json!(about)),
    ]);
    schema.extend(object(keys::TOP, "#", &["resourceList"]));
    let definitions = json!({
        "resource": object(keys::RESOURCE, "#/$defs/resource", &["resourceName"]),
        "selectors": object(keys::SELECTORS, "#/$defs/selectors", &[]),
        "additionalInfo": additional_info(),
        "cdi": or_null(object(keys::CDI, "#/$defs/cdi", &[])),
    });
    schema.insert("$defs".to_owned(), definitions);
    Value::Object(schema)
}

/// An object with these keys, itself at the JSON pointer `at`. Unknown keys are let through, since they are only warned about.
fn object(keys: &[Key], at: &str, required: &[&str]) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut spellings = Map::new();
    for key in keys {
        let mut schema = shape(&key.shape, !required.contains(&key.name));
        schema.insert("description".to_owned(), json!(key.about));
        properties.insert(key.name.to_owned(), Value::Object(schema));
        spellings.insert(any_case(key.name), json!({"$ref": format!("{at}/properties/{}", key.name)}));
    }
    let mut object = Map::from_iter([
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), Value::Object(properties)),
        ("patternProperties".to_owned(), Value::Object(spellings)),
    ]);
    if !required.is_empty() {
        // "required" knows only one spelling. This says that not all keys are others.
        let has = |name: &&str| json!({"not": {"propertyNames": {"not": {"pattern": any_case(name)}}}});
        object.insert("allOf".to_owned(), required.iter().map(has).collect());
    }
    object
}

fn shape(shape: &Shape, or_null: bool) -> Map<String, Value> {
    let kind = |name: &str| if or_null { json!([name, "null"]) } else { json!(name) };
    let text = |pattern: &str| json!({"type": "string", "pattern": whole(pattern)});
    let schema = match shape {
        Shape::Boolean => json!({"type": kind("boolean")}),
        Shape::Number => json!({"type": kind("integer"), "minimum": 0, "maximum": u32::MAX}),
        Shape::Text { pattern } => json!({"type": kind("string"), "pattern": whole(pattern)}),
        Shape::Texts { pattern } => json!({"type": kind("array"), "items": text(pattern)}),
        Shape::OneOf(values) => {
            let values = values().into_iter().map(Value::from);
            json!({"enum": values.chain(or_null.then_some(Value::Null)).collect::<Vec<_>>()})
        }
        Shape::Is(name) => definition(name),
        Shape::List(name) => json!({"type": kind("array"), "minItems": 1, "items": definition(name)}),
        Shape::OneOrMore(name) => json!({"anyOf": [
            definition(name),
            {"type": "array", "minItems": 1, "items": definition(name)},
            {"type": "null"},
        ]}),
    };
    if let Value::Object(schema) = schema { schema } else { Map::new() }
}

fn definition(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn additional_info() -> Value {
    let texts = json!({"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}});
    let devices = whole(&format!("\\*|{}", keys::PCI_ADDRESS));
    json!({"type": ["object", "null"], "propertyNames": {"pattern": devices}, "additionalProperties": texts})
}

/// An object that may be left out by saying null.
fn or_null(mut object: Map<String, Value>) -> Map<String, Value> {
    object.insert("type".to_owned(), json!(["object", "null"]));
    object
}

fn whole(pattern: &str) -> String {
    format!("^({pattern})$")
}

/// A pattern for a key in any case.
fn any_case(key: &str) -> String {
    let letter = |c: char| format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase());
    format!("^{}$", key.chars().map(letter).collect::<String>())
}
