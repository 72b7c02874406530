//! The list of what is in a program (CycloneDX 1.5), from what cargo says of its crates.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::release::{Origin, Shipped};

/// What is linked in beside crates, by name and version.
pub type Native = BTreeMap<String, String>;

/// The list for one image: every crate that its programs are made from, the first of which is what the list is of. Crates that only run while it is built (procedural
/// macros, build scripts' crates) are of scope `excluded`. Cargo knows optional dependencies for the whole workspace only, so a crate
/// that another program needs of a common one may be listed too.
///
/// # Errors
/// When `metadata` (of `cargo metadata`) does not have the shape that it should.
pub fn list(
    shipped: &Shipped,
    origin: &Origin,
    metadata: &Value,
    lock: &str,
    native: &Native,
) -> Result<Value> {
    let graph = Graph::read(metadata)?;
    let mut roots = Vec::new();
    for program in shipped.programs {
        roots.push(graph.package(program.package)?);
    }
    let needed = graph.reach(&roots, Edges::Linked);
    let all = graph.reach(&roots, Edges::All);
    let (Some(root), Some(program)) = (roots.first().copied(), shipped.programs.first()) else {
        bail!("image {} has no program", shipped.image)
    };
    let checksums = checksums(lock);
    let mut components: Vec<Value> = Vec::new();
    for id in all.iter().filter(|id| **id != root) {
        let scope = if needed.contains(id) { "required" } else { "excluded" };
        components.push(component(graph.packages[id], scope, &checksums)?);
    }
    components.extend(native.iter().map(
        |(name, version)| json!({ "type": "library", "name": name, "version": version, "scope": "required" }),
    ));
    let dependencies = all.iter().map(|id| -> Result<Value> {
        let on = graph.edges(id, Edges::All).map(|to| reference(graph.packages[to]));
        Ok(json!({ "ref": reference(graph.packages[id])?, "dependsOn": on.collect::<Result<BTreeSet<_>>>()? }))
    });
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": origin.created,
            "component": {
                "type": "application",
                "bom-ref": reference(graph.packages[root])?,
                "name": program.file,
                "version": origin.version,
                "description": shipped.title,
                "properties": [{ "name": "git:revision", "value": origin.revision }],
            },
        },
        "components": components,
        "dependencies": dependencies.collect::<Result<Vec<_>>>()?,
    }))
}

/// Which dependencies are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edges {
    /// Those whose code is in the program.
    Linked,
    /// Those too that only build it.
    All,
}

struct Graph<'a> {
    packages: BTreeMap<&'a str, &'a Value>,
    nodes: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Graph<'a> {
    fn read(metadata: &'a Value) -> Result<Self> {
        let by_id = |list: &'a Value, what: &str| -> Result<BTreeMap<&'a str, &'a Value>> {
            let list = list.as_array().with_context(|| format!("cargo's metadata has no {what}"))?;
            list.iter().map(|one| Ok((text(one, "id")?, one))).collect()
        };
        Ok(Self {
            packages: by_id(&metadata["packages"], "packages")?,
            nodes: by_id(&metadata["resolve"]["nodes"], "resolve.nodes")?,
        })
    }

    fn package(&self, name: &str) -> Result<&'a str> {
        let found = self.packages.iter().find(|(_, package)| package["name"] == name);
        found.map(|(id, _)| *id).with_context(|| format!("the workspace has no crate {name}"))
    }

    fn edges(&self, id: &str, edges: Edges) -> impl Iterator<Item = &'a str> {
        let deps = self.nodes.get(id).and_then(|node| node["deps"].as_array());
        deps.into_iter().flatten().filter_map(move |dep| {
            let id = dep["pkg"].as_str()?;
            let kinds = dep["dep_kinds"].as_array()?;
            let linked = kinds.iter().any(|kind| kind["kind"].is_null());
            let builds = kinds.iter().any(|kind| kind["kind"] == "build");
            (linked || edges == Edges::All && builds).then_some(id)
        })
    }

    fn reach(&self, roots: &[&'a str], edges: Edges) -> BTreeSet<&'a str> {
        let (mut found, mut next) = (BTreeSet::new(), roots.to_vec());
        while let Some(id) = next.pop() {
            let passed_over = edges == Edges::Linked && self.is_macro(id);
            if !passed_over && found.insert(id) {
                next.extend(self.edges(id, edges));
            }
        }
        found
    }

    fn is_macro(&self, id: &str) -> bool {
        let targets = self.packages.get(id).and_then(|package| package["targets"].as_array());
        let kinds = targets.into_iter().flatten().filter_map(|target| target["kind"].as_array());
        kinds.flatten().any(|kind| kind == "proc-macro")
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("cargo's metadata has no {key} in {value}"))
}

/// The name by which a list refers to a crate: its package URL.
fn reference(package: &Value) -> Result<String> {
    Ok(format!("pkg:cargo/{}@{}", text(package, "name")?, text(package, "version")?))
}

fn component(package: &Value, scope: &str, checksums: &BTreeMap<(&str, &str), &str>) -> Result<Value> {
    let (name, version) = (text(package, "name")?, text(package, "version")?);
    let reference = reference(package)?;
    let mut component = json!({
        "type": "library", "bom-ref": reference, "name": name, "version": version, "scope": scope, "purl": reference,
    });
    if let Some(license) = package["license"].as_str() {
        // An older way to write it.
        let expression = license.replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if let Some(checksum) = checksums.get(&(name, version)) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    Ok(component)
}

/// The checksums in Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let value = |block: &'_ str, key: &str| -> Option<(usize, usize)> {
        let start = block.find(&format!("\n{key} = \""))? + key.len() + 5;
        Some((start, start + block[start..].find('"')?))
    };
    let entry = |block| {
        let of = |key| value(block, key).map(|(start, end)| &block[start..end]);
        Some(((of("name")?, of("version")?), of("checksum")?))
    };
    lock.split("[[package]]").filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::SHIPPED;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"00ff\"\n\
        dependencies = [\n \"derive\",\n]\n\n[[package]]\nname = \"fairlead-agent\"\nversion = \"0.1.0\"\n";

    fn metadata() -> Value {
        let package = |id: &str, name: &str, kind: &str| {
            json!({ "id": id, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
                    "targets": [{ "kind": [kind] }] })
        };
        let dep = |id: &str, kind: Value| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        json!({
            "packages": [
                package("a", "fairlead-agent", "bin"), package("s", "serde", "lib"), package("d", "derive", "proc-macro"),
                package("q", "quote", "lib"), package("c", "cc", "lib"), package("t", "tempfile", "lib"),
                package("o", "other", "lib"),
            ],
            "resolve": { "nodes": [
                { "id": "a", "deps": [dep("s", json!(null)), dep("t", json!("dev")), dep("c", json!("build"))] },
                { "id": "s", "deps": [dep("d", json!(null))] },
                { "id": "d", "deps": [dep("q", json!(null))] },
                { "id": "o", "deps": [] },
            ] },
        })
    }

    fn listed() -> Value {
        let origin =
            Origin { version: "1".into(), revision: "abc".into(), created: "2026-01-02T03:04:05Z".into() };
        let native = Native::from([("glibc".to_owned(), "2.36".to_owned())]);
        list(&SHIPPED[2], &origin, &metadata(), LOCK, &native).unwrap()
    }

    #[test]
    fn what_is_linked_in_is_told_from_what_only_builds() {
        let list = listed();
        let components = list["components"].as_array().unwrap();
        let scopes: BTreeMap<&str, &str> =
            components.iter().map(|c| (c["name"].as_str().unwrap(), c["scope"].as_str().unwrap())).collect();
        let wanted = [
            ("cc", "excluded"),
            ("derive", "excluded"),
            ("glibc", "required"),
            ("quote", "excluded"),
            ("serde", "required"),
        ];
        assert_eq!(scopes, wanted.into());
    }

    #[test]
    fn a_crate_has_its_url_licence_and_checksum_and_dependencies_refer_to_it() {
        let list = listed();
        let serde = list["components"].as_array().unwrap().iter().find(|c| c["name"] == "serde").unwrap();
        assert_eq!(serde["purl"], "pkg:cargo/serde@1.0.0");
        assert_eq!(serde["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(serde["hashes"][0]["content"], "00ff");
        let of = |name: &str| {
            let all = list["dependencies"].as_array().unwrap();
            all.iter().find(|d| d["ref"] == format!("pkg:cargo/{name}@1.0.0")).unwrap()["dependsOn"].clone()
        };
        assert_eq!(of("fairlead-agent"), json!(["pkg:cargo/cc@1.0.0", "pkg:cargo/serde@1.0.0"]));
    }

    #[test]
    fn metadata_of_another_shape_is_refused() {
        let origin = Origin { version: "1".into(), revision: "a".into(), created: "b".into() };
        let error = list(&SHIPPED[0], &origin, &metadata(), LOCK, &Native::new()).unwrap_err();
        assert!(error.to_string().contains("fairlead-device-plugin"), "{error}");
        assert!(list(&SHIPPED[0], &origin, &json!({}), LOCK, &Native::new()).is_err());
    }
}
