//! Manifests: pods, what makes pods, and the networks beside them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use fairlead_cni::{agent_protocol::PodRef, networks::nad::NetworkAttachmentDefinition};
use serde_json::Value;

/// Endings of files in a folder of networks.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];
/// No manifest is that large.
const LARGEST: u64 = 4 << 20;

/// A pod as a manifest has it, or will make it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pod {
    /// Its kind and name in the manifest.
    pub(super) title: String,
    pub(super) reference: PodRef,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) spec: Value,
}

/// What files hold.
#[derive(Debug, Default)]
pub(super) struct Documents {
    pub(super) pods: Vec<Pod>,
    pub(super) networks: Vec<NetworkAttachmentDefinition>,
}

impl Documents {
    /// Reads a manifest; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, or holds what is no manifest.
    pub(super) fn read(&mut self, path: &Path) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = text_of(path).map_err(|error| failed(&error))?;
        // JSON is YAML, too.
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| failed(&error))?;
        let mut all: Vec<&Value> = Vec::new();
        for document in &documents {
            match document["kind"].as_str() {
                Some("List") => all.extend(document["items"].as_array().into_iter().flatten()),
                _ => all.push(document),
            }
        }
        for document in all.into_iter().filter(|document| !document.is_null()) {
            self.take(document).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Reads the networks in a file, or in all files of a folder.
    ///
    /// # Errors
    /// As [`Documents::read`].
    pub(super) fn read_networks(&mut self, path: &Path) -> Result<(), String> {
        if !path.is_dir() {
            return self.read(path);
        }
        let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| {
            let ending = file.extension().unwrap_or_default();
            ENDINGS.iter().any(|known| ending == *known)
        });
        files.sort();
        files.iter().try_for_each(|file| self.read(file))
    }

    fn take(&mut self, document: &Value) -> Result<(), String> {
        let kind =
            document["kind"].as_str().ok_or("a document without `kind`: a Kubernetes manifest is wanted")?;
        let template = match kind {
            "NetworkAttachmentDefinition" => {
                self.networks.push(NetworkAttachmentDefinition::read(document)?);
                return Ok(());
            }
            "Pod" => Some(document),
            "CronJob" => document.pointer("/spec/jobTemplate/spec/template"),
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
                document.pointer("/spec/template")
            }
            // Services and the like, beside them.
            _ => return Ok(()),
        };
        let template = template.ok_or_else(|| format!("this {kind} has no template of pods"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = [&document["metadata"]["name"], &document["metadata"]["generateName"]].map(text).concat();
        let namespace = document["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let annotations = match &template["metadata"]["annotations"] {
            Value::Null => BTreeMap::new(),
            annotations => serde_json::from_value(annotations.clone()).map_err(|error| {
                format!("annotations of {kind} {name}: {error} (each is a text: put it in quotes)")
            })?,
        };
        self.pods.push(Pod {
            title: format!("{kind} {namespace}/{name}"),
            reference: PodRef { namespace, name, uid: String::new() },
            annotations,
            spec: template["spec"].clone(),
        });
        Ok(())
    }
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = match path == Path::new("-") {
        true => io::stdin().take(LARGEST + 1).read_to_string(&mut text)?,
        false => fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?,
    };
    if length as u64 > LARGEST {
        return Err(io::Error::other(format!("more than {LARGEST} bytes: this is no manifest")));
    }
    Ok(text)
}
