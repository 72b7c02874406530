//! Trying again, with growing pauses, until a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// The pauses between the tries of one operation.
pub(crate) struct Backoff {
    next: Duration,
    deadline: Instant,
}

impl Backoff {
    /// Pauses that end before `deadline`.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { next: FIRST, deadline }
    }

    /// Sleeps before the next try; `false` at once when that would come too late.
    pub(crate) async fn pause(&mut self) -> bool {
        if Instant::now() + self.next >= self.deadline {
            return false;
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_before_the_deadline() {
        let start = Instant::now();
        let mut backoff = Backoff::until(start + Duration::from_secs(10));
        let mut pauses = Vec::new();
        let mut before = start;
        while backoff.pause().await {
            pauses.push((Instant::now() - before).as_millis());
            before = Instant::now();
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        assert!(Instant::now() < start + Duration::from_secs(10));
    }
}
