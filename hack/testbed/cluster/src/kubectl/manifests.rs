//! Files of objects: YAML with several documents, or JSON.

use std::{
    fs,
    io::{Read, stdin},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    display,
    rest::{Rest, Which, kind_of},
};

/// Creates or changes every object, and says which of the two.
pub(super) async fn apply(rest: &Rest, namespace: &str, files: &[PathBuf]) -> Result<()> {
    for object in read_all(files)? {
        let which = named(namespace, &object)?;
        let text = display::kind_name(which.kind);
        match rest.find(&which).await? {
            None => {
                rest.create(which.kind, &which.namespace, &object).await?;
                println!("{text}/{} created", which.name);
            }
            Some(before) => {
                let after = rest.merge(&which, &object).await?;
                let version = |o: &Value| o["metadata"]["resourceVersion"].clone();
                let done = if version(&before) == version(&after) { "unchanged" } else { "configured" };
                println!("{text}/{} {done}", which.name);
            }
        }
    }
    Ok(())
}

/// The names of all objects in files.
pub(super) fn which(namespace: &str, files: &[PathBuf]) -> Result<Vec<Which>> {
    read_all(files)?.iter().map(|object| named(namespace, object)).collect()
}

fn named(namespace: &str, object: &Value) -> Result<Which> {
    let kind = kind_of(object)?;
    let name = object["metadata"]["name"].as_str().context("an object without metadata.name")?;
    Ok(Which::new(kind, object["metadata"]["namespace"].as_str().unwrap_or(namespace), name))
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in files {
        let text = read(file).with_context(|| format!("read {}", file.display()))?;
        all.extend(parse(&text).with_context(|| format!("{} is no YAML of objects", file.display()))?);
    }
    Ok(all)
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file)
}

/// Reads all documents; empty ones are skipped and lists unfolded.
fn parse(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut objects = Vec::new();
    for document in documents {
        match document["items"].as_array() {
            Some(items) if document["kind"] == "List" => objects.extend(items.iter().cloned()),
            _ if document.is_null() => {}
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"# a comment
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: net
  annotations:
    k8s.v1.cni.cncf.io/resourceName: intel.com/sriov
spec:
  config: '{
      "type": "sriov",
      "vlan": 100
    }'
---
---
apiVersion: v1
kind: Pod
metadata: { name: p, namespace: x }
spec:
  containers:
  - name: c
    image: i
    resources: { limits: { intel.com/sriov: '1', cpu: 500m } }
"#;

    #[test]
    fn documents() {
        let objects = parse(NETWORK).unwrap();
        assert_eq!(objects.len(), 2);
        let config: Value = serde_json::from_str(objects[0]["spec"]["config"].as_str().unwrap()).unwrap();
        assert_eq!(config["vlan"], 100);
        assert_eq!(objects[1]["spec"]["containers"][0]["resources"]["limits"]["intel.com/sriov"], "1");
        let which = named("default", &objects[1]).unwrap();
        assert_eq!((which.kind.kind, which.namespace.as_str(), which.name.as_str()), ("Pod", "x", "p"));
        assert_eq!(named("default", &objects[0]).unwrap().namespace, "default");
    }

    #[test]
    fn json_and_lists() {
        let list = r#"{"kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}]}"#;
        assert_eq!(parse(list).unwrap()[0]["metadata"]["name"], "a");
        assert!(parse("a: [").is_err());
    }

    #[test]
    fn what_is_not_served_is_said() {
        let object =
            serde_json::json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" } });
        assert!(named("default", &object).unwrap_err().to_string().contains("Deployment"));
    }
}
