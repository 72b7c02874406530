//! `/metrics`, `/healthz` and `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time;

use crate::Stop;
use crate::shared::Shared;

/// How long until a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Serves until told to stop. A port that is taken is waited for: devices are more important than who looks at them.
pub(crate) async fn serve(address: SocketAddr, shared: Arc<Shared>, stop: Stop) {
    let mut failing = false;
    while !stop.is_stopped() {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let until = stop.clone();
                let serving = axum::serve(listener, router(shared.clone()))
                    .with_graceful_shutdown(async move { until.stopped().await });
                if let Err(error) = serving.await {
                    tracing::warn!(%error, %address, "metrics are not served any more; trying again");
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, %address, "metrics cannot be served; trying on");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = time::sleep(RETRY) => {}
            () = stop.stopped() => {}
        }
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.text() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Ready when kubelet watches every pool.
async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.unwatched() {
        Some(pools) if pools.is_empty() => "ok\n".into_response(),
        Some(pools) => {
            let text = format!("kubelet does not watch {}\n", pools.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}
