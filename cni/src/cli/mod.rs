//! `fairlead list|check|gc|reconcile`: the attachments of this node, for operators.

mod left_over;
mod list;
pub mod tools;

use std::{env, fmt::Write, path::PathBuf};

pub use self::left_over::left_over;

use serde_json::{Value, json};

use crate::{
    engine::{self, Engine, forget_vain_notes, sweep_all},
    ipam,
    meta::orphans::{self, Folders, Orphan},
    protocol::error::CniError,
    record::Record,
};

/// What is printed for `--help`.
pub const USAGE: &str = "\
usage: fairlead list | check | gc | reconcile  [OPTION]...
       fairlead install | uninstall  [OPTION]...   (see `fairlead install --help`)
       fairlead doctor | explain-pod | history | migrate  ...   (done by fairlead-tools: see `fairlead doctor --help`)

  list        every attachment: its pod, interface, network, device, phase, whether its sandbox lives, and what is wrong; and
              what Multus or the runtime noted of sandboxes that are gone
  check       compares every attachment with what was made, and says what differs; changes nothing
  gc          undoes what is left of sandboxes that are gone
  reconcile   gc, also of what Multus noted of sandboxes that the runtime does not know any more; after it says what is left that
              nobody owns: reservations, VFs, records that cannot be read, others' notes

  -o, --output text|json   how the answer is printed (text)
  --state-dir DIR          where records are kept (/var/lib/fairlead)
  --run-dir DIR            where locks are kept (/run/fairlead)
  --networks-dir DIR       where host-local keeps reservations unless a network says otherwise (/var/lib/cni/networks)
  --multus-dir DIR         where Multus keeps its notes (/var/lib/cni/multus)
  --cache-dir DIR          where the runtime's library has its folder \"results\" (/var/lib/cni)
  --plugins-dir DIR        where plugins are that let go of what Multus' pods had (CNI_PATH, else /opt/cni/bin)

Exit status: 0 when all is well, 1 when something was found that is not, 2 for a wrong call.
Without arguments, and with CNI_COMMAND set, the container runtime is served.";

/// A call from a shell.
#[derive(Debug, PartialEq, Eq)]
pub struct Cli {
    verb: Verb,
    json: bool,
    state_dir: PathBuf,
    run_dir: PathBuf,
    networks_dir: PathBuf,
    multus_dir: PathBuf,
    cache_dir: PathBuf,
    plugins_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    List,
    Check,
    Gc,
    Reconcile,
    Help,
}

/// What a call has to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub text: String,
    /// Whether all is well.
    pub well: bool,
}

/// An answer in both forms.
struct Found {
    text: String,
    json: Value,
    well: bool,
}

impl Cli {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut cli = Self {
            verb: Verb::Help,
            json: false,
            state_dir: "/var/lib/fairlead".into(),
            run_dir: "/run/fairlead".into(),
            networks_dir: ipam::DATA_DIR.into(),
            multus_dir: "/var/lib/cni/multus".into(),
            cache_dir: "/var/lib/cni".into(),
            plugins_dir: None,
        };
        let mut verb = None;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = |what| arguments.next().ok_or(format!("{argument} needs {what}"));
            match argument.as_str() {
                "--state-dir" => cli.state_dir = value("a folder")?.into(),
                "--run-dir" => cli.run_dir = value("a folder")?.into(),
                "--networks-dir" => cli.networks_dir = value("a folder")?.into(),
                "--multus-dir" => cli.multus_dir = value("a folder")?.into(),
                "--cache-dir" => cli.cache_dir = value("a folder")?.into(),
                "--plugins-dir" => cli.plugins_dir = Some(value("a folder")?.into()),
                "--output" | "-o" => cli.json = is_json(&value("text or json")?)?,
                "--help" | "-h" => verb = Some(Verb::Help),
                word if verb.is_none() => verb = Some(word.parse()?),
                other => return Err(format!("\"{other}\" is one argument too many")),
            }
        }
        cli.verb = verb.ok_or("what shall be done is missing")?;
        Ok(cli)
    }

    /// Does it.
    ///
    /// # Errors
    /// When the records cannot be read, or the kernel refuses to tell.
    pub fn run(&self) -> Result<Answer, CniError> {
        if self.verb == Verb::Help {
            return Ok(Answer { text: USAGE.into(), well: true });
        }
        let mut engine = Engine::open(&self.state_dir, &self.run_dir)?;
        let found =
            match self.verb {
                Verb::List => list::list(&engine, &orphans::find(&self.folders(), &engine)?)?,
                Verb::Check => check(&mut engine)?,
                Verb::Gc => undone(&gc(&mut engine), None),
                _ => {
                    let mut failures = gc(&mut engine);
                    let folders = self.folders();
                    let dead = orphans::find(&folders, &engine)?.into_iter().filter(Orphan::is_dead);
                    failures.extend(dead.filter_map(|one| {
                        Some(orphans::undo(&one, &folders, &mut engine).err()?.to_string())
                    }));
                    let mut left: Vec<String> =
                        orphans::find(&folders, &engine)?.iter().map(ToString::to_string).collect();
                    left.extend(left_over(&engine, &self.networks_dir)?);
                    undone(&failures, Some(&left))
                }
            };
        let text = if self.json { format!("{:#}", found.json) } else { found.text };
        Ok(Answer { text, well: found.well })
    }
}

impl Cli {
    fn folders(&self) -> Folders {
        let plugins = match (&self.plugins_dir, env::var_os("CNI_PATH")) {
            (Some(dir), _) => vec![dir.clone()],
            (None, Some(path)) if !path.is_empty() => env::split_paths(&path).collect(),
            _ => vec!["/opt/cni/bin".into()],
        };
        Folders {
            multus: self.multus_dir.clone(),
            runtime: self.cache_dir.clone(),
            plugins,
            state: self.state_dir.clone(),
            run: self.run_dir.clone(),
        }
    }
}

fn is_json(format: &str) -> Result<bool, String> {
    match format {
        "json" => Ok(true),
        "text" => Ok(false),
        other => Err(format!("\"{other}\" is none of text, json")),
    }
}

impl std::str::FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "list" => Ok(Self::List),
            "check" => Ok(Self::Check),
            "gc" => Ok(Self::Gc),
            "reconcile" => Ok(Self::Reconcile),
            "help" => Ok(Self::Help),
            other => Err(format!("\"{other}\" is none of list, check, gc, reconcile")),
        }
    }
}

/// All records, those of a sandbox together and in the order of ADD.
fn records(engine: &Engine) -> Result<Vec<Record>, CniError> {
    let mut records = engine.store.all()?;
    records.sort_by_cached_key(|record| (record.pod.to_string(), record.container_id.clone(), record.order));
    Ok(records)
}

fn check(engine: &mut Engine) -> Result<Found, CniError> {
    let (mut text, mut differences) = (String::new(), Vec::new());
    let records = records(engine)?;
    for record in &records {
        for difference in engine::check(record, &record.netns_path, engine)? {
            let what = if difference.is_fatal { "LOST" } else { "differs" };
            let _ = writeln!(
                text,
                "{what}: pod {}, interface {}, network {}: {difference}",
                record.pod, record.interface, record.network
            );
            differences.push(json!({
                "pod": record.pod, "containerId": record.container_id, "interface": record.interface,
                "network": record.network, "lost": difference.is_fatal, "text": difference.text,
            }));
        }
    }
    let _ = writeln!(text, "{} attachments compared", records.len());
    let well = differences.is_empty();
    Ok(Found { text, json: json!({"compared": records.len(), "differences": differences}), well })
}

/// What could not be undone of sandboxes that are gone.
fn gc(engine: &mut Engine) -> Vec<String> {
    let mut failures = sweep_all(engine);
    failures.extend(forget_vain_notes(engine).err());
    failures.iter().map(ToString::to_string).collect()
}

fn undone(failures: &[String], left: Option<&[String]>) -> Found {
    let mut lines = failures.to_vec();
    if lines.is_empty() {
        lines.push("nothing is left of sandboxes that are gone".into());
    }
    lines.extend(left.unwrap_or_default().iter().cloned());
    let well = failures.is_empty() && left.is_none_or(<[String]>::is_empty);
    let json = match left {
        Some(left) => json!({"failures": failures, "ownedByNobody": left}),
        None => json!({"failures": failures}),
    };
    Found { text: lines.join("\n"), json, well }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Cli, String> {
        Cli::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn calls_are_understood_and_wrong_ones_explained() {
        let cli = parse("list --state-dir /a -o json").unwrap();
        assert_eq!((cli.verb, cli.state_dir, cli.run_dir), (Verb::List, "/a".into(), "/run/fairlead".into()));
        assert!(cli.json);
        for (text, word) in [
            ("", "missing"),
            ("lst", "none of list"),
            ("list gc", "too many"),
            ("list --run-dir", "needs a folder"),
            ("list -o yaml", "none of text, json"),
            ("list --output", "needs text or json"),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}");
        }
        let help = parse("--help").unwrap().run().unwrap();
        assert!(help.well && help.text.contains("reconcile"));
    }

    #[test]
    fn what_failed_comes_before_what_nobody_owns() {
        let found = undone(&["a".into()], Some(&["b".into()]));
        assert_eq!((found.text.as_str(), found.well), ("a\nb", false));
        assert_eq!(found.json, json!({"failures": ["a"], "ownedByNobody": ["b"]}));
        assert!(undone(&[], Some(&[])).well);
    }
}
