//! What is played on the emulated node: the demo's five steps, and further cases that go through the same cluster.
//!
//! Everything is real but the API server and kubelet, which are the stand-ins of this crate: device plugin, agent and CNI
//! executable as they ship, containerd, the kernel's drivers, testpmd.

mod alone;
mod cases;
mod cluster;
mod crowd;
mod deployed;
mod devices;
mod dpdk;
mod examples;
mod hardware;
mod inside;
mod install;
mod kubernetes;
mod manifests;
mod migrate;
mod mixed;
mod networks;
mod nodestate;
mod primary;
mod quickstarts;
mod shell;
mod steps;
mod table;
mod tools;
mod upgrade;
mod way;

use std::{path::PathBuf, time::Instant};

use anyhow::Result;

pub use self::dpdk::{DpdkOptions, dpdk};
use self::{cluster::Cluster, steps::Demo};
pub use deployed::play as deployed;
pub use upgrade::play as upgrade;

/// How a scenario is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the manifests that are played (`deploy/examples/first-pods`).
    pub manifests: PathBuf,
    /// Folder for the parts' logs.
    pub logs: PathBuf,
    /// Decides the stand-in kubelet's random orders.
    pub seed: u64,
    /// If there are any: of the further cases only those whose title has one of these texts, and no step of the demo.
    pub only: Vec<String>,
    /// How many pods are started at once.
    pub crowd: usize,
    /// Folder of Kubernetes' own programs, which then run in place of the stand-ins.
    pub kubernetes: Option<PathBuf>,
}

impl Options {
    /// What is made first.
    fn setting_up(&self) -> String {
        let cluster =
            if self.kubernetes.is_some() { "Kubernetes" } else { "stand-in API server and kubelet" };
        format!("setting up: 4 VFs, two of them on vfio-pci; container images; {cluster}")
    }
}

/// Prints what happens, with the time since the start.
struct Progress {
    start: Instant,
}

impl Progress {
    fn say(&self, text: &str) {
        println!("[{:6.1} s] {text}", self.start.elapsed().as_secs_f64());
    }

    /// Says how an action ended and how long it took.
    fn ended(&self, since: Instant, result: &Result<()>) {
        let took = since.elapsed().as_secs_f64();
        match result {
            Ok(()) => self.say(&format!("    ok ({took:.1} s)")),
            Err(error) => self.say(&format!("    FAILED ({took:.1} s): {error:#}")),
        }
    }
}

/// Counts what was tried, and says how each went.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    fn count(&mut self, name: &str, since: Instant, result: &Result<()>) {
        let took = since.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {name} ({took:.1} s)");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED  {name} ({took:.1} s): {error:#}");
            }
        }
    }

    /// True when all went well.
    fn end(&self) -> bool {
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }
}

/// Plays the demo. True when every step went well.
///
/// # Errors
/// Only what keeps it from starting; a failed step is printed.
pub async fn demo(options: &Options) -> Result<bool> {
    let progress = Progress { start: Instant::now() };
    let Some(mut demo) = set_up(&progress, options).await else { return Ok(false) };
    for (number, step) in steps::ALL.iter().enumerate() {
        let start = Instant::now();
        println!();
        progress.say(&format!("step {} of {}: {}", number + 1, steps::ALL.len(), step.title));
        let result = demo.play(step).await;
        progress.ended(start, &result);
        if result.is_err() {
            demo.cluster.show_logs();
            demo.cluster.stop().await;
            println!("\nThe demo failed in step {}.", number + 1);
            return Ok(false);
        }
    }
    demo.cluster.stop().await;
    println!("\nThe pods' interfaces:\n\n{}", demo.table());
    println!("{}", demo.throughput_line());
    Ok(true)
}

/// Plays the demo's steps and all further cases as tests. True when all passed.
///
/// # Errors
/// Only what keeps it from starting.
pub async fn tests(options: &Options) -> Result<bool> {
    let progress = Progress { start: Instant::now() };
    let mut tally = Tally::default();
    let Some(mut demo) = set_up(&progress, options).await else {
        println!("0 passed, 1 failed");
        return Ok(false);
    };
    let steps = if options.only.is_empty() { steps::ALL } else { &[] };
    for step in steps {
        let start = Instant::now();
        let result = demo.play(step).await;
        tally.count(&format!("demo: {}", step.title), start, &result);
        if result.is_err() {
            demo.cluster.show_logs();
        }
    }
    let is_played = |case: &&cases::Case| {
        options.only.is_empty() || options.only.iter().any(|text| case.title.contains(text))
    };
    for case in cases::ALL.iter().filter(is_played) {
        let start = Instant::now();
        let result = cases::play(case, &mut demo.cluster).await;
        tally.count(case.title, start, &result);
        if result.is_err() {
            demo.cluster.show_logs();
            if let Err(error) = demo.cluster.recover().await {
                println!("the node could not be tidied up for the next case: {error:#}");
            }
        }
    }
    demo.cluster.stop().await;
    Ok(tally.end())
}

async fn set_up(progress: &Progress, options: &Options) -> Option<Demo> {
    let start = Instant::now();
    progress.say(&format!("{}; Fairlead", options.setting_up()));
    match Cluster::start(options).await {
        Ok(cluster) => {
            progress.ended(start, &Ok(()));
            Some(Demo::new(cluster))
        }
        Err(error) => {
            progress.ended(start, &Err(error));
            None
        }
    }
}
