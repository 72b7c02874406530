//! An OCI image archive: layers, configurations, manifests, and an index that names the images.

use std::{collections::BTreeMap, env::consts, fmt::Write, io};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

/// An image: its name, its layers (by index into the archive's), and how it starts.
#[derive(Debug)]
pub struct Image {
    /// Name and tag.
    pub name: String,
    /// By index into the archive's layers.
    pub layers: Vec<usize>,
    /// What runs.
    pub entrypoint: Vec<String>,
    /// Labels, such as those of `org.opencontainers.image`.
    pub labels: BTreeMap<String, String>,
    /// When it was made, as RFC 3339.
    pub created: String,
}

impl Image {
    /// An image of no particular time, without labels.
    pub fn new(name: impl Into<String>, layers: &[usize], entrypoint: Vec<String>) -> Self {
        Self {
            name: name.into(),
            layers: layers.into(),
            entrypoint,
            labels: BTreeMap::new(),
            created: "1970-01-01T00:00:00Z".into(),
        }
    }
}

/// The archive, and each image's name and digest.
#[derive(Debug)]
pub struct Archive {
    /// The archive's bytes.
    pub tar: Vec<u8>,
    /// Digest of each image by name.
    pub digests: BTreeMap<String, String>,
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the archive. Layers are stored once, however many images have them.
///
/// # Errors
/// When the archive cannot be put together.
pub fn build(layers: &[Vec<u8>], images: &[Image]) -> io::Result<Archive> {
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut add = |bytes: Vec<u8>, media: &str| {
        let digest = digest(&bytes);
        let descriptor = json!({ "mediaType": media, "digest": digest, "size": bytes.len() });
        blobs.insert(digest, bytes);
        descriptor
    };
    let layers: Vec<Value> =
        layers.iter().map(|l| add(l.clone(), "application/vnd.oci.image.layer.v1.tar")).collect();
    let mut manifests = Vec::new();
    for image in images {
        let own: Vec<&Value> = image.layers.iter().filter_map(|i| layers.get(*i)).collect();
        let config =
            add(serde_json::to_vec(&config(image, &own))?, "application/vnd.oci.image.config.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": own,
        });
        let mut descriptor = add(serde_json::to_vec(&manifest)?, MANIFEST);
        // The first is containerd's, the second everybody else's.
        descriptor["annotations"] = json!({ "io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name });
        descriptor["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        manifests.push(descriptor);
    }
    let digests = manifests
        .iter()
        .zip(images)
        .map(|(m, image)| (image.name.clone(), m["digest"].as_str().unwrap_or_default().to_string()));
    let digests = digests.collect();
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", &serde_json::to_vec(&index)?)?;
    for (digest, bytes) in &blobs {
        append(&mut tar, &format!("blobs/{}", digest.replace(':', "/")), bytes)?;
    }
    Ok(Archive { tar: tar.into_inner()?, digests })
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn config(image: &Image, layers: &[&Value]) -> Value {
    // A layer that is not compressed is its own diff ID.
    let diff_ids: Vec<&Value> = layers.iter().map(|l| &l["digest"]).collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": image.created,
        "config": { "Env": [PATH], "Entrypoint": image.entrypoint, "Labels": image.labels },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

/// This machine's, as images call it: what they hold was built here.
fn architecture() -> &'static str {
    match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append(tar: &mut Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

/// The name by which an archive refers to these bytes.
pub fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_string();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_reference_leads_to_a_blob_of_that_digest() {
        let image = |name: &str, layers: &[usize]| Image::new(name, layers, vec!["/bin/sh".into()]);
        let archive =
            build(&[b"one".to_vec(), b"two".to_vec()], &[image("a:1", &[0]), image("b:1", &[0, 1])]).unwrap();
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for entry in tar::Archive::new(archive.tar.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(super::digest(bytes), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let second = &index["manifests"][1];
        assert_eq!(second["annotations"]["io.containerd.image.name"], "b:1");
        assert_eq!(second["digest"], archive.digests["b:1"].as_str());
        let manifest: Value = serde_json::from_slice(&blob(second)).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(blob(&manifest["layers"][1]), b"two");
        assert_eq!(config["rootfs"]["diff_ids"][1], manifest["layers"][1]["digest"]);
        // oci-layout, index.json, two layers, two configurations, two manifests.
        assert_eq!(files.len(), 8);
    }

    #[test]
    fn digests() {
        assert_eq!(digest(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
