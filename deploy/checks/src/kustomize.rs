//! As much of kustomize as the folders here use: resources, components, and JSON patches with a target.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::{documents, objects::name};

/// A kustomization; a key that is not here is refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<PathBuf>,
    #[serde(default)]
    components: Vec<PathBuf>,
    #[serde(default)]
    patches: Vec<Patch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    path: PathBuf,
    target: Target,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    group: String,
    version: String,
    kind: String,
    name: String,
}

/// The name of a kustomization's file.
pub const FILE: &str = "kustomization.yaml";

/// The objects of a folder.
///
/// # Errors
/// When something in it cannot be read, is not done here, or does not fit.
pub fn render(folder: &Path) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    add(folder, "Kustomization", &mut objects)?;
    Ok(objects)
}

/// The files of patches that a folder's kustomization names.
///
/// # Errors
/// When it cannot be read.
pub fn patches(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(read(folder)?.patches.into_iter().map(|patch| folder.join(patch.path)).collect())
}

fn read(folder: &Path) -> Result<Kustomization> {
    let file = folder.join(FILE);
    serde_saphyr::from_str(&crate::read(&file)?).with_context(|| file.display().to_string())
}

fn add(folder: &Path, kind: &str, objects: &mut Vec<Value>) -> Result<()> {
    let read = read(folder)?;
    let version = if kind == "Component" { "v1alpha1" } else { "v1beta1" };
    ensure!(
        read.kind == kind && read.api_version == format!("kustomize.config.k8s.io/{version}"),
        "{} is not a {kind} of {version}",
        folder.display()
    );
    for resource in &read.resources {
        let path = folder.join(resource);
        let more = if path.is_dir() { render(&path)? } else { documents(&path)? };
        for object in more {
            let name = name(&object);
            ensure!(
                !objects.iter().any(|other| crate::objects::name(other) == name),
                "{}: {name} is there twice",
                path.display()
            );
            objects.push(object);
        }
    }
    for component in &read.components {
        add(&folder.join(component), "Component", objects)?;
    }
    for patch in &read.patches {
        apply(folder, patch, objects)?;
    }
    Ok(())
}

fn apply(folder: &Path, patch: &Patch, objects: &mut [Value]) -> Result<()> {
    let file = folder.join(&patch.path);
    let [operations] = documents(&file)?.try_into().ok().context("a patch is one document")?;
    let operations: json_patch::Patch = serde_json::from_value(operations)
        .with_context(|| format!("{} is no list of operations", file.display()))?;
    let Target { group, version, kind, name } = &patch.target;
    let api = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
    let meant = |object: &&mut Value| {
        object["apiVersion"] == api && object["kind"] == *kind && object["metadata"]["name"] == *name
    };
    let Some(object) = objects.iter_mut().find(meant) else {
        bail!("{}: there is no {kind} {name} of {api}", file.display());
    };
    json_patch::patch(object, &operations).with_context(|| format!("{} does not fit", file.display()))
}
