//! Keys of the resource pools' configuration, by the table that its reader and its schema use.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use syn::{Expr, ExprCall};

use super::source::{Sources, cell, elements, last_segment, literal};

/// Where the table is.
const FOLDER: &str = "resource-config/src/config";

/// The tables, with what each is about.
const TABLES: &[(&str, &str)] = &[
    ("TOP", "The file"),
    ("RESOURCE", "An entry of `resourceList`"),
    ("SELECTORS", "`selectors`: an object, or a list of objects of which any selects"),
    ("CDI", "`cdi`"),
];

/// Names of lists of device types, as the table's file has them.
const TYPES: &[(&str, &str)] = &[
    ("ANY", "all"),
    ("PCI", "netDevice, accelerator"),
    ("NETWORK", "netDevice, auxNetDevice"),
    ("NET", "netDevice"),
    ("AUX", "auxNetDevice"),
];

pub(super) fn tables(sources: &Sources) -> Result<String> {
    let mut text = String::new();
    for (table, title) in TABLES {
        writeln!(text, "\n{title}:\n\n| key | value | device types | meaning |\n|---|---|---|---|")?;
        for element in elements(sources.constant(FOLDER, table)?)? {
            let Expr::Call(call) = element else { bail!("{table}: an element is no call of key()") };
            writeln!(text, "{}", row(call).with_context(|| format!("{FOLDER}: {table}"))?)?;
        }
    }
    Ok(text)
}

fn row(call: &ExprCall) -> Result<String> {
    let arguments: Vec<&Expr> = call.args.iter().collect();
    let [name, shape, types, about] = arguments.as_slice() else { bail!("key() has other arguments") };
    let name = literal(name).context("a key's name is no text")?;
    let types = last_segment(types).context("device types have no name")?;
    let (_, types) =
        TYPES.iter().find(|(known, _)| *known == types).with_context(|| format!("device types {types}"))?;
    let about = literal(about).context("what a key is about is no text")?;
    Ok(format!("| `{name}` | {} | {types} | {} |", kind(shape)?, cell(&about)))
}

fn kind(shape: &Expr) -> Result<&'static str> {
    let name = match shape {
        Expr::Path(_) => last_segment(shape),
        Expr::Call(call) => last_segment(&call.func),
        Expr::Struct(object) => object.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    };
    Ok(match name.as_deref() {
        Some("Boolean") => "true, false",
        Some("Number") => "number",
        Some("Text" | "OneOf") => "text",
        Some("Texts") => "list of texts",
        Some("Is") => "object",
        Some("OneOrMore") => "object, or list of objects",
        Some("List") => "list of objects",
        other => bail!("shape {other:?} is not known here"),
    })
}
