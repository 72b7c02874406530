//! When to look at the node, and whether a look counts: a machine of (time, event) alone.

use std::time::{Duration, Instant};

use super::Timing;

/// How many looks in a row may be thrown away because something was announced meanwhile. What is seen then is true of its time, and
/// the look that follows shows the rest.
const OVERTAKEN_TRIES: u32 = 1;

/// How many looks in a row may be thrown away because of devices that are half made.
const HALF_MADE_TRIES: u32 = 20;

/// The longest time until a look that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pace {
    timing: Timing,
    /// Announcements since the last look.
    burst: Option<Burst>,
    /// When to look though nothing is announced.
    rescan: Instant,
    /// Looks in a row that did not count.
    thrown_away: u32,
}

#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

/// How the node was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    AtRest,
    /// Something was announced meanwhile.
    Overtaken,
    /// The kernel is at making or removing devices.
    HalfMade,
}

/// What a look is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Publish,
    /// Things are moving: look again.
    Again,
}

impl Pace {
    /// The first look is due at once.
    pub(super) fn new(timing: Timing, now: Instant) -> Self {
        Self { timing, burst: None, rescan: now, thrown_away: 0 }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Instant {
        let settled = |burst: Burst| (burst.last + self.timing.quiet).min(burst.first + self.timing.limit);
        self.burst.map_or(self.rescan, |burst| settled(burst).min(self.rescan))
    }

    /// Something was announced.
    pub(super) fn event(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
        // A rescan that falls due within a burst would split it.
        self.rescan = self.rescan.max(first + self.timing.limit);
    }

    /// A look is through.
    pub(super) fn scanned(&mut self, now: Instant, seen: Seen) -> Verdict {
        self.rescan = now + self.timing.rescan;
        let tries = match seen {
            Seen::AtRest => 0,
            Seen::Overtaken => OVERTAKEN_TRIES,
            Seen::HalfMade => HALF_MADE_TRIES,
        };
        // A look that counts although things are moving is followed by another all the same.
        self.burst = (seen != Seen::AtRest).then_some(Burst { first: now, last: now });
        if self.thrown_away < tries {
            self.thrown_away += 1;
            if seen == Seen::Overtaken {
                // It has taken a while by itself.
                self.rescan = now;
            }
            return Verdict::Again;
        }
        self.thrown_away = 0;
        Verdict::Publish
    }

    /// A look failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.burst = None;
        self.rescan = now + self.timing.rescan.min(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        quiet: Duration::from_millis(50),
        limit: Duration::from_millis(1000),
        rescan: Duration::from_secs(5),
    };

    /// A machine that has just looked, and the time of that.
    fn looked() -> (Pace, Instant) {
        let now = Instant::now();
        let mut pace = Pace::new(TIMING, now);
        assert_eq!(pace.due(), now);
        assert_eq!(pace.scanned(now, Seen::AtRest), Verdict::Publish);
        (pace, now)
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn without_events_looks_come_at_the_interval() {
        let (mut pace, start) = looked();
        assert_eq!(pace.due(), start + TIMING.rescan);
        pace.scanned(start + ms(5010), Seen::AtRest);
        assert_eq!(pace.due(), start + ms(10_010));
    }

    #[test]
    fn one_event_is_looked_at_after_the_quiet_time() {
        let (mut pace, start) = looked();
        pace.event(start + ms(100));
        assert_eq!(pace.due(), start + ms(150));
    }

    #[test]
    fn each_event_puts_the_look_off_up_to_the_limit() {
        let (mut pace, start) = looked();
        for time in (0..2000).step_by(40) {
            pace.event(start + ms(time));
            assert_eq!(pace.due(), start + ms((time + 50).min(1000)));
        }
    }

    #[test]
    fn a_rescan_does_not_split_a_burst() {
        let (mut pace, start) = looked();
        pace.event(start + ms(4990));
        assert_eq!(pace.due(), start + ms(5040));
        pace.event(start + ms(5030));
        assert_eq!(pace.due(), start + ms(5080));
    }

    #[test]
    fn a_look_while_things_move_is_thrown_away_and_repeated_some_times() {
        for (seen, tries) in [(Seen::Overtaken, OVERTAKEN_TRIES), (Seen::HalfMade, HALF_MADE_TRIES)] {
            let (mut pace, start) = looked();
            pace.event(start);
            let mut now = start;
            for _ in 0..tries {
                now = pace.due();
                assert_eq!(pace.scanned(now, seen), Verdict::Again);
                let wait = if seen == Seen::Overtaken { Duration::ZERO } else { TIMING.quiet };
                assert_eq!(pace.due(), now + wait);
            }
            assert_eq!(pace.scanned(now, seen), Verdict::Publish);
            // It counted, and what there is to come is looked at all the same.
            assert_eq!(pace.due(), now + TIMING.quiet);
            assert_eq!(pace.scanned(now + TIMING.quiet, Seen::AtRest), Verdict::Publish);
            assert_eq!(pace.due(), now + TIMING.quiet + TIMING.rescan);
        }
    }

    #[test]
    fn a_failed_look_is_repeated_soon_but_not_at_once() {
        let (mut pace, start) = looked();
        pace.failed(start);
        assert_eq!(pace.due(), start + RETRY);
        pace.event(start + ms(10));
        assert_eq!(pace.due(), start + ms(60));
    }
}
