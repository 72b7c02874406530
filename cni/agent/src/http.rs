//! `/healthz` and `/readyz`, for kubelet's probes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::sleep};

use crate::agent::Agent;

/// How long until a port that is taken, as by the agent that this one replaces, is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Serves; never ends. Pods' networks do not wait for who looks at them: a port that is taken is waited for.
pub async fn serve(address: SocketAddr, agent: Arc<Agent>) {
    let mut failing = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                failing = false;
                if let Err(error) = axum::serve(listener, router(agent.clone())).await {
                    tracing::warn!(%error, %address, "probes are not answered any more; trying again");
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, %address, "probes cannot be answered; trying on");
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

fn router(agent: Arc<Agent>) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(agent)
}

/// Ready when every network and every pod of the node has been listed once. A later failure of the API server is not the agent's:
/// it goes on with what it knows.
async fn readyz(State(agent): State<Arc<Agent>>) -> Response {
    let missing = agent.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response()
}
