//! What the manifests and examples configure, read by those who will read it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::path::Path;

use fairlead_cni::{install, meta::config::MetaConfig};
use fairlead_deploy_checks::{deploy, kustomize, read, yaml_files};
use fairlead_resource_config::{config, provision::policy};
use serde_json::Value;

fn pools(text: &str, path: &Path) {
    let loaded = config::parse(text, path, config::DEFAULT_PREFIX).unwrap();
    assert!(loaded.warnings.is_empty(), "{}: {:?}", path.display(), loaded.warnings);
}

fn provisioning(text: &str, path: &Path) {
    let loaded = policy::parse(text, path).unwrap();
    assert!(loaded.warnings.is_empty(), "{}: {:?}", path.display(), loaded.warnings);
}

/// Options of our section, as the installer reads them.
fn section(text: &str) {
    let arguments = ["install", "--section", text].map(str::to_owned);
    install::Job::parse(&arguments).unwrap().unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_config_map_is_understood_by_its_reader() {
    let mut read = Vec::new();
    for overlay in ["all", "provision", "k3s", "openshift", "talos", "bottlerocket"] {
        for object in kustomize::render(&deploy().join("kustomize/overlays").join(overlay)).unwrap() {
            if object["kind"] != "ConfigMap" {
                continue;
            }
            for (key, text) in object["data"].as_object().unwrap() {
                let (path, text) = (Path::new(key), text.as_str().unwrap());
                match key.as_str() {
                    "config.json" => pools(text, path),
                    "section.json" => section(text),
                    "provision.yaml" => provisioning(text, path),
                    other => panic!("nobody reads {other}"),
                }
                read.push(key.clone());
            }
        }
    }
    read.sort();
    read.dedup();
    assert_eq!(read, ["config.json", "provision.yaml", "section.json"]);
}

#[test]
fn the_examples_files_are_understood_by_their_readers() {
    let policies = deploy().join("provision/policy.yaml");
    provisioning(&read(&policies).unwrap(), &policies);
    let demo = deploy().join("examples/first-pods/pools.json");
    pools(&read(&demo).unwrap(), &demo);
    let ours: Value =
        serde_json::from_str(&read(&deploy().join("examples/first-pods/00-fairlead.conflist")).unwrap())
            .unwrap();
    let mut call = ours["plugins"][0].clone();
    call["name"] = ours["name"].clone();
    call["cniVersion"] = ours["cniVersion"].clone();
    MetaConfig::parse(&call.to_string()).unwrap();
}

/// A typing error in a chart's or manifest's folder would go unnoticed if the folder were not looked at.
#[test]
fn the_lists_of_files_are_not_empty() {
    for folder in ["kustomize", "examples", "chart/fairlead/templates"] {
        assert!(yaml_files(&deploy().join(folder)).unwrap().len() > 5, "{folder}");
    }
}
