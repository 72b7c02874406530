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

    fn is_of(&self, event: &Event) -> bool {
        self.was_held
            && self.until.is_none()
            && (&self.container, &self.interface, &self.network)
                == (&event.container, &event.interface, &event.network)
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
        let open = holds.iter().rposition(|hold| hold.is_of(event)).and_then(|place| holds.get_mut(place));
        match (event.what.as_str(), &event.error, open) {
            ("ADD", None, open) => {
                // Its end was not written.
                if let Some(open) = open {
                    open.until = Some(event.at);
                    open.outcome = "made again: its end is not known".into();
                }
                let outcome = format!("attached in {} ms", event.ms);
                holds.push(Hold { from: Some(event.at), was_held: true, outcome, ..Hold::of(event) });
            }
            ("ADD", Some(error), _) => {
                let (at, outcome) = (Some(event.at), format!("ADD failed: {error}"));
                holds.push(Hold { from: at, until: at, outcome, ..Hold::of(event) });
            }
            (what, None, Some(open)) => {
                open.until = Some(event.at);
                open.ms = event.ms;
                open.outcome = ended(what);
            }
            (what, None, None) => {
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
            (_, Some(error), Some(open)) => open.outcome = format!("DEL failed: {error}"),
            (_, Some(error), None) => {
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
