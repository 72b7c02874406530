//! A node as it is: what `ip` shows of namespaces, and every file of some folders.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::Namespace;

/// See above.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// What is shown or lies there, and how often.
    items: BTreeMap<String, usize>,
}

impl Snapshot {
    pub(crate) fn take(namespaces: [(&str, Option<&Namespace>); 2], folders: &[PathBuf]) -> Self {
        let mut items = Vec::new();
        for folder in folders {
            read(folder, &mut items);
        }
        for (name, namespace) in namespaces {
            let Some(namespace) = namespace else { continue };
            let shown = namespace.netns().run(show).unwrap();
            // How long an address is still valid counts down.
            let lines = shown.lines().map(str::trim).filter(|line| !line.starts_with("valid_lft"));
            items.extend(lines.map(|line| format!("{name}: {}", without_carrier(line))));
        }
        let mut counted = BTreeMap::new();
        for item in items {
            *counted.entry(item).or_default() += 1;
        }
        Self { items: counted }
    }

    /// What is otherwise now, a line for each thing.
    pub(crate) fn differences(&self, now: &Self) -> String {
        let only = |these: &Self, those: &Self, sign: &str| -> Vec<String> {
            let is_other = |(item, count): &(&String, &usize)| those.items.get(*item) != Some(*count);
            these.items.iter().filter(is_other).map(|(item, _)| format!("{sign} {item}")).collect()
        };
        [only(self, now, "-"), only(now, self, "+")].concat().join("\n")
    }
}

/// A line without what it says of carrier: the kernel finds that out by itself, and late.
fn without_carrier(line: &str) -> String {
    let parts = line.split_once('<').and_then(|(head, rest)| Some((head, rest.split_once('>')?)));
    let Some((head, (flags, rest))) = parts else { return line.to_owned() };
    let is_set = |flag: &&str| !["NO-CARRIER", "M-DOWN", "LOWER_UP"].contains(flag);
    let flags: Vec<&str> = flags.split(',').filter(is_set).collect();
    let mut words: Vec<&str> = rest.split(' ').collect();
    if let Some(state) = words.iter().position(|word| *word == "state") {
        words.drain(state..words.len().min(state + 2));
    }
    format!("{head}<{}>{}", flags.join(","), words.join(" "))
}

/// Links with all their settings (those of VFs, too), addresses, routes of all tables, rules.
fn show() -> String {
    let mut child = Command::new("ip")
        .args(["-d", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let commands = "link show\naddress show\nroute show table all\nrule show\n";
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn read(folder: &Path, items: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // What host-local keeps for good, and our index of it; and what is kept for people.
        if name == "lock" || name == "history" || name == ".fairlead" || name.starts_with("last_reserved_ip")
        {
            continue;
        }
        match fs::read_link(&path) {
            Ok(target) => items.push(format!("{} -> {}", path.display(), target.display())),
            Err(_) if path.is_dir() => read(&path, items),
            Err(_) => {
                let content = fs::read(&path).unwrap();
                items.push(format!("{}: {}", path.display(), String::from_utf8_lossy(&content)));
            }
        }
    }
}
