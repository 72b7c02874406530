//! Reading values: keys without regard to case, problems collected instead of stopping at the first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Node;

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `resourceList[1] (sriov_dpdk): selectors[0].vendors[0]`.
    pub place: String,
    /// What is there.
    pub found: String,
    /// What may be there.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}; allowed: {}", self.place, self.found, self.allowed)
    }
}

/// A file that says something that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(path, problems, warnings))]
pub struct Invalid {
    /// The file.
    pub path: PathBuf,
    /// All that is wrong.
    pub problems: Vec<Problem>,
    /// What is odd besides, for people.
    pub warnings: Vec<String>,
}

/// One line per problem and warning, each with the file's name, so that a line taken alone says everything.
fn lines(path: &Path, problems: &[Problem], warnings: &[String]) -> String {
    let problems = problems.iter().map(|problem| format!("{}: {problem}", path.display()));
    problems.chain(warnings.iter().map(|text| format!("warning: {text}"))).collect::<Vec<_>>().join("\n")
}

/// What reading a file has brought up.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
}

impl Report {
    pub(crate) fn problem(&mut self, place: &Place, found: impl Into<String>, allowed: impl Into<String>) {
        let (found, allowed) = (found.into(), allowed.into());
        self.problems.push(Problem { place: place.text(), found, allowed });
    }

    /// Ends the reading of the file `path`: the warnings, each with the file's name, or all that is wrong.
    pub(crate) fn finish(self, path: &Path) -> Result<Vec<String>, Invalid> {
        let warnings = self.warnings.iter().map(|warning| format!("{}: {warning}", path.display())).collect();
        if self.problems.is_empty() {
            Ok(warnings)
        } else {
            Err(Invalid { path: path.to_owned(), problems: self.problems, warnings })
        }
    }

    pub(crate) fn warning(&mut self, place: &Place, text: impl fmt::Display) {
        self.warnings.push(format!("{}: {text}", place.text()));
    }
}

/// A place in a file: the entry of its list, and the path of keys within that.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    entry: String,
    path: String,
}

impl Place {
    pub(crate) fn top() -> Self {
        Self { entry: String::new(), path: String::new() }
    }

    /// The entry of this index in the list of this key, with its name where it has one.
    pub(crate) fn entry(list: &str, index: usize, name: Option<&str>) -> Self {
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        Self { entry: format!("{list}[{index}]{name}"), path: String::new() }
    }

    /// An object of a file of several, by its kind and name.
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self { entry: name.into(), path: String::new() }
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { entry: self.entry.clone(), path: format!("{}{dot}{key}", self.path) }
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        Self { entry: self.entry.clone(), path: format!("{}[{index}]", self.path) }
    }

    fn text(&self) -> String {
        match (self.entry.is_empty(), self.path.is_empty()) {
            (true, true) => "the file".to_owned(),
            (true, false) => self.path.clone(),
            (false, true) => self.entry.clone(),
            (false, false) => format!("{}: {}", self.entry, self.path),
        }
    }
}

/// The values of an object by the spelling in `known`. Unknown keys are warned about, null counts as absent.
pub(crate) fn fields<'a>(
    value: &'a Node,
    known: &[&'static str],
    place: &Place,
    report: &mut Report,
) -> BTreeMap<&'static str, &'a Node> {
    let mut fields = BTreeMap::new();
    let Some(entries) = value.as_map() else {
        report.problem(place, describe(value), "an object");
        return fields;
    };
    for (key, value) in entries {
        let Some(known_key) = known.iter().find(|known| known.eq_ignore_ascii_case(key)) else {
            report.warning(place, unknown_key(key, known));
            continue;
        };
        if *value != Node::Null && fields.insert(*known_key, value).is_some() {
            report.problem(&place.key(known_key), "the key more than once", "the key once, in any case");
        }
    }
    fields
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &key.to_lowercase());
    let nearest = known.iter().map(|known| (distance(known), known)).min();
    // Farther than this it is hardly a slip of the pen.
    let hint = match nearest {
        Some((distance, known)) if distance <= 1 + key.len() / 3 => format!("; did you mean {known:?}?"),
        _ => format!("; known here: {}", known.join(", ")),
    };
    format!("unknown key {key:?} is ignored{hint}")
}

pub(crate) fn string<'a>(value: &'a Node, place: &Place, report: &mut Report) -> Option<&'a str> {
    let text = value.as_text();
    if text.is_none() {
        report.problem(place, no_text(value), "a text");
    }
    text
}

/// What stands where a text is wanted.
fn no_text(value: &Node) -> String {
    let without_quotes = if matches!(value, Node::Number(_)) { " without quotes" } else { "" };
    describe(value) + without_quotes
}

pub(crate) fn boolean(value: &Node, place: &Place, report: &mut Report) -> bool {
    value.as_bool().unwrap_or_else(|| {
        report.problem(place, describe(value), "true or false");
        false
    })
}

pub(crate) fn list<'a>(value: &'a Node, place: &Place, report: &mut Report) -> &'a [Node] {
    match value {
        Node::List(list) => list,
        other => {
            let example = other.as_text().map(|text| format!(", such as [{text:?}]")).unwrap_or_default();
            report.problem(place, describe(other), format!("a list{example}"));
            &[]
        }
    }
}

/// A list of texts, each read by `parse`; `allowed` says what that takes.
pub(crate) fn parsed<T>(
    value: &Node,
    place: &Place,
    report: &mut Report,
    allowed: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for (index, value) in list(value, place, report).iter().enumerate() {
        match value.as_text().and_then(&parse) {
            Some(parsed) => found.push(parsed),
            None => report.problem(&place.index(index), no_text(value), allowed),
        }
    }
    found
}

/// A value as an error text shows it: as written, cut when long.
pub(crate) fn describe(value: &Node) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST {
        return text;
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{start}...")
}

/// As JSON on one line; YAML values without quotes stay so.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = |index: usize| if index == 0 { "" } else { "," };
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(text) | Self::Plain(text) => f.write_str(text),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => {
                f.write_str("[")?;
                items.iter().enumerate().try_for_each(|(n, item)| write!(f, "{}{item}", comma(n)))?;
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("{")?;
                let entries = entries.iter().enumerate();
                entries
                    .into_iter()
                    .try_for_each(|(n, (key, value))| write!(f, "{}{key:?}:{value}", comma(n)))?;
                f.write_str("}")
            }
        }
    }
}
