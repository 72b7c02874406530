//! The repository's documents: what they link to is there, and the options that they write are options.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use fairlead_deploy_checks::{deploy, markdown, read};

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
