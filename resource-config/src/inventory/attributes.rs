//! Reading the attributes in one folder, and noting what is wrong with them.

use std::fmt::Display;
use std::io;
use std::str::FromStr;

use crate::sysfs::{has_no_value, last_part};
use crate::tree::Folder;

/// A folder whose names are known, and notes about it.
pub(super) struct Attributes<'a> {
    pub(super) folder: &'a Folder,
    /// The names in the folder that were asked for, sorted.
    pub(super) names: &'a [String],
    /// The folder was not listed: each name may be there, but for these.
    unlisted_but: Option<&'static [&'static str]>,
    /// What stands in front of a note: empty for the device itself, else the part of it, with `: `.
    prefix: String,
    pub(super) notes: &'a mut Vec<String>,
}

impl<'a> Attributes<'a> {
    /// The attributes of a part of a device; `part` is empty for the device itself.
    pub(super) fn new(
        folder: &'a Folder,
        names: &'a [String],
        part: &str,
        notes: &'a mut Vec<String>,
    ) -> Self {
        let prefix = if part.is_empty() { String::new() } else { format!("{part}: ") };
        Self { folder, names, unlisted_but: None, prefix, notes }
    }

    /// The attributes of a device whose folder was not listed: each is tried, `but` for what cannot be there. What must be
    /// listed to be seen is not there either.
    pub(super) fn unlisted(
        folder: &'a Folder,
        but: &'static [&'static str],
        notes: &'a mut Vec<String>,
    ) -> Self {
        Self { folder, names: &[], unlisted_but: Some(but), prefix: String::new(), notes }
    }

    pub(super) fn note(&mut self, name: &str, problem: &dyn Display) {
        self.notes.push(format!("{}{name}: {problem}", self.prefix));
    }

    /// Whether there is such a name, or may be.
    pub(super) fn has(&self, name: &str) -> bool {
        match self.unlisted_but {
            Some(but) => !but.contains(&name),
            None => self.names.binary_search_by(|found| found.as_str().cmp(name)).is_ok(),
        }
    }

    /// The text of an attribute that is there and has one.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        if !self.has(name) {
            return None;
        }
        self.value(name, self.folder.text(name)).filter(|text| !text.is_empty())
    }

    /// What was read; what could not be for a reason worth telling is noted.
    fn value<T>(&mut self, name: &str, read: io::Result<T>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(error) if has_no_value(&error) => None,
            Err(error) => {
                self.note(name, &error);
                None
            }
        }
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, name: &str, text: &str) -> Option<T> {
        let found = || text.chars().take(80).collect::<String>();
        text.parse().map_err(|error| self.note(name, &format!("found {:?}: {error}", found()))).ok()
    }

    pub(super) fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        self.parse(name, &text)
    }

    /// Like `optional`, for what every device of the kind has.
    pub(super) fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let before = self.notes.len();
        let value = self.optional(name);
        if value.is_none() && self.notes.len() == before {
            self.note(name, &"missing");
        }
        value
    }

    /// The last part of where a link points.
    pub(super) fn link(&mut self, name: &str) -> Option<String> {
        if !self.has(name) {
            return None;
        }
        self.link_target(name, self.folder.link(name))
    }

    /// The same, of a link that was read.
    pub(super) fn link_target(&mut self, name: &str, target: io::Result<String>) -> Option<String> {
        match target {
            Ok(target) => Some(last_part(&target).to_owned()).filter(|part| !part.is_empty()),
            // EINVAL: it is there, and is no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.note(name, &"wanted a symbolic link, found something else");
                None
            }
            Err(error) => self.value(name, Err(error)),
        }
    }

    /// Like `link`, for what is named by a number or an address.
    pub(super) fn parsed_link<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let target = self.link(name)?;
        self.parse(name, &target)
    }

    /// A folder below this one, and the names in it that are wanted.
    pub(super) fn folder(
        &mut self,
        name: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(Folder, Vec<String>)> {
        if !self.has(name) {
            return None;
        }
        let opened = self.folder.open(name);
        self.listed(name, opened, wanted)
    }

    fn listed(
        &mut self,
        name: &str,
        opened: io::Result<Folder>,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(Folder, Vec<String>)> {
        let listed = opened.and_then(|folder| {
            let names = folder.names(wanted)?;
            Ok((folder, names))
        });
        match listed {
            Ok(listed) => Some(listed),
            Err(error) if self.unlisted_but.is_some() && error.kind() == io::ErrorKind::NotFound => None,
            // It was listed a moment ago: a link to nowhere, or a device that goes away.
            Err(error) => {
                self.note(name, &format!("cannot be listed: {error}"));
                None
            }
        }
    }

    /// The names in a folder below this one.
    pub(super) fn names_in(&mut self, name: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.folder(name, wanted).map(|(_, names)| names).unwrap_or_default()
    }

    /// The first name in a folder below this one.
    pub(super) fn first_in(&mut self, name: &str) -> Option<String> {
        self.names_in(name, |_| true).into_iter().next()
    }
}
