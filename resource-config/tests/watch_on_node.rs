//! The stream of inventories on a machine whose port may be played with: `FAIRLEAD_TEST_PF` names it by its PCI address. Its
//! VFs are removed. Without that, this says that it was skipped.
//!
//! The periodic rescan is off: whatever is seen, is seen by the kernel's events.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, outside of test functions")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use fairlead_resource_config::PciAddress;
use fairlead_resource_config::inventory::{Function, Inventory, Scanner};
use fairlead_resource_config::watch::{Stopper, Timing, Watcher};

/// A bound for machines without KVM that others use, too; the wanted 200 ms are for people to compare with what is printed.
const BOUND: Duration = Duration::from_secs(3);

/// After this long without an update none is expected.
const SETTLED: Duration = Duration::from_millis(400);

/// A port of this machine, and a stream of inventories that runs in a thread.
struct Node {
    pf: PciAddress,
    seen: Receiver<(Instant, Arc<Inventory>)>,
    last: Arc<Inventory>,
    /// What updates since the last step said of the VFs, without repetitions: the names that udev gives to network devices
    /// come later, one by one.
    shapes: Vec<Vec<String>>,
    stopper: Stopper,
}

impl Node {
    fn start(pf: PciAddress) -> Self {
        let timing = Timing { rescan: Duration::from_secs(3600), ..Timing::default() };
        let watcher = Watcher::new(Scanner::system(), timing).unwrap();
        let stopper = watcher.stopper();
        let (sender, seen) = channel();
        thread::spawn(move || {
            for inventory in watcher {
                if sender.send((Instant::now(), inventory.unwrap())).is_err() {
                    return;
                }
            }
        });
        let (_, last) = seen.recv_timeout(BOUND).unwrap();
        Self { pf, seen, last, shapes: Vec::new(), stopper }
    }

    fn vfs(&self) -> Vec<&Function> {
        let is_of_pf = |function: &&Function| function.as_vf().is_some_and(|vf| vf.pf_address == self.pf);
        self.last.functions.iter().filter(is_of_pf).collect()
    }

    fn function(&self, address: &str) -> &Function {
        self.last.function(&address.parse().unwrap()).unwrap()
    }

    fn shape(&self) -> Vec<String> {
        let of = |vf: &&Function| {
            let index = vf.as_vf().and_then(|vf| vf.index);
            format!("{} {index:?} {:?} netdevs {}", vf.address, vf.driver, vf.netdevs.len())
        };
        self.vfs().iter().map(of).collect()
    }

    /// The next update, and when it came.
    fn next(&mut self, wait: Duration) -> Option<Instant> {
        match self.seen.recv_timeout(wait) {
            Ok((time, inventory)) => {
                self.last = inventory;
                let shape = self.shape();
                if self.shapes.last() != Some(&shape) {
                    self.shapes.push(shape);
                }
                Some(time)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the stream has ended"),
        }
    }

    /// Carries a step out on the node at rest, waits until what it leads to is seen, and tells how long after the step that was.
    fn step(&mut self, step: impl FnOnce(&Self), is_through: impl Fn(&Self) -> bool) -> Duration {
        self.settle();
        self.shapes = vec![self.shape()];
        step(self);
        let done = Instant::now();
        loop {
            let left = BOUND.saturating_sub(done.elapsed());
            let seen = self.next(left).unwrap_or_else(|| panic!("not seen: {:#?}", self.shapes));
            if is_through(self) {
                return seen.saturating_duration_since(done);
            }
        }
    }

    /// Waits until nothing happens any more. What was seen last must become what there is: a port's link comes up seconds after
    /// its VFs were changed, maybe just now.
    fn settle(&mut self) {
        run("udevadm", &["settle"]);
        let begun = Instant::now();
        loop {
            while self.next(SETTLED).is_some() {}
            let now = Scanner::system().scan().unwrap();
            if self.last.functions == now.functions && self.last.iommu_groups == now.iommu_groups {
                return;
            }
            assert!(begun.elapsed() < 3 * BOUND, "{:#?}\nis not what there is:\n{now:#?}", self.last);
        }
    }

    fn set_vfs(&self, count: usize) {
        write(&device(&self.pf.to_string()).join("sriov_numvfs"), &count.to_string());
    }

    /// There are so many VFs, each with its place and this driver.
    fn has(&self, count: usize, driver: &str) -> bool {
        let vfs = self.vfs();
        let is_whole = |vf: &&Function| {
            vf.driver.as_deref() == Some(driver) && vf.as_vf().is_some_and(|vf| vf.index.is_some())
        };
        vfs.len() == count && vfs.iter().all(is_whole)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

/// Says something that is seen in tests that pass, too: the test harness hides what macros print in these.
fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn device(address: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

/// Gives a device to a driver, or with an empty name to the one that the kernel chooses.
fn bind(address: &str, driver: &str) {
    let dir = device(address);
    write(&dir.join("driver_override"), &format!("{driver}\n"));
    write(&dir.join("driver/unbind"), address);
    write(Path::new("/sys/bus/pci/drivers_probe"), address);
}

/// How long one kind of step took to be seen.
fn report(step: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Option<&Duration>| time.map_or(0, Duration::as_millis);
    let (middle, last) = (ms(times.get(times.len() / 2)), ms(times.last()));
    say(&format!("watch: {step}: seen after {middle} ms (median), {last} ms (slowest of {})", times.len()));
}

/// The port that may be played with, and how often.
fn permitted() -> Option<(PciAddress, usize)> {
    let Ok(pf) = std::env::var("FAIRLEAD_TEST_PF") else {
        say(
            "\n*** SKIPPED: following a port's VFs needs FAIRLEAD_TEST_PF=<address of a port to play with> ***",
        );
        return None;
    };
    let rounds = std::env::var("FAIRLEAD_TEST_ROUNDS").ok().map(|text| text.parse().unwrap());
    Some((pf.parse().unwrap(), rounds.unwrap_or(2)))
}

#[test]
fn what_becomes_of_vfs_is_seen_soon_and_once() {
    let Some((pf, rounds)) = permitted() else { return };
    write(&device(&pf.to_string()).join("sriov_numvfs"), "0");
    let mut node = Node::start(pf);
    let total = node.last.function(&pf).unwrap().as_pf().unwrap().total_vfs.unwrap();
    let total = usize::try_from(total).unwrap();
    // Loads the VFs' driver, which comes after the VFs the first time.
    node.set_vfs(total);
    node.settle();
    let driver = node.vfs()[0].driver.clone().unwrap();
    node.set_vfs(0);

    let mut times: [Vec<Duration>; 6] = Default::default();
    for _ in 0..rounds {
        times[0].push(node.step(|node| node.set_vfs(total), |node| node.has(total, &driver)));
        node.settle();
        assert_eq!(node.shapes.len(), 2, "all VFs are one update: {:#?}", node.shapes);

        let vf = &node.vfs()[0].address.to_string();
        let on_vfio = |node: &Node| node.function(vf).driver.as_deref() == Some("vfio-pci");
        times[1].push(node.step(|_| bind(vf, "vfio-pci"), on_vfio));
        let back = |node: &Node| node.function(vf).driver.as_ref() == Some(&driver);
        times[2].push(node.step(|_| bind(vf, ""), back));
        node.settle();

        let sandbox = format!("watch-{}", std::process::id());
        run("ip", &["netns", "add", &sandbox]);
        let netdev = node.function(vf).netdevs[0].name.clone();
        let has_netdev = |node: &Node| !node.function(vf).netdevs.is_empty();
        let move_away = |_: &Node| run("ip", &["link", "set", &netdev, "netns", &sandbox]);
        times[3].push(node.step(move_away, |node| !has_netdev(node)));
        let move_back = |_: &Node| run("ip", &["-n", &sandbox, "link", "set", &netdev, "netns", "1"]);
        times[4].push(node.step(move_back, has_netdev));
        run("ip", &["netns", "del", &sandbox]);

        times[5].push(node.step(|node| node.set_vfs(0), |node| node.has(0, &driver)));
        node.settle();
        assert_eq!(node.shapes.len(), 2, "the end of all VFs is one update: {:#?}", node.shapes);
    }
    let steps = [
        "all VFs made",
        "on vfio-pci",
        "on the kernel's driver",
        "moved away",
        "moved back",
        "all VFs removed",
    ];
    for (step, times) in steps.iter().zip(times) {
        report(step, times);
    }

    // Whatever is done without waiting in between, the end of it is seen.
    for number in [total, 0, total.min(3), 0, 1] {
        node.set_vfs(number);
    }
    node.settle();
    assert!(node.has(1, &driver), "{:#?}", node.shapes);
    node.set_vfs(0);
    node.settle();
    assert!(node.has(0, &driver), "{:#?}", node.shapes);
}
