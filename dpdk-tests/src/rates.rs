//! From counters to rates.

use serde::{Deserialize, Serialize};

use crate::testpmd::telemetry::PortStats;

/// Both ports' counters, each with its own time: under load an answer can take long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// When the sender was asked, in seconds since traffic began.
    pub sent_at: f64,
    /// Packets that the sender has sent since traffic began.
    pub sent_packets: u64,
    /// Bytes, likewise.
    pub sent_bytes: u64,
    /// When the receiver was asked.
    pub received_at: f64,
    /// Packets that the receiver has received since traffic began.
    pub received_packets: u64,
    /// Bytes, likewise.
    pub received_bytes: u64,
}

impl Sample {
    /// From counters, less what they were before traffic began.
    #[must_use]
    pub fn new(before: &Counters, at: (f64, f64), now: &Counters) -> Self {
        Self {
            sent_at: at.0,
            sent_packets: now.sender.opackets.saturating_sub(before.sender.opackets),
            sent_bytes: now.sender.obytes.saturating_sub(before.sender.obytes),
            received_at: at.1,
            received_packets: now.receiver.ipackets.saturating_sub(before.receiver.ipackets),
            received_bytes: now.receiver.ibytes.saturating_sub(before.receiver.ibytes),
        }
    }
}

/// The counters of both ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Of the port that sends.
    pub sender: PortStats,
    /// Of the port that receives.
    pub receiver: PortStats,
}

/// What a window of time shows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Length of the window at the receiver, in seconds.
    pub seconds: f64,
    /// Packets per second that left the sender.
    pub sent_pps: f64,
    /// Packets per second that arrived.
    pub received_pps: f64,
    /// Bits per second that left, counted as the device counts bytes.
    pub sent_bps: f64,
    /// Bits per second that arrived.
    pub received_bps: f64,
}

/// The rates between two samples; `None` when no time is between them.
#[must_use]
pub fn between(first: &Sample, last: &Sample) -> Option<Rates> {
    let sent_time = last.sent_at - first.sent_at;
    let seconds = last.received_at - first.received_at;
    if sent_time <= 0.0 || seconds <= 0.0 {
        return None;
    }
    let sent = |from: u64, to: u64| count(to.saturating_sub(from)) / sent_time;
    let received = |from: u64, to: u64| count(to.saturating_sub(from)) / seconds;
    Some(Rates {
        seconds,
        sent_pps: sent(first.sent_packets, last.sent_packets),
        received_pps: received(first.received_packets, last.received_packets),
        sent_bps: 8.0 * sent(first.sent_bytes, last.sent_bytes),
        received_bps: 8.0 * received(first.received_bytes, last.received_bytes),
    })
}

/// What became of all packets from before traffic began until after it ended: exact, as nothing moves at either end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Packets that left the sender.
    pub sent: u64,
    /// Packets that arrived.
    pub received: u64,
    /// The part that did not arrive, from 0 to 1; 0 when nothing was sent.
    pub loss: f64,
    /// Of these the ones that the receiver dropped because its queue was full.
    pub missed: u64,
    /// Of these the ones that the receiver dropped for lack of buffers.
    pub no_buffer: u64,
    /// Packets that arrived with an error.
    pub receive_errors: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
}

impl Totals {
    /// From the counters before and after.
    #[must_use]
    pub fn new(before: &Counters, after: &Counters) -> Self {
        let sent = after.sender.opackets.saturating_sub(before.sender.opackets);
        let received = after.receiver.ipackets.saturating_sub(before.receiver.ipackets);
        let receiver = |counter: fn(&PortStats) -> u64| {
            counter(&after.receiver).saturating_sub(counter(&before.receiver))
        };
        Self {
            sent,
            received,
            loss: loss(sent, received),
            missed: receiver(|stats| stats.imissed),
            no_buffer: receiver(|stats| stats.rx_nombuf),
            receive_errors: receiver(|stats| stats.ierrors),
            send_errors: after.sender.oerrors.saturating_sub(before.sender.oerrors),
        }
    }
}

/// The part that did not arrive. More arrives than was sent when somebody else talks too, by broadcast for example.
#[must_use]
pub fn loss(sent: u64, received: u64) -> f64 {
    if sent == 0 { 0.0 } else { count(sent.saturating_sub(received)) / count(sent) }
}

/// What one trial showed of one flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// In the window after the warm-up.
    pub rates: Rates,
    /// Warm-up included.
    pub totals: Totals,
    /// What the rates are made from.
    pub samples: Vec<Sample>,
}

/// Exact up to 2^53, beyond what a port counts in a year.
#[expect(clippy::cast_precision_loss, reason = "packet counts are far below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(opackets: u64, ipackets: u64) -> Counters {
        let sender = PortStats { opackets, obytes: opackets * 68, ..PortStats::default() };
        let receiver = PortStats { ipackets, ibytes: ipackets * 68, ..PortStats::default() };
        Counters { sender, receiver }
    }

    #[test]
    fn rates_use_each_ports_own_time() {
        let before = counters(100, 50);
        let first = Sample::new(&before, (1.0, 1.5), &counters(1100, 250));
        let last = Sample::new(&before, (3.0, 5.5), &counters(3100, 1050));
        assert_eq!((first.sent_packets, first.received_packets), (1000, 200));
        let rates = between(&first, &last).unwrap();
        assert_eq!((rates.seconds, rates.sent_pps, rates.received_pps), (4.0, 1000.0, 200.0));
        assert_eq!((rates.sent_bps, rates.received_bps), (1000.0 * 544.0, 200.0 * 544.0));
    }

    #[test]
    fn no_time_gives_no_rate_and_counters_that_go_back_give_none_below_zero() {
        let sample = Sample::new(&counters(0, 0), (1.0, 1.0), &counters(10, 10));
        assert_eq!(between(&sample, &sample), None);
        let reset = Sample::new(&counters(0, 0), (2.0, 2.0), &counters(0, 0));
        assert_eq!(between(&sample, &reset).unwrap().sent_pps, 0.0);
    }

    #[test]
    fn loss_is_what_did_not_arrive() {
        let mut after = counters(1100, 850);
        after.receiver.imissed = 200;
        let totals = Totals::new(&counters(100, 100), &after);
        assert_eq!((totals.sent, totals.received, totals.loss, totals.missed), (1000, 750, 0.25, 200));
    }

    #[test]
    fn loss_is_never_below_zero_nor_not_a_number() {
        assert_eq!(Totals::new(&counters(0, 0), &counters(10, 12)).loss, 0.0);
        assert_eq!(Totals::new(&counters(0, 0), &counters(0, 0)).loss, 0.0);
    }
}
