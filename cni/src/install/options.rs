//! The command line of `install` and `uninstall`.

use std::{path::PathBuf, time::Duration};

use super::{
    Folders, Install,
    remove::Uninstall,
    section::{CONF_DIR, Source},
};
use crate::{
    alone::Plugin,
    cli::{Answer, tools},
    meta::multus,
    protocol::error::CniError,
};

/// The part of the usage text that is about these two.
pub const USAGE: &str = "\
usage: fairlead install | uninstall  [OPTION]...

  install     places this program and its aliases, and our configuration around the node's primary network
  uninstall   removes them again, and says which pods still need the program

  --bin-dir DIR            folder of CNI plugins (/opt/cni/bin)
  --conf-dir DIR           folder of CNI configurations (/etc/cni/net.d)
  --root DIR               where the node's root is seen from here: all folders above are below it (/)
 install:
  --watch                  stays, and puts right what others undo
  --section JSON|FILE      options of our section, as an object or a file that holds one
  --wait SECONDS           how long a primary network is waited for (120)
  --aliases LIST|all|none  upstream's names under which the program can be called (all)
  --replace LIST|all|none  plugins of others that make place for an alias; they are kept for what we do not do (none)
  --program FILE           what is placed (this program), and with it fairlead-tools, as .fairlead-tools, where that is beside it
 uninstall:
  --state-dir DIR          where records are kept (what the section says, or /var/lib/fairlead)
  --force                  removes the program although pods need it";

/// A call of `install` or `uninstall`.
#[derive(Debug, PartialEq, Eq)]
pub struct Job(What);

#[derive(Debug, PartialEq, Eq)]
enum What {
    Install(Install),
    Uninstall(Uninstall),
    Help,
}

impl Job {
    /// Reads the arguments after the program's name; none when the first is neither of the two.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: &[String]) -> Option<Result<Self, String>> {
        let (verb, rest) = arguments.split_first()?;
        let verb = if rest.iter().any(|word| word == "--help" || word == "-h") { "help" } else { verb };
        match verb {
            "help" if arguments[0].ends_with("install") => Some(Ok(Self(What::Help))),
            "install" => Some(install(rest).map(What::Install).map(Self)),
            "uninstall" => Some(uninstall(rest).map(What::Uninstall).map(Self)),
            _ => None,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// What failed before anything could be done.
    pub fn run(&self) -> Result<Answer, CniError> {
        match &self.0 {
            What::Install(install) => install.run(),
            What::Uninstall(uninstall) => uninstall.run(),
            What::Help => Ok(Answer { text: USAGE.into(), well: true }),
        }
    }
}

/// Every name that can be an alias.
fn aliases() -> Vec<&'static str> {
    let mut names: Vec<&str> = Plugin::names().chain(multus::NAMES).collect();
    names.sort_unstable();
    names
}

fn folders() -> Folders {
    Folders { root: "/".into(), bin: "/opt/cni/bin".into(), conf: CONF_DIR.into() }
}

/// Reads one of the options that both have; whether it is one.
fn common(
    folders: &mut Folders,
    option: &str,
    value: &mut dyn FnMut() -> Result<String, String>,
) -> Result<bool, String> {
    let target = match option {
        "--bin-dir" => &mut folders.bin,
        "--conf-dir" => &mut folders.conf,
        "--root" => &mut folders.root,
        _ => return Ok(false),
    };
    *target = absolute(option, &value()?)?;
    Ok(true)
}

fn absolute(option: &str, text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(format!("{option} \"{text}\" must start with a slash")),
    }
}

pub(super) fn install(arguments: &[String]) -> Result<Install, String> {
    let all = || aliases().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut install = Install {
        folders: folders(),
        // Also when its file is gone.
        program: "/proc/self/exe".into(),
        tools: std::env::current_exe().ok().as_deref().and_then(tools::beside),
        aliases: all(),
        replace: Vec::new(),
        section: Source::Text("{}".into()),
        wait: Duration::from_secs(120),
        watch: false,
    };
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().cloned().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--watch" => install.watch = true,
            "--program" => {
                install.program = value()?.into();
                install.tools = tools::beside(&install.program);
            }
            "--section" => install.section = Source::of(value()?),
            "--wait" => {
                let text = value()?;
                let seconds =
                    text.parse().map_err(|_| format!("--wait \"{text}\" is no number of seconds"))?;
                install.wait = Duration::from_secs(seconds);
            }
            "--aliases" => install.aliases = list(option, &value()?)?,
            "--replace" => install.replace = list(option, &value()?)?,
            other if common(&mut install.folders, other, &mut value)? => {}
            other => return Err(unknown(other)),
        }
    }
    if let Source::Text(_) = install.section {
        // A mistake on the command line is one of the call.
        install.section.read(&install.folders.conf).map_err(|error| error.to_string())?;
    }
    Ok(install)
}

fn uninstall(arguments: &[String]) -> Result<Uninstall, String> {
    let mut uninstall = Uninstall { folders: folders(), state: None, force: false };
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().cloned().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--force" => uninstall.force = true,
            "--state-dir" => uninstall.state = Some(absolute(option, &value()?)?),
            other if common(&mut uninstall.folders, other, &mut value)? => {}
            other => return Err(unknown(other)),
        }
    }
    Ok(uninstall)
}

fn unknown(option: &str) -> String {
    format!("\"{option}\" is not understood")
}

fn list(option: &str, text: &str) -> Result<Vec<String>, String> {
    let known = aliases();
    let names: Vec<&str> = match text {
        "all" => known.clone(),
        "none" => Vec::new(),
        text => text.split(',').map(str::trim).collect(),
    };
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!("{option}: \"{name}\" is none of {}", known.join(", ")));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<Job, String> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Job::parse(&arguments).unwrap()
    }

    #[test]
    fn every_folder_is_an_option_and_is_looked_for_below_the_root() {
        let Job(What::Install(install)) = parse(
            r#"install --watch --root /host --bin-dir /b --conf-dir /c --wait 5 --replace multus,multus-shim --section {"builtins":["sriov"]}"#,
        )
        .unwrap() else {
            panic!()
        };
        assert_eq!(install.folders.here(&install.folders.bin), Path::new("/host/b"));
        assert_eq!(install.folders.here(&install.folders.conf), Path::new("/host/c"));
        assert_eq!((install.watch, install.wait), (true, Duration::from_secs(5)));
        assert_eq!(install.replace, ["multus", "multus-shim"]);
        let Job(What::Uninstall(uninstall)) = parse("uninstall --state-dir /s --force").unwrap() else {
            panic!()
        };
        assert_eq!((uninstall.state, uninstall.force), (Some("/s".into()), true));
    }

    #[test]
    fn the_aliases_are_upstreams_names_and_can_be_chosen() {
        let Job(What::Install(install)) = parse("install").unwrap() else { panic!() };
        for name in ["bridge", "host-local", "loopback", "macvlan", "multus-shim", "sriov", "static"] {
            assert!(install.aliases.iter().any(|alias| alias == name), "{name}");
        }
        assert!(!install.aliases.iter().any(|alias| alias == "fairlead") && install.replace.is_empty());
        let Job(What::Install(install)) = parse("install --aliases none").unwrap() else { panic!() };
        assert!(install.aliases.is_empty());
    }

    #[test]
    fn wrong_calls_are_explained() {
        for (text, word) in [
            ("install --bin-dir", "needs a value"),
            ("install --bin-dir opt", "slash"),
            ("install --aliases calico", "none of"),
            ("install --wait soon", "seconds"),
            ("install --section {", "JSON"),
            ("install more", "\"more\""),
            ("uninstall --watch", "\"--watch\""),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}");
        }
        assert!(Job::parse(&["list".to_owned()]).is_none());
    }
}
