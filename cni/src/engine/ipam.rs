//! Who gives a step its addresses: an IPAM plugin in process, or one on disk.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Engine, Sandbox, plugin_env, undo::sweep_all};
use crate::{
    config::Fields,
    exec::{find, run},
    ipam::{Kind, Left, Owner, Request, Spec},
    protocol::{
        env::{CniArgs, Verb},
        error::{CniError, code},
        result::CniResult,
    },
    record::{Holding, IpamHolder, Record, Step},
    say::say,
};

/// An IPAM plugin, its configuration checked as far as we can.
#[derive(Debug)]
pub(super) enum Source {
    /// The plugin with this file.
    Execute(PathBuf),
    /// In process.
    BuiltIn(Spec),
}

/// The IPAM plugin that a step's configuration names, if it names one.
pub(super) fn plan(
    fields: &Fields,
    args: &CniArgs,
    version: &str,
    sandbox: &Sandbox,
    built_in: impl Fn(&str) -> bool,
) -> Result<Option<Source>, CniError> {
    let block = fields.object("ipam")?.unwrap_or_default();
    let Some(name) = block.text("type")?.filter(|name| !name.is_empty()) else { return Ok(None) };
    match Kind::named(name).filter(|_| built_in(name)) {
        Some(kind) => {
            let spec = Spec::parse(kind, &Request { fields, args, version });
            spec.map(|spec| Some(Source::BuiltIn(spec))).map_err(|error| match sandbox.alone {
                // As upstream's plugins pass it on: whoever called this one may look for those words.
                Some(_) => error.into(),
                None => label(name, error.into()),
            })
        }
        None => find(name, &sandbox.path).map(|binary| Some(Source::Execute(binary))),
    }
}

impl Source {
    /// As it is recorded, before it is asked for addresses.
    pub(super) fn holder(&self) -> IpamHolder {
        match self {
            Self::Execute(binary) => IpamHolder::Executed(binary.clone()),
            Self::BuiltIn(spec) => IpamHolder::BuiltIn { kind: spec.kind() },
        }
    }

    /// Which plugin it is, if it is one in process.
    pub(super) fn in_process(&self) -> Option<Kind> {
        match self {
            Self::Execute(_) => None,
            Self::BuiltIn(spec) => Some(spec.kind()),
        }
    }

    /// The addresses that are left; nothing where the plugin is executed.
    pub(super) fn left(&self) -> Result<Vec<Left>, CniError> {
        match self {
            Self::Execute(_) => Ok(Vec::new()),
            Self::BuiltIn(spec) => Ok(spec.left()?),
        }
    }

    /// Asks for addresses. There is at least one in the result.
    pub(super) fn add(
        &self,
        fields: &Fields,
        record: &Record,
        engine: &mut Engine,
    ) -> Result<CniResult, CniError> {
        let (name, result) = match self {
            Self::Execute(binary) => {
                let env = plugin_env(record, record.netns_path.display().to_string());
                let output = run(binary, Verb::Add, &env, &Value::Object(fields.0.clone()))?;
                (
                    binary.display().to_string(),
                    CniResult::parse(&output.unwrap_or_default(), &record.cni_version)?,
                )
            }
            Self::BuiltIn(spec) => {
                let name = spec.kind().name();
                let result = add_built_in(spec, &owner(record), engine);
                (name.to_owned(), result.map_err(|error| label(name, error))?)
            }
        };
        if result.ips.is_empty() {
            return Err(CniError::new(code::OTHER, format!("IPAM plugin {name} gave no address")));
        }
        Ok(result)
    }
}

/// When addresses are short, those that dead sandboxes of ours have are given back first.
fn add_built_in(spec: &Spec, owner: &Owner, engine: &mut Engine) -> Result<CniResult, CniError> {
    match spec.add(owner) {
        Err(error) if error.is_shortage() => {
            for failure in sweep_all(engine) {
                say(failure);
            }
            Ok(spec.add(owner)?)
        }
        other => Ok(other?),
    }
}

/// Has whoever holds addresses for a step give them back. May be repeated.
pub(super) fn release(
    holder: &IpamHolder,
    step: &Step,
    record: &Record,
    netns: String,
) -> Result<(), CniError> {
    match holder {
        IpamHolder::Executed(binary) => {
            let env = plugin_env(record, netns);
            run(binary, Verb::Del, &env, &Value::Object(step.config.0.clone())).map(drop)
        }
        IpamHolder::BuiltIn { kind } => {
            kind.release(&step.config, &owner(record)).map_err(|error| label(kind.name(), error.into()))
        }
    }
}

/// Has an in-process plugin give back what it was about to hold, if it came to that.
pub(super) fn give_back(holding: &Holding, container_id: &str) -> Result<(), CniError> {
    let owner = Owner { container_id: container_id.to_owned(), interface: holding.interface.clone() };
    holding.kind.release(&holding.config, &owner).map_err(|error| label(holding.kind.name(), error.into()))
}

/// Has whoever holds addresses for a step compare. `execute` does so with a plugin on disk.
pub(super) fn check(
    holder: &IpamHolder,
    step: &Step,
    record: &Record,
    execute: impl FnOnce(&Path) -> Result<(), CniError>,
) -> Result<(), CniError> {
    match holder {
        IpamHolder::Executed(binary) => execute(binary),
        IpamHolder::BuiltIn { kind } => {
            let args = CniArgs::parse(&record.args)?;
            let request = Request { fields: &step.config, args: &args, version: &record.cni_version };
            kind.check(&request, &owner(record), record.result.as_ref())
                .map_err(|error| label(kind.name(), error.into()))
        }
    }
}

fn owner(record: &Record) -> Owner {
    Owner { container_id: record.container_id.clone(), interface: record.interface.clone() }
}

fn label(name: &str, error: CniError) -> CniError {
    error.context(format_args!("IPAM plugin {name}"))
}
