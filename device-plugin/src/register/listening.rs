//! A pool's server on a socket.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use fairlead_kubelet_api::device_plugin::device_plugin_server::DevicePluginServer;
use fairlead_kubelet_api::plugin_registration::registration_server::RegistrationServer;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::authority::Connection;
use super::watcher::Entry;
use crate::Stop;
use crate::files::FileId;
use crate::service::Service;

/// How long streams that kubelet does not read may hold up the end of a server.
const DRAIN: Duration = Duration::from_secs(2);

/// A socket that cannot be made.
#[derive(Debug, Error)]
#[error("cannot listen on {path}")]
pub(crate) struct ListenError {
    path: PathBuf,
    source: io::Error,
}

/// How kubelet learns of a socket.
pub(super) enum Way {
    /// It is told of it.
    Classic,
    /// It finds it, and asks what it is.
    Watcher(Entry),
}

/// What has become of a server's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is there.
    Ours,
    /// Another plugin, the newer one of an upgrade, serves in its place.
    Taken,
    /// It is not there, or what is there serves nobody.
    Gone,
}

/// A server that listens.
pub(crate) struct Listening {
    path: PathBuf,
    id: FileId,
    stop: Stop,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Listening {
    /// Binds the socket `name` in `dir` and serves on it. `stop` is the service's own: it ends this server only.
    pub(super) fn start(dir: &Path, name: &str, service: Service, way: Way) -> Result<Self, ListenError> {
        let path = dir.join(name);
        let failed = |source| ListenError { path: path.clone(), source };
        let (listener, id) = bind(dir, &path).map_err(failed)?;
        let stop = service.stop.clone();
        let until = stop.clone();
        let owner = fs::metadata(&path).map(|metadata| metadata.uid()).map_err(failed)?;
        let connections = UnixListenerStream::new(listener).filter_map(move |stream| admit(stream, owner));
        let router = Server::builder().add_service(DevicePluginServer::new(service));
        let router = match way {
            Way::Classic => router,
            Way::Watcher(entry) => router.add_service(RegistrationServer::new(entry)),
        };
        let serving = router.serve_with_incoming_shutdown(connections, async move { until.stopped().await });
        Ok(Self { path, id, stop, task: tokio::spawn(serving) })
    }

    /// Whose the socket is now.
    pub(crate) async fn place(&self) -> Place {
        match FileId::of(&self.path) {
            Some(found) if found == self.id && !self.task.is_finished() => Place::Ours,
            Some(found) if found == self.id => Place::Gone,
            Some(_) if is_served(&self.path).await => Place::Taken,
            _ => Place::Gone,
        }
    }

    /// Ends the streams and the server, and removes the socket unless another server has taken its place.
    pub(crate) async fn finish(mut self) {
        if FileId::of(&self.path) == Some(self.id) {
            // Gone in the meantime is as good.
            let _ = fs::remove_file(&self.path);
        }
        self.stop.stop();
        match time::timeout(DRAIN, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the server failed"),
            Ok(Err(error)) => tracing::warn!(%error, "the server's task failed"),
            Err(_) => self.task.abort(),
        }
    }
}

/// Whether somebody listens on a socket. One who has no time for another client at the moment does.
async fn is_served(path: &Path) -> bool {
    match UnixStream::connect(path).await {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Lets in root, and the user that this process is: whoever else can reach the socket has no business here.
fn admit(stream: io::Result<UnixStream>, owner: u32) -> Option<io::Result<Connection>> {
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return Some(Err(error)),
    };
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == owner => Some(Ok(Connection::new(stream))),
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "a client that is not root is turned away");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "a client whose user is not known is turned away");
            None
        }
    }
}

/// Binds under another name and renames, so that a socket which kubelet knows is replaced by one that already listens. The
/// other name begins with a dot: kubelet's plugin watcher passes such over.
///
/// Which file it is, is looked up before that: once it is at `path`, another plugin may take its place at any moment.
fn bind(dir: &Path, path: &Path) -> io::Result<(UnixListener, FileId)> {
    let temporary =
        tempfile::Builder::new().prefix(".fairlead-").make_in(dir, |path| UnixListener::bind(path))?;
    // kubelet is root, and nobody else has any business here.
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o600))?;
    let id = FileId::of(temporary.path()).ok_or(io::ErrorKind::NotFound)?;
    let (listener, temporary) = temporary.into_parts();
    temporary.persist(path).map_err(|error| error.error)?;
    Ok((listener, id))
}
