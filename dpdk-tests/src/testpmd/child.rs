//! A program under full control: its output read as it comes, its end certain.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::console::Console;

/// How often the end of the program is looked for.
const TICK: Duration = Duration::from_millis(10);

/// How long each way of ending the program is given before the next.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// After `quit` and the end of its input.
    pub quit: Duration,
    /// After SIGTERM.
    pub term: Duration,
}

impl Default for Patience {
    /// testpmd stops and closes its ports within a second, under software emulation within three.
    fn default() -> Self {
        Self { quit: Duration::from_secs(8), term: Duration::from_secs(4) }
    }
}

/// What made the program end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It had ended by itself.
    Alone,
    /// The command `quit`, or the end of its input.
    Quit,
    /// SIGTERM.
    Terminated,
    /// SIGKILL.
    Killed,
}

/// A program that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    console: Arc<Mutex<Console>>,
    patience: Patience,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts a program with a process group of its own, so that a Ctrl-C at the terminal reaches only us and we end it in
    /// order. Should we be killed outright, it sees the end of its input, at which testpmd quits too.
    pub fn spawn(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: &[(&str, PathBuf)],
        patience: Patience,
    ) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        let mut process = command.spawn()?;
        // It holds our copies of the writing end.
        drop(command);
        let console = Arc::new(Mutex::new(Console::default()));
        let sink = Arc::clone(&console);
        // Not joined: a grandchild may hold the pipe open longer than anybody wants to wait.
        thread::spawn(move || read_all(reader, &sink));
        let stdin = process.stdin.take();
        Ok(Self { process, stdin, console, patience, status: None })
    }

    /// What it has said so far.
    pub fn console(&self) -> MutexGuard<'_, Console> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it a line to read.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(format!("{line}\n").as_bytes())?;
        stdin.flush()
    }

    /// How it ended; `None` while it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.process.try_wait().ok().flatten();
        }
        self.status
    }

    /// Ends it: asks, then SIGTERM, then SIGKILL.
    pub fn stop(&mut self) -> Ending {
        if self.status().is_some() {
            return Ending::Alone;
        }
        // Failing to ask is fine: the next steps do not ask.
        let _ = self.write_line("quit");
        self.stdin = None;
        if self.ends_within(self.patience.quit) {
            return Ending::Quit;
        }
        self.signal(Signal::SIGTERM);
        if self.ends_within(self.patience.term) {
            return Ending::Terminated;
        }
        self.signal(Signal::SIGKILL);
        self.status = self.process.wait().ok();
        Ending::Killed
    }

    fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.process.id()) {
            // Not yet reaped, so the number is still its own.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            if self.status().is_some() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(TICK);
        }
    }

    /// Waits a little for output that is still in the pipe of a program that ended.
    pub fn drain(&self) {
        for _ in 0..20 {
            if self.console().has_ended() {
                return;
            }
            thread::sleep(TICK);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read_all(mut reader: io::PipeReader, sink: &Mutex<Console>) {
    let console = || sink.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = [0; 4096];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => console().push(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    console().end();
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);

    fn shell(script: &str, patience: Patience) -> Child {
        Child::spawn(Path::new("/bin/sh"), ["-c", script], &[], patience).unwrap()
    }

    fn wait_for(child: &Child, text: &str) {
        let end = Instant::now() + LONG;
        while !child.console().text().contains(text) {
            assert!(Instant::now() < end, "{}", child.console().text());
            thread::sleep(TICK);
        }
    }

    #[test]
    fn a_program_that_is_asked_to_quit_does_and_its_output_is_kept() {
        let script = "printf 'testpmd> '; while read -r line; do echo \"<$line>\" >&2; [ $line != quit ] || exit 3; done";
        let mut child = shell(script, Patience { quit: LONG, term: LONG });
        wait_for(&child, "testpmd> ");
        assert!(child.console().is_ready());
        child.write_line("start").unwrap();
        wait_for(&child, "<start>");
        assert_eq!(child.stop(), Ending::Quit);
        assert_eq!(child.status().unwrap().code(), Some(3));
        child.drain();
        assert!(child.console().text().ends_with("<quit>\n"));
        assert_eq!(child.stop(), Ending::Alone);
    }

    #[test]
    fn a_program_that_ignores_quit_is_terminated() {
        let script = "echo up; trap 'exit 4' TERM; while :; do sleep 0.01; done";
        let mut child = shell(script, Patience { quit: SHORT, term: LONG });
        wait_for(&child, "up");
        assert_eq!(child.stop(), Ending::Terminated);
        assert_eq!(child.status().unwrap().code(), Some(4));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let script = "trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 0.01; done";
        let mut child = shell(script, Patience { quit: SHORT, term: SHORT });
        wait_for(&child, "\n");
        assert_eq!(child.stop(), Ending::Killed);
        // Its pipe ends only when nobody of its group is left.
        let end = Instant::now() + LONG;
        while !child.console().has_ended() {
            assert!(Instant::now() < end);
            thread::sleep(TICK);
        }
    }

    #[test]
    fn a_program_that_crashes_is_noticed() {
        let mut child = shell("echo oops; kill -SEGV $$", Patience { quit: LONG, term: LONG });
        assert!(child.ends_within(LONG));
        assert_eq!(child.stop(), Ending::Alone);
        child.drain();
        assert_eq!(child.console().tail(1), ["oops"]);
        // Nobody reads any more.
        assert!(child.write_line("start").is_err());
    }

    #[test]
    fn dropping_ends_the_program() {
        let child = shell("echo up; while read -r line; do :; done; echo end", Patience::default());
        wait_for(&child, "up");
        let console = Arc::clone(&child.console);
        drop(child);
        let end = Instant::now() + LONG;
        while !console.lock().unwrap().has_ended() {
            assert!(Instant::now() < end);
            thread::sleep(TICK);
        }
        assert!(console.lock().unwrap().text().ends_with("end\n"));
    }
}
