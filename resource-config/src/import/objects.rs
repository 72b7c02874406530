//! The objects of files, and what reading them brings up.

use std::fmt;
use std::path::PathBuf;

use super::{ImportError, Source};
use crate::document::{self, Node, Place, Report};

/// An object of the API server.
#[derive(Debug, Clone)]
pub(super) struct Object {
    /// Which file it is from.
    pub(super) file: usize,
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// For messages.
    pub(super) place: Place,
    pub(super) body: Node,
}

impl Object {
    /// A part of it, such as `spec`; an empty object where it lacks that.
    pub(super) fn part(&self, key: &str) -> &Node {
        const EMPTY: &Node = &Node::Map(Vec::new());
        get(&self.body, key).unwrap_or(EMPTY)
    }
}

/// What is wrong or odd in the files.
pub(super) struct Files {
    reports: Vec<(PathBuf, Report)>,
}

impl Files {
    /// Reads the objects of all sources; of lists each item.
    pub(super) fn read(sources: &[Source]) -> Result<(Self, Vec<Object>), ImportError> {
        let mut files = Self { reports: Vec::new() };
        let mut objects = Vec::new();
        for (file, source) in sources.iter().enumerate() {
            let syntax = |error| ImportError::Syntax { path: source.path.clone(), source: error };
            let documents = document::parse_all(&source.text).map_err(syntax)?;
            let mut report = Report::default();
            for node in documents {
                collect(node, file, &mut report, &mut objects);
            }
            files.reports.push((source.path.clone(), report));
        }
        Ok((files, objects))
    }

    /// The report of a file.
    pub(super) fn report(&mut self, file: usize) -> &mut Report {
        if file >= self.reports.len() {
            // Objects are made for files that have been pushed alone.
            self.reports.resize_with(file + 1, Default::default);
        }
        &mut self.reports[file].1
    }

    pub(super) fn problem(
        &mut self,
        file: usize,
        place: &Place,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.report(file).problem(place, found, allowed);
    }

    pub(super) fn note(&mut self, file: usize, place: &Place, text: impl fmt::Display) {
        self.report(file).warning(place, text);
    }

    /// Goes on when nothing has been found wrong so far.
    pub(super) fn without_problems(self) -> Result<Self, ImportError> {
        if self.reports.iter().all(|(_, report)| report.problems.is_empty()) {
            return Ok(self);
        }
        self.finish().and_then(|_| Err(ImportError::Nothing("nothing can be converted".to_owned())))
    }

    /// The notes, or all that is wrong.
    pub(super) fn finish(self) -> Result<Vec<String>, ImportError> {
        let mut notes = Vec::new();
        let mut invalid = Vec::new();
        for (path, report) in self.reports {
            match report.finish(&path) {
                Ok(more) => notes.extend(more),
                Err(error) => invalid.push(error),
            }
        }
        if invalid.is_empty() { Ok(notes) } else { Err(ImportError::Invalid(invalid)) }
    }
}

fn collect(node: Node, file: usize, report: &mut Report, objects: &mut Vec<Object>) {
    if node == Node::Null {
        return;
    }
    let text = |node: &Node, key: &str| get(node, key).and_then(Node::as_text).map(str::to_owned);
    if node.as_map().is_none() {
        report.problem(
            &Place::top(),
            document::describe(&node),
            "an object, as kubectl get -o yaml prints it",
        );
        return;
    }
    let kind = text(&node, "kind").unwrap_or_default();
    if let (true, Some(Node::List(items))) = (kind.ends_with("List"), get(&node, "items")) {
        for item in items.clone() {
            collect(item, file, report, objects);
        }
        return;
    }
    let metadata = get(&node, "metadata").cloned().unwrap_or(Node::Null);
    let (namespace, name) = (text(&metadata, "namespace"), text(&metadata, "name"));
    let (Some(name), false) = (name, kind.is_empty()) else {
        report.problem(&Place::top(), document::describe(&node), "objects with kind and metadata.name");
        return;
    };
    let place = Place::named(format!("{kind} {name}"));
    objects.push(Object { file, kind, namespace, name, place, body: node });
}

pub(super) fn get<'a>(node: &'a Node, wanted: &str) -> Option<&'a Node> {
    let (_, value) = node.as_map()?.iter().find(|(key, _)| key == wanted)?;
    (*value != Node::Null).then_some(value)
}
