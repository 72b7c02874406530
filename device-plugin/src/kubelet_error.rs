//! Why a call to kubelet failed.

use thiserror::Error;
use tokio::time;

/// What became of a call to one of kubelet's sockets.
#[derive(Debug, Error)]
pub(crate) enum KubeletError {
    #[error("cannot reach kubelet")]
    Connect(#[from] tonic::transport::Error),
    #[error("kubelet refuses: {}", .0.message())]
    Refused(#[from] tonic::Status),
    #[error("kubelet does not answer")]
    Silent(#[from] time::error::Elapsed),
}
