//! Our sources, parsed: documentation, constants, types. Tests are left out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta, UseTree};

/// A file of ours.
pub(super) struct File {
    /// Its path below the repository's root.
    pub(super) path: PathBuf,
    /// What is in it, without tests.
    pub(super) items: Vec<Item>,
    /// The documentation at its top.
    pub(super) docs: Vec<String>,
}

impl File {
    /// Reads a file's text.
    pub(super) fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let parsed = syn::parse_file(text).with_context(|| format!("parse {}", path.display()))?;
        let items = parsed.items.into_iter().filter(|item| !is_test(item)).collect();
        Ok(Self { docs: docs(&parsed.attrs), items, path })
    }

    /// Whether it is a module of this name.
    fn is_module(&self, name: &str) -> bool {
        let is_root = self.path.file_name().is_some_and(|file| file == "mod.rs");
        let path = if is_root { self.path.parent().map(Path::to_owned) } else { None };
        path.unwrap_or_else(|| self.path.with_extension("")).ends_with(name)
    }
}

/// All files of some folders.
pub(super) struct Sources(pub(super) Vec<File>);

impl Sources {
    /// Parses every file below the folders.
    pub(super) fn read(root: &Path, folders: &[&str]) -> Result<Self> {
        let mut files = Vec::new();
        for folder in folders {
            collect(root, Path::new(folder), &mut files)?;
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self(files))
    }

    /// One file.
    pub(super) fn file(&self, path: &str) -> Result<&File> {
        self.0.iter().find(|file| file.path == Path::new(path)).with_context(|| format!("no source {path}"))
    }

    /// The files of a folder, in order.
    pub(super) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a File> {
        self.0.iter().filter(move |file| file.path.starts_with(folder))
    }

    /// The one item called `what` that `pick` takes, of those of a folder first; of one module when the name says so
    /// (`module::Name`).
    pub(super) fn find<'a, T>(
        &'a self,
        folder: &'a str,
        what: &str,
        pick: impl Fn(&'a Item) -> Option<T>,
    ) -> Result<(&'a File, T)> {
        let module = what.rsplit_once("::").map(|(module, _)| module);
        let is_there = |file: &&File| module.is_none_or(|module| file.is_module(module));
        for folder in [folder, ""] {
            let items = |file: &'a File| file.items.iter().map(move |item| (file, item));
            let mut found: Vec<(&File, T)> = self
                .below(folder)
                .filter(is_there)
                .flat_map(items)
                .filter_map(|(file, item)| pick(item).map(|found| (file, found)))
                .collect();
            match found.len() {
                0 => {}
                1 => return found.pop().context("one was counted"),
                several => bail!("{several} items called {what} in {folder}"),
            }
        }
        bail!("no {what} in the sources")
    }

    /// The value of a constant.
    pub(super) fn constant<'a>(&'a self, folder: &'a str, name: &str) -> Result<&'a Expr> {
        self.find(folder, name, |item| match item {
            Item::Const(item) if item.ident == name => Some(&*item.expr),
            _ => None,
        })
        .map(|(_, value)| value)
    }

    /// A text in a file, by itself or as the name of a constant, which is there or where its path or a `use` says.
    pub(super) fn text(&self, file: &File, expr: &Expr) -> Result<String> {
        if let Some(text) = literal(expr) {
            return Ok(text);
        }
        let name = last_segment(expr).context("neither a text nor the name of one")?;
        let used = || {
            file.items.iter().find_map(|item| match item {
                Item::Use(item) => module_of(&item.tree, "", &name),
                _ => None,
            })
        };
        let module = last_module(expr).or_else(used);
        let is_there = |other: &&File| match &module {
            None => other.path == file.path,
            Some(module) => other.is_module(module),
        };
        let value = self.0.iter().filter(is_there).flat_map(|file| &file.items).find_map(|item| match item {
            Item::Const(item) if item.ident == name => literal(&item.expr),
            _ => None,
        });
        value.with_context(|| format!("no text {name} is where {} says", file.path.display()))
    }
}

/// The last module of the path by which a name is used.
fn module_of(tree: &UseTree, module: &str, name: &str) -> Option<String> {
    match tree {
        UseTree::Path(path) => module_of(&path.tree, &path.ident.to_string(), name),
        UseTree::Group(group) => group.items.iter().find_map(|tree| module_of(tree, module, name)),
        UseTree::Name(used) => (used.ident == name).then(|| module.to_owned()),
        _ => None,
    }
}

/// Folders that hold nothing of what ships.
const OTHERS: [&str; 4] = ["examples", "generated", "target", "tests"];

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    let whole = root.join(folder);
    for entry in fs::read_dir(&whole).with_context(|| format!("read {}", whole.display()))? {
        let name = entry?.file_name();
        let path = folder.join(&name);
        if whole.join(&name).is_dir() {
            if !OTHERS.iter().any(|other| name == *other) {
                collect(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text =
                fs::read_to_string(root.join(&path)).with_context(|| format!("read {}", path.display()))?;
            files.push(File::parse(path, &text)?);
        }
    }
    Ok(())
}

fn is_test(item: &Item) -> bool {
    let Item::Mod(module) = item else { return false };
    module.attrs.iter().any(|attr| {
        attr.path().is_ident("cfg") && attr.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}

/// The lines of a documentation comment.
pub(super) fn docs(attrs: &[Attribute]) -> Vec<String> {
    let line = |attr: &Attribute| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => literal(&pair.value),
        _ => None,
    };
    let lines = attrs.iter().filter_map(line);
    lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect()
}

/// A text that is written out.
pub(super) fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// `b` of `a::b`.
pub(super) fn last_segment(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

/// `a` of `a::b`.
fn last_module(expr: &Expr) -> Option<String> {
    let Expr::Path(path) = expr else { return None };
    path.path.segments.iter().rev().nth(1).map(|segment| segment.ident.to_string())
}

/// Elements of `&[..]`.
pub(super) fn elements(expr: &Expr) -> Result<Vec<&Expr>> {
    match expr {
        Expr::Reference(reference) => elements(&reference.expr),
        Expr::Array(array) => Ok(array.elems.iter().collect()),
        _ => bail!("no array"),
    }
}

/// Lines as the paragraph that they are.
pub(super) fn paragraph(lines: &[String]) -> String {
    lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A text for a cell of a table.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
