//! A kernel setting that is written twice: of two values JSON's readers keep the last, and nobody knows which was meant.

use std::{collections::BTreeSet, fmt};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::protocol::error::{CniError, code};

/// Refuses a configuration whose key `sysctl` has a key twice. What else is wrong with it is not said here.
///
/// # Errors
/// Code 7, naming the setting.
pub fn refuse_duplicates(document: &str) -> Result<(), CniError> {
    match serde_json::from_str::<Plugin>(document) {
        Err(error) if error.to_string().starts_with(DUPLICATED) => {
            Err(CniError::new(code::INVALID_CONFIG, format!("tuning: {error}")))
        }
        _ => Ok(()),
    }
}

/// Upstream's words.
const DUPLICATED: &str = "duplicated sysctl keys are not allowed";

/// A configuration of which only the key `sysctl` counts.
struct Plugin;

/// An object whose keys are different from each other.
struct Settings;

impl<'de> Deserialize<'de> for Plugin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Plugin {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("sysctl") {
                map.next_value::<Settings>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Settings {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of kernel settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<String, _>()? {
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("{DUPLICATED}: {key} is there twice")));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_setting_that_is_there_twice_is_refused() {
        for document in [r#"{"a":1,"a":2,"SysCtl":{"x":"1","y":"1"}}"#, r#"{"sysctl":[]}"#, "{", "[]", "{}"] {
            refuse_duplicates(document).unwrap();
        }
        let error = refuse_duplicates(r#"{"a":[{}],"SysCtl":{"x":"1","y":"1","x":"1"}}"#).unwrap_err();
        assert!(error.msg.contains("duplicated") && error.msg.contains('x'), "{error}");
    }
}
