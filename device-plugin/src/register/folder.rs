//! Noticing what happens in a folder.

use std::future;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchMask};
use tokio::sync::watch;
use tokio::time;
use tokio_stream::StreamExt;

use super::POLL;
use crate::Stop;
use crate::files::FileId;

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
    let mut reporter = Reporter::new(dir.join(KUBELET_SOCKET), changes);
    loop {
        match Folder::open(dir) {
            Ok(folder) => reporter.follow(folder).await,
            // On an error, looking is all there is for the moment.
            Err(_) => reporter.find(),
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
    async fn queued(&mut self) -> Option<EventOwned> {
        tokio::select! {
            biased;
            event = self.0.next() => event.and_then(Result::ok),
            () = future::ready(()) => None,
        }
    }
}

/// Tells of a folder. A socket and the event of its appearance are told of together: apart they would be two kubelets.
struct Reporter<'a> {
    socket: PathBuf,
    appearances: u64,
    /// What the last look found that no event has told of so far.
    unannounced: Option<Kubelet>,
    now: Changes,
    changes: &'a watch::Sender<Changes>,
}

impl<'a> Reporter<'a> {
    fn new(socket: PathBuf, changes: &'a watch::Sender<Changes>) -> Self {
        Self { socket, appearances: 0, unannounced: None, now: Changes::default(), changes }
    }

    /// Reports until the folder is gone.
    async fn follow(&mut self, mut folder: Folder) {
        // What happened before the watch was in place counts as a change.
        self.now = Changes { any: self.now.any + 1, kubelet: self.kubelet() };
        loop {
            // All that is there already is one change.
            let event = match folder.queued().await {
                Some(event) => event,
                None => {
                    self.tell();
                    match time::timeout(POLL, folder.0.next()).await {
                        Ok(Some(Ok(event))) => event,
                        Ok(_) => return,
                        Err(_) => {
                            self.look();
                            continue;
                        }
                    }
                }
            };
            self.take(&event);
            if event.mask.intersects(EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF) {
                return self.tell();
            }
        }
    }

    fn take(&mut self, event: &EventOwned) {
        self.now.any += 1;
        self.unannounced = None;
        let of_socket = event.name.as_deref().is_some_and(|name| name == KUBELET_SOCKET);
        if of_socket || event.mask.contains(EventMask::Q_OVERFLOW) {
            self.appearances += u64::from(event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO));
            // What is there by now after a removal has an event of its own to come.
            let is_removal = event.mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM);
            self.now.kubelet = if is_removal { None } else { self.kubelet() };
        }
    }

    fn tell(&self) {
        self.changes.send_if_modified(|told| mem::replace(told, self.now) != self.now);
    }

    fn kubelet(&self) -> Option<Kubelet> {
        FileId::of(&self.socket).map(|socket| Kubelet { socket, appearances: self.appearances })
    }

    /// Looks for what no event told of, as when another file system was mounted over the folder: what is the same at two looks has
    /// none to come.
    fn look(&mut self) {
        let kubelet = self.kubelet();
        if kubelet == self.unannounced {
            self.find();
        }
        self.unannounced = kubelet;
    }

    /// Tells of whichever kubelet is there.
    fn find(&mut self) {
        let kubelet = self.kubelet();
        if kubelet != self.now.kubelet {
            self.now = Changes { any: self.now.any + 1, kubelet };
            self.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The next kubelet, or absence of one, that is told of.
    async fn next(changes: &mut watch::Receiver<Changes>) -> Option<Kubelet> {
        time::timeout(POLL * 6, changes.changed()).await.expect("a change").unwrap();
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
        let mut reporter = Reporter::new(socket, &sender);
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
