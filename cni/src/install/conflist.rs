//! Our configuration among those of others.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    FILE, Install, Look,
    files::{failed, names, put, remove},
    section::{Section, is_ours},
};
use crate::{
    config::{NetworkConfig, PluginConfig},
    meta::{multus, primary},
    protocol::error::{CniError, code},
};

/// Endings of configuration files, as runtimes look for them.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// The configuration of a node, as it is to be.
pub(super) struct Conflist<'a> {
    install: &'a Install,
    /// The folder, as this process sees it.
    dir: PathBuf,
    /// What this process has written or seen to be right.
    good: Option<String>,
    /// Nothing is written.
    is_dry: bool,
}

impl<'a> Conflist<'a> {
    pub(super) fn new(install: &'a Install) -> Self {
        Self { install, dir: install.folders.here(&install.folders.conf), good: None, is_dry: false }
    }

    /// The same, writing nothing.
    pub(super) fn dry(install: &'a Install) -> Self {
        Self { is_dry: true, ..Self::new(install) }
    }

    /// The configuration's text, after [`Conflist::settle`].
    pub(super) fn text(self) -> Option<String> {
        self.good
    }

    /// Writes the configuration where it is missing or otherwise than it should be, and looks at those of others.
    pub(super) fn settle(&mut self, look: &mut Look) -> Result<(), CniError> {
        let conf = &self.install.folders.conf;
        let section = self.install.section.read(conf)?;
        let mut meta = section.meta.clone();
        meta.primary_dir.clone_from(&self.dir);
        let named = meta.policy.cluster_network.take();
        meta.policy.cluster_network = match named {
            Some(path) if path.starts_with('/') => {
                Some(self.install.folders.here(Path::new(&path)).display().to_string())
            }
            // It may have a definition, which only the agent knows.
            Some(_) => {
                self.write(&section, None, look)?;
                return self.look_around(look);
            }
            None => None,
        };
        match primary::load(&meta) {
            Ok(network) => self.write(&section, Some(&network), look)?,
            Err(error) if error.code == code::TRY_AGAIN => {
                look.waits = true;
                look.problems.push(format!("there is no primary network yet: {error}"));
                // Ours stays if it is there: pods that start meanwhile are to wait for the primary network.
                if let Some(text) = self.good.as_ref().filter(|_| !self.dir.join(FILE).exists()) {
                    let why = self.why_missing();
                    put(&self.dir.join(FILE), text.as_bytes(), 0o644)?;
                    look.changes.push(format!("{}: {why}: written again", conf.join(FILE).display()));
                }
            }
            Err(error) => return Err(error),
        }
        self.look_around(look)
    }

    fn write(
        &mut self,
        section: &Section,
        network: Option<&NetworkConfig>,
        look: &mut Look,
    ) -> Result<(), CniError> {
        let (path, shown) = (self.dir.join(FILE), self.install.folders.conf.join(FILE));
        let text = section.document(network);
        let around = match network {
            Some(network) => format!("around network {}", network.name),
            None => "around the network in key clusterNetwork".into(),
        };
        let line = match fs::read_to_string(&path) {
            Ok(there) if there == text => None,
            Ok(there) => Some(match &self.good {
                Some(good) if *good != there => format!("was changed by somebody: written again {around}"),
                _ => format!("written anew {around}"),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(match &self.good {
                Some(_) => format!("{}: written again {around}", self.why_missing()),
                None => format!("written {around}"),
            }),
            // Whatever is there, it is in the place of ours.
            Err(_) => Some(format!("could not be read: written anew {around}")),
        };
        if let Some(line) = line {
            if !self.is_dry {
                put(&path, text.as_bytes(), 0o644)?;
            }
            look.changes.push(format!("{}: {line}", shown.display()));
        }
        self.good = Some(text);
        Ok(())
    }

    /// What became of our file, as far as its neighbours tell.
    fn why_missing(&self) -> String {
        match renamed(&self.dir).ok().and_then(|names| names.into_iter().next_back()) {
            Some(name) if name.ends_with(".cilium_bak") => {
                format!("was renamed to {name} (Cilium does that: set its value cni.exclusive to false)")
            }
            Some(name) => format!("was renamed to {name} by somebody"),
            None => "was removed by somebody".into(),
        }
    }

    /// What of the others' files keeps ours from working as it should.
    fn look_around(&self, look: &mut Look) -> Result<(), CniError> {
        for name in names(&self.dir)? {
            if !is_configuration(&name) || name == FILE {
                continue;
            }
            let shown = self.install.folders.conf.join(&name);
            if name.as_str() < FILE {
                look.problems.push(format!(
                    "{} comes before {FILE} in the order of runtimes: pods get nothing but its network until it is renamed",
                    shown.display()
                ));
            }
            let Ok(text) = fs::read_to_string(self.dir.join(&name)) else { continue };
            let Ok(network) = NetworkConfig::parse(&text) else { continue };
            if let Some(plugin) =
                network.plugins.iter().find(|plugin| multus::NAMES.contains(&plugin.kind.as_str()))
            {
                match leads_to_us(plugin) {
                    true => look.problems.push(format!(
                        "{} has {FILE} for its cluster network: the runtime takes ours, so no pod goes through Multus; stop \
                         Multus' DaemonSet and remove the file",
                        shown.display()
                    )),
                    false => look.notes.push(format!(
                        "{} of type {} is not used any more: the runtime takes {FILE}. Pods that it made are deleted from its \
                         own notes",
                        shown.display(),
                        plugin.kind
                    )),
                }
            }
        }
        Ok(())
    }
}

/// Whether runtimes look at a file of this name.
pub fn is_configuration(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
}

fn leads_to_us(plugin: &PluginConfig) -> bool {
    let network = plugin.fields.text("clusterNetwork").ok().flatten().unwrap_or_default();
    Path::new(network).file_name().is_some_and(|name| name == FILE)
}

/// Names under which others have put our file away.
fn renamed(dir: &Path) -> Result<Vec<String>, CniError> {
    let mut found = names(dir)?;
    found.retain(|name| {
        name.strip_prefix(FILE).is_some_and(|rest| rest.starts_with('.'))
            && fs::read_to_string(dir.join(name)).is_ok_and(|text| is_ours(&text))
    });
    Ok(found)
}

/// Removes our configuration, and what others made of it. What was done.
pub(super) fn remove_all(dir: &Path, shown: &Path) -> Result<Vec<String>, CniError> {
    let mut done = Vec::new();
    let mut doomed = renamed(dir)?;
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) if is_ours(&text) => doomed.push(FILE.to_owned()),
        Ok(_) => done.push(format!("{}: left, it is no configuration of ours", shown.join(FILE).display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", &dir.join(FILE), &error)),
    }
    for name in doomed {
        if remove(&dir.join(&name))? {
            done.push(format!("{}: removed", shown.join(name).display()));
        }
    }
    Ok(done)
}
