//! Noticing what happens in a folder.

use std::future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchMask};
use tokio::sync::watch;
use tokio::time;
use tokio_stream::StreamExt;

use crate::Stop;
use crate::files::FileId;

/// The socket that kubelet serves registrations on.
pub(crate) const KUBELET_SOCKET: &str = "kubelet.sock";

/// How long until a folder that cannot be watched is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Bytes for events; one takes at most 16 and the longest file name.
const BUFFER: usize = 4096;

/// How often a socket that no event told of is looked for.
const LOOK: Duration = Duration::from_secs(5);

/// How often things happened in the folder; what, is to be looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) any: u64,
    /// The kubelet that is there, going by its socket.
    pub(crate) kubelet: Option<Kubelet>,
}

/// Which kubelet: its socket, and how often one has appeared, as a new one's file may be like the old one's in everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kubelet {
    socket: FileId,
    appearances: u64,
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
    let mut reporter =
        Reporter { socket: dir.join(KUBELET_SOCKET), appearances: 0, unannounced: None, changes };
    loop {
        match Folder::open(dir) {
            Ok(mut folder) => reporter.follow(&mut folder).await,
            // On an error, looking is all there is for the moment.
            Err(_) => reporter.found(FileId::of(&reporter.socket)),
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

    /// An event that is there already.
    async fn queued(&mut self) -> Option<io::Result<EventOwned>> {
        tokio::select! {
            biased;
            event = self.0.next() => event,
            () = future::ready(()) => None,
        }
    }
}

/// Tells of a folder. A socket and the event of its appearance are told of together: apart they would be two kubelets.
struct Reporter<'a> {
    socket: PathBuf,
    appearances: u64,
    /// A socket that no event has told of so far.
    unannounced: Option<FileId>,
    changes: &'a watch::Sender<Changes>,
}

impl Reporter<'_> {
    /// Reports until the folder is gone.
    async fn follow(&mut self, folder: &mut Folder) {
        // What happened before the watch was in place counts as a change.
        let mut event = folder.queued().await;
        let mut socket = Some(FileId::of(&self.socket));
        loop {
            let (mut happened, mut is_gone) = (u64::from(event.is_none()), false);
            while let Some(Ok(next)) = event {
                happened += 1;
                is_gone |=
                    next.mask.intersects(EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF);
                let of_socket = next.name.as_deref().is_some_and(|name| name == KUBELET_SOCKET);
                if of_socket || next.mask.contains(EventMask::Q_OVERFLOW) {
                    socket = Some(self.happened_to_socket(next.mask));
                }
                event = folder.queued().await;
            }
            self.report(happened, socket);
            if is_gone {
                return;
            }
            event = loop {
                match time::timeout(LOOK, folder.0.next()).await {
                    Ok(Some(Ok(event))) => break Some(Ok(event)),
                    Ok(_) => return,
                    Err(_) => self.look(),
                }
            };
            socket = None;
        }
    }

    /// What an event leaves in the socket's place. After a removal that is nothing until the next event, whatever is there by now.
    fn happened_to_socket(&mut self, mask: EventMask) -> Option<FileId> {
        if mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) {
            return None;
        }
        self.appearances += u64::from(mask.intersects(EventMask::CREATE | EventMask::MOVED_TO));
        FileId::of(&self.socket)
    }

    fn report(&mut self, happened: u64, socket: Option<Option<FileId>>) {
        let appearances = self.appearances;
        self.unannounced = None;
        self.changes.send_modify(|changes| {
            changes.any += happened;
            if let Some(socket) = socket {
                changes.kubelet = socket.map(|socket| Kubelet { socket, appearances });
            }
        });
    }

    /// Looks for what no event told of, as when another file system was mounted over the folder: what is the same at two looks has
    /// none to come.
    fn look(&mut self) {
        let socket = FileId::of(&self.socket);
        if socket == self.unannounced {
            self.found(socket);
        }
        self.unannounced = socket;
    }

    fn found(&self, socket: Option<FileId>) {
        let appearances = self.appearances;
        self.changes.send_if_modified(|changes| {
            if changes.kubelet.map(|kubelet| kubelet.socket) == socket {
                return false;
            }
            changes.any += 1;
            changes.kubelet = socket.map(|socket| Kubelet { socket, appearances });
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The next kubelet, or absence of one, that is told of.
    async fn next(changes: &mut watch::Receiver<Changes>) -> Option<Kubelet> {
        time::timeout(LOOK * 6, changes.changed()).await.expect("a change").unwrap();
        changes.borrow_and_update().kubelet
    }

    #[tokio::test]
    async fn a_kubelet_is_told_of_when_it_appears_and_when_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, aside) = (dir.path().join(KUBELET_SOCKET), dir.path().join("aside"));
        fs::write(&socket, "").unwrap();
        let stop = Stop::default();
        let mut changes = watch(dir.path().to_owned(), stop.clone());
        let first = next(&mut changes).await.expect("one that was there before the watch");
        fs::rename(&socket, &aside).unwrap();
        assert_eq!(next(&mut changes).await, None);
        // Another one whose file is like the first one's in everything.
        fs::rename(&aside, &socket).unwrap();
        let second = next(&mut changes).await.expect("one that has appeared");
        assert_eq!(second.socket, first.socket);
        assert_ne!(second, first);
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, "").unwrap();
        let third = next(&mut changes).await.expect("one that has taken another's place");
        assert_eq!(Some(third.socket), FileId::of(&socket));
        assert_eq!(third.appearances, 2);
        stop.stop();
    }

    #[tokio::test]
    async fn a_kubelet_in_a_folder_that_is_mounted_over_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("folder"), dir.path().join("other"));
        let (sender, receiver) = watch::channel(Changes::default());
        let socket = folder.join(KUBELET_SOCKET);
        let mut reporter = Reporter { socket, appearances: 0, unannounced: None, changes: &sender };
        fs::create_dir(&other).unwrap();
        fs::write(other.join(KUBELET_SOCKET), "").unwrap();
        reporter.look();
        fs::rename(&other, &folder).unwrap();
        reporter.look();
        assert_eq!(receiver.borrow().kubelet, None, "its event may be on the way");
        reporter.look();
        assert!(receiver.borrow().kubelet.is_some());
    }
}
