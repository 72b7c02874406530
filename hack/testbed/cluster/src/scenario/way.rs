//! A way to the API server that can be cut, or be silent, while the server is there for everybody else.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What happens to what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It arrives.
    Open,
    /// Connections are closed, as by a server that ended.
    Cut,
    /// Nothing is answered, as by a server that hangs or is behind a broken link.
    Silent,
}

/// The way. It ends with this value.
pub(super) struct Way {
    pub(super) port: u16,
    state: Arc<watch::Sender<State>>,
    task: JoinHandle<()>,
}

impl Way {
    /// Opens a way to a server.
    pub(super) async fn to(server: &'static str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a way to the API server")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(watch::Sender::new(State::Open));
        let states = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, server, states.subscribe()));
            }
        });
        Ok(Self { port, state, task })
    }

    /// Changes what happens from now on.
    pub(super) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.set(State::Cut);
        self.task.abort();
    }
}

/// Carries one connection as long as the way is open. One that was silent for a time is lost, as TCP's would be.
async fn carry(mut near: TcpStream, server: &str, mut states: watch::Receiver<State>) {
    let opened = async {
        let mut far = TcpStream::connect(server).await?;
        copy_bidirectional(&mut near, &mut far).await
    };
    if *states.borrow_and_update() == State::Open {
        tokio::select! {
            _ = opened => return,
            _ = states.changed() => {}
        }
    }
    // Either way it is lost; whoever is at its other end hears of it now, or when the way is open again.
    let _ = states.wait_for(|state| *state != State::Silent).await;
}
