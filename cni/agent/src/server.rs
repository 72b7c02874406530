//! Answers calls on the agent's socket: one connection, one request, one answer.

use std::{io, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use fairlead_cni::agent_protocol::{Answer, Call, Failure, Request, Response, VERSION, frame_length};
use futures::FutureExt;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

/// How the server behaves.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls that are worked on at a time; more wait in the socket's backlog.
    pub calls: usize,
    /// How long a peer may take to send its request, and to take its answer.
    pub frame: Duration,
    /// The longest time that a call may take, whatever its deadline says.
    pub call: Duration,
    /// How long calls in flight are waited for at the end.
    pub grace: Duration,
    /// The user who may call.
    pub uid: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 256,
            frame: Duration::from_secs(5),
            call: Duration::from_secs(120),
            grace: Duration::from_secs(10),
            uid: 0,
        }
    }
}

/// Answers a call.
pub trait Handler: Send + Sync + 'static {
    /// The answer, which must be there by `deadline`.
    fn handle(&self, call: Call, deadline: Instant) -> impl Future<Output = Answer> + Send;
}

/// Serves until `stop` is ready, then finishes the calls in flight.
pub async fn serve<H: Handler>(
    listener: UnixListener,
    handler: Arc<H>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(limits.calls));
    let mut calls = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((permit, listener.accept().await?.0))
        };
        tokio::select! {
            () = &mut stop => break,
            Some(_) = calls.join_next() => {}
            accepted = accepted => match accepted {
                Ok((permit, stream)) => {
                    let handler = handler.clone();
                    calls.spawn(async move {
                        let _permit = permit;
                        connection(stream, &*handler, limits).await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely; they come back when calls end.
                    tracing::warn!(%error, "cannot accept a call");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let rest = calls.len();
    let drained = timeout(limits.grace, async { while calls.join_next().await.is_some() {} }).await;
    tracing::info!(calls = rest, finished = drained.is_ok(), "stopped");
}

async fn connection<H: Handler>(mut stream: UnixStream, handler: &H, limits: Limits) {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == limits.uid => {}
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "refused a caller that is not root");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "refused a caller that cannot be identified");
            return;
        }
    }
    let answer = match timeout(limits.frame, read(&mut stream)).await {
        Ok(Ok(body)) => answer(&body, handler, limits).await,
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return,
        Ok(Err(error)) => refusal(format!("the request cannot be read: {error}")),
        Err(_) => refusal(format!("no complete request came within {:?}", limits.frame)),
    };
    match timeout(limits.frame, write(&mut stream, answer)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the caller did not take the answer"),
        Err(_) => tracing::debug!("the caller did not take the answer in time"),
    }
}

/// What every version of a request has.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

async fn answer<H: Handler>(body: &[u8], handler: &H, limits: Limits) -> Answer {
    match serde_json::from_slice(body) {
        // This version and the one before; there is none before 1.
        Ok(Header { version }) if version >= 1 && (version == VERSION || version + 1 == VERSION) => {}
        Ok(Header { version }) => {
            // In the middle of an upgrade the other one is about to come.
            return later(&format!(
                "the CNI executable speaks version {version} of the agent's protocol, the agent version {VERSION}: \
                 unless they are just being upgraded, install both from the same release"
            ));
        }
        Err(error) => return refusal(format!("the request cannot be read: {error}")),
    }
    let call = match serde_json::from_slice::<Request>(body) {
        Ok(request) => request.call,
        Err(error) => return refusal(format!("the request cannot be read: {error}")),
    };
    // A tenth of the caller's time is for the way back; half of that for a handler that overruns.
    let time = time(&call).min(limits.call);
    let now = Instant::now();
    let work = AssertUnwindSafe(handler.handle(call, now + time * 18 / 20)).catch_unwind();
    match timeout_at(now + time * 19 / 20, work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => later("the agent failed at this call; its log tells more"),
        Err(_) => later("the agent did not come to an answer in time"),
    }
}

/// The time that the caller waits.
fn time(call: &Call) -> Duration {
    Duration::from_millis(call.deadline_ms())
}

fn refusal(message: String) -> Answer {
    tracing::warn!(error = message, "call refused");
    Answer::Failed(Failure { retry: false, message })
}

fn later(message: &str) -> Answer {
    tracing::warn!(error = message, "call failed");
    Answer::Failed(Failure { retry: true, message: message.to_owned() })
}

async fn read(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    frame_length(length as usize)?;
    // Grows with what really comes, not with what is announced.
    let mut body = Vec::new();
    stream.take(length.into()).read_to_end(&mut body).await?;
    if body.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

async fn write(stream: &mut UnixStream, answer: Answer) -> io::Result<()> {
    let mut body = serde_json::to_vec(&Response { version: VERSION, answer })?;
    let length = match frame_length(body.len()) {
        Ok(length) => length,
        Err(error) => {
            let answer = refusal(format!("the answer is too long: {error}"));
            body = serde_json::to_vec(&Response { version: VERSION, answer })?;
            frame_length(body.len())?
        }
    };
    stream.write_u32(length).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests;
