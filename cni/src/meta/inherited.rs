//! DEL of a sandbox that we did not make: from what Multus noted, or the library of the runtime.
//!
//! Multus keeps `<cniDir>/<container ID>`, a list of what it attached, and the reference library's cache in
//! `<cniDir>/results`, one file for each attachment with the exact configuration, arguments and result. Without Multus the
//! runtime's own library has such a cache in `<cacheDir>/results`. The notes go only when everything is undone.

mod noted;
mod survey;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{
    config::{MetaConfig, TYPE},
    multus,
};
use crate::{
    alone::Plugin,
    config::{Fields, Injection, NetworkConfig, PluginConfig},
    disk::{failed, names, remove},
    engine::join,
    exec::{PluginEnv, find, run, run_self},
    protocol::{
        env::{Call, CniArgs, Verb, check_interface},
        error::{CniError, code},
        result::CniResult,
        version,
    },
    say::say,
};

pub(super) use self::noted::{Noted, noted};
pub use self::survey::{Attachment as NotedAttachment, Sandbox as NotedSandbox, survey};

/// Where Multus leaves device-information files of attachments.
const DEVICE_INFO: &str = "/var/run/k8s.cni.cncf.io/devinfo/cni";

/// The version that Multus' own configuration commonly has, and every plugin speaks.
const MULTUS_VERSION: &str = "0.3.1";
/// The plugin of Multus' own that an auxiliary chain begins with: it does nothing at DEL.
const PASSTHRU: &str = "passthru";

/// An attachment that somebody else made.
#[derive(Debug)]
struct Attachment {
    network: NetworkConfig,
    interface: String,
    /// `CNI_ARGS`, as far as they are not the call's.
    args: CniArgs,
    capability_args: Map<String, Value>,
    /// Result of its ADD, as it was kept.
    result: Option<Value>,
}

/// All that is noted of a sandbox.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// In the order of ADD.
    attachments: Vec<Attachment>,
    /// What goes when they are undone.
    files: Vec<PathBuf>,
}

impl Inherited {
    /// What there is of a sandbox.
    ///
    /// # Errors
    /// When a folder or file cannot be read.
    pub(super) fn read(call: &Call, config: &MetaConfig) -> Result<Self, CniError> {
        let mut found = Self::of_multus(call, config)?;
        let is_multus = !found.attachments.is_empty();
        for cache in caches(&config.cache_dir, call)? {
            // Other interfaces of the sandbox, such as its loopback, are the runtime's own business, and so is our entry.
            let Some(network) = cache.network().filter(|_| cache.interface == call.interface) else {
                continue;
            };
            let kinds = || network.plugins.iter().map(|plugin| plugin.kind.as_str());
            if kinds().any(|kind| multus::NAMES.contains(&kind)) {
                // Nobody will ask Multus for a DEL any more.
                found.files.push(cache.file);
            } else if !is_multus && !is_ours(&network) {
                found.take(cache, network);
            }
        }
        Ok(found)
    }

    /// Whether anything is to be undone.
    pub(super) fn is_empty(&self) -> bool {
        self.attachments.is_empty()
    }

    fn take(&mut self, cache: Cache, network: NetworkConfig) {
        self.files.push(cache.file.clone());
        self.attachments.push(cache.attachment(network, CniArgs::default(), Map::new()));
    }

    fn of_multus(call: &Call, config: &MetaConfig) -> Result<Self, CniError> {
        let file = config.cni_dir.join(&call.container_id);
        let mut found = Self::default();
        match fs::read(&file) {
            Ok(bytes) => {
                match list(&bytes, call, config) {
                    Ok(attachments) => found.attachments = attachments,
                    // A crash of the node may have cut it short; the cache beside it has the same.
                    Err(error) => say(format_args!("{}: {error}; its cache is used", file.display())),
                }
                found.files.push(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", &file, &error)),
        }
        let mut caches = caches(&config.cni_dir, call)?;
        if !found.attachments.is_empty() {
            found.files.extend(caches.into_iter().map(|cache| cache.file));
            return Ok(found);
        }
        // In the order in which they were made.
        caches.sort_by(|a, b| (a.made, &a.interface).cmp(&(b.made, &b.interface)));
        for cache in caches {
            match cache.network() {
                Some(network) => found.take(cache, network),
                None => say(format_args!("{}: it holds no network's configuration", cache.file.display())),
            }
        }
        Ok(found)
    }

    /// Has everybody let go, last one first, and removes the notes. Everything is tried.
    ///
    /// # Errors
    /// All failures as one; the notes stay then for the next call.
    pub(super) fn undo(self, call: &Call, netns: &Path, config: &MetaConfig) -> Result<(), CniError> {
        let mut errors = Vec::new();
        for attachment in self.attachments.iter().rev() {
            let label = format!("network {}, interface {}", attachment.network.name, attachment.interface);
            for plugin in attachment.network.plugins.iter().rev() {
                let undone = attachment.undo(plugin, call, netns, config);
                errors.extend(undone.err().map(|error| error.context(&label)));
            }
        }
        join(errors)?;
        let infos = self.attachments.iter().map(|attachment| attachment.device_info(&call.container_id));
        let removed = self.files.iter().cloned().chain(infos).map(|file| remove(&file));
        join(removed.filter_map(Result::err).collect())
    }
}

impl Attachment {
    fn undo(
        &self,
        plugin: &PluginConfig,
        call: &Call,
        netns: &Path,
        config: &MetaConfig,
    ) -> Result<(), CniError> {
        let injection = Injection { capability_args: self.capability_args.clone(), ..Injection::default() };
        let mut fields = injection.apply(&self.network, plugin)?;
        if let Some(result) = self.result_in(self.network.version) {
            fields.set("prevResult", result);
        }
        let env = PluginEnv {
            container_id: call.container_id.clone(),
            netns: netns.display().to_string(),
            interface: self.interface.clone(),
            args: self.args(call).to_string(),
            path: call.path_text(),
        };
        match find(&plugin.kind, &call.path) {
            Ok(binary) => run(&binary, Verb::Del, &env, &Value::Object(fields.0)),
            Err(error) => match Plugin::named(Path::new(&plugin.kind)) {
                Some(own) => {
                    fields.set("stateDir", json!(config.state_dir));
                    fields.set("runDir", json!(config.run_dir));
                    run_self(own.name(), Verb::Del, &env, &Value::Object(fields.0))
                }
                None if plugin.kind == PASSTHRU => Ok(None),
                None => Err(error),
            },
        }
        .map(drop)
    }

    /// The result in the version that the plugins run with, which takes one from 0.4.0 on.
    fn result_in(&self, wanted: &str) -> Option<Value> {
        let result = self.result.as_ref().filter(|_| version::at_least(wanted, "0.4.0"))?;
        if result.get("cniVersion").and_then(Value::as_str) == Some(wanted) {
            return Some(result.clone());
        }
        let converted = CniResult::parse(result, wanted).and_then(|result| result.render(wanted));
        converted.map_err(|error| say(format_args!("result of {}: {error}", self.network.name))).ok()
    }

    fn args(&self, call: &Call) -> CniArgs {
        let mut args = call.args.clone();
        args.set("IgnoreUnknown", "1");
        for (key, value) in self.args.iter() {
            args.set(key, value);
        }
        args
    }

    fn device_info(&self, container_id: &str) -> PathBuf {
        let name = format!("{}-{container_id}_{}", self.network.name, self.interface).replace('/', "-");
        Path::new(DEVICE_INFO).join(name)
    }
}

/// Multus' list of what it attached.
fn list(bytes: &[u8], call: &Call, config: &MetaConfig) -> Result<Vec<Attachment>, CniError> {
    let broken = |text: String| CniError::new(code::DECODING, format!("not Multus' list: {text}"));
    let items: Vec<Fields> = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
    let mut attachments = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let interface = match item.text("ifnameRequest")?.filter(|name| !name.is_empty()) {
            _ if place == 0 => call.interface.clone(),
            Some(name) => name.to_owned(),
            None => format!("net{place}"),
        };
        check_interface(&interface)?;
        let cached = |name: &str| cache_of(&config.cni_dir, name, call, &interface);
        let text = match decoded(item, "Bytes")? {
            Some(text) => text,
            None => match cached(item.text("Name")?.unwrap_or_default()).and_then(|cache| cache.config) {
                Some(text) => text,
                None => lossy(item)?,
            },
        };
        let network = completed(&text, item, &cached)?;
        attachments.push(match cached(&network.name) {
            Some(cache) => cache.attachment(network, requested_args(item)?, requested(item)?),
            None => Attachment {
                network,
                interface: interface.clone(),
                args: requested_args(item)?,
                capability_args: requested(item)?,
                result: None,
            },
        });
    }
    Ok(attachments)
}

/// A text that is kept in base 64.
fn decoded(fields: &Fields, key: &str) -> Result<Option<String>, CniError> {
    let Some(text) = fields.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || CniError::new(code::DECODING, format!("key \"{key}\" is no text in base 64"));
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| wrong())?;
    String::from_utf8(bytes).map(Some).map_err(|_| wrong())
}

/// The configuration where its exact bytes are lost: only the keys that every plugin has.
fn lossy(item: &Fields) -> Result<String, CniError> {
    let list = item.object("ConfList")?.filter(|list| list.get("plugins").is_some());
    let config = list.or(item.object("Conf")?).unwrap_or_default();
    Ok(Value::Object(config.0).to_string())
}

/// The configuration with what Multus fills in.
fn completed(
    text: &str,
    item: &Fields,
    cached: &dyn Fn(&str) -> Option<Cache>,
) -> Result<NetworkConfig, CniError> {
    let mut fields: Fields = serde_json::from_str(text)
        .map_err(|error| CniError::new(code::DECODING, format!("a network's configuration: {error}")))?;
    let lacks =
        |fields: &Fields, key: &str| fields.get(key).and_then(Value::as_str).is_none_or(str::is_empty);
    if lacks(&fields, "name") {
        fields.set("name", json!(item.text("Name")?.unwrap_or_default()));
    }
    // A list without one ran with that of Multus' own configuration, which the result tells.
    if lacks(&fields, "cniVersion") && fields.get("plugins").is_some() {
        let result = fields.text("name")?.and_then(cached).and_then(|cache| cache.result);
        let version = result.as_ref().and_then(|result| result.get("cniVersion")?.as_str());
        fields.set("cniVersion", json!(version.unwrap_or(MULTUS_VERSION)));
    }
    NetworkConfig::parse(&Value::Object(fields.0).to_string())
}

/// What the pod asked for, as capabilities.
fn requested(item: &Fields) -> Result<Map<String, Value>, CniError> {
    let mut values = Map::new();
    for (key, capability) in [
        ("macRequest", "mac"),
        ("ipRequest", "ips"),
        ("infinibandGUIDRequest", "infinibandGUID"),
        ("deviceID", "deviceID"),
    ] {
        if let Some(value) = item.get(key).filter(|value| **value != json!("") && **value != json!([])) {
            values.insert(capability.into(), value.clone());
        }
    }
    Ok(values)
}

/// The same in the older way.
fn requested_args(item: &Fields) -> Result<CniArgs, CniError> {
    let mut args = CniArgs::default();
    if let Some(mac) = item.text("macRequest")?.filter(|mac| !mac.is_empty()) {
        args.set("MAC", mac);
    }
    let ips = item.texts("ipRequest")?;
    if !ips.is_empty() {
        args.set("IP", &ips.join(","));
    }
    Ok(args)
}

/// Whether a network was the runtime's name for all that we make.
fn is_ours(network: &NetworkConfig) -> bool {
    network.plugins.iter().any(|plugin| plugin.kind == TYPE)
}

/// One entry of the reference library's cache.
pub(super) struct Cache {
    file: PathBuf,
    pub(super) made: SystemTime,
    pub(super) interface: String,
    pub(super) netns: Option<PathBuf>,
    config: Option<String>,
    pub(super) args: CniArgs,
    capability_args: Map<String, Value>,
    result: Option<Value>,
}

impl Cache {
    fn read(file: PathBuf) -> Option<(Self, String)> {
        let made = fs::metadata(&file).and_then(|found| found.modified()).ok()?;
        let fields: Fields = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        if fields.text("kind").ok()? != Some("cniCacheV1") {
            // Before there were such entries there were only results, whose names alone tell whose they are.
            let result = Some(Value::Object(fields.0));
            let (interface, config, args, capability_args) =
                (String::new(), None, CniArgs::default(), Map::new());
            return Some((
                Self { file, made, interface, netns: None, config, args, capability_args, result },
                String::new(),
            ));
        }
        let pair = |pair: &Value| {
            let pair = pair.as_array()?;
            Some((pair.first()?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()))
        };
        let mut args = CniArgs::default();
        for (key, value) in
            fields.get("cniArgs").and_then(Value::as_array).into_iter().flatten().filter_map(pair)
        {
            args.set(&key, &value);
        }
        let text = |key: &str| fields.text(key).ok().flatten().unwrap_or_default().to_owned();
        let cache = Self {
            made,
            interface: text("ifName"),
            netns: Some(text("netns")).filter(|path| !path.is_empty()).map(PathBuf::from),
            config: decoded(&fields, "config").ok().flatten(),
            args,
            capability_args: fields.object("capabilityArgs").ok().flatten().unwrap_or_default().0,
            result: fields.get("result").filter(|result| result.is_object()).cloned(),
            file,
        };
        Some((cache, text("containerId")))
    }

    pub(super) fn network(&self) -> Option<NetworkConfig> {
        NetworkConfig::parse(self.config.as_ref()?).ok()
    }

    /// Of an attachment for which this was requested; the entry tells what was passed.
    fn attachment(
        self,
        network: NetworkConfig,
        mut args: CniArgs,
        mut capability_args: Map<String, Value>,
    ) -> Attachment {
        for (key, value) in self.args.iter() {
            args.set(key, value);
        }
        capability_args.extend(self.capability_args);
        let Self { interface, result, .. } = self;
        Attachment { network, interface, args, capability_args, result }
    }
}

/// The entry of one attachment.
fn cache_of(dir: &Path, network: &str, call: &Call, interface: &str) -> Option<Cache> {
    if network.contains('/') {
        return None;
    }
    let file = dir.join("results").join(format!("{network}-{}-{interface}", call.container_id));
    let (mut cache, _) = Cache::read(file)?;
    cache.interface = interface.to_owned();
    Some(cache)
}

/// Every entry of a sandbox.
fn caches(dir: &Path, call: &Call) -> Result<Vec<Cache>, CniError> {
    let found = read_caches(dir, &format!("-{}-", call.container_id))?.into_iter();
    Ok(found.filter(|(_, container)| *container == call.container_id).map(|(cache, _)| cache).collect())
}

/// Those whose file's name has this part.
fn read_caches(dir: &Path, part: &str) -> Result<Vec<(Cache, String)>, CniError> {
    let dir = dir.join("results");
    let files = names(&dir)?.into_iter().filter(|name| name.contains(part)).map(|name| dir.join(name));
    Ok(files.filter_map(Cache::read).collect())
}
