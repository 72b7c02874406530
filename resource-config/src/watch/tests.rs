//! The stream, over a made-up kernel that keeps its own time.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairlead_kernel::Link;
use fairlead_kernel::monitor::{Bell, Event, Heard, LinkEvent, MonitorError, Source, Uevent};

use super::ears::Ears;
use super::{Eyes, Timing, WatchError, Watcher};
use crate::inventory::{Inventory, InventoryError, Scanner};
use crate::test_support::SysfsTree;

/// Something that happens on the made-up node: the tree changes, and then the kernel announces it.
type Step = Box<dyn FnOnce(&SysfsTree) -> Result<Heard, MonitorError> + Send>;

struct World {
    tree: SysfsTree,
    now: Instant,
    steps: VecDeque<(Instant, Step)>,
    /// Announced, and not heard yet.
    waiting: VecDeque<Result<Heard, MonitorError>>,
    scans: u32,
    /// How long a scan takes.
    scan_time: Duration,
    failing: Arc<AtomicBool>,
    /// How long the kernel is at making VFs.
    busy_until: Option<Instant>,
}

impl World {
    /// Lets everything happen that happens up to a time.
    fn advance(&mut self, until: Instant) {
        while self.steps.front().is_some_and(|(time, _)| *time <= until) {
            let Some((time, step)) = self.steps.pop_front() else { return };
            self.now = self.now.max(time);
            self.waiting.push_back(step(&self.tree));
        }
        self.now = self.now.max(until);
    }
}

#[derive(Clone)]
struct Simulation {
    world: Arc<Mutex<World>>,
    start: Instant,
}

impl Ears for Simulation {
    fn now(&self) -> Instant {
        self.world.lock().unwrap().now
    }

    fn next(&mut self, until: Instant) -> Result<Heard, MonitorError> {
        let mut world = self.world.lock().unwrap();
        if world.waiting.is_empty() {
            let next = world.steps.front().map(|(time, _)| *time);
            // At most up to the next step: whoever waits wakes up at it.
            world.advance(next.map_or(until, |next| next.min(until)));
        }
        world.waiting.pop_front().unwrap_or(Ok(Heard::Nothing))
    }
}

impl Eyes for Simulation {
    fn scan(&mut self) -> Result<Inventory, InventoryError> {
        let mut world = self.world.lock().unwrap();
        world.scans += 1;
        let scanned = Scanner::sysfs(world.tree.root().path()).scan();
        let through = world.now + world.scan_time;
        world.advance(through);
        if world.failing.load(Ordering::Relaxed) {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(InventoryError::List { path: "/sys/bus/pci/devices".into(), source });
        }
        scanned
    }

    fn let_finish(&mut self, _: &Inventory) {
        let mut world = self.world.lock().unwrap();
        if let Some(through) = world.busy_until {
            world.advance(through);
        }
    }
}

const TIMING: Timing = Timing {
    quiet: Duration::from_millis(50),
    limit: Duration::from_secs(2),
    rescan: Duration::from_secs(5),
};

impl Simulation {
    fn new(tree: SysfsTree) -> Self {
        let start = Instant::now();
        let world = World {
            tree,
            now: start,
            steps: VecDeque::new(),
            waiting: VecDeque::new(),
            scans: 0,
            scan_time: Duration::from_millis(10),
            failing: Arc::default(),
            busy_until: None,
        };
        Self { world: Arc::new(Mutex::new(world)), start }
    }

    /// What happens this many milliseconds after the start. Steps are given in order.
    fn at(&self, ms: u64, step: impl FnOnce(&SysfsTree) -> Result<Heard, MonitorError> + Send + 'static) {
        let time = self.start + Duration::from_millis(ms);
        self.world.lock().unwrap().steps.push_back((time, Box::new(step)));
    }

    fn watcher(&self) -> Watcher {
        Watcher::over(Box::new(self.clone()), Box::new(self.clone()), Bell::new().unwrap(), TIMING)
    }

    fn since_start(&self) -> Duration {
        self.now() - self.start
    }

    fn scans(&self) -> u32 {
        self.world.lock().unwrap().scans
    }
}

fn pci(action: &str, address: &str) -> Result<Heard, MonitorError> {
    let devpath = format!("/devices/pci0000:00/{address}");
    let event = Uevent { action: action.to_owned(), devpath, subsystem: "pci".to_owned() };
    Ok(Heard::Event(Event::Device(event)))
}

fn link(index: u32, kind: Option<&str>) -> Result<Heard, MonitorError> {
    let link = Link { index, kind: kind.map(str::to_owned), ..Link::default() };
    Ok(Heard::Event(Event::Link(LinkEvent { removed: false, link: Box::new(link) })))
}

/// An event that matters and belongs to nothing.
fn noise() -> Result<Heard, MonitorError> {
    pci("change", "0000:00:1f.0")
}

/// Ends the stream at a time: whatever it has not said by then it does not say.
fn end(simulation: &Simulation, ms: u64) {
    simulation.at(ms, |_| Ok(Heard::Bell));
}

fn vfs(inventory: &Inventory) -> usize {
    inventory.functions.iter().filter(|function| function.as_vf().is_some()).count()
}

/// The numbers of VFs in what the stream gives until it ends.
fn counts(simulation: &Simulation) -> Vec<usize> {
    simulation.watcher().map(|item| vfs(&item.unwrap())).collect()
}

#[test]
fn the_first_inventory_comes_at_once_and_nothing_follows_a_node_at_rest() {
    let simulation = Simulation::new(SysfsTree::igb(3));
    end(&simulation, 60_000);
    let mut watcher = simulation.watcher();
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 3);
    assert_eq!(simulation.since_start(), Duration::from_millis(10));
    assert!(watcher.next().is_none() && watcher.next().is_none());
    // The rescans went on all the while.
    assert_eq!(simulation.scans(), 1 + 60_000 / 5010);
}

#[test]
fn sixty_four_vfs_are_one_update_soon_after_the_last() {
    let simulation = Simulation::new(SysfsTree::igb(0));
    for index in 0..64_u32 {
        let time = 1000 + u64::from(index) * 30;
        simulation.at(time, move |tree| pci("add", &tree.igb_vf(index)));
        simulation.at(time + 3, |_| pci("bind", "0000:01:10.0"));
        simulation.at(time + 5, move |_| link(100 + index, None));
    }
    end(&simulation, 60_000);
    let mut watcher = simulation.watcher();
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 0);
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 64);
    let last = Duration::from_millis(1000 + 63 * 30 + 5);
    assert!(simulation.since_start() < last + Duration::from_millis(200), "{:?}", simulation.since_start());
    assert!(watcher.next().is_none());
}

#[test]
fn a_change_that_nobody_announced_is_seen_at_the_rescan() {
    let simulation = Simulation::new(SysfsTree::igb(0));
    simulation.at(100, |tree| {
        tree.igb_vf(0);
        Ok(Heard::Nothing)
    });
    end(&simulation, 6000);
    assert_eq!(counts(&simulation), [0, 1]);
}

#[test]
fn links_of_pods_cause_no_scans() {
    let simulation = Simulation::new(SysfsTree::igb(1));
    for number in 0..1000_u32 {
        simulation.at(100 + u64::from(number), move |_| link(number, Some("veth")));
    }
    end(&simulation, 4000);
    assert_eq!(counts(&simulation), [1]);
    assert_eq!(simulation.scans(), 1);
}

#[test]
fn what_changes_while_it_is_looked_at_is_looked_at_again_first() {
    let simulation = Simulation::new(SysfsTree::igb(1));
    simulation.world.lock().unwrap().scan_time = Duration::from_millis(100);
    simulation.at(1000, |_| noise());
    // The scan at 1.05 s has read the tree before this.
    simulation.at(1100, |tree| pci("add", &tree.igb_vf(1)));
    simulation.at(1120, |tree| pci("add", &tree.igb_vf(2)));
    end(&simulation, 4000);
    assert_eq!(counts(&simulation), [1, 3]);
    assert_eq!(simulation.scans(), 3);
}

#[test]
fn vfs_that_the_kernel_takes_long_to_make_are_one_update() {
    let simulation = Simulation::new(SysfsTree::igb(0));
    simulation.world.lock().unwrap().busy_until = Some(simulation.start + Duration::from_millis(10_000));
    for index in 0..20_u32 {
        simulation.at(1000 + u64::from(index) * 450, move |tree| pci("add", &tree.igb_vf(index)));
    }
    end(&simulation, 20_000);
    let mut watcher = simulation.watcher();
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 0);
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 20);
    assert_eq!(simulation.since_start(), Duration::from_millis(10_010));
    assert!(watcher.next().is_none());
}

#[test]
fn what_is_half_made_is_held_back_until_it_is_whole() {
    let simulation = Simulation::new(SysfsTree::igb(1));
    simulation.at(1000, |tree| {
        let vf = tree.igb_vf(1);
        tree.set("0000:01:00.0", "sriov_numvfs", "1");
        pci("add", &vf)
    });
    // The kernel says nothing when it sets the number.
    simulation.at(1090, |tree| {
        tree.set("0000:01:00.0", "sriov_numvfs", "2");
        Ok(Heard::Nothing)
    });
    end(&simulation, 4000);
    assert_eq!(counts(&simulation), [1, 2]);
}

#[test]
fn what_stays_half_made_is_given_out_and_holds_nothing_up_any_more() {
    let simulation = Simulation::new(SysfsTree::igb(2));
    simulation.at(1000, |tree| {
        tree.set("0000:01:00.0", "sriov_numvfs", "5");
        pci("change", "0000:01:00.0")
    });
    simulation.at(3000, |tree| {
        tree.bind_vfio("0000:01:10.0");
        pci("bind", "0000:01:10.0")
    });
    end(&simulation, 4000);
    let mut watcher = simulation.watcher().map(Result::unwrap);
    let told = |inventory: &Inventory| inventory.functions[0].as_pf().and_then(|pf| pf.num_vfs);
    assert_eq!(told(&watcher.next().unwrap()), Some(2));
    assert_eq!(told(&watcher.next().unwrap()), Some(5));
    assert!(simulation.since_start() < Duration::from_millis(2500), "{:?}", simulation.since_start());
    assert!(watcher.next().unwrap().functions[1].is_vfio());
    assert_eq!(simulation.since_start(), Duration::from_millis(3060));
    assert!(watcher.next().is_none());
}

#[test]
fn a_storm_does_not_put_a_change_off_for_ever() {
    let simulation = Simulation::new(SysfsTree::igb(0));
    simulation.at(1000, |tree| pci("add", &tree.igb_vf(0)));
    for time in (1005..20_000).step_by(5) {
        simulation.at(time, |_| noise());
    }
    let mut watcher = simulation.watcher();
    watcher.next();
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 1);
    assert!(simulation.since_start() < Duration::from_secs(10), "{:?}", simulation.since_start());
}

#[test]
fn a_scan_that_fails_is_reported_once_and_repeated_until_it_works() {
    let simulation = Simulation::new(SysfsTree::igb(1));
    let failing = simulation.world.lock().unwrap().failing.clone();
    failing.store(true, Ordering::Relaxed);
    simulation.at(3500, move |_| {
        failing.store(false, Ordering::Relaxed);
        Ok(Heard::Nothing)
    });
    end(&simulation, 9000);
    let mut watcher = simulation.watcher();
    let error = watcher.next().unwrap().unwrap_err();
    assert!(matches!(error, WatchError::Scan(_)));
    assert!(
        crate::error_text(&error).contains("cannot list the PCI functions in /sys/bus/pci/devices"),
        "{error}"
    );
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 1);
    assert!(watcher.next().is_none());
}

#[test]
fn ears_that_fail_are_reported_once_and_the_rescan_goes_on() {
    let simulation = Simulation::new(SysfsTree::igb(0));
    let error = || MonitorError::Receive { from: Source::Devices, source: io::Error::from_raw_os_error(5) };
    simulation.at(100, move |_| Err(error()));
    simulation.at(2100, move |_| Err(error()));
    simulation.at(2200, |tree| {
        tree.igb_vf(0);
        Ok(Heard::Nothing)
    });
    simulation.at(7000, |_| Ok(Heard::Event(Event::Lost)));
    simulation.at(7100, move |_| Err(error()));
    end(&simulation, 9000);
    let said: Vec<String> = simulation
        .watcher()
        .map(|item| item.map_or_else(|error| crate::error_text(&error), |i| format!("{} VFs", vfs(&i))))
        .collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[1].contains("the kernel's device events can no longer be heard"), "{said:?}");
    assert_eq!((said[0].as_str(), said[2].as_str()), ("0 VFs", "1 VFs"));
    assert_eq!(said[3], said[1]);
}

#[test]
fn a_loss_of_announcements_is_a_reason_to_look() {
    let simulation = Simulation::new(SysfsTree::igb(0));
    simulation.at(100, |tree| {
        tree.igb_vf(0);
        Ok(Heard::Event(Event::Lost))
    });
    end(&simulation, 1000);
    assert_eq!(counts(&simulation), [0, 1]);
}

#[test]
fn a_stream_that_is_stopped_ends_at_once() {
    let tree = SysfsTree::igb(1);
    let timing = Timing { rescan: Duration::from_secs(3600), ..Timing::default() };
    let mut watcher = Watcher::new(Scanner::sysfs(tree.root().path()), timing).unwrap();
    let stopper = watcher.stopper();
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 1);
    let stopping = std::thread::spawn(move || stopper.stop());
    assert!(watcher.next().is_none());
    assert!(watcher.next().is_none());
    stopping.join().unwrap();
}

#[test]
fn a_tree_is_looked_at_again_and_again() {
    let tree = SysfsTree::igb(1);
    let timing = Timing { rescan: Duration::from_millis(5), ..Timing::default() };
    let mut watcher = Watcher::new(Scanner::sysfs(tree.root().path()), timing).unwrap();
    assert_eq!(vfs(&watcher.next().unwrap().unwrap()), 1);
    tree.igb_vf(1);
    // A scan may fall between the steps in which a made-up VF appears.
    while watcher.next().unwrap().unwrap().functions.iter().filter(|f| !f.netdevs.is_empty()).count() < 3 {}
}
