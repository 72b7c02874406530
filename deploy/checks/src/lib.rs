//! The manifests of this folder, rendered and read: for tests only.
//!
//! Neither kustomize nor Helm is a package of Debian's, so this crate does as much of the two as the manifests here use, and refuses
//! the rest by name.

pub mod chart;
pub mod kustomize;
pub mod markdown;
pub mod objects;
pub mod promql;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

/// The folder `deploy`.
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of a file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// All documents of a YAML file; empty ones are passed over.
///
/// # Errors
/// When it is no YAML.
pub fn documents(path: &Path) -> Result<Vec<Value>> {
    parse(&read(path)?).with_context(|| path.display().to_string())
}

/// All documents of a YAML text; empty ones are passed over.
///
/// # Errors
/// When it is no YAML.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Every YAML file below a folder, in order.
///
/// # Errors
/// When a folder cannot be read.
pub fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(yaml_files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
