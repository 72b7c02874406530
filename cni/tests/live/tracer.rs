//! Runs the executable under ptrace and, at a chosen one of the system calls by which it changes anything or waits for anybody,
//! kills it or makes that call fail. No hook in the executable is needed for that.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    process::{Child, Command, Stdio},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// What is done to the executable. Calls are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interference {
    /// SIGKILL when it is about to make the call of that number.
    Kill(usize),
    /// The call of that number is not made, and fails.
    Fail(usize, Errno),
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Names of the calls that were counted, in their order.
    pub(crate) calls: Vec<&'static str>,
    /// Whether it ended by itself, and said that all is well.
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// For a test's message.
    pub(crate) fn last_call(&self) -> &'static str {
        self.calls.last().copied().unwrap_or("none")
    }
}

/// Runs it to its end. Its input is handed over when it is traced already: it does nothing before it has read that.
pub(crate) fn run(command: &mut Command, input: &[u8], interference: Interference) -> Outcome {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    // Threads are followed, executed plugins are not: they outlive whoever started them.
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    ptrace::interrupt(pid).unwrap();
    let stopped = waitpid(pid, None).unwrap();
    assert!(matches!(stopped, WaitStatus::PtraceEvent(..)), "{stopped:?}");
    ptrace::syscall(pid, None).unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let mut tracer = Tracer { pid, interference, calls: Vec::new(), inside: BTreeMap::new() };
    let success = tracer.follow();
    let (stdout, stderr) = read(&mut child);
    Outcome { calls: tracer.calls, success, stdout, stderr }
}

fn read(child: &mut Child) -> (String, String) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (stdout, stderr)
}

struct Tracer {
    pid: Pid,
    interference: Interference,
    calls: Vec<&'static str>,
    /// Threads inside a call, and the error that it is to end with.
    inside: BTreeMap<Pid, Option<Errno>>,
}

impl Tracer {
    /// Until the process has ended; whether it ended well.
    fn follow(&mut self) -> bool {
        // Nobody else's children: tests run in parallel, in one process.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(Pid::from_raw(-1), Some(flags)).unwrap() {
                WaitStatus::Exited(pid, code) if pid == self.pid => return code == 0,
                WaitStatus::Signaled(pid, ..) if pid == self.pid => return false,
                WaitStatus::PtraceSyscall(pid) => self.at_call(pid),
                // A thread was started, or starts.
                WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None),
                WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
                _ => {}
            }
        }
    }

    fn at_call(&mut self, pid: Pid) {
        match self.inside.remove(&pid) {
            Some(error) => {
                if let Some(error) = error {
                    set_register(pid, |registers| registers.rax = (-(error as i64)).cast_unsigned());
                }
                go_on(pid, None);
            }
            None => self.before_call(pid),
        }
    }

    fn before_call(&mut self, pid: Pid) {
        let Ok(registers) = ptrace::getregs(pid) else { return };
        let mut error = None;
        if let Some(name) = counted(&registers) {
            self.calls.push(name);
            match self.interference {
                Interference::Kill(number) if number == self.calls.len() => {
                    kill(self.pid, Signal::SIGKILL).unwrap();
                    return;
                }
                Interference::Fail(number, errno) if number == self.calls.len() => {
                    // No such call: the kernel skips it.
                    set_register(pid, |registers| registers.orig_rax = u64::MAX);
                    error = Some(errno);
                }
                _ => {}
            }
        }
        self.inside.insert(pid, error);
        go_on(pid, None);
    }
}

/// A thread may be killed at any time by the end of its process.
fn go_on(pid: Pid, signal: Option<Signal>) {
    let done = ptrace::syscall(pid, signal);
    assert!(matches!(done, Ok(()) | Err(Errno::ESRCH)), "ptrace: {done:?}");
}

fn set_register(pid: Pid, change: impl FnOnce(&mut libc::user_regs_struct)) {
    let mut registers = ptrace::getregs(pid).unwrap();
    change(&mut registers);
    ptrace::setregs(pid, registers).unwrap();
}

/// The name of a call that changes something outside of the process, or that waits for another process.
fn counted(registers: &libc::user_regs_struct) -> Option<&'static str> {
    let number = i64::try_from(registers.orig_rax).ok()?;
    let name = match number {
        libc::SYS_openat if registers.rdx & WRITING != 0 => "openat",
        libc::SYS_write => "write",
        libc::SYS_sendto => "sendto",
        libc::SYS_sendmsg => "sendmsg",
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => "rename",
        libc::SYS_unlink | libc::SYS_unlinkat => "unlink",
        libc::SYS_symlink | libc::SYS_symlinkat => "symlink",
        libc::SYS_mkdir | libc::SYS_mkdirat => "mkdir",
        libc::SYS_ftruncate => "ftruncate",
        libc::SYS_flock => "flock",
        libc::SYS_fsync | libc::SYS_fdatasync => "fsync",
        libc::SYS_utimensat => "utimensat",
        libc::SYS_setns => "setns",
        libc::SYS_clone | libc::SYS_clone3 | libc::SYS_vfork => "clone",
        libc::SYS_wait4 | libc::SYS_waitid => "wait",
        libc::SYS_exit_group => "exit",
        _ => return None,
    };
    Some(name)
}

const WRITING: u64 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64;
