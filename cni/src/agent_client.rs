//! Calls to the agent.

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{fs::DirBuilderExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use crate::{
    agent_protocol::{
        Answer, Call, Late, PENDING, Report, Request, Response, VERSION, read_frame, write_frame,
    },
    protocol::error::{CniError, code},
};

/// Pause between two tries to reach an agent that is being restarted.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes one call; its deadline is filled in. An agent that is not there yet, or goes away in the middle, is tried again until the deadline.
///
/// # Errors
/// Code 11 when the agent could not be reached in time or says that trying again may help; 999 when it says that it cannot.
pub fn call(socket: &Path, call: &Call, limit: Duration) -> Result<Answer, CniError> {
    let start = Instant::now();
    let mut request = Request { version: VERSION, call: call.clone() };
    let answer = loop {
        let left = limit.saturating_sub(start.elapsed()).max(PAUSE);
        // The agent must not answer after we have gone.
        request.call.set_deadline(left);
        match exchange(socket, &request, left) {
            Ok(response) => break response.answer,
            Err(error) if error.kind() == io::ErrorKind::InvalidData || start.elapsed() + PAUSE >= limit => {
                return Err(unreachable(socket, &error, limit));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    match answer {
        Answer::Failed(failure) => {
            let code = if failure.retry { code::TRY_AGAIN } else { code::OTHER };
            Err(CniError::new(code, failure.message))
        }
        other => Ok(other),
    }
}

/// Tells the agent something that nobody waits for: once, and whatever comes of it.
pub fn tell(socket: &Path, mut call: Call, limit: Duration) {
    call.set_deadline(limit);
    let _ = exchange(socket, &Request { version: VERSION, call }, limit);
}

/// Leaves a report to the next agent, beside the socket that this one should be at. An agent that has it already keeps its own.
///
/// # Errors
/// When the file cannot be written; there is none where no agent has ever been.
pub fn leave(socket: &Path, report: Report) -> io::Result<()> {
    let file = left(socket, &report.container_id);
    if file.exists() {
        return Ok(());
    }
    let text = serde_json::to_vec(&Late { report, uid: String::new() })?;
    let folder = file.parent().unwrap_or(socket);
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let temporary = file.with_extension("new");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, file)
}

/// What was left of a sandbox is void. The agent forgets by itself what it is told of.
pub fn forget_left(socket: &Path, container_id: &str) {
    let _ = fs::remove_file(left(socket, container_id));
}

fn left(socket: &Path, container_id: &str) -> PathBuf {
    socket.with_file_name(PENDING).join(format!("{container_id}.json"))
}

fn exchange(socket: &Path, request: &Request, limit: Duration) -> io::Result<Response> {
    let mut stream = connect(socket, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write_frame(&mut stream, request)?;
    read_frame(&mut stream)
}

/// Connects, within the limit: an agent that is stopped with its queue full would have its callers wait for ever. The kernel ends
/// that wait as it ends a write (net/unix/af_unix.c, `unix_stream_connect`).
fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let stream = UnixStream::from(socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?);
    stream.set_write_timeout(Some(limit))?;
    socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

fn unreachable(socket: &Path, error: &io::Error, limit: Duration) -> CniError {
    let text = format!(
        "fairlead-agent on this node does not answer at {} within {} s: {error}; the runtime will try again",
        socket.display(),
        limit.as_secs()
    );
    CniError::new(code::TRY_AGAIN, text)
        .details("see that the fairlead-agent pod of this node runs, and its log")
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixListener, thread};

    use super::*;
    use crate::agent_protocol::{Failure, Plan, PlannedAttachment, PodRef, Policy, Resolve};

    fn resolve() -> Call {
        Call::Resolve(Resolve {
            pod: PodRef::default(),
            container_id: "c".into(),
            annotations: None,
            interface: "eth0".into(),
            policy: Policy::default(),
            deadline_ms: 100,
        })
    }

    /// An agent that answers `answers` to one call each; `None` hangs up.
    fn agent(listener: UnixListener, answers: Vec<Option<Answer>>) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _: Request = read_frame(&mut stream).unwrap();
                if let Some(answer) = answer {
                    write_frame(&mut stream, &Response { version: VERSION, answer }).unwrap();
                }
            }
        })
    }

    #[test]
    fn an_agent_that_is_stopped_with_its_queue_full_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener =
            socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        socket::bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&listener, socket::Backlog::new(0).unwrap()).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        let error = call(&path, &resolve(), Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN, "{error}");
        tell(&path, resolve(), Duration::from_millis(200));
    }

    #[test]
    fn an_agent_that_goes_away_in_the_middle_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let served =
            agent(UnixListener::bind(&socket).unwrap(), vec![None, Some(Answer::Plan(Plan::default()))]);
        assert_eq!(
            call(&socket, &resolve(), Duration::from_secs(10)).unwrap(),
            Answer::Plan(Plan::default())
        );
        served.join().unwrap();
    }

    #[test]
    fn an_agent_that_is_killed_at_any_byte_is_asked_again_and_no_half_answer_is_taken() {
        let mut answer = Vec::new();
        let plan = Plan { primary: None, attachments: vec![PlannedAttachment::default()] };
        let whole = Response { version: VERSION, answer: Answer::Plan(plan.clone()) };
        write_frame(&mut answer, &whole).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let ends = [
            None,
            Some(0),
            Some(1),
            Some(3),
            Some(4),
            Some(5),
            Some(answer.len() / 2),
            Some(answer.len() - 1),
        ];
        let killed = thread::spawn(move || {
            for end in ends {
                let (mut stream, _) = listener.accept().unwrap();
                // Before it has read the call, or after so many bytes of the answer.
                let Some(end) = end else { continue };
                let _: Request = read_frame(&mut stream).unwrap();
                stream.write_all(&answer[..end]).unwrap();
            }
            // Its socket is left, and nobody listens.
            drop(listener);
            thread::sleep(2 * PAUSE);
            let socket = dir.path().join("agent.sock");
            fs::remove_file(&socket).unwrap();
            thread::sleep(2 * PAUSE);
            let (mut stream, _) = UnixListener::bind(&socket).unwrap().accept().unwrap();
            let request: Request = read_frame(&mut stream).unwrap();
            stream.write_all(&answer).unwrap();
            (request.call.deadline_ms(), dir)
        });
        let limit = Duration::from_secs(20);
        assert_eq!(call(&socket, &resolve(), limit).unwrap(), Answer::Plan(plan));
        let (left, _dir) = killed.join().unwrap();
        let gone = PAUSE * u32::try_from(ends.len()).unwrap();
        assert!(
            Duration::from_millis(left) <= limit - gone,
            "the agent was told to take longer than we wait"
        );
    }

    #[test]
    fn a_missing_agent_means_try_again_and_names_the_socket() {
        let error =
            call(Path::new("/nonexistent/agent.sock"), &resolve(), Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        assert!(error.msg.contains("/nonexistent/agent.sock"), "{error}");
    }

    #[test]
    fn a_failure_keeps_whether_trying_again_helps() {
        for (retry, wanted) in [(true, code::TRY_AGAIN), (false, code::OTHER)] {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("agent.sock");
            let failure = Answer::Failed(Failure { retry, message: "why".into() });
            let served = agent(UnixListener::bind(&socket).unwrap(), vec![Some(failure)]);
            let error = call(&socket, &resolve(), Duration::from_secs(10)).unwrap_err();
            assert_eq!((error.code, error.msg.as_str()), (wanted, "why"));
            served.join().unwrap();
        }
    }
}
