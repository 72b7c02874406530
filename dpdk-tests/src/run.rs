//! Carries a plan out: starts the ports, waits for their links, plays every trial, and ends the ports whatever happens.

use std::time::{Duration, Instant};

use crate::interrupt::{Interrupt, Stopped};
use crate::plan::{Mode, PathKind, Plan, Scene, line_rate, scene};
use crate::preflight::{Check, Verdict};
use crate::progress::Progress;
use crate::rates::Trial;
use crate::report::{Finding, Measurements, Offered, Port};
use crate::search::Search;
use crate::station::{About, Order, Station, StationError};
use crate::stats::Summary;
use crate::testpmd::child::Ending;
use crate::trial::{self, Timing};

/// How often the link is looked at.
const LINK_TICK: Duration = Duration::from_millis(200);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port did not do its part.
    #[error(transparent)]
    Station(#[from] StationError),
    /// No link.
    #[error(
        "the link of {device} is still down after {} s: a VF has a link only while its PF is up \
         (on the node: ip link set PF up) and allowed to (ip link set PF vf N state auto)", limit.as_secs()
    )]
    NoLink {
        /// The port.
        device: String,
        /// How long was waited.
        limit: Duration,
    },
    /// A port is not as it should be.
    #[error("{0}")]
    Unfit(String),
    /// The counters were read at one and the same time.
    #[error("no rate: the window is too short")]
    NoWindow,
    /// The check ends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl RunError {
    /// Whether nothing is wrong but that the check ends.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        match self {
            Self::Stopped(stopped) => Some(*stopped),
            Self::Station(error) => error.stopped(),
            _ => None,
        }
    }
}

/// What else a run needs.
pub struct Surroundings<'a> {
    /// Ends it early.
    pub interrupt: &'a Interrupt,
    /// Says what is going on.
    pub progress: &'a mut Progress,
    /// Looks at the ports once all are ready.
    pub inspect: &'a dyn Fn(&[About]) -> Vec<Check>,
    /// Hears of the ports and of each result at once, so that a report is there whatever happens next.
    pub saved: &'a mut dyn FnMut(&Measurements),
    /// How long the links have.
    pub link_limit: Duration,
}

/// Measures everything of the plan with these ports, and ends them. What was found until then is in `found` also after an error.
pub fn run(
    path: PathKind,
    stations: &mut [Box<dyn Station>],
    plan: &Plan,
    around: &mut Surroundings<'_>,
    found: &mut Measurements,
) -> Result<(), RunError> {
    let result = Run { path, plan, ports: Vec::new() }.measure(stations, around, found);
    stop(stations, around.progress);
    result
}

/// Ends all ports. At the same time, so that two that hang do not take twice as long.
pub fn stop(stations: &mut [Box<dyn Station>], progress: &mut Progress) {
    progress.say("stopping testpmd");
    let endings: Vec<(String, Ending)> = std::thread::scope(|scope| {
        let threads: Vec<_> = stations
            .iter_mut()
            .map(|station| scope.spawn(move || (station.device(), station.stop())))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    for (device, ending) in endings {
        match ending {
            Ending::Alone | Ending::Quit => {}
            Ending::Terminated => progress.say(format_args!("testpmd on {device} needed SIGTERM")),
            Ending::Killed => progress.say(format_args!("testpmd on {device} needed SIGKILL")),
        }
    }
}

struct Run<'a> {
    path: PathKind,
    plan: &'a Plan,
    ports: Vec<Port>,
}

/// Some trials of one scene.
#[derive(Default)]
struct Series {
    /// For each flow its trials.
    flows: Vec<Vec<Trial>>,
    strays: u64,
}

impl Run<'_> {
    fn measure(
        &mut self,
        stations: &mut [Box<dyn Station>],
        around: &mut Surroundings<'_>,
        found: &mut Measurements,
    ) -> Result<(), RunError> {
        let mut abouts = Vec::new();
        for station in &mut *stations {
            let about = station.ready(around.interrupt)?;
            found.dpdk_version = Some(about.dpdk_version.clone());
            let (path, device, mac) = (self.path, about.device.clone(), about.mac);
            found.ports.push(Port { path, device, mac, link: None });
            abouts.push(about);
        }
        let version = found.dpdk_version.clone().unwrap_or_default();
        around
            .progress
            .say(format_args!("{version}, {} ports are ready; waiting for their links", abouts.len()));
        let checks = (around.inspect)(&abouts);
        for check in &checks {
            around.progress.say(check);
        }
        let failed: Vec<String> = checks
            .iter()
            .filter(|check| check.verdict == Verdict::Fail)
            .map(|check| format!("{}: {}", check.what, check.found))
            .collect();
        found.port_checks.extend(checks);
        if !failed.is_empty() {
            return Err(RunError::Unfit(failed.join("; ")));
        }
        let first = found.ports.len() - abouts.len();
        for (station, port) in stations.iter_mut().zip(found.ports.iter_mut().skip(first)) {
            wait_for_link(station.as_mut(), port, around)?;
        }
        self.ports = found.ports.iter().skip(first).cloned().collect();
        (around.saved)(&*found);
        for mode in &self.plan.modes {
            for frame_size in &self.plan.frame_sizes {
                let findings = self.mode(*mode, *frame_size, stations, around)?;
                found.results.extend(findings);
                (around.saved)(&*found);
            }
        }
        Ok(())
    }

    fn mode(
        &self,
        mode: Mode,
        frame_size: u16,
        stations: &mut [Box<dyn Station>],
        around: &mut Surroundings<'_>,
    ) -> Result<Vec<Finding>, RunError> {
        let macs: Vec<_> = self.ports.iter().map(|port| port.mac).collect();
        let Some(scene) = scene(mode, &macs, self.plan.tuning) else { return Ok(Vec::new()) };
        for station in &mut *stations {
            station.command(&Order::FrameSize(frame_size), around.interrupt)?;
            let burst = scene.burst.unwrap_or(self.plan.tuning.burst);
            station.command(&Order::Burst(burst), around.interrupt)?;
        }
        let sender = scene.drive.0;
        let mut note = None;
        let mut offered = match scene.circulating {
            Some(frames) => Offered::Circulating { frames },
            None => Offered::Saturated,
        };
        let mut search = None;
        if mode == Mode::Search {
            match self.search(&scene, frame_size, stations, around)? {
                Ok(record) => {
                    offered = Offered::Paced { mbps: record.mbps.unwrap_or(0) };
                    search = Some(record);
                }
                Err(why) => {
                    note = Some(format!("no search: {why}; this is saturated throughput, with its loss"));
                }
            }
        } else if let (Some(mbps), None, Some(station)) =
            (self.plan.rate_mbps, scene.circulating, stations.get_mut(sender))
        {
            match station.pace(mbps, around.interrupt)? {
                Ok(()) => offered = Offered::Paced { mbps },
                Err(why) => {
                    note = Some(format!(
                        "not at {mbps} Mbit/s: {why}; this is saturated throughput, with its loss"
                    ));
                }
            }
        }
        if let Some(note) = &note {
            around.progress.say(format_args!("{}: {note}", self.title(mode, frame_size, &scene)));
        }
        let series = self.series(mode, &scene, frame_size, stations, around)?;
        if matches!(offered, Offered::Paced { .. })
            && let Some(station) = stations.get_mut(sender)
        {
            // It went before, so that whatever it says now does not matter.
            let _ = station.pace(0, around.interrupt)?;
        }
        let mut findings = Vec::new();
        for (flow, trials) in scene.flows.iter().zip(series.flows) {
            let port = |index: usize| self.ports.get(index);
            let (Some(from), Some(to)) =
                (port(flow.from), port(if flow.from == flow.to { 1 } else { flow.to }))
            else {
                continue;
            };
            let speeds = [from, to].map(|port| port.link.as_ref().and_then(|link| link.speed));
            let speed = speeds.into_iter().flatten().min();
            let mut finding = Finding::new(self.path, mode, frame_size, from, to, offered, trials);
            finding.line_rate_pps = speed.map(|speed| line_rate(speed, frame_size));
            finding.search.clone_from(&search);
            finding.note = silence(&finding, stations, around.interrupt).or_else(|| note.clone());
            if mode == Mode::Latency {
                finding.round_trip_us = round_trip(&finding);
                finding.note = finding.note.take().or_else(|| strays_note(series.strays));
            }
            around.progress.say(finding.line());
            findings.push(finding);
        }
        Ok(findings)
    }

    fn title(&self, mode: Mode, frame_size: u16, scene: &Scene) -> String {
        let name = |index: usize| self.ports.get(index).map_or("?", |port| port.device.as_str());
        let ends = scene.flows.first().map_or((0, 0), |flow| (flow.from, flow.to));
        let to = if ends.0 == ends.1 { 1 } else { ends.1 };
        format!("{} {frame_size} B {} -> {}", mode.as_str(), name(ends.0), name(to))
    }

    fn timing(&self) -> Timing {
        Timing { warm_up: seconds(self.plan.warm_up), window: seconds(self.plan.window) }
    }

    fn series(
        &self,
        mode: Mode,
        scene: &Scene,
        frame_size: u16,
        stations: &mut [Box<dyn Station>],
        around: &mut Surroundings<'_>,
    ) -> Result<Series, RunError> {
        let mut series = Series { flows: vec![Vec::new(); scene.flows.len()], strays: 0 };
        for repeat in 1..=self.plan.repeats {
            let title = format!("{} ({repeat}/{})", self.title(mode, frame_size, scene), self.plan.repeats);
            let shown =
                trial::play(stations, scene, self.timing(), &title, around.interrupt, around.progress)?;
            series.strays += shown.strays;
            for (trials, trial) in series.flows.iter_mut().zip(shown.flows) {
                trials.push(trial);
            }
        }
        Ok(series)
    }

    /// Leaves the sender at the rate that was found. `Err` inside: why there can be no search.
    fn search(
        &self,
        scene: &Scene,
        frame_size: u16,
        stations: &mut [Box<dyn Station>],
        around: &mut Surroundings<'_>,
    ) -> Result<Result<crate::search::Record, String>, RunError> {
        let sender = scene.drive.0;
        let speed = self.ports.get(sender).and_then(|port| port.link.as_ref()?.speed);
        let Some(top) = speed.and_then(|speed| u32::try_from(speed).ok()) else {
            return Ok(Err("the speed of the link is not known".to_owned()));
        };
        let mut search = Search::new(top, self.plan.search_loss, self.plan.window);
        while let Some(mbps) = search.next() {
            let Some(station) = stations.get_mut(sender) else { break };
            if let Err(why) = station.pace(mbps, around.interrupt)? {
                return Ok(Err(why));
            }
            let title = format!("{} at {mbps} Mbit/s", self.title(Mode::Search, frame_size, scene));
            let shown =
                trial::play(stations, scene, self.timing(), &title, around.interrupt, around.progress)?;
            let Some(trial) = shown.flows.first() else { break };
            search.tried(mbps, trial.totals.loss, trial.totals.received);
        }
        let record = search.into_record();
        if let (Some(mbps), Some(station)) = (record.mbps, stations.get_mut(sender))
            && let Err(why) = station.pace(mbps, around.interrupt)?
        {
            return Ok(Err(why));
        }
        Ok(Ok(record))
    }
}

fn wait_for_link(
    station: &mut dyn Station,
    port: &mut Port,
    around: &mut Surroundings<'_>,
) -> Result<(), RunError> {
    let limit = around.link_limit;
    let end = Instant::now() + limit;
    loop {
        let link = station.link(around.interrupt)?;
        let (up, speed) = (link.is_up(), link.speed);
        port.link = Some(link);
        if up {
            let speed = speed.map_or_else(|| "speed unknown".to_owned(), |speed| format!("{speed} Mbit/s"));
            around.progress.say(format_args!("{}: {}, link up, {speed}", port.device, port.mac));
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(RunError::NoLink { device: port.device.clone(), limit });
        }
        around.interrupt.pause(LINK_TICK)?;
    }
}

/// Why nothing came through, as far as that can be told. What testpmd's output hints at comes first: it goes on without DMA when
/// the kernel pins no memory, for example.
fn silence(finding: &Finding, stations: &mut [Box<dyn Station>], interrupt: &Interrupt) -> Option<String> {
    let sum = |of: fn(&Trial) -> u64| finding.trials.iter().map(of).sum();
    let guess = guess(finding.mode, sum(|trial| trial.totals.sent), sum(|trial| trial.totals.received))?;
    let hint = stations.iter_mut().find_map(|station| station.hint(interrupt));
    Some(hint.unwrap_or_else(|| guess.to_owned()))
}

fn guess(mode: Mode, sent: u64, received: u64) -> Option<&'static str> {
    match (sent, received) {
        (0, _) => Some(
            "nothing left the sender; a VF sends only while its PF is up (on the node: ip link set PF up)",
        ),
        (_, 0) if mode == Mode::Io => Some(
            "all was sent, nothing sent on: frames keep the sender's address in this mode, which the PF's spoof check drops",
        ),
        (_, 0) => Some(
            "all was sent, nothing arrived; VFs reach each other only on the same PF or network, and in the same VLAN",
        ),
        _ => None,
    }
}

/// One frame is under way, so each that arrives has taken as long as there is between two of them.
fn round_trip(finding: &Finding) -> Option<Summary> {
    let rates = finding.trials.iter().map(|trial| trial.rates.received_pps);
    Summary::of(rates.filter(|rate| *rate > 0.0).map(|rate| 1e6 / rate))
}

fn strays_note(strays: u64) -> Option<String> {
    (strays > 0).then(|| {
        format!("{strays} frames of somebody else came in and circulated, too: each trip took longer than is said here")
    })
}

/// The options allow no number that a duration cannot hold; zero is better than a panic all the same.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_explained_and_traffic_is_not() {
        assert_eq!(guess(Mode::Forth, 10, 1), None);
        assert!(guess(Mode::Forth, 0, 0).unwrap().contains("PF is up"));
        assert!(guess(Mode::Forth, 10, 0).unwrap().contains("VLAN"));
        assert!(guess(Mode::Io, 10, 0).unwrap().contains("spoof check"));
    }

    #[test]
    fn no_number_of_seconds_panics() {
        assert_eq!(seconds(1.5), Duration::from_millis(1500));
        assert_eq!(seconds(-1.0), Duration::ZERO);
        assert_eq!(seconds(f64::NAN), Duration::ZERO);
    }
}
