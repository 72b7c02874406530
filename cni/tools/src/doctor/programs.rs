//! The folder of CNI plugins: our program, its copy, the aliases that lead to it, and whether it answers.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use fairlead_cni::{
    alone::Plugin,
    cli::tools::HIDDEN,
    install::{PLUGINS, REPLACED},
    meta::{config::TYPE, multus},
};
use serde_json::Value;

use super::Node;
use crate::finding::Finding;

/// How long a program may take to say which versions it speaks.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
/// What puts all of this right.
const INSTALL: &str = "see that the DaemonSet fairlead-cni runs here, or call `fairlead install`";

/// What is at a program's place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    Missing,
    /// Why it cannot be executed.
    Bad(String),
    There,
}

/// What is at an alias' place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Alias {
    Ours,
    Others,
    /// A link that leads nowhere, with its target.
    Dangling(String),
}

/// What is in the folder.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    folder: PathBuf,
    main: Program,
    copy: Program,
    /// Whether the copy is as the program; none where one of them cannot be read.
    is_same: Option<bool>,
    /// What it says of itself: the versions of CNI that it speaks.
    versions: Result<Vec<String>, String>,
    /// Its own version.
    version: Result<String, String>,
    has_tools: bool,
    aliases: Vec<(String, Alias)>,
    replaced: Vec<String>,
}

impl Facts {
    pub(super) fn gather(node: &Node) -> Self {
        let at = |name: &str| node.root.path(&node.bin).join(name);
        let main = program(&at(TYPE));
        let copy = program(&at(PLUGINS));
        let read = |name: &str| fs::read(at(name)).ok();
        let asked = |envs: &[(&str, &str)]| match main {
            Program::There => run(&at(TYPE), envs),
            _ => Err("it is not there".to_owned()),
        };
        let version = asked(&[]).and_then(|(_, said)| {
            let version = said.split_whitespace().nth(1).map(|word| word.trim_end_matches(':').to_owned());
            version.ok_or_else(|| format!("it says {said:?} of itself"))
        });
        let mut names: Vec<&str> = Plugin::names().chain(multus::NAMES).collect();
        names.sort_unstable();
        Self {
            folder: node.bin.clone(),
            is_same: read(TYPE).zip(read(PLUGINS)).map(|(one, other)| one == other),
            versions: asked(&[("CNI_COMMAND", "VERSION")]).and_then(|(answer, _)| versions(&answer)),
            version,
            has_tools: program(&at(HIDDEN)) == Program::There,
            aliases: names.iter().filter_map(|name| Some(((*name).to_owned(), alias(&at(name))?))).collect(),
            replaced: node.root.names(node.bin.join(REPLACED)),
            main,
            copy,
        }
    }

    fn names(&self, is: impl Fn(&Alias) -> bool) -> Vec<&str> {
        self.aliases.iter().filter(|(_, alias)| is(alias)).map(|(name, _)| name.as_str()).collect()
    }
}

fn program(path: &Path) -> Program {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Program::Missing,
        Err(error) => Program::Bad(error.to_string()),
        Ok(found) if !found.is_file() => Program::Bad("it is no file".into()),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Program::Bad(format!(
            "its mode is {:o}: it cannot be executed",
            found.permissions().mode() & 0o7777
        )),
        Ok(_) => Program::There,
    }
}

fn alias(path: &Path) -> Option<Alias> {
    fs::symlink_metadata(path).ok()?;
    match fs::read_link(path) {
        Ok(target) if target == Path::new(PLUGINS) => Some(Alias::Ours),
        Ok(target) if !path.exists() => Some(Alias::Dangling(target.display().to_string())),
        _ => Some(Alias::Others),
    }
}

fn versions(answer: &str) -> Result<Vec<String>, String> {
    let document: Value =
        serde_json::from_str(answer).map_err(|error| format!("it answers {answer:?}: {error}"))?;
    let list = document["supportedVersions"].as_array().ok_or_else(|| format!("it answers {answer}"))?;
    Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// What a program prints, on standard output and standard error.
fn run(program: &Path, envs: &[(&str, &str)]) -> Result<(String, String), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut child = Command::new(program)
        .env_remove("CNI_COMMAND")
        .envs(envs.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // They say a line or two, which a pipe holds.
    if !ends(&mut child).map_err(failed)? {
        return Err(format!("it did not end within {} s", LIMIT.as_secs()));
    }
    let read = |pipe: Option<&mut dyn Read>| {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            pipe.take(1 << 16).read_to_end(&mut bytes).map_err(failed)?;
        }
        Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let out = read(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read))?;
    let error = read(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read))?;
    Ok((out, error))
}

/// Waits for a program's end, for so long; after that it is ended.
fn ends(child: &mut Child) -> std::io::Result<bool> {
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
    Ok(true)
}

/// Says what of it is not as `fairlead install` leaves it.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let shown = |name: &str| facts.folder.join(name).display().to_string();
    let main = shown(TYPE);
    match &facts.main {
        Program::Missing => {
            return vec![Finding::error(
                "program.file",
                format!("{main} is missing: no pod can start"),
                INSTALL,
            )];
        }
        Program::Bad(why) => return vec![Finding::error("program.file", format!("{main}: {why}"), INSTALL)],
        Program::There => {}
    }
    let mut findings = vec![answers(facts, &main)];
    findings.extend(version(facts, &main));
    findings.extend(aliases(facts, &shown(PLUGINS)));
    if !facts.has_tools {
        findings.push(Finding::info(
            "program.tools",
            format!("{} is not there: this program is not one that `fairlead install` placed", shown(HIDDEN)),
        ));
    }
    findings
}

fn answers(facts: &Facts, main: &str) -> Finding {
    match &facts.versions {
        Err(why) => Finding::error("program.file", format!("{main} does not answer VERSION: {why}"), INSTALL),
        Ok(versions) if !versions.iter().any(|version| version == "1.0.0") => {
            let seen = format!("{main} does not speak CNI 1.0.0, only {}", versions.join(", "));
            Finding::error("program.file", seen, INSTALL)
        }
        Ok(versions) => {
            Finding::ok("program.file", format!("{main} is there and speaks CNI {}", versions.join(", ")))
        }
    }
}

fn version(facts: &Facts, main: &str) -> Option<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    Some(match facts.version.as_ref().ok()? {
        version if version == own => {
            Finding::ok("program.version", format!("{main} is of version {version}"))
        }
        version => Finding::warning(
            "program.version",
            format!("{main} is of version {version}, this program of {own}: an upgrade has not come through"),
            INSTALL,
        ),
    })
}

fn aliases(facts: &Facts, copy: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = facts.names(|alias| *alias == Alias::Ours);
    if !ours.is_empty() {
        let bad = match (&facts.copy, facts.is_same) {
            (Program::Missing, _) => Some("is missing".to_owned()),
            (Program::Bad(why), _) => Some(format!("cannot be used: {why}")),
            (Program::There, Some(false)) => {
                Some("is another program than fairlead: somebody wrote over it".to_owned())
            }
            _ => None,
        };
        findings.push(match bad {
            Some(why) => {
                let seen = format!("{copy}, which {} lead to, {why}", ours.join(", "));
                Finding::error("program.aliases", seen, INSTALL)
            }
            None => Finding::ok("program.aliases", format!("{} names lead to fairlead", ours.len())),
        });
    }
    let dangling = facts.aliases.iter().filter_map(|(name, alias)| match alias {
        Alias::Dangling(target) => Some(format!("{name} (to {target})")),
        _ => None,
    });
    let dangling: Vec<String> = dangling.collect();
    if !dangling.is_empty() {
        findings.push(Finding::warning(
            "program.aliases",
            format!("links in {} that lead nowhere: {}", facts.folder.display(), dangling.join(", ")),
            "remove them, or install what they should lead to",
        ));
    }
    let others = facts.names(|alias| *alias == Alias::Others);
    if !others.is_empty() {
        let seen = format!("plugins of others in {}: {}", facts.folder.display(), others.join(", "));
        findings.push(Finding::info("program.others", seen));
    }
    if !facts.replaced.is_empty() {
        let seen = format!(
            "plugins that made place for ours, and come back with `fairlead uninstall`: {}",
            facts.replaced.join(", ")
        );
        findings.push(Finding::info("program.replaced", seen));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{
        super::testing::{MadeNode, assert_found},
        *,
    };
    use crate::finding::Severity;

    /// Answers as our program does.
    fn script(version: &str) -> String {
        format!(
            "#!/bin/sh\nif [ \"$CNI_COMMAND\" = VERSION ]; then echo '{{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.0.0\"]}}'\n\
             else echo 'Fairlead {version}: x' >&2; fi\n"
        )
    }

    fn well() -> MadeNode {
        let node = MadeNode::new();
        for name in ["fairlead", ".fairlead-plugins", ".fairlead-tools"] {
            node.program(&format!("/opt/cni/bin/{name}"), &script(env!("CARGO_PKG_VERSION")));
        }
        symlink(PLUGINS, node.at("/opt/cni/bin/macvlan")).unwrap();
        node
    }

    #[track_caller]
    fn has(node: &MadeNode, id: &str, severity: Severity, word: &str) {
        assert_found(&judge(&Facts::gather(&node.node())), id, severity, &[word]);
    }

    #[test]
    fn what_install_leaves_is_good() {
        let all = judge(&Facts::gather(&well().node()));
        assert!(all.iter().all(|finding| finding.severity == Severity::Ok), "{all:#?}");
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_program_that_is_missing_or_cannot_be_used_is_an_error() {
        let node = well();
        node.program("/opt/cni/bin/fairlead", "#!/bin/sh\necho no\n");
        has(&node, "program.file", Severity::Error, "does not answer VERSION");
        node.mode("/opt/cni/bin/fairlead", 0o644);
        has(&node, "program.file", Severity::Error, "mode is 644");
        node.remove("/opt/cni/bin/fairlead");
        has(&node, "program.file", Severity::Error, "is missing: no pod can start");
        node.program("/opt/cni/bin/fairlead", &script("0.0.1"));
        has(&node, "program.version", Severity::Warning, "of version 0.0.1");
    }

    #[test]
    fn aliases_that_lead_elsewhere_are_told() {
        let node = well();
        symlink("gone", node.at("/opt/cni/bin/vlan")).unwrap();
        node.program("/opt/cni/bin/bridge", "upstream's");
        node.program("/opt/cni/bin/.fairlead-replaced/ptp", "upstream's");
        has(&node, "program.aliases", Severity::Warning, "vlan (to gone)");
        has(&node, "program.others", Severity::Info, "bridge");
        has(&node, "program.replaced", Severity::Info, "ptp");
        node.program("/opt/cni/bin/.fairlead-plugins", "another");
        has(&node, "program.aliases", Severity::Error, "somebody wrote over it");
        node.remove("/opt/cni/bin/.fairlead-plugins");
        has(&node, "program.aliases", Severity::Error, "macvlan lead to, is missing");
    }

    #[test]
    fn without_an_installed_copy_of_the_tools_that_is_said() {
        let node = well();
        node.remove("/opt/cni/bin/.fairlead-tools");
        has(&node, "program.tools", Severity::Info, "is not there");
    }
}
