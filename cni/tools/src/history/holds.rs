//! From events to who held what, from when until when.

use serde::Serialize;

use super::events::Event;
use crate::time;

/// An attachment, or a call that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hold {
    /// None when it was made before the log begins.
    #[serde(serialize_with = "moment")]
    from: Option<u64>,
    /// None while it is held.
    #[serde(serialize_with = "moment")]
    until: Option<u64>,
    pod: String,
    uid: String,
    container: String,
    network: Option<String>,
    interface: Option<String>,
    devices: Vec<String>,
    addresses: Vec<String>,
    outcome: String,
    /// How long the last call took, in milliseconds.
    ms: u64,
    /// Whether there was one, and not only a call that failed.
    was_held: bool,
}

#[allow(clippy::ref_option, reason = "serde's signature")]
fn moment<S: serde::Serializer>(at: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(time::text).serialize(serializer)
}

impl Hold {
    fn of(event: &Event) -> Self {
        Self {
            pod: event.pod.clone(),
            uid: event.uid.clone(),
            container: event.container.clone(),
            network: event.network.clone(),
            interface: event.interface.clone(),
            devices: event.devices.clone(),
            addresses: event.addresses.clone(),
            ms: event.ms,
            ..Self::default()
        }
    }

    fn is_open(&self) -> bool {
        self.was_held && self.until.is_none()
    }

    fn is_of(&self, event: &Event) -> bool {
        self.was_held
            && (&self.container, &self.interface, &self.network)
                == (&event.container, &event.interface, &event.network)
    }

    /// Whether another attachment has what only one can have.
    fn is_taken_by(&self, event: &Event) -> bool {
        self.devices.iter().any(|device| event.devices.contains(device))
    }

    /// Ends it with an event that says so only by the way.
    fn end_unseen(&mut self, at: u64, how: &str) {
        self.until = Some(at);
        self.outcome = format!("{how}: its end is not known");
    }

    pub(super) fn cells(&self) -> [String; 8] {
        let moment = |at: Option<u64>, none: &str| at.map_or_else(|| none.to_owned(), time::text);
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let list = |texts: &[String]| if texts.is_empty() { "-".to_owned() } else { texts.join(",") };
        let held_still = if self.was_held { "now" } else { "-" };
        [
            moment(self.from, "before the log"),
            moment(self.until, held_still),
            self.pod.clone(),
            text(&self.interface),
            text(&self.network),
            list(&self.devices),
            list(&self.addresses),
            self.outcome.clone(),
        ]
    }
}

/// What the events, the oldest first, come to.
pub(super) fn of(events: &[Event]) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    for event in events {
        let own = holds.iter_mut().rev().find(|hold| hold.is_of(event));
        match (event.what.as_str(), &event.error, own) {
            ("ADD", None, _) => {
                // A loss of power takes the last lines with it.
                for open in holds.iter_mut().filter(|hold| hold.is_open()) {
                    if open.is_of(event) {
                        open.end_unseen(event.at, "made again");
                    } else if open.is_taken_by(event) {
                        open.end_unseen(event.at, "another has it since");
                    }
                }
                let outcome = format!("attached in {} ms", event.ms);
                holds.push(Hold { from: Some(event.at), was_held: true, outcome, ..Hold::of(event) });
            }
            ("ADD", Some(error), _) => {
                let (at, outcome) = (Some(event.at), format!("ADD failed: {error}"));
                holds.push(Hold { from: at, until: at, outcome, ..Hold::of(event) });
            }
            // A call is noted before its record goes. One that was killed in between is done again.
            ("DEL", None, Some(own)) if !own.is_open() => {}
            (what, None, Some(open)) if open.is_open() => {
                open.until = Some(event.at);
                open.ms = event.ms;
                open.outcome = ended(what);
            }
            (what, None, _) => {
                // Of one that was never whole nothing was told before.
                let was_held = what == "DEL";
                let from = if was_held { None } else { Some(event.at) };
                holds.push(Hold {
                    from,
                    until: Some(event.at),
                    was_held,
                    outcome: ended(what),
                    ..Hold::of(event)
                });
            }
            (_, Some(error), Some(open)) if open.is_open() => open.outcome = format!("DEL failed: {error}"),
            (_, Some(error), _) => {
                holds.push(Hold {
                    was_held: true,
                    outcome: format!("DEL failed: {error}"),
                    ..Hold::of(event)
                });
            }
        }
    }
    holds
}

/// Ends at `now` those of which there is no record among `records` (container and interface) any more.
pub(super) fn end_forgotten(holds: &mut [Hold], records: &[(String, String)], now: u64) {
    for hold in holds.iter_mut().filter(|hold| hold.is_open()) {
        let is_recorded = |(container, interface): &(String, String)| {
            *container == hold.container && Some(interface) == hold.interface.as_ref()
        };
        if !records.iter().any(is_recorded) {
            hold.end_unseen(now, "no record of it any more");
        }
    }
}

fn ended(what: &str) -> String {
    if what == "UNDO" { "undone: the pod's ADD failed" } else { "removed" }.to_owned()
}

/// Which of them are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) pod: Option<String>,
    pub(super) device: Option<String>,
    pub(super) address: Option<String>,
    pub(super) since: Option<u64>,
    pub(super) until: Option<u64>,
    pub(super) at: Option<u64>,
}

impl Wanted {
    pub(super) fn is_met(&self, hold: &Hold) -> bool {
        let is_listed = |wanted: &Option<String>, has: &[String]| {
            wanted.as_ref().is_none_or(|wanted| has.iter().any(|one| one.eq_ignore_ascii_case(wanted)))
        };
        let began_by = |at: u64| hold.from.is_none_or(|from| from <= at);
        let lasts_beyond = |at: u64| hold.until.is_none_or(|until| until > at);
        self.pod.as_ref().is_none_or(|pod| *pod == hold.pod)
            && is_listed(&self.device, &hold.devices)
            && is_listed(&self.address, &hold.addresses)
            && self.since.is_none_or(lasts_beyond)
            && self.until.is_none_or(began_by)
            && self.at.is_none_or(|at| hold.was_held && began_by(at) && lasts_beyond(at))
    }
}
