//! Calls to the agent.

use std::{
    io,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    agent_protocol::{Answer, Call, Request, Response, VERSION, read_frame, write_frame},
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

fn exchange(socket: &Path, request: &Request, limit: Duration) -> io::Result<Response> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write_frame(&mut stream, request)?;
    read_frame(&mut stream)
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
    use std::{os::unix::net::UnixListener, thread};

    use super::*;
    use crate::agent_protocol::{Failure, Plan, PodRef, Policy, Resolve};

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
