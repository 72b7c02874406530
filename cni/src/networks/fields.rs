//! Reading JSON objects as upstream tools do: keys without regard to case, `null` as absent.

use serde_json::{Map, Value};

/// The value of `key`, the exact spelling first.
pub(super) fn field<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object
        .get(key)
        .or_else(|| object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value))
        .filter(|value| !value.is_null())
}

/// The key of `object` that is spelled like `key` but for case.
pub(super) fn spelling<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.keys().find(|name| name.eq_ignore_ascii_case(key)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn case_does_not_matter_and_null_is_absent() {
        let value = json!({"Name": "a", "name": "b", "IPS": null, "Mac": 1});
        let object = value.as_object().unwrap();
        assert_eq!(field(object, "name"), Some(&json!("b")));
        assert_eq!(field(object, "ips"), None);
        assert_eq!(field(object, "mac"), Some(&json!(1)));
        assert_eq!(spelling(object, "ips"), Some("IPS"));
        assert_eq!(spelling(object, "gone"), None);
    }
}
