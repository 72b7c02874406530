//! Telling tasks to end.

use tokio::sync::watch;

/// A signal that is given once and seen by all who hold a clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stop {
    /// Gives the signal.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has been given.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is given.
    pub async fn stopped(&self) {
        // An error would mean that the sender is gone, and this is one.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}
