//! Files that people write, JSON or YAML: read into one tree, then field by field, so that all problems of a file are
//! reported at once and each says where it is.

mod json;
mod reader;
mod yaml;

use thiserror::Error;

pub use self::reader::{Invalid, Problem};
pub(crate) use self::reader::{Place, Report, boolean, describe, fields, list, parsed, string};

/// A value of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// JSON's `null`, and what YAML calls so. Means the same as leaving the key out.
    Null,
    /// JSON's `true` and `false`.
    Bool(bool),
    /// A number in JSON, as written.
    Number(String),
    /// A text in quotes.
    Text(String),
    /// A YAML value without quotes. What it is depends on what is wanted: `15e3` is a device identifier before it is a
    /// number.
    Plain(String),
    /// A list.
    List(Vec<Node>),
    /// An object: keys as written, in order, repeated ones too.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The text, where one is written. A JSON number is none: whoever writes JSON says which is meant.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// The digits of a number, where one is written.
    pub(crate) fn as_number(&self) -> Option<&str> {
        match self {
            Self::Number(text) | Self::Plain(text) => Some(text),
            _ => None,
        }
    }

    fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            // The spellings of YAML 1.2's core schema.
            Self::Plain(text) if ["true", "True", "TRUE"].contains(&text.as_str()) => Some(true),
            Self::Plain(text) if ["false", "False", "FALSE"].contains(&text.as_str()) => Some(false),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&[(String, Self)]> {
        if let Self::Map(entries) = self { Some(entries) } else { None }
    }
}

/// Why a text is neither of the two.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyntaxError {
    /// It begins like JSON and is not.
    #[error("this is not JSON: {0}")]
    Json(String),
    /// It is not YAML.
    #[error(
        "this is not YAML (nor JSON, which begins with a brace): line {line}, column {column}: {problem}"
    )]
    Yaml {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
}

/// Reads a text: JSON when it begins with a brace or bracket, else YAML. In YAML, too, a value may begin so, and then lacks
/// the quotes, or has a comma more than JSON allows: that is read, and what JSON says to it is the second value returned.
pub(crate) fn parse(text: &str) -> Result<(Node, Option<SyntaxError>), SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok((yaml::parse(text)?, None));
    }
    match json::parse(text) {
        Ok(node) => Ok((node, None)),
        Err(error) => match yaml::parse(text) {
            Ok(node) => Ok((node, Some(error))),
            Err(_) => Err(error),
        },
    }
}

/// Reads a text that may have several documents, as [`parse`] reads one.
pub(crate) fn parse_all(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with(['{', '[']) {
        return yaml::parse_all(text);
    }
    match json::parse(text) {
        Ok(node) => Ok(vec![node]),
        Err(error) => yaml::parse_all(text).map_err(|_| error),
    }
}
