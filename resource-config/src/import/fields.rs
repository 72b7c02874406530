//! The keys of a `spec`, each taken once: what nobody takes is refused by name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::document::{self, Node, Place, Report};

/// The entries of an object that have a value.
pub(super) struct Fields<'a> {
    entries: BTreeMap<&'a str, &'a Node>,
    pub(super) place: Place,
    pub(super) report: &'a mut Report,
    taken: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(value: &'a Node, place: Place, report: &'a mut Report) -> Self {
        let mut entries = BTreeMap::new();
        match value.as_map() {
            None => report.problem(&place, document::describe(value), "an object"),
            Some(all) => {
                for (key, value) in all {
                    if entries.insert(key.as_str(), value).is_some() {
                        report.problem(&place.key(key), "the key more than once", "the key once");
                    }
                }
            }
        }
        entries.retain(|_, value| **value != Node::Null);
        Self { entries, place, report, taken: Vec::new() }
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        self.taken.push(key);
        self.entries.remove(key)
    }

    /// A text that is not empty: the operator's types write empty ones for what was not said.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.take(key)?;
        let text = document::string(value, &self.place.key(key), self.report)?;
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(key)?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.problem(key, format!("{text:?}"), allowed);
        }
        parsed
    }

    pub(super) fn one_of<T: Copy>(&mut self, key: &'static str, values: &[(&str, T)]) -> Option<T> {
        let allowed = values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        self.parsed(key, &allowed, |text| {
            values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
        })
    }

    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(key)?;
        let number =
            value.as_number().and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        if number.is_none() {
            let allowed = format!("a number from {} to {}", range.start(), range.end());
            self.problem(key, document::describe(value), &allowed);
        }
        number
    }

    /// A number, or 0 for none.
    pub(super) fn number_or_zero(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        if self.entries.get(key).and_then(|value| value.as_number()) == Some("0") {
            self.take(key);
            return None;
        }
        self.number(key, range)
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> bool {
        let Some(value) = self.take(key) else { return false };
        document::boolean(value, &self.place.key(key), self.report)
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Vec<&'a str> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let place = self.place.key(key);
        let items = document::list(value, &place, self.report).iter().enumerate();
        let items: Vec<(usize, &Node)> = items.collect();
        items
            .into_iter()
            .filter_map(|(n, item)| document::string(item, &place.index(n), self.report))
            .collect()
    }

    pub(super) fn labels(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let Some(value) = self.take(key) else { return BTreeMap::new() };
        let place = self.place.key(key);
        let Some(entries) = value.as_map() else {
            self.problem(key, document::describe(value), "an object of labels and their values");
            return BTreeMap::new();
        };
        let text = |(key, value): &(String, Node)| {
            let text = document::string(value, &place.key(key), self.report)?;
            Some((key.clone(), text.to_owned()))
        };
        entries.iter().filter_map(text).collect()
    }

    /// Refuses a key unless it says nothing.
    pub(super) fn refuse(&mut self, key: &'static str, allowed: &str) {
        let Some(value) = self.take(key) else { return };
        if !says_nothing(value) {
            self.problem(key, document::describe(value), allowed);
        }
    }

    pub(super) fn problem(&mut self, key: &str, found: impl Into<String>, allowed: &str) {
        self.report.problem(&self.place.key(key), found, allowed);
    }

    pub(super) fn note(&mut self, key: &str, text: &str) {
        self.report.warning(&self.place.key(key), text);
    }

    /// Refuses what is left, and gives the report back.
    pub(super) fn finish(self) -> &'a mut Report {
        for (key, value) in &self.entries {
            let allowed = format!("keys that are converted: {}", self.taken.join(", "));
            let found = format!("{}, under a key that is not known here", document::describe(value));
            self.report.problem(&self.place.key(key), found, allowed);
        }
        self.report
    }
}

/// Whether a value is what the operator's types write for nothing.
fn says_nothing(value: &Node) -> bool {
    match value {
        Node::Null => true,
        Node::Bool(value) => !value,
        Node::Text(text) => text.is_empty(),
        Node::Plain(text) => text == "false",
        Node::Number(_) => false,
        Node::List(items) => items.is_empty(),
        Node::Map(entries) => entries.iter().all(|(_, value)| says_nothing(value)),
    }
}
