//! Times a CNI plugin from its start to its end: `start_time RUNS PROGRAM...`, in milliseconds, best and median.
//! Part of hack/bench/start, which builds it.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let runs: usize = arguments.next().and_then(|text| text.parse().ok()).expect("the number of runs");
    let programs: Vec<String> = arguments.collect();
    let mut times = vec![Vec::new(); programs.len()];
    // In turns, so that other work on the machine hits all of them. The first round fills the kernel's caches.
    for round in 0..=runs {
        for (program, times) in programs.iter().zip(&mut times) {
            let time = run(program);
            if round > 0 {
                times.push(time);
            }
        }
    }
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1000.0;
    for (program, times) in programs.iter().zip(&mut times) {
        times.sort();
        println!(
            "{program}: best {:.2} ms, median {:.2} ms",
            milliseconds(&times[0]),
            milliseconds(&times[times.len() / 2])
        );
    }
}

fn run(program: &str) -> Duration {
    let mut command = Command::new(program);
    command.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let ended = command.status().expect("the plugin could not be run");
    let time = start.elapsed();
    assert!(ended.success(), "{program}: {ended}");
    time
}
