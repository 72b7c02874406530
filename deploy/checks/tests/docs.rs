//! The repository's documents: what they link to is there, and the options that they write are options.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use fairlead_cni::{
    agent_protocol::PodRef,
    networks::{
        annotation::{self, DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION},
        nad::RESOURCE_ANNOTATION,
    },
    status::{NetworkStatus, STATUS_ANNOTATION},
};
use fairlead_deploy_checks::{deploy, markdown, parse, read};
use serde_json::Value;

fn root() -> PathBuf {
    fs::canonicalize(deploy().join("..")).unwrap()
}

/// Every document, but those of folders that git does not know.
fn documents() -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                collect(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root(), &mut found);
    found.sort();
    assert!(found.len() > 10, "documents were not found: {found:?}");
    found
}

#[test]
fn what_documents_link_to_is_there() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = read(&document).unwrap();
        for link in markdown::links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            if !target.exists() {
                wrong.push(format!("{}: {link}: no such file", document.display()));
            } else if !anchor.is_empty() && !markdown::anchors(&read(&target).unwrap()).contains(anchor) {
                wrong.push(format!("{}: {link}: no such heading", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The options of each program, by the reference, which `xtask reference --check` compares with the sources.
fn options() -> BTreeMap<String, BTreeSet<String>> {
    let reference = read(&deploy().join("docs/configuration.md")).unwrap();
    let (_, lines) = reference.split_once("\n## Command lines\n").unwrap();
    let mut options = BTreeMap::<String, BTreeSet<String>>::new();
    let mut program = String::new();
    for line in lines.lines() {
        match line.strip_prefix("### ") {
            Some(name) => program = name.to_owned(),
            None => options.entry(program.clone()).or_default().extend(markdown::options_of(line)),
        }
    }
    options.remove("");
    for known in options.values_mut() {
        known.extend(["--help".to_owned(), "--version".to_owned()]);
    }
    assert_eq!(options.len(), 5, "programs of the reference: {:?}", options.keys());
    options
}

#[test]
fn options_that_documents_write_after_a_program_are_options_of_it() {
    let options = options();
    let programs: Vec<&str> = options.keys().map(String::as_str).collect();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in documents() {
        for call in markdown::calls(&read(&document).unwrap(), &programs) {
            for option in markdown::options_of(&call.arguments) {
                seen += 1;
                if !options[&call.program].contains(&option) {
                    wrong.push(format!("{}: {} {option}", document.display(), call.program));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such options:\n{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} options were seen");
}

/// Code in annotations.md: what is indented, and what is fenced as JSON.
fn annotation_examples() -> (String, BTreeMap<String, Vec<String>>) {
    let text = read(&deploy().join("docs/annotations.md")).unwrap();
    let mut examples = BTreeMap::<String, Vec<String>>::new();
    for block in text.split("\n\n").filter(|block| block.starts_with("    ")) {
        let block: Vec<&str> = block.lines().map(|line| &line[4..]).collect();
        for (key, value) in parse(&block.join("\n")).unwrap()[0].as_object().unwrap() {
            examples.entry(key.clone()).or_default().push(value.as_str().unwrap().to_owned());
        }
    }
    (text, examples)
}

#[test]
fn annotations_are_documented_and_their_examples_are_right() {
    let (text, examples) = annotation_examples();
    for key in [NETWORKS_ANNOTATION, DEFAULT_NETWORK_ANNOTATION, STATUS_ANNOTATION, RESOURCE_ANNOTATION] {
        assert!(text.contains(&format!("| `{key}` | ")), "{key} has no row");
    }
    let pod = PodRef { namespace: "default".into(), name: "a".into(), uid: String::new() };
    for value in &examples[NETWORKS_ANNOTATION] {
        assert!(!annotation::parse(value, &pod).unwrap().is_empty(), "{value}");
    }
    for value in &examples[DEFAULT_NETWORK_ANNOTATION] {
        assert!(annotation::parse_default(value, &pod, "kube-system").unwrap().is_some(), "{value}");
    }
    assert_eq!(examples[RESOURCE_ANNOTATION], ["intel.com/sriov"]);
    let json = text.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let raw: Value = serde_json::from_str(json).unwrap();
    let status: Vec<NetworkStatus> = serde_json::from_value(raw.clone()).unwrap();
    assert_eq!(serde_json::to_value(status).unwrap(), raw, "network-status has exactly these keys");
    let keys: BTreeSet<&String> =
        raw.as_array().unwrap().iter().flat_map(|e| e.as_object().unwrap().keys()).collect();
    assert_eq!(keys.len(), 9, "the example has every key");
    for key in keys {
        assert!(text.contains(&format!("| `{key}` | ")), "network-status: {key} has no row");
    }
}
