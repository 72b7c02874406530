//! One trial: traffic begins, is let settle, is measured for a window, and ends.

use std::time::{Duration, Instant};

use crate::interrupt::Interrupt;
use crate::plan::{Counted, Flow, Scene};
use crate::progress::Progress;
use crate::rates::{self, Counters, Sample, Totals, Trial};
use crate::run::RunError;
use crate::station::{Order, Role, Station};
use crate::stats::number;
use crate::testpmd::telemetry::PortStats;

/// How often counters are read during the window.
const SAMPLE: Duration = Duration::from_secs(1);
/// For packets that are under way when sending ends, or that a port still held when it began to receive.
const SETTLE: Duration = Duration::from_millis(200);

/// The ports of a run.
pub type Stations = [Box<dyn Station>];

/// How long a trial is.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Traffic that does not count.
    pub warm_up: Duration,
    /// Traffic that counts.
    pub window: Duration,
}

/// A port's counters, and when they were read, in seconds since traffic began: half-way between question and answer.
type Reading = (f64, PortStats);

/// What a trial showed: for each flow of the scene, and how many frames arrived that no port of the run had sent.
#[derive(Debug, Default)]
pub struct Shown {
    /// In the scene's order.
    pub flows: Vec<Trial>,
    /// Frames of somebody else.
    pub strays: u64,
}

/// Plays a scene once.
pub fn play(
    stations: &mut Stations,
    scene: &Scene,
    timing: Timing,
    title: &str,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Shown, RunError> {
    for (index, role) in &scene.prepare {
        begin(stations, *index, role, interrupt)?;
    }
    interrupt.pause(SETTLE)?;
    let start = Instant::now();
    let before = read(stations, start, interrupt)?;
    let (driver, role) = &scene.drive;
    begin(stations, *driver, role, interrupt)?;
    interrupt.pause(timing.warm_up)?;

    let readings = watch(stations, scene, &before, start, timing.window, title, interrupt, progress)?;
    end(stations, scene, interrupt)?;
    let after = read(stations, start, interrupt)?;

    let flow = |flow: &Flow| {
        let samples: Vec<Sample> =
            readings.iter().filter_map(|reading| sample(flow, &before, reading)).collect();
        let ends = samples.first().zip(samples.last());
        let rates = ends.and_then(|(first, last)| rates::between(first, last)).ok_or(RunError::NoWindow)?;
        let (_, counters_before) = counters(flow, &before).ok_or(RunError::NoWindow)?;
        let (_, counters_after) = counters(flow, &after).ok_or(RunError::NoWindow)?;
        Ok::<Trial, RunError>(Trial {
            rates,
            totals: Totals::new(&counters_before, &counters_after),
            samples,
        })
    };
    let flows: Result<Vec<Trial>, RunError> = scene.flows.iter().map(flow).collect();
    Ok(Shown { flows: flows?, strays: strays(&before, &after) })
}

fn begin(stations: &mut Stations, index: usize, role: &Role, interrupt: &Interrupt) -> Result<(), RunError> {
    if let Some(station) = stations.get_mut(index) {
        station.command(&Order::Start(role.clone()), interrupt)?;
    }
    Ok(())
}

/// Reads all counters once a second until the window is over.
#[expect(clippy::too_many_arguments, reason = "what a trial is made of, passed on")]
fn watch(
    stations: &mut Stations,
    scene: &Scene,
    before: &[Reading],
    start: Instant,
    window: Duration,
    title: &str,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Vec<Vec<Reading>>, RunError> {
    let end = Instant::now() + window;
    let mut readings: Vec<Vec<Reading>> = Vec::new();
    loop {
        let last_one = Instant::now() >= end;
        readings.push(read(stations, start, interrupt)?);
        if let [.., last, now] = readings.as_slice() {
            let rates = scene
                .flows
                .first()
                .and_then(|flow| rates::between(&sample(flow, before, last)?, &sample(flow, before, now)?));
            if let Some(rates) = rates {
                let (sent, received) = (number(rates.sent_pps), number(rates.received_pps));
                progress.say(format_args!("{title}: {sent} packets/s sent, {received} received"));
            }
        }
        if last_one {
            return Ok(readings);
        }
        interrupt.pause(SAMPLE.min(end.saturating_duration_since(Instant::now())))?;
    }
}

/// Ends traffic so that every frame that is under way is still counted.
fn end(stations: &mut Stations, scene: &Scene, interrupt: &Interrupt) -> Result<(), RunError> {
    let driver = scene.drive.0;
    halt(stations, driver, interrupt)?;
    if scene.circulating.is_some() {
        begin(stations, driver, &Role::Receive, interrupt)?;
    }
    interrupt.pause(SETTLE)?;
    if scene.circulating.is_some() {
        halt(stations, driver, interrupt)?;
    }
    for (index, _) in scene.prepare.iter().rev() {
        halt(stations, *index, interrupt)?;
    }
    Ok(())
}

fn halt(stations: &mut Stations, index: usize, interrupt: &Interrupt) -> Result<(), RunError> {
    if let Some(station) = stations.get_mut(index) {
        station.command(&Order::Halt, interrupt)?;
    }
    Ok(())
}

fn read(stations: &mut Stations, start: Instant, interrupt: &Interrupt) -> Result<Vec<Reading>, RunError> {
    let mut readings = Vec::new();
    for station in stations {
        let asked = start.elapsed().as_secs_f64();
        let stats = station.counters(interrupt)?;
        readings.push((f64::midpoint(asked, start.elapsed().as_secs_f64()), stats));
    }
    Ok(readings)
}

/// The counters at both ends of a flow, and when each was read.
fn counters(flow: &Flow, readings: &[Reading]) -> Option<((f64, f64), Counters)> {
    let (sent_at, sender) = *readings.get(flow.from)?;
    let (received_at, stats) = *readings.get(flow.to)?;
    let receiver = match flow.counted {
        Counted::Received => stats,
        Counted::Forwarded => PortStats { ipackets: stats.opackets, ibytes: stats.obytes, ..stats },
    };
    Some(((sent_at, received_at), Counters { sender, receiver }))
}

fn sample(flow: &Flow, before: &[Reading], now: &[Reading]) -> Option<Sample> {
    let (_, before) = counters(flow, before)?;
    let (at, now) = counters(flow, now)?;
    Some(Sample::new(&before, at, &now))
}

/// Frames that arrived anywhere without having been sent by any port of the run (none may be lost for this to be exact).
fn strays(before: &[Reading], after: &[Reading]) -> u64 {
    let sum = |of: fn(&PortStats) -> u64| -> u64 {
        let differences = before.iter().zip(after).map(|((_, b), (_, a))| of(a).saturating_sub(of(b)));
        differences.sum()
    };
    sum(|stats| stats.ipackets).saturating_sub(sum(|stats| stats.opackets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: f64, opackets: u64, ipackets: u64) -> Reading {
        (at, PortStats { opackets, ipackets, ..PortStats::default() })
    }

    #[test]
    fn a_flow_takes_what_arrives_or_what_is_sent_on() {
        let (before, now) =
            ([reading(0.0, 10, 0), reading(0.0, 5, 7)], [reading(1.0, 110, 0), reading(1.5, 65, 97)]);
        let received = Flow { from: 0, to: 1, counted: Counted::Received };
        let shown = sample(&received, &before, &now).unwrap();
        assert_eq!((shown.sent_packets, shown.received_packets, shown.received_at), (100, 90, 1.5));
        let forwarded = Flow { counted: Counted::Forwarded, ..received };
        assert_eq!(sample(&forwarded, &before, &now).unwrap().received_packets, 60);
        assert_eq!(sample(&Flow { to: 2, ..received }, &before, &now), None);
    }

    #[test]
    fn strays_are_what_nobody_sent() {
        let before = [reading(0.0, 0, 0), reading(0.0, 0, 0)];
        assert_eq!(strays(&before, &[reading(1.0, 10, 11), reading(1.0, 10, 12)]), 3);
        assert_eq!(strays(&before, &[reading(1.0, 10, 1), reading(1.0, 10, 12)]), 0);
    }
}
