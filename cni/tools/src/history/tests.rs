use clap::Parser;
use serde_json::{Value, json};

use super::{events::Event, *};

#[derive(Parser)]
struct Call {
    #[command(flatten)]
    options: Options,
}

fn event(at: u64, what: &str, pod: &str, more: &Value) -> Value {
    let mut event = json!({"at": at, "what": what, "pod": format!("default/{pod}"), "uid": "u", "container": pod, "ms": 3,
        "network": "default/a", "interface": "net1", "devices": ["0000:01:10.0"], "addresses": ["10.1.2.3"]});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

fn holds(events: &[Value]) -> Vec<Hold> {
    let events: Vec<Event> =
        events.iter().map(|event| serde_json::from_value(event.clone()).unwrap()).collect();
    holds::of(&events)
}

fn wanted(holds: &[Hold], wanted: &Wanted) -> Vec<String> {
    holds.iter().filter(|hold| wanted.is_met(hold)).map(|hold| hold.cells()[2].clone()).collect()
}

#[test]
fn who_held_an_address_at_a_moment_is_answered() {
    let holds = holds(&[
        event(500, "DEL", "old", &json!({})),
        event(1000, "ADD", "a", &json!({})),
        event(2000, "DEL", "a", &json!({})),
        event(3000, "ADD", "b", &json!({"devices": ["0000:01:10.2"], "addresses": ["10.1.2.4"]})),
        event(4000, "ADD", "c", &json!({})),
    ]);
    let at = |at: u64, address: &str| {
        wanted(&holds, &Wanted { at: Some(at), address: Some(address.into()), ..Wanted::default() })
    };
    assert_eq!(at(400, "10.1.2.3"), ["default/old"], "it was there before the log");
    assert_eq!(at(1500, "10.1.2.3"), ["default/a"]);
    assert_eq!(at(2500, "10.1.2.3"), [""; 0]);
    assert_eq!(
        (at(5000, "10.1.2.3"), at(5000, "10.1.2.4")),
        (vec!["default/c".into()], vec!["default/b".into()])
    );
    let since = Wanted { since: Some(2500), device: Some("0000:01:10.0".into()), ..Wanted::default() };
    assert_eq!(wanted(&holds, &since), ["default/c"]);
    let pod = Wanted { pod: Some("default/a".into()), until: Some(999), ..Wanted::default() };
    assert_eq!(wanted(&holds, &pod), [""; 0]);
}

#[test]
fn how_calls_ended_is_told() {
    let none =
        json!({"network": null, "interface": null, "devices": [], "addresses": [], "error": "no agent"});
    let other = json!({"devices": ["0000:01:10.2"]});
    let holds = holds(&[
        event(1, "ADD", "a", &none),
        event(2, "ADD", "b", &json!({})),
        event(3, "UNDO", "b", &json!({})),
        event(4, "UNDO", "b", &json!({"interface": "net2"})),
        event(5, "ADD", "c", &json!({})),
        event(6, "DEL", "c", &json!({"error": "held"})),
        event(7, "DEL", "d", &json!({"error": "held", "devices": []})),
        event(8, "ADD", "e", &other),
        event(9, "ADD", "e", &other),
    ]);
    let outcomes: Vec<(String, String)> =
        holds.iter().map(|hold| (hold.cells()[1].clone(), hold.cells()[7].clone())).collect();
    let end = |at: u64| time::text(at);
    let wanted = [
        (end(1), "ADD failed: no agent"),
        (end(3), "undone: the pod's ADD failed"),
        (end(4), "undone: the pod's ADD failed"),
        ("now".into(), "DEL failed: held"),
        ("now".into(), "DEL failed: held"),
        (end(9), "made again: its end is not known"),
        ("now".into(), "attached in 3 ms"),
    ];
    assert_eq!(outcomes, wanted.map(|(until, outcome)| (until, outcome.to_owned())));
}

#[test]
fn an_attachment_whose_end_was_not_written_is_not_held_for_ever() {
    let mut holds = holds(&[
        event(1, "ADD", "killed", &json!({})),
        event(2, "DEL", "killed", &json!({})),
        event(3, "DEL", "killed", &json!({})),
        event(4, "ADD", "lost", &json!({})),
        event(5, "ADD", "next", &json!({})),
        event(6, "ADD", "forgotten", &json!({"devices": []})),
    ]);
    holds::end_forgotten(&mut holds, &[("next".into(), "net1".into())], 7);
    let ends: Vec<[String; 3]> =
        holds.iter().map(|hold| [2, 1, 7].map(|column| hold.cells()[column].clone())).collect();
    let wanted = [
        ["default/killed", &time::text(2), "removed"],
        ["default/lost", &time::text(5), "another has it since: its end is not known"],
        ["default/next", "now", "attached in 3 ms"],
        ["default/forgotten", &time::text(7), "no record of it any more: its end is not known"],
    ];
    assert_eq!(ends, wanted.map(|texts| texts.map(str::to_owned)));
}

#[test]
fn both_files_are_read_and_torn_lines_counted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("var/lib/fairlead/history");
    std::fs::create_dir_all(&folder).unwrap();
    let call = |more: &[&str]| {
        let root = dir.path().display().to_string();
        let options = Call::parse_from([&["history", "--root", &root], more].concat()).options;
        run(&options).map(|code| code == ExitCode::SUCCESS)
    };
    assert_eq!(call(&[]), Ok(false), "there is none yet");
    let lines = |events: &[Value]| events.iter().map(|event| format!("{event}\n")).collect::<String>();
    std::fs::write(folder.join("log.1"), lines(&[event(1000, "ADD", "a", &json!({}))]) + "{\"at\":17")
        .unwrap();
    std::fs::write(folder.join("log"), lines(&[event(2000, "DEL", "a", &json!({}))])).unwrap();
    let events = events::read(&Root::new(dir.path()), std::path::Path::new("/var/lib/fairlead")).unwrap();
    assert_eq!((events.all.len(), events.unreadable), (2, 1));
    assert_eq!(holds::of(&events.all).len(), 1);
    assert_eq!(call(&["--address", "10.1.2.3", "-o", "json"]), Ok(true));
    assert_eq!(call(&["--address", "10.1.2.4"]), Ok(false));
    assert!(call(&["--since", "x"]).unwrap_err().contains("is no time"));
}
