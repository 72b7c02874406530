//! A stand-in for the API server: pods, nodes, events, namespaces and network attachment definitions over plain HTTP, with
//! the versions, watches, patches, preconditions and errors that clients rely on. Everything is in memory.
//!
//! Not done, and refused with the right error: strategic merge patch, server-side apply, dry run, set-based label selectors,
//! deletion of collections. No authentication: it listens on loopback.

mod discovery;
mod errors;
mod http;
mod kinds;
mod names;
mod objects;
mod pods;
mod selectors;
mod store;
mod types;
mod views;
mod watching;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{Router, serve::ListenerExt};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub use kinds::{KINDS, Kind};

use self::store::Store;

/// How a stand-in API server behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How many changes are kept for watches; a watch from before them gets 410 Gone.
    pub history: usize,
    /// How often a watch that wants bookmarks gets one.
    pub bookmark_every: Duration,
}

impl Options {
    /// The usual behaviour, at an address.
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, history: 10_000, bookmark_every: Duration::from_secs(60) }
    }
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    closing: watch::Sender<u64>,
    options: Options,
}

/// A running stand-in API server. It ends when this is dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl ApiServer {
    /// Starts serving with the usual behaviour.
    pub async fn start(listen: SocketAddr) -> io::Result<Self> {
        Self::start_with(Options::at(listen)).await
    }

    /// Starts serving. The namespaces of a fresh cluster exist.
    pub async fn start_with(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let store = Arc::new(Store::new(options.history));
        make_namespaces(&store);
        let shared = Arc::new(Shared { store, closing: watch::Sender::new(0), options });
        let router = Router::new().fallback(http::handle).with_state(shared.clone());
        let listener = listener.tap_io(|stream| {
            // Small answers must not wait for one another. A failure only costs time.
            let _ = stream.set_nodelay(true);
        });
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(target: "apiserver", "stopped serving: {error}");
            }
        });
        tracing::info!(target: "apiserver", "serving http://{address}");
        Ok(Self { address, shared, task })
    }

    /// Such as `http://127.0.0.1:6443`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig with which any client reaches this server.
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&self.url())
    }

    /// Writes the kubeconfig to a file, for this user only.
    pub fn write_kubeconfig(&self, path: &Path) -> io::Result<()> {
        crate::files::write_private(path, self.kubeconfig().as_bytes())
    }

    /// Forgets all history, as etcd's compaction does: watches from an earlier version get 410 Gone, open ones too.
    pub fn forget_history(&self) {
        self.shared.store.forget_history();
    }

    /// Ends every watch that is open, as a restarting server does.
    pub fn close_watches(&self) {
        self.shared.closing.send_modify(|n| *n += 1);
    }

    /// Serves until the task ends, which it does only when it is aborted.
    pub async fn serve(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
        self.close_watches();
    }
}

/// A kubeconfig for a server without authentication. Its certificate authorities are an empty list: kube's client otherwise
/// asks the system for some, TLS or not, and fails on a bare node, which has none.
pub fn kubeconfig(url: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: testbed\nclusters:\n- name: testbed\n  cluster:\n    server: {url}\n    certificate-authority-data: Cg==\n\
         contexts:\n- name: testbed\n  context:\n    cluster: testbed\n    user: testbed\nusers:\n- name: testbed\n  user: {{}}\n"
    )
}

fn make_namespaces(store: &Store) {
    let Some(kind) = Kind::named("Namespace") else { return };
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let object = json!({ "metadata": { "name": name } });
        if let Err(error) = store.write(|inner| objects::create(inner, kind, None, object)) {
            tracing::error!(target: "apiserver", "namespace {name}: {error:?}");
        }
    }
}
