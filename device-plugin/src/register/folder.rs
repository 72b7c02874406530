//! Noticing what happens in a folder.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchMask};
use tokio::sync::watch;
use tokio::time;
use tokio_stream::StreamExt;

use crate::Stop;

/// The socket that kubelet serves registrations on.
pub(crate) const KUBELET_SOCKET: &str = "kubelet.sock";

/// How long until a folder that cannot be watched is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Bytes for events; one takes at most 16 and the longest file name.
const BUFFER: usize = 4096;

/// How often things happened in the folder; what, is to be looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) any: u64,
    /// Appearances of kubelet's socket. Its file alone does not tell: a new one may be like the old one in everything.
    pub(crate) kubelet: u64,
}

/// Watches a folder, which may come and go, until told to stop.
pub(crate) fn watch(dir: PathBuf, stop: Stop) -> watch::Receiver<Changes> {
    let (sender, receiver) = watch::channel(Changes::default());
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&dir, &sender) => {}
            () = stop.stopped() => {}
        }
    });
    receiver
}

async fn follow(dir: &Path, changes: &watch::Sender<Changes>) {
    loop {
        // On an error, the callers' own polling is all there is for the moment.
        if let Ok(folder) = Folder::open(dir) {
            // What happened before the watch was in place counts as a change.
            changes.send_modify(|changes| changes.any += 1);
            folder.report(changes).await;
        }
        time::sleep(RETRY).await;
    }
}

struct Folder(EventStream<Vec<u8>>);

impl Folder {
    fn open(dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let events = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        inotify.watches().add(dir, events)?;
        Ok(Self(inotify.into_event_stream(vec![0; BUFFER])?))
    }

    /// Reports until the folder is gone.
    async fn report(mut self, changes: &watch::Sender<Changes>) {
        let gone = EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF;
        while let Some(Ok(event)) = self.0.next().await {
            changes.send_modify(|changes| {
                changes.any += 1;
                changes.kubelet += u64::from(is_new_kubelet(&event));
            });
            if event.mask.intersects(gone) {
                return;
            }
        }
    }
}

fn is_new_kubelet(event: &EventOwned) -> bool {
    event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO)
        && event.name.as_deref().is_some_and(|name| name == KUBELET_SOCKET)
}
