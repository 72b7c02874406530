//! Takes secrets out of texts: what is reported of a node must not open anything.

use serde_json::Value;

/// What stands where a secret was.
pub const BLANK: &str = "(removed)";
/// Parts of names that are given to secrets.
const SECRET: [&str; 8] =
    ["token", "password", "passwd", "secret", "certificate", "credential", "privatekey", "key-data"];

/// Whether a key's value may be secret.
pub fn is_secret(key: &str) -> bool {
    let key = key.trim().trim_matches(['"', '\'']).to_ascii_lowercase().replace('_', "-");
    SECRET.iter().any(|word| key.contains(word)) || key == "key" || key == "auth" || key.ends_with("key")
}

/// A text of a file without secrets, be it JSON, YAML, TOML or anything of lines.
pub fn text(text: &str) -> String {
    if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str::<Value>(text) {
        return format!("{:#}\n", document(value));
    }
    let mut lines = Vec::new();
    let mut block: Option<usize> = None;
    let mut is_pem = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if is_pem || line.contains("-----BEGIN ") {
            if !is_pem {
                lines.push(BLANK.to_owned());
            }
            is_pem = !line.contains("-----END ");
            continue;
        }
        // What is indented further belongs to the key before.
        if let Some(outer) = block {
            if line.trim().is_empty() || indent > outer {
                continue;
            }
            block = None;
        }
        lines.push(match secret_of(line) {
            Some(kept) => {
                block = Some(indent);
                format!("{kept} {BLANK}")
            }
            None => plain(line),
        });
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The part of a line that stays, where the rest is a secret: `key:` or `key =`, or each line of JSON that cannot be read whole.
fn secret_of(line: &str) -> Option<&str> {
    let places = line.char_indices().filter(|(_, c)| [':', '='].contains(c)).map(|(place, _)| place);
    for place in places {
        let before = line.get(..place)?;
        let name = before
            .rsplit(['{', ',', '[', ' ', '\t', '&', '?'])
            .find(|word| !word.is_empty())
            .unwrap_or(before);
        if is_secret(name) {
            return line.get(..=place);
        }
    }
    None
}

fn document(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| {
                    let value =
                        if is_secret(&key) && !is_harmless(&value) { BLANK.into() } else { document(value) };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(document).collect()),
        Value::String(line) if line.contains(['{', '\n', ':', '=']) => {
            // A configuration within another one.
            match serde_json::from_str::<Value>(&line) {
                Ok(inner @ (Value::Object(_) | Value::Array(_))) => document(inner).to_string().into(),
                _ => text(&line).trim_end().to_owned().into(),
            }
        }
        Value::String(line) => plain(&line).into(),
        other => other,
    }
}

/// A number or a flag opens nothing, and tells much.
fn is_harmless(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(_))
}

/// A line without what is secret by its own form: a web token, and a password in an address.
fn plain(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let bare = word.trim_matches(['"', '\'', ',', ';']);
        if bare.starts_with("eyJ") && bare.matches('.').count() == 2 {
            return BLANK.to_owned();
        }
        match word.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
            Some((scheme, (_, host))) => format!("{scheme}://{BLANK}@{host}"),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        for (before, after) in [
            (r#"{"name":"a","apiKey":"S3"}"#, "{\n  \"name\": \"a\",\n  \"apiKey\": \"(removed)\"\n}\n"),
            ("name: a\ntoken: S3\nport: 1\n", "name: a\ntoken: (removed)\nport: 1\n"),
            (
                "users:\n- user:\n    client-key-data: |\n      S3\n      S3\n    name: x\n",
                "users:\n- user:\n    client-key-data: (removed)\n    name: x\n",
            ),
            ("x = 1\n  password = \"S3\"\n", "x = 1\n  password = (removed)\n"),
            (
                "a\n-----BEGIN RSA PRIVATE KEY-----\nS3\n-----END RSA PRIVATE KEY-----\nb\n",
                "a\n(removed)\nb\n",
            ),
            ("see https://me:S3@host/x and eyJhS3.eyJb.c\n", "see https://(removed)@host/x and (removed)\n"),
            ("{\"a\": 1, \"token\": \"S3\"\n", "{\"a\": 1, \"token\": (removed)\n"),
            ("GET /x?token=S3\n", "GET /x?token= (removed)\n"),
        ] {
            assert_eq!(text(before), after);
        }
    }

    #[test]
    fn configurations_within_configurations_are_looked_into() {
        let inner = r#"{"ipam":{"type":"infoblox","password":"S3","subnet":"10.0.0.0/8"}}"#;
        let outer =
            serde_json::json!({"spec": {"config": inner, "note": "token: S3"}, "tokens": true}).to_string();
        let after = text(&outer);
        assert!(
            !after.contains("S3") && after.contains("10.0.0.0/8") && after.contains("\"tokens\": true"),
            "{after}"
        );
    }
}
