//! The commands.

pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod options;
pub(crate) mod peer;
mod ports;
pub(crate) mod render;

use std::fs;

use fairlead_dpdk_tests::cores::write_list;
use fairlead_dpdk_tests::preflight::{Facts, Needs};
use fairlead_dpdk_tests::report::{Machine, Outcome};

/// What ends a command early: how, and why.
pub(crate) type Failure = (Outcome, String);

/// Where this runs.
fn machine(facts: Option<&Facts>) -> Machine {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = text("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let usable = facts.and_then(|facts| facts.process.cores.as_deref()).map(write_list);
    Machine {
        host: text("/proc/sys/kernel/hostname"),
        kernel: text("/proc/sys/kernel/osrelease"),
        processor: model.map(|(_, model)| model.trim().to_owned()).unwrap_or_default(),
        usable: usable.unwrap_or_default(),
        pod: facts.is_some_and(|facts| facts.pod),
    }
}

/// Says what no machine can do, before anything is looked at.
fn sensible(needs: &Needs) -> Result<(), Failure> {
    if needs.tuning.cores > needs.tuning.queues {
        let (cores, queues) = (needs.tuning.cores, needs.tuning.queues);
        let why =
            format!("--cores {cores} is more than --queues {queues}: a queue is served by one processor");
        return Err((Outcome::Usage, why));
    }
    Ok(())
}
