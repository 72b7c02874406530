//! CNI errors: a code that runtimes act on, and texts for people.

use std::fmt;

use serde::Serialize;

/// Error codes (CNI specification 1.1.0, section "Error"; 8 and 999 are the reference library's).
pub mod code {
    /// The configuration's version is not spoken.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// The configuration has a field or value that is not done.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or gone.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A `CNI_*` variable is missing or malformed.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO: u32 = 5;
    /// Something is not the JSON that it should be.
    pub const DECODING: u32 = 6;
    /// The network configuration is wrong.
    pub const INVALID_CONFIG: u32 = 7;
    /// The network namespace is wrong.
    pub const INVALID_NETNS: u32 = 8;
    /// The runtime should try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: no ADD is possible now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// Everything that has no code of its own.
    pub const OTHER: u32 = 999;
}

/// An error as a plugin prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct CniError {
    /// One of [`code`].
    #[serde(default)]
    pub code: u32,
    /// What is wrong. Never has the words "not" and "found" side by side: containerd would take that for success on DEL.
    #[serde(default)]
    pub msg: String,
    /// What more there is to say; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same error with details.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The same error, its text led by where it came from.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.msg = format!("{context}: {}", self.msg);
        self
    }

    /// The document that a plugin prints on standard output. The words that would make containerd swallow a failed DEL are
    /// replaced, whoever's text they come from (a plugin that we executed, the kernel).
    pub fn to_json(&self, cni_version: &str) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            cni_version: &'a str,
            code: u32,
            msg: String,
            #[serde(skip_serializing_if = "String::is_empty")]
            details: String,
        }
        let document = Document {
            cni_version,
            code: self.code,
            msg: audible(&self.msg),
            details: audible(&self.details),
        };
        serde_json::to_string_pretty(&document).unwrap_or_else(|_| format!(r#"{{"code":{}}}"#, self.code))
    }
}

/// Rewords what containerd ignores in the answer to a DEL (go-cni takes any error with these words for "already gone").
fn audible(text: &str) -> String {
    text.replace("not found", "missing").replace("Not found", "Missing")
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, " ({})", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for CniError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_the_document_carries_version_code_and_texts() {
        let error = CniError::new(code::INVALID_CONFIG, "no name").details("key name").context("network a");
        let value: serde_json::Value = serde_json::from_str(&error.to_json("1.0.0")).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"cniVersion": "1.0.0", "code": 7, "msg": "network a: no name", "details": "key name"})
        );
    }

    #[test]
    fn no_failure_can_be_taken_for_success_by_containerd() {
        let error = CniError::new(code::OTHER, "ipam: file not found").details("Not found");
        assert!(!error.to_json("1.0.0").to_lowercase().contains("not found"));
    }
}
