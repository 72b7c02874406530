//! The stand-in kubelet's own socket: commands in containers, and their logs, for `testbed kubectl`.

use std::{fs, io, path::Path, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    Shared, Stop,
    devices::{registration::listen, rpc_text},
    stopped,
};
use crate::cri::{
    CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID,
    v1::{Container, ContainerState},
};

/// Name of the socket below the kubelet's root.
pub const SOCKET: &str = "testbed.sock";

/// Which container; without a name the pod's first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Which {
    /// Pod's namespace.
    pub namespace: String,
    /// Pod's name.
    pub pod: String,
    /// Container's name, or nothing.
    pub container: Option<String>,
}

/// `POST /exec`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecRequest {
    /// Where.
    pub which: Which,
    /// What.
    pub command: Vec<String>,
    /// Seconds; 0 is for ever.
    pub timeout: i64,
}

/// Its answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecAnswer {
    /// Base64.
    pub stdout: String,
    /// Base64.
    pub stderr: String,
    /// The command's exit code.
    pub exit_code: i32,
}

type Failure = (StatusCode, String);

/// Serves until `stop`'s sender is gone.
pub(super) fn serve(root: &Path, shared: Arc<Shared>, stop: Stop) -> io::Result<()> {
    let listener = listen(&root.join(SOCKET))?;
    let router = Router::new()
        .route("/exec", post(exec))
        .route("/container", post(container_id))
        .route("/logs", post(logs))
        .with_state(shared);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped(stop)).await {
            tracing::error!(target: "kubelet", "{SOCKET}: {error}");
        }
    });
    Ok(())
}

async fn exec(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<ExecRequest>,
) -> Result<Json<ExecAnswer>, Failure> {
    let container = find(&shared, &request.which, true).await?;
    let answer = shared
        .runtime
        .exec(&container.id, request.command, request.timeout)
        .await
        .map_err(|status| (StatusCode::INTERNAL_SERVER_ERROR, rpc_text(&status)))?;
    Ok(Json(ExecAnswer {
        stdout: STANDARD.encode(answer.stdout),
        stderr: STANDARD.encode(answer.stderr),
        exit_code: answer.exit_code,
    }))
}

/// The runtime's ID of a running container.
async fn container_id(
    State(shared): State<Arc<Shared>>,
    Json(which): Json<Which>,
) -> Result<String, Failure> {
    Ok(find(&shared, &which, true).await?.id)
}

/// What a container has written, as the runtime keeps it, without its time stamps.
async fn logs(State(shared): State<Arc<Shared>>, Json(which): Json<Which>) -> Result<String, Failure> {
    let container = find(&shared, &which, false).await?;
    let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
    let folder = format!("{}_{}_{}", which.namespace, which.pod, label(POD_UID));
    let attempt = container.metadata.clone().unwrap_or_default().attempt;
    let path = shared.config.log_root.join(folder).join(label(CONTAINER_NAME)).join(format!("{attempt}.log"));
    let bytes = fs::read(&path)
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}", path.display())))?;
    Ok(plain(&String::from_utf8_lossy(&bytes)))
}

/// Each line is `TIME STREAM F|P TEXT`; P is a part of a line that goes on.
fn plain(log: &str) -> String {
    let mut text = String::new();
    for line in log.lines() {
        let mut parts = line.splitn(4, ' ').skip(2);
        let (tag, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        text.push_str(rest);
        if tag != "P" {
            text.push('\n');
        }
    }
    text
}

async fn find(shared: &Shared, which: &Which, running: bool) -> Result<Container, Failure> {
    let all = shared
        .runtime
        .containers(None)
        .await
        .map_err(|status| (StatusCode::INTERNAL_SERVER_ERROR, rpc_text(&status)))?;
    let label = |c: &Container, key: &str| c.labels.get(key).cloned().unwrap_or_default();
    let matches = |c: &Container| {
        label(c, POD_NAME) == which.pod
            && label(c, POD_NAMESPACE) == which.namespace
            && which.container.as_ref().is_none_or(|name| label(c, CONTAINER_NAME) == *name)
            && (!running || c.state() == ContainerState::ContainerRunning)
    };
    let wanted = which.container.as_deref().unwrap_or("any");
    all.into_iter().filter(matches).max_by_key(|c| c.created_at).ok_or_else(|| {
        let what = if running { "running container" } else { "container" };
        (
            StatusCode::NOT_FOUND,
            format!("pod {}/{} has no {what} ({wanted}) on this node", which.namespace, which.pod),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_without_stamps() {
        let log = "2026-11-20T20:00:00Z stdout F one\n2026-11-20T20:00:00Z stderr P tw\n2026-11-20T20:00:01Z stderr F o x\n";
        assert_eq!(plain(log), "one\ntwo x\n");
    }
}
