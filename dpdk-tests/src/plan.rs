//! What is to be measured, and who does what for it: pure data and decisions, carried out by [`crate::run`].

use clap::ValueEnum;
use fairlead_kernel::Mac;
use serde::{Deserialize, Serialize};

use crate::station::{Engine, Role};
use crate::testpmd::arguments::Tuning;

/// The frame sizes of RFC 2544 for Ethernet.
pub const RFC_2544_SIZES: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
/// The length of frames, with the checksum.
pub const FRAME_SIZES: std::ops::RangeInclusive<u16> = 64..=1518;

/// How frames get to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// DPDK drives the device.
    Dpdk,
    /// The kernel does; DPDK uses packet sockets.
    Kernel,
}

impl PathKind {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dpdk => "dpdk",
            Self::Kernel => "kernel",
        }
    }
}

/// A way to measure. A is the first port, B the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A sends, B receives
    Forth,
    /// B sends, A receives
    Back,
    /// Both at once: frames of A circulate between the ports, each of which sends on what it receives
    Both,
    /// A sends, B sends it on as it is
    Io,
    /// A sends, B sends it on under its own address, to a third port where there is one
    Mac,
    /// A sends, B sends it back to A's address
    Macswap,
    /// One frame goes to and fro: how long that takes
    Latency,
    /// The highest rate from A to B with no more than the acceptable loss, as in RFC 2544
    Search,
}

impl Mode {
    /// As on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forth => "forth",
            Self::Back => "back",
            Self::Both => "both",
            Self::Io => "io",
            Self::Mac => "mac",
            Self::Macswap => "macswap",
            Self::Latency => "latency",
            Self::Search => "search",
        }
    }
}

/// Everything that is to be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// In this order.
    pub modes: Vec<Mode>,
    /// For each mode, in this order.
    pub frame_sizes: Vec<u16>,
    /// How often.
    pub repeats: u16,
    /// Seconds of traffic before each window that do not count.
    pub warm_up: f64,
    /// Seconds of traffic that count.
    pub window: f64,
    /// What whoever sends is limited to, in Mbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mbps: Option<u32>,
    /// What a search accepts, from 0 to 1.
    pub search_loss: f64,
    /// How ports are used.
    pub tuning: Tuning,
}

impl Plan {
    /// Seconds of traffic, at least: a search has more trials, whose number nobody knows before.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let one = |mode: &Mode| {
            let trials = if *mode == Mode::Search { SEARCH_STEPS } else { 0 } + u32::from(self.repeats);
            f64::from(trials) * (self.warm_up + self.window + BESIDE_TRAFFIC)
        };
        let sizes = u32::try_from(self.frame_sizes.len()).unwrap_or(u32::MAX);
        f64::from(sizes) * self.modes.iter().map(one).sum::<f64>()
    }

    /// How many ports it needs, and how many it can use.
    #[must_use]
    pub fn ports(&self) -> (usize, usize) {
        (2, if self.modes.contains(&Mode::Mac) { 3 } else { 2 })
    }
}

/// As many trials a search takes from 100 % to within 1 %.
const SEARCH_STEPS: u32 = 8;
/// Seconds of a trial beside warm-up and window: commands, and frames that are under way. Generous, for busy machines.
const BESIDE_TRAFFIC: f64 = 4.0;

/// What is counted at the end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// What arrives there.
    Received,
    /// What it sends on.
    Forwarded,
}

/// From one port to another, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Whose sent frames count.
    pub from: usize,
    /// Whose received or forwarded frames count.
    pub to: usize,
    /// Which of these.
    pub counted: Counted,
}

/// Who does what in one trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// These begin first, in this order.
    pub prepare: Vec<(usize, Role)>,
    /// Then this one, with which traffic begins.
    pub drive: (usize, Role),
    /// How many frames circulate. They are caught by the one that drives before the others end.
    pub circulating: Option<u32>,
    /// Frames at a time, if not as usual.
    pub burst: Option<u16>,
    /// What is measured.
    pub flows: Vec<Flow>,
}

/// The scene of a mode. `macs` are those of the ports, at least two.
#[must_use]
pub fn scene(mode: Mode, macs: &[Mac], tuning: Tuning) -> Option<Scene> {
    let (a, b) = (*macs.first()?, *macs.get(1)?);
    let flow = |from, to, counted| Flow { from, to, counted };
    let mut scene = Scene {
        prepare: vec![(1, Role::Receive)],
        drive: (0, Role::Send { to: b }),
        circulating: None,
        burst: None,
        flows: vec![flow(0, 1, Counted::Received)],
    };
    let forward = |engine, to| (1, Role::Forward { engine, to });
    match mode {
        Mode::Forth | Mode::Search => {}
        Mode::Back => {
            scene.prepare = vec![(0, Role::Receive)];
            scene.drive = (1, Role::Send { to: a });
            scene.flows = vec![flow(1, 0, Counted::Received)];
        }
        Mode::Io | Mode::Macswap => {
            let engine = if mode == Mode::Io { Engine::Io } else { Engine::Macswap };
            scene.prepare = vec![forward(engine, a)];
            scene.flows = vec![flow(0, 1, Counted::Forwarded)];
        }
        Mode::Mac => {
            let sink = macs.get(2);
            scene.prepare = sink.map(|_| (2, Role::Receive)).into_iter().collect();
            scene.prepare.push(forward(Engine::Mac, *sink.unwrap_or(&a)));
            let counted = if sink.is_some() { Counted::Received } else { Counted::Forwarded };
            scene.flows = vec![flow(0, if sink.is_some() { 2 } else { 1 }, counted)];
        }
        Mode::Both | Mode::Latency => {
            // No more than a queue holds: then none is lost for lack of room.
            let bursts =
                if mode == Mode::Both { (tuning.descriptors / 2 / tuning.burst.max(1)).max(1) } else { 1 };
            let burst = if mode == Mode::Both { tuning.burst } else { 1 };
            scene.prepare = vec![forward(Engine::Mac, a)];
            scene.drive = (0, Role::Inject { engine: Engine::Mac, to: b, bursts });
            scene.circulating = Some(u32::from(bursts) * u32::from(burst));
            scene.burst = Some(burst);
            scene.flows = if mode == Mode::Both {
                vec![flow(0, 1, Counted::Received), flow(1, 0, Counted::Received)]
            } else {
                vec![flow(0, 0, Counted::Received)]
            };
        }
    }
    Some(scene)
}

/// Frames per second that a link carries at most: with preamble and gap each takes 20 bytes more.
#[must_use]
pub fn line_rate(speed_mbps: u64, frame_size: u16) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a link's speed is far below 2^53")]
    let bits = speed_mbps as f64 * 1e6;
    bits / (8.0 * (f64::from(frame_size) + 20.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macs(count: usize) -> Vec<Mac> {
        (0..count).map(|index| format!("02:00:00:00:00:0{index}").parse().unwrap()).collect()
    }

    #[test]
    fn each_way_has_its_sender_and_its_receiver() {
        let forth = scene(Mode::Forth, &macs(2), Tuning::default()).unwrap();
        assert_eq!(forth.prepare, [(1, Role::Receive)]);
        assert_eq!(forth.drive, (0, Role::Send { to: macs(2)[1] }));
        let back = scene(Mode::Back, &macs(2), Tuning::default()).unwrap();
        assert_eq!((back.prepare[0].0, back.drive), (0, (1, Role::Send { to: macs(2)[0] })));
        assert_eq!(scene(Mode::Forth, &macs(1), Tuning::default()), None);
    }

    #[test]
    fn forwarding_is_counted_at_the_forwarder_unless_there_is_a_third_port() {
        let two = scene(Mode::Mac, &macs(2), Tuning::default()).unwrap();
        assert_eq!(two.flows, [Flow { from: 0, to: 1, counted: Counted::Forwarded }]);
        let three = scene(Mode::Mac, &macs(3), Tuning::default()).unwrap();
        assert_eq!(three.flows, [Flow { from: 0, to: 2, counted: Counted::Received }]);
        assert_eq!(three.prepare[0], (2, Role::Receive));
        assert_eq!(three.prepare[1], (1, Role::Forward { engine: Engine::Mac, to: macs(3)[2] }));
        // Only that one uses it.
        let swap = scene(Mode::Macswap, &macs(3), Tuning::default()).unwrap();
        assert_eq!(swap.flows, [Flow { from: 0, to: 1, counted: Counted::Forwarded }]);
    }

    #[test]
    fn no_more_frames_circulate_than_a_queue_holds() {
        let both = scene(Mode::Both, &macs(2), Tuning::default()).unwrap();
        assert_eq!((both.circulating, both.flows.len()), (Some(256), 2));
        let tight = Tuning { burst: 512, descriptors: 64, ..Tuning::default() };
        assert_eq!(scene(Mode::Both, &macs(2), tight).unwrap().circulating, Some(512));
        let latency = scene(Mode::Latency, &macs(2), Tuning::default()).unwrap();
        assert_eq!((latency.circulating, latency.burst), (Some(1), Some(1)));
    }

    #[test]
    fn line_rate_counts_preamble_and_gap() {
        assert_eq!(line_rate(10_000, 64).round(), 14_880_952.0);
        assert_eq!(line_rate(1000, 1518).round(), 81_274.0);
    }

    #[test]
    fn a_plan_knows_how_long_it_takes_at_least() {
        let plan = Plan {
            modes: vec![Mode::Forth, Mode::Search],
            frame_sizes: vec![64, 1518],
            repeats: 2,
            warm_up: 1.0,
            window: 3.0,
            rate_mbps: None,
            search_loss: 0.0,
            tuning: Tuning::default(),
        };
        assert_eq!(plan.seconds(), 2.0 * (2.0 + 10.0) * 8.0);
        assert_eq!(plan.ports(), (2, 2));
    }
}
