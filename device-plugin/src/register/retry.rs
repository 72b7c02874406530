//! Trying again, and saying so once.

use std::time::Duration;

/// Time between two tries, doubled after each.
const FIRST: Duration = Duration::from_millis(100);

/// Back-off, and a memory of what was said, so that the log has one line per change.
pub(super) struct Retry {
    next: Duration,
    longest: Duration,
    said: String,
}

impl Retry {
    pub(super) fn new(longest: Duration) -> Self {
        Self { next: FIRST, longest, said: String::new() }
    }

    /// How long to wait now.
    pub(super) fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        now
    }

    /// Begins anew with short waits.
    pub(super) fn soon(&mut self) {
        self.next = FIRST;
    }

    /// It has worked: the next failure is news.
    pub(super) fn succeeded(&mut self) {
        *self = Self::new(self.longest);
    }

    pub(super) fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.said != text;
        text.clone_into(&mut self.said);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew() {
        let mut retry = Retry::new(Duration::from_millis(300));
        let waits: Vec<u128> = (0..4).map(|_| retry.next().as_millis()).collect();
        assert_eq!(waits, [100, 200, 300, 300]);
        retry.soon();
        assert_eq!(retry.next().as_millis(), 100);
    }

    #[test]
    fn the_same_is_said_once() {
        let mut retry = Retry::new(Duration::from_secs(1));
        assert!(retry.is_news("a") && !retry.is_news("a") && retry.is_news("b"));
        retry.succeeded();
        assert!(retry.is_news("b"));
    }
}
