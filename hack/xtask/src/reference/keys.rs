//! Keys of plugins' and of our own configurations: which there are and of what type, by the calls that read them; what they mean, by
//! the lists of them in documentation comments. Neither may lack what the other has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use anyhow::{Result, bail, ensure};
use syn::{
    Attribute, Expr, ExprCall, ExprMethodCall, Item, LitStr,
    visit::{self, Visit},
};

use super::source::{File, Sources, cell, docs, elements, last_segment, literal, paragraph};

/// A part of the reference that is about keys.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    /// Where its keys are read and documented. A key that several document has the meaning that the first says.
    pub(super) files: &'static [&'static str],
    /// Where further keys are read that it documents.
    pub(super) shared: &'static [&'static str],
}

/// Read, and not for people to write, or explained where they belong.
const INTERNAL: &[&str] = &[
    "args",
    "cni",
    "runtimeConfig",
    "ipam",
    "name",
    "type",
    "cniVersion",
    "plugins",
    "prevResult",
    "sections",
];

/// Functions that read a key, with the type that it has.
const READERS: &[(&str, &str)] = &[
    ("text", "text"),
    ("given", "text"),
    ("flag", "true, false"),
    ("boolean", "true, false"),
    ("number", "number"),
    ("texts", "list of texts"),
    ("parsed", "list of texts"),
    ("object", "object"),
    ("objects", "list of objects"),
    ("path", "path"),
    ("switch", "`on`, `off`"),
    ("network", "address/length"),
    ("address", "address"),
    ("sets_of", "list of lists of objects"),
    ("one_of", "text"),
    ("id", "number"),
    ("settings", "number"),
    ("get", ""),
];

/// The keys that some source reads, with their types.
#[derive(Default)]
struct Reads {
    keys: BTreeMap<String, BTreeSet<&'static str>>,
    literals: BTreeSet<String>,
}

impl Reads {
    fn call<'a>(&mut self, function: &str, arguments: impl Iterator<Item = &'a Expr>) {
        let Some((_, kind)) = READERS.iter().find(|(name, _)| *name == function) else { return };
        let text = arguments.filter_map(literal).find(|text| is_key(text));
        if let Some(key) = text {
            self.keys.entry(key).or_default().insert(kind);
        }
    }
}

fn is_key(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

impl<'ast> Visit<'ast> for Reads {
    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        // Not what CNI_ARGS have.
        let of_args = matches!(&*call.receiver, Expr::Field(field)
            if matches!(&field.member, syn::Member::Named(name) if name == "args"));
        if !of_args {
            self.call(&call.method.to_string(), call.args.iter());
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Some(function) = last_segment(&call.func) {
            self.call(&function, call.args.iter());
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.literals.insert(text.value());
    }
}

/// The lists of keys in documentation comments, in order.
#[derive(Default)]
struct Documented(Vec<(Vec<String>, String)>);

impl Documented {
    /// Takes what follows a line that says no more than "Keys:".
    fn add(&mut self, lines: &[String]) {
        let Some(at) = lines.iter().position(|line| line == "Keys:") else { return };
        let list = lines[at + 1..].iter().take_while(|line| !line.is_empty());
        let mut items: Vec<Vec<String>> = Vec::new();
        for line in list {
            match line.strip_prefix("- ") {
                Some(item) => items.push(vec![item.to_owned()]),
                None => items.last_mut().into_iter().for_each(|item| item.push(line.clone())),
            }
        }
        for item in items {
            let text = paragraph(&item);
            let Some((names, meaning)) = text.split_once(": ") else { continue };
            let names: Vec<String> =
                names.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect();
            let is_known = self.0.iter().any(|(known, _)| known.iter().any(|name| names.contains(name)));
            if !is_known {
                self.0.push((names, meaning.to_owned()));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Documented {
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_item(&mut self, item: &'ast Item) {
        let attrs = match item {
            Item::Fn(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            _ => &Vec::new(),
        };
        self.add(&docs(attrs));
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&docs(&function.attrs));
    }
}

fn look<'a>(files: impl Iterator<Item = &'a File>) -> (Reads, Documented) {
    let (mut reads, mut documented) = (Reads::default(), Documented::default());
    for file in files {
        documented.add(&file.docs);
        for item in &file.items {
            reads.visit_item(item);
            documented.visit_item(item);
        }
    }
    (reads, documented)
}

/// The table of a section.
pub(super) fn table(section: &Section, sources: &Sources) -> Result<String> {
    let files = |paths: &'static [&'static str]| -> Result<Vec<&File>> {
        paths.iter().map(|path| sources.file(path)).collect()
    };
    let (mut reads, documented) = look(files(section.files)?.into_iter());
    let (shared, _) = look(files(section.shared)?.into_iter());
    let has = |key: &str| documented.0.iter().any(|(names, _)| names.iter().any(|name| name == key));
    let missing: Vec<&String> =
        reads.keys.keys().filter(|key| !has(key) && !INTERNAL.contains(&key.as_str())).collect();
    ensure!(
        missing.is_empty(),
        "{}: read, and in no list of a documentation comment after a line \"Keys:\": {missing:?} (in {:?})",
        section.title,
        section.files
    );
    for (key, kinds) in shared.keys {
        reads.keys.entry(key).or_insert(kinds);
    }
    let mut text = String::from("| key | value | meaning |\n|---|---|---|\n");
    for (names, meaning) in &documented.0 {
        let mut kinds = Vec::new();
        for name in names {
            if !reads.literals.contains(name) && !shared.literals.contains(name) {
                bail!("{}: key {name} is documented and nobody reads it", section.title);
            }
            kinds.push(reads.keys.get(name).map_or_else(|| "text".to_owned(), in_words));
        }
        kinds.dedup();
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        writeln!(text, "| {} | {} | {} |", names.join(", "), kinds.join("; "), cell(meaning))?;
    }
    Ok(text)
}

/// Types of one key.
fn in_words(kinds: &BTreeSet<&str>) -> String {
    let known: Vec<&str> = kinds.iter().copied().filter(|kind| !kind.is_empty()).rev().collect();
    known.join(" or ")
}

/// Fails when a section documents other keys than a constant lists.
pub(super) fn compare(section: &Section, sources: &Sources, constants: &[&str]) -> Result<()> {
    let files: Vec<&File> = section.files.iter().map(|path| sources.file(path)).collect::<Result<_>>()?;
    let (_, documented) = look(files.into_iter());
    let folder = section.files[0];
    let mut listed = BTreeSet::new();
    for constant in constants {
        for element in elements(sources.constant(folder, constant)?)? {
            listed.extend(literal(element));
        }
    }
    let named: BTreeSet<String> = documented.0.into_iter().flat_map(|(names, _)| names).collect();
    let odd: Vec<&String> =
        listed.symmetric_difference(&named).filter(|key| !INTERNAL.contains(&key.as_str())).collect();
    ensure!(odd.is_empty(), "{folder}: in {constants:?} or in the list \"Keys:\", not in both: {odd:?}");
    Ok(())
}
