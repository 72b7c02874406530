//! What people are told beside the answer: standard error, which runtimes log, and the system's log.

use std::{
    fmt::Display,
    io::Write,
    mem,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{Mutex, OnceLock, PoisonError},
};

/// Where the system's log takes lines, whoever keeps it.
const SOCKET: &str = "/dev/log";
/// Bytes of a line that are sent: every keeper takes so many.
const LIMIT: usize = 2000;
/// Facility `daemon`, with severities `err` and `notice`.
const FAILURE: u8 = 3 << 3 | 3;
const NOTICE: u8 = 3 << 3 | 5;

static LOG: OnceLock<Log> = OnceLock::new();

/// Says a line. Nobody may be listening any more; work goes on then, which must not end halfway.
pub fn say(text: impl Display) {
    let text = text.to_string();
    let _ = std::io::stderr().write_all(format!("fairlead: {text}\n").as_bytes());
    send(NOTICE, &text);
}

/// Tells the system's log alone what a call came to: the runtime has it from the answer.
pub fn log_failure(text: impl Display) {
    send(FAILURE, &text.to_string());
}

/// From here on the system's log is told, too.
pub(crate) fn to_system_log(about: String) {
    if let Some(socket) = open(Path::new(SOCKET)) {
        let _ = LOG.set(Log { socket, about: Mutex::new(about) });
    }
}

/// What lines are about, until this is dropped.
pub(crate) struct About(String);

/// Says what the next lines are about.
pub(crate) fn about(text: impl Display) -> Option<About> {
    LOG.get().map(|log| About(log.now_about(text.to_string())))
}

impl Drop for About {
    fn drop(&mut self) {
        if let Some(log) = LOG.get() {
            log.now_about(mem::take(&mut self.0));
        }
    }
}

struct Log {
    socket: UnixDatagram,
    about: Mutex<String>,
}

impl Log {
    fn now_about(&self, text: String) -> String {
        mem::replace(&mut self.about.lock().unwrap_or_else(PoisonError::into_inner), text)
    }
}

/// None where nobody keeps a log. A log whose keeper does not follow loses lines, it does not hold up a pod.
fn open(path: &Path) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(path).ok()?;
    Some(socket)
}

fn send(priority: u8, text: &str) {
    if let Some(log) = LOG.get() {
        let about = log.about.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = log.socket.send(line(priority, &about, text).as_bytes());
    }
}

fn line(priority: u8, about: &str, text: &str) -> String {
    let mut line =
        format!("<{priority}>fairlead[{}]: {about}: {text}", std::process::id()).replace('\n', " ");
    line.truncate(line.floor_char_boundary(LIMIT));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_priority_program_and_what_it_is_about_and_is_one_line() {
        let line = line(FAILURE, "pod a/b", &format!("x\ny{}", "ä".repeat(LIMIT)));
        assert!(line.starts_with(&format!("<27>fairlead[{}]: pod a/b: x yä", std::process::id())), "{line}");
        assert!(line.len() <= LIMIT);
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(open(&path).is_none());
        let keeper = UnixDatagram::bind(&path).unwrap();
        let socket = open(&path).unwrap();
        // Until its buffers are full, and beyond.
        let sent = (0..10_000).filter(|_| socket.send(b"x").is_ok()).count();
        assert!(sent > 0 && sent < 10_000, "{sent}");
        assert_eq!(keeper.recv(&mut [0; 10]).unwrap(), 1);
        drop(keeper);
        assert!(open(&path).is_none());
    }
}
