//! The plugin watcher: finds plugins' sockets in `plugins_registry` and asks what they are.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fairlead_kubelet_api::{
    device_plugin::VERSION,
    plugin_registration::{
        DEVICE_PLUGIN, InfoRequest, PluginInfo, RegistrationStatus, registration_client::RegistrationClient,
    },
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, Uri},
};

use super::{DeviceManager, registration::is_extended_resource, rpc_text};

/// How often kubelet compares what there is with what is registered.
const LOOP: Duration = Duration::from_secs(1);

/// How long a plugin may take to be reached, and to answer a question.
const DIAL: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(1);

/// The first and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));

/// Which file: device, inode, and when it was made or moved (seconds and nanoseconds).
type FileId = (u64, u64, i64, i64);

/// What is known of one socket.
#[derive(Debug)]
struct Known {
    id: FileId,
    /// The resource, once registered.
    resource: Option<String>,
    /// After a failure: when to try again, and how long that pause is.
    again: Option<(Instant, Duration)>,
}

/// Follows the folder for ever.
pub(super) async fn follow(manager: Arc<DeviceManager>, folder: PathBuf) {
    let mut known = BTreeMap::new();
    loop {
        reconcile(&manager, &folder, &mut known).await;
        sleep(LOOP).await;
    }
}

/// As kubelet: first whoever is gone or was replaced, then whoever is new.
async fn reconcile(manager: &Arc<DeviceManager>, folder: &Path, known: &mut BTreeMap<PathBuf, Known>) {
    let sockets = sockets(folder);
    known.retain(|path, entry| {
        let stays = sockets.get(path) == Some(&entry.id);
        if let Some(resource) = entry.resource.as_deref().filter(|_| !stays) {
            tracing::info!(target: "devices", "{resource}: {} is gone or another", path.display());
            manager.disconnect(resource, 0);
        }
        stays
    });
    for (path, id) in sockets {
        let entry = known.entry(path.clone()).or_insert(Known { id, resource: None, again: None });
        let waits = entry.again.is_some_and(|(time, _)| Instant::now() < time);
        if entry.resource.is_some() || waits {
            continue;
        }
        match register(manager, &path).await {
            Ok(resource) => (entry.resource, entry.again) = (Some(resource), None),
            Err(why) => {
                tracing::warn!(target: "devices", "RegisterPlugin error -- {}: {why}", path.display());
                let pause = entry.again.map_or(PAUSES.0, |(_, last)| (last * 2).min(PAUSES.1));
                entry.again = Some((Instant::now() + pause, pause));
            }
        }
    }
}

/// The sockets that are plugins'. Hidden files are not.
fn sockets(folder: &Path) -> BTreeMap<PathBuf, FileId> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let socket = |entry: fs::DirEntry| {
        let about = entry.metadata().ok().filter(|about| about.file_type().is_socket())?;
        let id = (about.dev(), about.ino(), about.ctime(), about.ctime_nsec());
        (!entry.file_name().as_encoded_bytes().starts_with(b".")).then(|| (entry.path(), id))
    };
    entries.flatten().filter_map(socket).collect()
}

/// Asks what the socket is, connects, and tells it. An error is told, too, where the plugin has answered.
async fn register(manager: &Arc<DeviceManager>, socket: &Path) -> Result<String, String> {
    let mut client = dial(socket).await?;
    let info =
        client.get_info(asking(InfoRequest {})).await.map_err(|status| rpc_text(&status))?.into_inner();
    let result = match check(&info) {
        Ok(()) => {
            let endpoint = if info.endpoint.is_empty() { socket } else { Path::new(&info.endpoint) };
            let failed =
                |status: Status| format!("plugin registration failed with err: {}", rpc_text(&status));
            manager.connect(&info.name, endpoint).await.map_err(failed)
        }
        Err(why) => Err(why),
    };
    let error = result.as_ref().err().map(|why| format!("RegisterPlugin error -- {why}")).unwrap_or_default();
    let status = RegistrationStatus { plugin_registered: result.is_ok(), error };
    client.notify_registration_status(asking(status)).await.map_err(|status| rpc_text(&status))?;
    result.map(|()| info.name)
}

fn asking<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER);
    request
}

async fn dial(socket: &Path) -> Result<RegistrationClient<Channel>, String> {
    let endpoint =
        Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(|e| e.to_string())?;
    let endpoint = endpoint.origin(Uri::from_static("http://localhost"));
    match timeout(DIAL, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(RegistrationClient::new(channel)),
        Ok(Err(error)) => Err(format!("dial failed, err: {error}")),
        Err(_) => Err("dial failed, err: context deadline exceeded".into()),
    }
}

/// Kubelet's checks of what a plugin says it is.
fn check(info: &PluginInfo) -> Result<(), String> {
    if info.r#type != DEVICE_PLUGIN {
        return Err(format!("no handler registered for plugin type: {}", info.r#type));
    }
    if !info.supported_versions.iter().any(|version| version == VERSION) {
        let versions = info.supported_versions.join(" ");
        return Err(format!(
            "plugin validation failed with err: manager version, {VERSION}, is not among plugin supported versions [{versions}]"
        ));
    }
    if !is_extended_resource(&info.name) {
        return Err(format!(
            "plugin validation failed with err: invalid name of device plugin socket: the ResourceName \"{}\" is invalid",
            info.name
        ));
    }
    Ok(())
}
