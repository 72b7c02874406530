//! How soon a watch puts right again what somebody keeps undoing.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LAST: Duration = Duration::from_secs(30);
/// Peace for so long, and the next change is answered at once again.
const PEACE: Duration = Duration::from_secs(60);

/// Two programs that undo each other's work for ever would keep the node busy.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pause: Duration,
    changed: Duration,
}

impl Pace {
    /// How long the next look is to be put off, after one at `now` that had, or had not, to change anything.
    pub(super) fn after(&mut self, changed: bool, now: Duration) -> Duration {
        if changed {
            let is_quarrel = !self.pause.is_zero() && now.saturating_sub(self.changed) < PEACE + self.pause;
            self.pause = if is_quarrel { (self.pause * 2).min(LAST) } else { FIRST };
            self.changed = now;
            return self.pause;
        }
        Duration::ZERO
    }

    /// Whether it is worth to be told that somebody keeps undoing it.
    pub(super) fn is_slow(&self) -> bool {
        self.pause == LAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarrel_slows_down_to_a_limit_and_peace_makes_it_fast_again() {
        let (mut pace, mut now) = (Pace::default(), Duration::from_secs(5));
        let mut pauses = Vec::new();
        for _ in 0..13 {
            let pause = pace.after(true, now);
            pauses.push(pause);
            now += pause;
            assert_eq!(pace.after(false, now), Duration::ZERO, "what is right needs no pause");
        }
        assert_eq!(pauses[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(pauses[12], LAST);
        assert!(pace.is_slow());
        now += LAST + PEACE;
        assert_eq!(pace.after(true, now), FIRST);
    }
}
