//! Whether kubelet is listening to a server: the lists that it has open there.
//!
//! kubelet can lose a plugin without a word and without a restart: it closes the stream (1.25 to 1.33 close the new plugin's
//! when the old one of an upgrade ends) and waits for a registration.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long kubelet may be without a list that it had open.
const AFTER_LOSS: Duration = Duration::from_secs(1);

/// How long it may take to open the first one; it dials for ten seconds.
const AFTER_REGISTRATION: Duration = Duration::from_secs(15);

/// One server's contact with kubelet.
#[derive(Debug, Clone)]
pub(crate) struct Contact(watch::Sender<Lists>);

#[derive(Debug, Default)]
struct Lists {
    open: usize,
    /// When kubelet must have opened one, after a registration or a loss.
    due: Option<Instant>,
}

impl Default for Contact {
    fn default() -> Self {
        Self(watch::Sender::new(Lists::default()))
    }
}

impl Contact {
    /// kubelet has accepted a registration.
    pub(crate) fn registered(&self) {
        self.0.send_modify(|lists| {
            lists.due = (lists.open == 0).then(|| Instant::now() + AFTER_REGISTRATION);
        });
    }

    /// kubelet has opened a list, which ends when the returned value is dropped.
    pub(crate) fn opened(&self) -> OpenList {
        self.0.send_modify(|lists| {
            lists.open += 1;
            lists.due = None;
        });
        OpenList(self.clone())
    }

    /// Whether kubelet has a list open.
    pub(crate) fn is_open(&self) -> bool {
        self.0.borrow().open > 0
    }

    /// When kubelet is taken to have lost the plugin, unless it opens a list until then.
    pub(crate) fn lost_at(&self) -> Option<Instant> {
        self.0.borrow().due
    }

    /// Wakes whoever waits for a change.
    pub(crate) fn told(&self) {
        self.0.send_modify(|_| {});
    }

    /// Gives up waiting for kubelet to open a list.
    pub(crate) fn forget(&self) {
        self.0.send_modify(|lists| lists.due = None);
    }

    /// Waits until a list is opened or closed, or kubelet is told of the plugin.
    pub(crate) async fn changed(&self) {
        // An error would mean that the sender is gone, and this is one.
        let _ = self.0.subscribe().changed().await;
    }
}

/// A list that kubelet has open.
#[derive(Debug)]
pub(crate) struct OpenList(Contact);

impl Drop for OpenList {
    fn drop(&mut self) {
        self.0.0.send_modify(|lists| {
            lists.open -= 1;
            if lists.open == 0 {
                lists.due = Some(Instant::now() + AFTER_LOSS);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_plugin_is_lost_only_when_its_last_list_has_ended() {
        let contact = Contact::default();
        assert_eq!((contact.is_open(), contact.lost_at()), (false, None));
        contact.registered();
        assert_eq!(contact.lost_at(), Some(Instant::now() + AFTER_REGISTRATION));
        let (first, second) = (contact.opened(), contact.opened());
        assert_eq!((contact.is_open(), contact.lost_at()), (true, None));
        drop(first);
        assert_eq!((contact.is_open(), contact.lost_at()), (true, None));
        drop(second);
        assert_eq!((contact.is_open(), contact.lost_at()), (false, Some(Instant::now() + AFTER_LOSS)));
    }
}
