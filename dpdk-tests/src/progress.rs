//! Lines that say what is going on.

use std::fmt;
use std::io::Write;
use std::time::Instant;

/// Writes lines with the time since the start, at once.
pub struct Progress {
    out: Box<dyn Write>,
    start: Instant,
}

impl Progress {
    /// Writes to `out`; time counts from now.
    pub fn new(out: impl Write + 'static) -> Self {
        Self { out: Box::new(out), start: Instant::now() }
    }

    /// One step. That nobody reads it (a closed pipe) is no reason to fail.
    pub fn say(&mut self, what: impl fmt::Display) {
        let seconds = self.start.elapsed().as_secs_f64();
        let _ = writeln!(self.out, "[{seconds:6.1} s] {what}");
        let _ = self.out.flush();
    }

    /// A text of its own, such as a table, without the time.
    pub fn print(&mut self, what: impl fmt::Display) {
        let _ = writeln!(self.out, "{what}");
        let _ = self.out.flush();
    }
}
