//! Waiting for an object to be as wanted.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    display,
    rest::{Rest, Which},
};
use crate::apiserver::Kind;

const EVERY: Duration = Duration::from_millis(200);

/// What is waited for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Gone,
    Phase(String),
    Condition(String, String),
}

/// Reads `Ready`, `condition=Ready`, `condition=Ready=False`, `Failed`, `Deleted`, `delete`.
fn parse(text: &str) -> Wanted {
    let condition = |text: &str| {
        let (kind, status) = text.split_once('=').unwrap_or((text, "True"));
        Wanted::Condition(kind.into(), status.into())
    };
    match text.strip_prefix("condition=") {
        Some(rest) => condition(rest),
        None => match text.to_ascii_lowercase().as_str() {
            "deleted" | "delete" => Wanted::Gone,
            "pending" | "running" | "succeeded" | "failed" | "active" | "terminating" => {
                Wanted::Phase(text.into())
            }
            _ => condition(text),
        },
    }
}

fn met(wanted: &Wanted, object: Option<&Value>) -> bool {
    let Some(object) = object else { return *wanted == Wanted::Gone };
    let status = &object["status"];
    match wanted {
        Wanted::Gone => false,
        Wanted::Phase(phase) => status["phase"].as_str().is_some_and(|p| p.eq_ignore_ascii_case(phase)),
        Wanted::Condition(kind, value) => status["conditions"].as_array().into_iter().flatten().any(|c| {
            c["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind)) && c["status"] == value.as_str()
        }),
    }
}

/// Waits, and says when it is so; when it is not, says how things stand instead.
pub(super) async fn wait(rest: &Rest, which: &Which, wanted: &str, timeout: Duration) -> Result<()> {
    let wanted = parse(wanted);
    let end = Instant::now() + timeout;
    loop {
        let object = rest.find(which).await?;
        if met(&wanted, object.as_ref()) {
            println!("{} condition met", which.text());
            return Ok(());
        }
        if object.is_none() {
            bail!("from server (NotFound): {} \"{}\" not found", which.kind.plural, which.name);
        }
        if Instant::now() >= end {
            show(rest, which, object.as_ref()).await?;
            bail!("timed out waiting for the condition on {}/{}", which.kind.plural, which.name);
        }
        sleep(EVERY).await;
    }
}

/// Waits until the object of this UID is gone; another one may have its name by then.
pub(super) async fn gone(rest: &Rest, which: &Which, uid: &Value, timeout: Duration) -> Result<()> {
    let end = Instant::now() + timeout;
    loop {
        let object = rest.find(which).await?;
        if object.as_ref().is_none_or(|o| o["metadata"]["uid"] != *uid) {
            return Ok(());
        }
        if Instant::now() >= end {
            show(rest, which, object.as_ref()).await?;
            bail!("timed out waiting for {} to be deleted", which.text());
        }
        sleep(EVERY).await;
    }
}

/// How an object stands, and what has happened to it, on standard error.
async fn show(rest: &Rest, which: &Which, object: Option<&Value>) -> Result<()> {
    if let Some(object) = object {
        eprint!("{}", display::table(which.kind, std::slice::from_ref(object), true, false));
    }
    let events = Kind::named("Event").context("events are served")?;
    let about = format!("involvedObject.name={}", which.name);
    let events_found = rest.list(events, Some(&which.namespace), None, Some(&about)).await?;
    if !events_found.is_empty() {
        eprint!("{}", display::table(events, &events_found, false, false));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_waited_for() {
        let pod = json!({ "status": { "phase": "Failed", "conditions": [{ "type": "Ready", "status": "False" }] } });
        for (text, yes) in [
            ("Failed", true),
            ("Running", false),
            ("Ready", false),
            ("condition=Ready=False", true),
            ("Deleted", false),
        ] {
            assert_eq!(met(&parse(text), Some(&pod)), yes, "{text}");
        }
        assert!(met(&parse("delete"), None));
        assert!(!met(&parse("Ready"), None));
    }
}
