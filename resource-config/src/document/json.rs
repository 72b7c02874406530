//! JSON into a tree that keeps repeated keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Node, SyntaxError};

/// Reads JSON; nesting beyond 128 levels is refused.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    serde_json::from_str(text).map_err(|error| SyntaxError::Json(error.to_string()))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_as_written() {
        let node = parse(r#"{"a":null,"b":[true,-7,8086,"x"],"a":{}}"#).unwrap();
        let number = |text: &str| Node::Number(text.to_owned());
        let list = vec![Node::Bool(true), number("-7"), number("8086"), Node::Text("x".to_owned())];
        let entries = [("a", Node::Null), ("b", Node::List(list)), ("a", Node::Map(Vec::new()))];
        assert_eq!(node, Node::Map(entries.map(|(key, value)| (key.to_owned(), value)).into()));
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error("{\n  oops"), "this is not JSON: key must be a string at line 2 column 3");
        assert!(error(&"[".repeat(10_000)).contains("recursion limit exceeded"));
    }
}
