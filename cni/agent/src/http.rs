//! `/metrics`, and `/healthz` and `/readyz` for kubelet's probes.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::sleep};

/// What is served.
pub trait Observed: Send + Sync + 'static {
    /// What there is yet to receive before every call can be answered, for people.
    fn missing(&self) -> Vec<String>;

    /// The metrics now, in OpenMetrics' text form.
    ///
    /// # Errors
    /// When they cannot be written down.
    fn metrics(&self) -> Result<String, fmt::Error>;
}

/// How long until a port that is taken, as by the agent that this one replaces, is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Serves; never ends. Pods' networks do not wait for who looks at them: a port that is taken is waited for.
pub async fn serve<O: Observed>(address: SocketAddr, agent: Arc<O>) {
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

fn router<O: Observed>(agent: Arc<O>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::<O>))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz::<O>))
        .with_state(agent)
}

async fn metrics<O: Observed>(State(agent): State<Arc<O>>) -> Response {
    match agent.metrics() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Ready when every network and every pod of the node has been listed once. A later failure of the API server is not the agent's:
/// it goes on with what it knows.
async fn readyz<O: Observed>(State(agent): State<Arc<O>>) -> Response {
    let missing = agent.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response()
}
