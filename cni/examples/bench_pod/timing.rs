//! Times of contenders, and what they are to each other.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{Result, Sandbox};

/// How long one pod took.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) add: Duration,
    pub(crate) del: Duration,
}

/// One way to give a pod its interfaces.
pub(crate) trait Contender {
    fn name(&self) -> String;
    /// Makes and removes one pod's interfaces, and makes sure that they were there.
    fn once(&self, sandbox: &Sandbox) -> Result<Times>;
}

/// How long `work` takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    work().map(|value| (value, start.elapsed()))
}

/// All times. The last contender is what the others are compared with.
pub(crate) struct Table {
    rows: Vec<(String, Vec<Times>)>,
}

impl Table {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        Self { rows: names.map(|name| (name, Vec::new())).collect() }
    }

    pub(crate) fn add(&mut self, which: usize, times: Times) {
        self.rows[which].1.push(times);
    }
}

/// Median, and the range of the middle half.
struct Spread([f64; 3]);

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get((values.len().saturating_sub(1) * quarter + 2) / 4);
        Self([1, 2, 3].map(|quarter| at(quarter).copied().unwrap_or(f64::NAN)))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, middle, high] = self.0;
        write!(f, "{middle:>7.2} ({low:.2} to {high:.2})")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((_, floor)) = self.rows.last() else { return Ok(()) };
        writeln!(f, "{} rounds; median (middle half)", floor.len())?;
        type Part = fn(&Times) -> Duration;
        let parts: [(&str, Part); 2] = [("ADD", |times| times.add), ("DEL", |times| times.del)];
        for (verb, part) in parts {
            for (name, times) in &self.rows {
                let took = Spread::of(times.iter().map(|times| part(times).as_secs_f64() * 1000.0));
                let pairs = times.iter().zip(floor);
                let ratio = Spread::of(pairs.map(|(own, floor)| part(own).div_duration_f64(part(floor))));
                writeln!(f, "{verb}  {name:<34} {:<26} ms, to the last {ratio}", took.to_string())?;
            }
        }
        Ok(())
    }
}
