//! The plan: a testpmd on each port; A sends and B receives, then the reverse.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fairlead_resource_config::PciAddress;
use serde::Serialize;

use crate::cores::Cores;
use crate::interrupt::{Interrupt, Stopped};
use crate::progress::Progress;
use crate::rates::{self, Counters, Sample, Totals};
use crate::report::{Direction, Measurements, Port, number};
use crate::testpmd::arguments::{Arguments, IovaMode};
use crate::testpmd::child::{Ending, Patience};
use crate::testpmd::{Testpmd, TestpmdError};

/// How often counters are read during the window.
const SAMPLE: Duration = Duration::from_secs(1);
/// How often the link is looked at.
const LINK_TICK: Duration = Duration::from_millis(200);
/// For packets that are under way when sending ends.
const SETTLE: Duration = Duration::from_millis(200);

/// What is run: also in the report, so that it can be repeated.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The program.
    pub testpmd: PathBuf,
    /// The ports A and B.
    pub devices: [PciAddress; 2],
    /// Their processors.
    pub cores: [Cores; 2],
    /// How addresses look to the devices.
    pub iova_mode: IovaMode,
    /// Length of the frames, with the checksum.
    pub frame_size: u16,
    /// Seconds of traffic that do not count, per direction.
    pub warm_up: f64,
    /// Seconds of traffic that count, per direction.
    pub window: f64,
    /// Seconds that testpmd has to get ready.
    pub start_limit: f64,
    /// Seconds that the links have to come up.
    pub link_limit: f64,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// testpmd did not do its part.
    #[error(transparent)]
    Testpmd(#[from] TestpmdError),
    /// No link.
    #[error(
        "the link of {device} is still down after {} s: a VF has a link only while its PF is up \
         (on the node: ip link set PF up) and allowed to (ip link set PF vf N state auto)", limit.as_secs()
    )]
    NoLink {
        /// The port.
        device: PciAddress,
        /// How long was waited.
        limit: Duration,
    },
    /// The counters were read at one and the same time.
    #[error("no rate from {from} to {to}: the window is too short")]
    NoWindow {
        /// Who sends.
        from: PciAddress,
        /// Who receives.
        to: PciAddress,
    },
    /// The check ends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Runs everything, and ends both testpmds whatever happens. What was found until then is in `found` also after an error.
pub fn run(
    settings: &Settings,
    patience: Patience,
    interrupt: &Interrupt,
    progress: &mut Progress,
    found: &mut Measurements,
) -> Result<(), RunError> {
    let mut started = Vec::new();
    let result = start(settings, patience, progress, &mut started)
        .and_then(|()| measure(settings, &mut started, interrupt, progress, found));
    progress.say("stopping testpmd");
    // At the same time, so that two that hang do not take twice as long.
    let endings: Vec<Ending> = std::thread::scope(|scope| {
        let threads: Vec<_> = started.iter_mut().map(|testpmd| scope.spawn(move || testpmd.stop())).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    for (ending, device) in endings.iter().zip(&settings.devices) {
        match ending {
            Ending::Alone | Ending::Quit => {}
            Ending::Terminated => progress.say(format_args!("testpmd on {device} needed SIGTERM")),
            Ending::Killed => progress.say(format_args!("testpmd on {device} needed SIGKILL")),
        }
    }
    result
}

fn start(
    settings: &Settings,
    patience: Patience,
    progress: &mut Progress,
    started: &mut Vec<Testpmd>,
) -> Result<(), RunError> {
    let [a, b] = settings.devices;
    progress.say(format_args!("starting {} on {a} and {b}", settings.testpmd.display()));
    for ((device, cores), side) in settings.devices.into_iter().zip(settings.cores).zip(['a', 'b']) {
        let arguments = Arguments {
            device,
            cores,
            iova: settings.iova_mode,
            file_prefix: format!("fairlead-{side}"),
            frame_size: settings.frame_size,
        };
        started.push(Testpmd::start(&settings.testpmd, &arguments, patience)?);
    }
    Ok(())
}

fn measure(
    settings: &Settings,
    started: &mut [Testpmd],
    interrupt: &Interrupt,
    progress: &mut Progress,
    found: &mut Measurements,
) -> Result<(), RunError> {
    let [a, b] = started else { return Ok(()) };
    let [device_a, device_b] = settings.devices;
    for (testpmd, device) in [(&mut *a, device_a), (&mut *b, device_b)] {
        let info = testpmd.wait_ready(seconds(settings.start_limit), interrupt)?;
        found.dpdk_version = testpmd.version().map(str::to_owned);
        found.ports.push(Port { device, mac: info.mac_addr, link: None });
    }
    let version = found.dpdk_version.clone().unwrap_or_default();
    progress.say(format_args!("{version}, both ports are ready; waiting for their links"));
    for (testpmd, port) in [&mut *a, &mut *b].into_iter().zip(&mut found.ports) {
        wait_for_link(testpmd, port, seconds(settings.link_limit), interrupt)?;
        let speed = port.link.as_ref().and_then(|link| link.speed).unwrap_or_default();
        progress.say(format_args!("{}: {}, link up, {speed} Mbit/s", port.device, port.mac));
    }
    let [port_a, port_b] = found.ports.as_slice() else { return Ok(()) };
    let (port_a, port_b) = (port_a.clone(), port_b.clone());
    let first = direction(settings, (a, &port_a), (b, &port_b), interrupt, progress)?;
    found.directions.push(first);
    let second = direction(settings, (b, &port_b), (a, &port_a), interrupt, progress)?;
    found.directions.push(second);
    Ok(())
}

fn wait_for_link(
    testpmd: &mut Testpmd,
    port: &mut Port,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<(), RunError> {
    let end = Instant::now() + limit;
    loop {
        let link = testpmd.link(interrupt)?;
        let up = link.is_up();
        port.link = Some(link);
        if up {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(RunError::NoLink { device: port.device, limit });
        }
        interrupt.pause(LINK_TICK)?;
    }
}

/// A port and the testpmd that drives it.
type Side<'a> = (&'a mut Testpmd, &'a Port);

fn direction(
    settings: &Settings,
    (sender, from): Side<'_>,
    (receiver, to): Side<'_>,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Direction, RunError> {
    let (from, to, peer) = (from.device, to.device, &to.mac);
    progress.say(format_args!("{from} -> {to}: warming up for {} s", settings.warm_up));
    receiver.receive(interrupt)?;
    let (_, before) = counters(sender, receiver, Instant::now(), interrupt)?;
    sender.send_to(peer, interrupt)?;
    let begin = Instant::now();
    interrupt.pause(seconds(settings.warm_up))?;

    let mut samples: Vec<Sample> = Vec::new();
    let window = Instant::now() + seconds(settings.window);
    loop {
        let last_one = Instant::now() >= window;
        let (at, now) = counters(sender, receiver, begin, interrupt)?;
        let sample = Sample::new(&before, at, &now);
        if let Some(rates) = samples.last().and_then(|last| rates::between(last, &sample)) {
            progress.say(format_args!(
                "{from} -> {to}: {} packets/s sent, {} received",
                number(rates.sent_pps),
                number(rates.received_pps)
            ));
        }
        samples.push(sample);
        if last_one {
            break;
        }
        interrupt.pause(SAMPLE.min(window.saturating_duration_since(Instant::now())))?;
    }
    sender.halt(interrupt)?;
    interrupt.pause(SETTLE)?;
    receiver.halt(interrupt)?;
    let (_, after) = counters(sender, receiver, begin, interrupt)?;

    let ends = samples.first().zip(samples.last());
    let rates = ends.and_then(|(first, last)| rates::between(first, last));
    let rates = rates.ok_or(RunError::NoWindow { from, to })?;
    let totals = Totals::new(&before, &after);
    let note = silence(&totals, sender.hint().or_else(|| receiver.hint()));
    Ok(Direction { from, to, rates, totals, note, samples })
}

/// Why nothing came through, as far as that can be told. `hint` is what testpmd's output hints at: it goes on without DMA when
/// the kernel pins no memory, for example.
fn silence(totals: &Totals, hint: Option<&'static str>) -> Option<String> {
    let guess = match (totals.sent, totals.received) {
        (0, _) => {
            "nothing left the sender; a VF sends only while its PF is up (on the node: ip link set PF up)"
        }
        (_, 0) => {
            "all was sent, nothing arrived; VFs reach each other only on the same PF or network, and in the same VLAN"
        }
        _ => return None,
    };
    Some(hint.unwrap_or(guess).to_owned())
}

/// Both ports' counters, and when each was read, in seconds since `begin`: half-way between question and answer.
fn counters(
    sender: &mut Testpmd,
    receiver: &mut Testpmd,
    begin: Instant,
    interrupt: &Interrupt,
) -> Result<((f64, f64), Counters), RunError> {
    let timed = |testpmd: &mut Testpmd| {
        let asked = begin.elapsed().as_secs_f64();
        let stats = testpmd.stats(interrupt)?;
        Ok::<_, RunError>((f64::midpoint(asked, begin.elapsed().as_secs_f64()), stats))
    };
    let (sent_at, sent) = timed(sender)?;
    let (received_at, received) = timed(receiver)?;
    Ok(((sent_at, received_at), Counters { sender: sent, receiver: received }))
}

/// The options allow no number that a duration cannot hold; zero is better than a panic all the same.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testpmd::telemetry::PortStats;

    fn totals(opackets: u64, ipackets: u64) -> Totals {
        let sender = PortStats { opackets, ..PortStats::default() };
        let receiver = PortStats { ipackets, ..PortStats::default() };
        Totals::new(&Counters::default(), &Counters { sender, receiver })
    }

    #[test]
    fn silence_is_explained_and_traffic_is_not() {
        assert_eq!(silence(&totals(10, 1), Some("a hint")), None);
        assert!(silence(&totals(0, 0), None).unwrap().contains("PF is up"));
        assert!(silence(&totals(10, 0), None).unwrap().contains("VLAN"));
        assert_eq!(silence(&totals(0, 0), Some("a hint")).unwrap(), "a hint");
    }

    #[test]
    fn no_number_of_seconds_panics() {
        assert_eq!(seconds(1.5), Duration::from_millis(1500));
        assert_eq!(seconds(-1.0), Duration::ZERO);
        assert_eq!(seconds(f64::NAN), Duration::ZERO);
    }
}
