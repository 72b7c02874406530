//! The other end of [`super::remote`]: carries out what one client says, on a port of this pod.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use fairlead_resource_config::error_text;

use super::remote::{Lines, parse};
use super::{Answer, Order, Station, StationError};
use crate::interrupt::{Interrupt, Stopped};
use crate::progress::Progress;

/// How long a client may be silent: it waits through warm-up and window, and looks at counters every second.
const SILENCE: Duration = Duration::from_secs(600);

/// How serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port to listen on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Nobody came.
    #[error("no client has come for {} s", .0.as_secs())]
    Alone(Duration),
    /// The client went away.
    #[error("the client went away before it said that it was done")]
    Gone(#[source] io::Error),
    /// The client says nothing.
    #[error("the client has said nothing for {} s", SILENCE.as_secs())]
    Silent,
    /// The port failed.
    #[error(transparent)]
    Station(#[from] StationError),
    /// The check ends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Listens.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).map_err(|source| ServeError::Listen { address, source })
}

/// Waits for a client, and obeys it until it is done. The station is not stopped here.
pub fn serve(
    listener: &TcpListener,
    station: &mut dyn Station,
    wait: Duration,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<(), ServeError> {
    if !interrupt.readable(listener.as_fd(), wait)? {
        return Err(ServeError::Alone(wait));
    }
    let (stream, client) = listener.accept().map_err(ServeError::Gone)?;
    progress.say(format_args!("a client at {client}"));
    let mut lines = Lines::new(stream).map_err(ServeError::Gone)?;
    loop {
        let line = lines.read(SILENCE, interrupt)?.map_err(ServeError::Gone)?.ok_or(ServeError::Silent)?;
        let answer = match parse::<Order>(&line) {
            Some(Order::Bye) => return Ok(()),
            Some(order) => {
                if matches!(order, Order::Start(_) | Order::FrameSize(_)) {
                    progress.say(format_args!("{order:?}"));
                }
                match station.obey(&order, interrupt) {
                    Ok(answer) => answer,
                    Err(error) => {
                        // The client's report says it, too.
                        let _ = lines.write(&Answer::Failed(error_text(&error)));
                        return Err(error.into());
                    }
                }
            }
            None => {
                Answer::Failed(format!("this is no order: {}", line.chars().take(80).collect::<String>()))
            }
        };
        lines.write(&answer).map_err(ServeError::Gone)?;
    }
}
