//! Command lines: what clap makes of our types, and usage texts that are written out.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use syn::{Attribute, Expr, Fields, Item, ItemEnum, Lit, Token, Type, punctuated::Punctuated};

use super::source::{File, Sources, cell, docs, last_segment, literal, paragraph};

/// A program with a command line of clap's.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Its sources.
    pub(super) folder: &'static str,
    /// The type of its command line.
    pub(super) root: &'static str,
}

/// One line of a table.
struct Row {
    option: String,
    default: String,
    meaning: String,
}

/// A command, or a part of one.
#[derive(Default)]
struct Command {
    rows: Vec<Row>,
    /// With their names.
    children: Vec<(String, Vec<String>, Self)>,
}

/// The tables of a program.
pub(super) fn tables(program: &Program, sources: &Sources) -> Result<String> {
    let reader = Reader { folder: program.folder, sources };
    let (about, command) = reader.structure(program.root)?;
    let mut text = String::new();
    write(&mut text, program.name, &about, &command)?;
    Ok(text)
}

/// The usage text of every part of a program that writes its own.
pub(super) fn usages(folder: &str, sources: &Sources) -> Result<String> {
    let mut text = String::new();
    for file in sources.below(folder) {
        for item in &file.items {
            let Item::Const(item) = item else { continue };
            if item.ident == "USAGE" {
                let usage = literal(&item.expr)
                    .with_context(|| format!("{}: USAGE is no text", file.path.display()))?;
                write!(text, "\n```text\n{}\n```\n", usage.trim_end())?;
            }
        }
    }
    Ok(text)
}

fn write(text: &mut String, name: &str, about: &[String], command: &Command) -> Result<()> {
    writeln!(text, "\n`{name}`: {}", paragraph(about))?;
    if !command.rows.is_empty() {
        writeln!(text, "\n| option | default | meaning |\n|---|---|---|")?;
    }
    for row in &command.rows {
        writeln!(text, "| {} | {} | {} |", cell(&row.option), cell(&row.default), cell(&row.meaning))?;
    }
    for (child, about, command) in &command.children {
        write(text, &format!("{name} {child}"), about, command)?;
    }
    Ok(())
}

struct Reader<'a> {
    folder: &'a str,
    sources: &'a Sources,
}

impl Reader<'_> {
    fn structure(&self, name: &str) -> Result<(Vec<String>, Command)> {
        let (file, item) = self.sources.find(self.folder, name, |item| match item {
            Item::Struct(item) if item.ident == plain(name) => Some(item),
            _ => None,
        })?;
        let heading = text_of(&arguments(&item.attrs, "command")?, "next_help_heading");
        let command = self.fields(file, &item.fields, heading.as_deref())?;
        Ok((docs(&item.attrs), command))
    }

    fn fields(&self, file: &File, fields: &Fields, heading: Option<&str>) -> Result<Command> {
        let mut command = Command::default();
        for field in fields {
            let kind = inner(&field.ty);
            let of_command = arguments(&field.attrs, "command")?;
            if of_command.iter().any(|word| is_word(word, "flatten")) {
                let (_, part) = self.structure(&kind)?;
                command.rows.extend(part.rows);
                command.children.extend(part.children);
            } else if of_command.iter().any(|word| is_word(word, "subcommand")) {
                command.children.extend(self.subcommands(&kind)?);
            } else if let Some(ident) = &field.ident {
                let row = self.row(file, &ident.to_string(), &kind, &field.attrs, heading);
                command.rows.push(row.with_context(|| format!("{}: option {ident}", self.folder))?);
            }
        }
        Ok(command)
    }

    fn enumeration(&self, name: &str) -> Result<(&File, &ItemEnum)> {
        self.sources.find(self.folder, name, |item| match item {
            Item::Enum(item) if item.ident == plain(name) => Some(item),
            _ => None,
        })
    }

    fn subcommands(&self, name: &str) -> Result<Vec<(String, Vec<String>, Command)>> {
        let mut commands = Vec::new();
        let (file, item) = self.enumeration(name)?;
        for variant in &item.variants {
            let own = docs(&variant.attrs);
            let (about, command) = match &variant.fields {
                Fields::Unnamed(fields) => {
                    let kind = fields.unnamed.first().map(|field| inner(&field.ty));
                    let (about, command) = self.structure(&kind.context("an empty variant")?)?;
                    (if own.is_empty() { about } else { own }, command)
                }
                fields => (own, self.fields(file, fields, None)?),
            };
            commands.push((kebab(&variant.ident.to_string()), about, command));
        }
        Ok(commands)
    }

    fn row(
        &self,
        file: &File,
        field: &str,
        kind: &str,
        attrs: &[Attribute],
        heading: Option<&str>,
    ) -> Result<Row> {
        let words = arguments(attrs, "arg")?;
        let long = long_name(&words, field);
        let value = text_of(&words, "value_name").unwrap_or_else(|| field.to_uppercase());
        let mut option = match &long {
            Some(long) => format!("--{long}"),
            None => value.clone(),
        };
        if words.iter().any(|word| is_word(word, "short")) {
            option = format!("-{}, {option}", field.chars().next().context("a field without a name")?);
        }
        let takes_value = kind != "bool" || words.iter().any(|word| assigned(word, "num_args").is_some());
        if long.is_some() && takes_value {
            option = format!("{option} {value}");
        }
        let about = docs(attrs);
        let mut parts =
            vec![if about.is_empty() { heading.unwrap_or_default().to_owned() } else { paragraph(&about) }];
        let aliases = words.iter().filter_map(|word| assigned(word, "alias")).filter_map(literal);
        parts.extend(aliases.map(|alias| format!("Also `--{alias}`")));
        parts.extend(self.values(kind));
        parts.retain(|part| !part.is_empty());
        let meaning = parts.iter().map(|part| format!("{}.", part.trim_end_matches('.')));
        let meaning = meaning.collect::<Vec<_>>().join(" ");
        Ok(Row { option: format!("`{option}`"), default: self.default(file, &words, kind)?, meaning })
    }

    /// The values that there are, of a type that says them.
    fn values(&self, kind: &str) -> Option<String> {
        let (_, item) = self.enumeration(kind).ok()?;
        let value = |variant: &syn::Variant| {
            let name = kebab(&variant.ident.to_string());
            let about = paragraph(&docs(&variant.attrs));
            if about.is_empty() { format!("`{name}`") } else { format!("`{name}`: {about}") }
        };
        let values: Vec<String> = item.variants.iter().map(value).collect();
        Some(values.iter().map(|value| value.trim_end_matches('.')).collect::<Vec<_>>().join("; "))
    }

    fn default(&self, file: &File, words: &[Expr], kind: &str) -> Result<String> {
        if let Some(value) = words.iter().find_map(|word| assigned(word, "default_value")) {
            return Ok(format!("`{}`", self.sources.text(file, value)?));
        }
        if words.iter().any(|word| is_word(word, "default_value_t")) {
            let (_, item) = self.enumeration(kind)?;
            let marked = item
                .variants
                .iter()
                .find(|variant| variant.attrs.iter().any(|attr| attr.path().is_ident("default")));
            let marked = marked.with_context(|| format!("{kind} has no default"))?;
            return Ok(format!("`{}`", kebab(&marked.ident.to_string())));
        }
        Ok(match words.iter().find_map(|word| assigned(word, "default_value_t")) {
            None => String::new(),
            Some(Expr::Lit(value)) => match &value.lit {
                Lit::Int(number) => format!("`{number}`"),
                _ => bail!("a default value that is no number"),
            },
            Some(other) => format!("`{}`", kebab(&last_segment(other).context("a default value")?)),
        })
    }
}

/// A type's name without module.
fn plain(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// What is in the parentheses of an attribute.
fn arguments(attrs: &[Attribute], name: &str) -> Result<Vec<Expr>> {
    let mut all = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident(name)) {
        all.extend(attr.parse_args_with(Punctuated::<Expr, Token![,]>::parse_terminated)?);
    }
    Ok(all)
}

fn is_word(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Path(path) if path.path.is_ident(name))
}

/// `value` of `name = value`.
fn assigned<'a>(expr: &'a Expr, name: &str) -> Option<&'a Expr> {
    match expr {
        Expr::Assign(assign) if is_word(&assign.left, name) => Some(&assign.right),
        _ => None,
    }
}

fn text_of(words: &[Expr], name: &str) -> Option<String> {
    words.iter().find_map(|word| assigned(word, name)).and_then(literal)
}

fn long_name(words: &[Expr], field: &str) -> Option<String> {
    let is_long = words.iter().any(|word| is_word(word, "long"));
    text_of(words, "long").or_else(|| is_long.then(|| field.replace('_', "-")))
}

/// The type inside `Option`, `Vec` and `Box`, with the last module before it.
fn inner(kind: &Type) -> String {
    let Type::Path(path) = kind else { return String::new() };
    let Some(last) = path.path.segments.last() else { return String::new() };
    let places = path.path.segments.iter().rev().take(2).map(|segment| segment.ident.to_string());
    let name = places.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("::");
    match &last.arguments {
        syn::PathArguments::AngleBracketed(generic) if matches!(name.as_str(), "Option" | "Vec" | "Box") => {
            match generic.args.first() {
                Some(syn::GenericArgument::Type(kind)) => inner(kind),
                _ => name,
            }
        }
        _ => name,
    }
}

/// A variant's name as clap has it.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
