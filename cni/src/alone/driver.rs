//! A plugin that makes an interface, by itself. It goes through the same engine and the same records as the meta plugin's
//! attachments.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use fairlead_kernel::Netns;
use serde_json::Value;

use super::{Config, Plugin, elsewhere::find_hidden};
use crate::{
    agent_protocol::PodRef,
    config::{Fields, Injection, NetworkConfig, PluginConfig},
    drivers::{CHAINED, Leftover, Pass, Pod, Work, kernel, sriov::States, takes},
    engine::{
        self, Engine, Evidence, Sandbox, Wish, forget_vain_notes, forward, join, sweep_dead, undo_all,
        undo_upstream,
    },
    exec::{PluginEnv, find, run},
    ipam::{self, Kind, Owner},
    lock::{Lock, sweep},
    protocol::{
        env::{Call, Verb},
        error::{CniError, code},
        gc::{AttachmentId, valid_attachments},
    },
    record::{Key, Phase, Record},
    say::say,
};

/// Who gives the addresses of a configuration.
enum Ipam {
    Nobody,
    BuiltIn(Kind),
    Execute(PathBuf),
}

pub(super) fn handle(kind: &'static str, call: &Call, config: &Config) -> Result<Option<String>, CniError> {
    let alone = Alone { kind, call, config };
    if let Err(Pass::Key(key)) = takes(kind, &config.fields)
        && let Some(other) = alone.left_to(key)?
    {
        return Ok(alone.execute(&other)?.map(|document| document.to_string()));
    }
    match call.verb {
        Verb::Add => alone.add().map(Some),
        Verb::Del => alone.del().map(|()| None),
        Verb::Check => alone.check().map(|()| None),
        Verb::Gc => alone.gc().map(|()| None),
        Verb::Status => alone.status().map(|()| None),
        Verb::Version => Ok(None),
    }
}

/// One call of one plugin.
struct Alone<'a> {
    kind: &'static str,
    call: &'a Call,
    config: &'a Config,
}

impl Alone<'_> {
    fn open(&self) -> Result<(Engine, Lock), CniError> {
        let folder = |key: &str, default: &str| -> Result<PathBuf, CniError> {
            Ok(self.config.fields.text(key)?.unwrap_or(default).into())
        };
        let mut engine =
            Engine::open(&folder("stateDir", "/var/lib/fairlead")?, &folder("runDir", "/run/fairlead")?)?;
        if let Some(dir) = self.config.fields.text("sriovCniDir")? {
            engine.sriov_cni = States::new(dir);
        }
        let call = self.call;
        engine.own_netns = call.own_netns;
        let holder = format!("{} of {} for container {}", call.verb, self.kind, call.container_id);
        // Another one than the meta plugin's, which may have called us.
        let lock = engine.lock_alone(self.kind, &call.container_id, &call.interface, &holder)?;
        Ok((engine, lock))
    }

    fn key(&self) -> Key {
        Key {
            container_id: self.call.container_id.clone(),
            interface: self.call.interface.clone(),
            alone: Some(self.kind.to_owned()),
        }
    }

    /// The plugin on disk that does this call, since the configuration has a key that we do not do; none when it is ours all
    /// the same. GC and STATUS are ours: upstream's plugins have no GC, and what they do for STATUS we do, too.
    fn left_to(&self, key: &str) -> Result<Option<PathBuf>, CniError> {
        let other = || find_hidden(self.kind, &self.call.path, Path::new("/proc/self/exe"));
        match self.call.verb {
            // The key may have come since we made the interface.
            Verb::Del | Verb::Check if self.open()?.0.store.get(&self.key())?.is_some() => Ok(None),
            Verb::Del => Ok(other()),
            Verb::Add | Verb::Check | Verb::Status => match other() {
                Some(_) if self.call.verb == Verb::Status => Ok(None),
                Some(other) => Ok(Some(other)),
                None => {
                    let text = format!(
                        "{}: key \"{key}\" is not done by this plugin: remove it, or have upstream's plugin in a folder of \
                         CNI_PATH after ours",
                        self.kind
                    );
                    Err(CniError::new(code::UNSUPPORTED_FIELD, text))
                }
            },
            Verb::Gc | Verb::Version => Ok(None),
        }
    }

    fn add(&self) -> Result<String, CniError> {
        let start = Instant::now();
        self.ipam()?;
        let (mut engine, _lock) = self.open()?;
        let path = self.call.netns.clone().unwrap_or_default();
        let (netns, id) = engine.sandbox_netns(&path)?;
        self.clear_unfinished(&path, &mut engine)?;
        let sandbox = Sandbox {
            container_id: self.call.container_id.clone(),
            pod: PodRef::of(&self.call.args),
            netns_path: path.clone(),
            netns: id,
            path: self.call.path.clone(),
            runtime_network: self.config.name.clone(),
            alone: Some(self.kind.to_owned()),
        };
        let planned = engine::plan(self.wish(), &sandbox, &mut engine, |_| true)?;
        let record = engine::attach(planned, &sandbox, &mut engine, &mut Pod::open(netns)?)
            .map_err(|error| self.roll_back(error, &path, start, &mut engine))?;
        let result = record.result.unwrap_or_default();
        match result.render(self.config.version) {
            Ok(document) => Ok(document.to_string()),
            // The oldest versions cannot tell every result.
            Err(error) => Err(self.roll_back(error, &path, start, &mut engine)),
        }
    }

    fn wish(&self) -> Wish {
        let plugin = PluginConfig { kind: self.kind.to_owned(), fields: self.config.fields.clone() };
        Wish {
            network: self.config.name.clone(),
            interface: self.call.interface.clone(),
            order: 0,
            config: NetworkConfig {
                name: self.config.name.clone(),
                version: self.config.version,
                plugins: vec![plugin],
            },
            injection: Injection::default(),
            args: self.call.args.clone(),
            device_info: None,
            previous: None,
        }
    }

    /// What an ADD that was killed left is undone; what one made is not made again.
    fn clear_unfinished(&self, netns: &Path, engine: &mut Engine) -> Result<(), CniError> {
        match engine.store.take(&self.key())? {
            Some(record) if record.phase == Phase::Attached && !engine::is_gone(&record, &engine.boot_id) => {
                let text = format!(
                    "container {} has its interface {} already",
                    record.container_id, record.interface
                );
                Err(CniError::new(code::OTHER, text))
            }
            record => undo_all(record.into_iter().collect(), Evidence::Runtime(Some(netns)), engine),
        }
    }

    fn roll_back(&self, error: CniError, netns: &Path, start: Instant, engine: &mut Engine) -> CniError {
        let container_id = &self.call.container_id;
        engine.history.failed(&PodRef::of(&self.call.args), container_id, &error, start);
        let undone = engine
            .store
            .take(&self.key())
            .and_then(|record| engine::roll_back(container_id, record.into_iter().collect(), netns, engine));
        match undone {
            Ok(()) => error,
            Err(failed) => error.details(format!("and undoing it failed for now: {failed}")),
        }
    }

    fn del(&self) -> Result<(), CniError> {
        let (mut engine, lock) = self.open()?;
        match engine.store.take(&self.key())? {
            Some(record) => undo_all(vec![record], Evidence::Runtime(self.call.netns_path()), &mut engine)?,
            None => self.del_unrecorded(&mut engine)?,
        }
        drop(lock);
        sweep_dead(&mut engine);
        sweep(&engine.locks);
        Ok(())
    }

    /// Without a record all is done, or upstream's plugin made the interface, before we took its name.
    fn del_unrecorded(&self, engine: &mut Engine) -> Result<(), CniError> {
        let netns = self.call.netns_path().filter(|path| engine.sandbox_netns(path).is_ok());
        let mut errors = Vec::new();
        let left = Leftover {
            interface: &self.call.interface,
            container_id: &self.call.container_id,
            fields: &self.config.fields,
        };
        if let Some(path) = netns {
            let mut pod = Pod::open(Netns::open(path).map_err(kernel)?)?;
            if let Some(work) = Work::of_upstream(self.kind, &left, &mut pod)? {
                errors.extend(work.detach(&mut engine.host, Some(&mut pod)));
            }
        }
        if errors.is_empty() {
            errors.extend(Work::forget_upstream(self.kind, &left).err());
        }
        if self.kind == "sriov" {
            let (container, interface) = (&self.call.container_id, &self.call.interface);
            errors.extend(undo_upstream(container, Some(interface), netns, engine).err());
        }
        if errors.is_empty() {
            errors.extend(self.release().err());
        }
        errors.extend(engine.store.forget_sandbox(&self.call.container_id).err());
        join(errors)
    }

    fn release(&self) -> Result<(), CniError> {
        match self.ipam()? {
            Ipam::Nobody => Ok(()),
            Ipam::BuiltIn(kind) => {
                let owner = Owner {
                    container_id: self.call.container_id.clone(),
                    interface: self.call.interface.clone(),
                };
                Ok(kind.release(&self.config.fields, &owner)?)
            }
            Ipam::Execute(binary) => self.execute(&binary).map(drop),
        }
    }

    fn check(&self) -> Result<(), CniError> {
        if self.config.previous()?.is_none() {
            return Err(CniError::new(code::INVALID_CONFIG, "Required prevResult missing"));
        }
        let (mut engine, _lock) = self.open()?;
        let Some(record) = engine.store.get(&self.key())? else {
            let text = format!(
                "interface {} of container {} was not made here",
                self.call.interface, self.call.container_id
            );
            return Err(CniError::new(code::UNKNOWN_CONTAINER, text));
        };
        let strict = self.config.fields.flag("strictCheck")?.unwrap_or(false);
        let netns = self.call.netns.clone().unwrap_or_default();
        let mut failures = Vec::new();
        for difference in engine::check(&record, &netns, &mut engine)? {
            say(format_args!("{}: {difference}", self.kind));
            if difference.is_fatal || strict {
                failures.push(CniError::new(code::OTHER, difference.text));
            }
        }
        join(failures)
    }

    /// Undoes what none of the valid attachments is, and passes the list on to whoever gives the addresses.
    fn gc(&self) -> Result<(), CniError> {
        let Some(valid) = valid_attachments(&self.config.fields)? else { return Ok(()) };
        let (mut engine, _lock) = self.open()?;
        let mut errors = Vec::new();
        for record in self.invalid(&valid, &engine)? {
            let holder = format!("GC of {}", self.kind);
            let undone = engine
                .lock_alone(self.kind, &record.container_id, &record.interface, &holder)
                .and_then(|_lock| {
                    // As it is now that nobody else is at work on it.
                    let record = engine.store.take(&record.key())?;
                    undo_all(record.into_iter().collect(), Evidence::Records, &mut engine)
                });
            errors.extend(undone.err());
        }
        errors.extend(forget_vain_notes(&engine).err());
        errors.extend(self.collect(&valid).err());
        join(errors)
    }

    fn invalid(&self, valid: &[AttachmentId], engine: &Engine) -> Result<Vec<Record>, CniError> {
        let is_valid = |record: &Record| {
            valid.iter().any(|id| id.container_id == record.container_id && id.interface == record.interface)
        };
        let mut records = engine.store.all()?;
        records.retain(|record| {
            record.alone.as_deref() == Some(self.kind)
                && record.runtime_network == self.config.name
                && !is_valid(record)
        });
        Ok(records)
    }

    fn collect(&self, valid: &[AttachmentId]) -> Result<(), CniError> {
        match self.ipam()? {
            Ipam::Nobody => Ok(()),
            Ipam::BuiltIn(kind) => Ok(kind.collect(&self.config.fields, valid)?),
            Ipam::Execute(binary) => {
                forward(&binary, self.config.fields.clone(), valid, self.call.path_text())
            }
        }
    }

    fn status(&self) -> Result<(), CniError> {
        match self.ipam()? {
            Ipam::Nobody => Ok(()),
            Ipam::BuiltIn(kind) => {
                let request = ipam::Request {
                    fields: &self.config.fields,
                    args: &self.call.args,
                    version: self.config.version,
                };
                let parsed = ipam::Spec::parse(kind, &request).map(drop);
                parsed.map_err(|error| CniError { code: code::NOT_AVAILABLE, ..error.into() })
            }
            Ipam::Execute(binary) => self.execute(&binary).map(drop),
        }
    }

    /// Who gives the addresses. One of our own names that gives none would lead back here for ever.
    fn ipam(&self) -> Result<Ipam, CniError> {
        if CHAINED.contains(&self.kind) {
            return Ok(Ipam::Nobody);
        }
        let block: Fields = self.config.fields.object("ipam")?.unwrap_or_default();
        let Some(name) = block.text("type")?.filter(|name| !name.is_empty()) else {
            return Ok(Ipam::Nobody);
        };
        match Plugin::named(Path::new(name)) {
            Some(Plugin::Ipam(kind)) => Ok(Ipam::BuiltIn(kind)),
            Some(Plugin::Driver(_) | Plugin::Loopback) => {
                let text = format!("key \"ipam\": type \"{name}\" gives no addresses");
                Err(CniError::new(code::INVALID_CONFIG, text))
            }
            None => find(name, &self.call.path).map(Ipam::Execute),
        }
    }

    /// Executes another plugin for the same verb.
    fn execute(&self, binary: &Path) -> Result<Option<Value>, CniError> {
        let env = PluginEnv {
            container_id: self.call.container_id.clone(),
            netns: self.call.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            interface: self.call.interface.clone(),
            args: self.call.args.to_string(),
            path: self.call.path_text(),
        };
        run(binary, self.call.verb, &env, &Value::Object(self.config.fields.0.clone()))
    }
}
