use std::time::{Duration, Instant};

use fairlead_kernel::monitor::{Bell, Event, Heard, LinkEvent, Monitor};
use fairlead_kernel::{LinkChange, LinkKind, NewLink};

use crate::support::{Sandbox, sandboxes};

fn open(sandbox: &Sandbox) -> Monitor {
    let bell = Bell::new().unwrap();
    sandbox.netns.run(|| Monitor::open(bell)).unwrap().unwrap()
}

/// The first event that is wanted, within some seconds.
fn event(monitor: &mut Monitor, wanted: impl Fn(&Event) -> bool) -> Event {
    let limit = Some(Instant::now() + Duration::from_secs(10));
    loop {
        match monitor.next(limit).unwrap() {
            Heard::Event(event) if wanted(&event) => return event,
            Heard::Event(_) => {}
            other => panic!("{other:?} instead of the event"),
        }
    }
}

fn link_event(monitor: &mut Monitor, wanted: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
    match event(monitor, |event| matches!(event, Event::Link(link) if wanted(link))) {
        Event::Link(link) => link,
        other => panic!("{other:?}"),
    }
}

#[test]
fn links_are_heard_from_their_making_to_their_end() {
    let Some([mut sandbox]) = sandboxes("link events") else { return };
    let mut monitor = open(&sandbox);
    let link = sandbox.add_veth("pf0", "pf0p");
    let made = link_event(&mut monitor, |event| event.link.name == "pf0" && !event.removed);
    assert_eq!((made.link.index, made.link.kind.as_deref()), (link.index, Some("veth")));

    sandbox.route.add_link(&NewLink::new("br0", LinkKind::Bridge)).unwrap();
    let bridge = sandbox.link("br0").index;
    let enslave = LinkChange { master: Some(bridge), ..LinkChange::default() };
    sandbox.route.set_link(&link, &enslave).unwrap();
    link_event(&mut monitor, |event| event.link.index == link.index && event.link.master == Some(bridge));

    sandbox.route.add_altname(&link, "port-with-a-long-name").unwrap();
    link_event(&mut monitor, |event| event.link.altnames == ["port-with-a-long-name"]);

    sandbox.route.delete_link(&link).unwrap();
    link_event(&mut monitor, |event| event.removed && event.link.index == link.index);
}

#[test]
fn devices_are_heard() {
    let Some([mut sandbox]) = sandboxes("device events") else { return };
    let mut monitor = open(&sandbox);
    sandbox.add_veth("pf0", "pf0p");
    let seen = event(&mut monitor, |event| match event {
        Event::Device(device) => device.devpath.ends_with("/net/pf0"),
        _ => false,
    });
    let Event::Device(device) = seen else { panic!("{seen:?}") };
    assert_eq!((device.action.as_str(), device.subsystem.as_str()), ("add", "net"));
}

#[test]
fn nothing_is_heard_of_other_namespaces_links() {
    let Some([mut noisy, mut quiet]) = sandboxes("events of one namespace") else { return };
    let mut monitor = open(&quiet);
    noisy.add_veth("other", "otherp");
    quiet.add_veth("own", "ownp");
    let first = link_event(&mut monitor, |event| event.link.name.starts_with('o'));
    assert!(first.link.name.starts_with("own"), "{first:?}");
}

#[test]
fn what_is_too_much_to_keep_is_reported_as_lost_and_hearing_goes_on() {
    let Some([mut sandbox]) = sandboxes("lost events") else { return };
    let mut monitor = open(&sandbox);
    let link = sandbox.add_veth("pf0", "pf0p");
    // Nobody reads meanwhile. A change of the MTU is announced each time.
    for round in 0..6000_u32 {
        let change = LinkChange { mtu: Some(1400 + round % 2), ..LinkChange::default() };
        sandbox.route.set_link(&link, &change).unwrap();
    }
    event(&mut monitor, |event| *event == Event::Lost);
    sandbox.add_veth("late", "latep");
    link_event(&mut monitor, |event| event.link.name == "late");
}
