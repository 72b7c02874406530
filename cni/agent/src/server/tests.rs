use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use fairlead_cni::agent_protocol::{MAX_FRAME, Plan, PlannedAttachment, PodRef, Resolve};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};

use super::*;

/// Answers by the name of the pod.
#[derive(Default)]
struct Fake {
    seen: Mutex<Vec<Call>>,
    release: Notify,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Handler for Fake {
    async fn handle(&self, call: Call, deadline: Instant) -> Answer {
        self.seen.lock().unwrap().push(call.clone());
        let Call::Resolve(Resolve { pod, .. }) = call else { return Answer::Published };
        match pod.name.as_str() {
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            "slow" => {
                let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(running, Ordering::SeqCst);
                self.release.notified().await;
                self.running.fetch_sub(1, Ordering::SeqCst);
            }
            "late" => tokio::time::sleep_until(deadline).await,
            "huge" => {
                let config = "x".repeat(MAX_FRAME);
                let attachment = PlannedAttachment { config, ..PlannedAttachment::default() };
                return Answer::Plan(Plan { primary: None, attachments: vec![attachment] });
            }
            _ => {}
        }
        Answer::Plan(Plan::default())
    }
}

struct Running {
    fake: Arc<Fake>,
    path: PathBuf,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
    _folder: TempDir,
}

fn limits() -> Limits {
    let own = UnixStream::pair().unwrap().0.peer_cred().unwrap().uid();
    Limits { uid: own, ..Limits::default() }
}

fn start(limits: Limits) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let fake = Arc::new(Fake::default());
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve(listener, fake.clone(), limits, async {
        let _ = stopped.await;
    }));
    Running { fake, path, stop, server, _folder: folder }
}

impl Running {
    async fn send(&self, bytes: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn ask(&self, document: &Value) -> Answer {
        receive(self.send(&frame(document)).await).await
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn receive(mut stream: UnixStream) -> Answer {
    let length = stream.read_u32().await.unwrap();
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.unwrap();
    let response: Response = serde_json::from_slice(&body).unwrap();
    assert_eq!(response.version, VERSION);
    response.answer
}

fn frame(document: &Value) -> Vec<u8> {
    let body = document.to_string().into_bytes();
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body.as_slice()].concat()
}

fn resolve(name: &str, deadline_ms: u64) -> Value {
    let pod = json!({"namespace": "default", "name": name});
    json!({"version": 1, "call": "resolve", "pod": pod, "containerId": "c", "deadlineMs": deadline_ms})
}

#[track_caller]
fn failure(answer: Answer) -> (bool, String) {
    match answer {
        Answer::Failed(failure) => (failure.retry, failure.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_call_is_answered() {
    let running = start(limits());
    assert_eq!(running.ask(&resolve("a", 30_000)).await, Answer::Plan(Plan::default()));
    let report = json!({"version": 1, "call": "report", "pod": {"namespace": "a", "name": "b"}, "networks": [],
        "containerId": "c", "deadlineMs": 30_000, "new": true});
    assert_eq!(running.ask(&report).await, Answer::Published);
    let seen = running.fake.seen.lock().unwrap();
    let expected = PodRef { namespace: "default".into(), name: "a".into(), uid: String::new() };
    assert!(matches!(&seen[0], Call::Resolve(call) if call.pod == expected && call.annotations.is_none()));
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_the_server_goes_on() {
    let running = start(limits());
    let mut oversize = u32::MAX.to_be_bytes().to_vec();
    oversize.push(0);
    for (bytes, part) in [
        (oversize, "at most"),
        (frame(&json!([])), "cannot be read"),
        (frame(&json!({"version": 1, "call": "dance"})), "dance"),
    ] {
        let (retry, message) = failure(receive(running.send(&bytes).await).await);
        assert!(!retry && message.contains(part), "{message}");
    }
    // The other half of an upgrade is about to come.
    for version in [0, 7] {
        let (retry, message) = failure(running.ask(&json!({"version": version, "something": "new"})).await);
        assert!(retry && message.contains(&format!("version {version}")), "{message}");
    }
    drop(running.send(&[0, 0]).await);
    assert_eq!(running.ask(&resolve("a", 30_000)).await, Answer::Plan(Plan::default()));
    assert_eq!(running.fake.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_slow_peer_is_given_up() {
    let running = start(Limits { frame: Duration::from_millis(100), ..limits() });
    let mut bytes = frame(&resolve("a", 30_000));
    bytes.pop();
    let (_, message) = failure(receive(running.send(&bytes).await).await);
    assert!(message.contains("no complete request"), "{message}");
}

#[tokio::test]
async fn another_user_is_refused() {
    let running = start(Limits { uid: limits().uid + 1, ..limits() });
    let mut stream = running.send(&frame(&resolve("a", 30_000))).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() && running.fake.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_panic_is_a_failure_of_one_call() {
    let running = start(limits());
    assert!(failure(running.ask(&resolve("panic", 30_000)).await).0);
    assert_eq!(running.ask(&resolve("a", 30_000)).await, Answer::Plan(Plan::default()));
}

#[tokio::test]
async fn every_call_has_an_answer_by_its_deadline() {
    let running = start(limits());
    let (retry, message) = failure(running.ask(&resolve("hang", 200)).await);
    assert!(retry && message.contains("in time"), "{message}");
    assert_eq!(running.ask(&resolve("late", 200)).await, Answer::Plan(Plan::default()));
}

#[tokio::test]
async fn an_answer_that_fits_no_frame_is_a_failure() {
    let running = start(limits());
    assert!(failure(running.ask(&resolve("huge", 30_000)).await).1.contains("too long"));
}

#[tokio::test]
async fn no_more_calls_than_allowed_run_at_a_time() {
    let running = start(Limits { calls: 2, ..limits() });
    let running_calls = || running.fake.running.load(Ordering::SeqCst);
    let releasing = async {
        until(|| running_calls() == 2).await;
        sleep(Duration::from_millis(20)).await;
        running.fake.release.notify_one();
        until(|| running.fake.seen.lock().unwrap().len() == 3).await;
        running.fake.release.notify_one();
        running.fake.release.notify_one();
        until(|| running_calls() < 2).await;
        running.fake.release.notify_one();
    };
    let slow = resolve("slow", 30_000);
    let (a, b, c, ()) = tokio::join!(running.ask(&slow), running.ask(&slow), running.ask(&slow), releasing);
    assert_eq!([a, b, c], [const { Answer::Plan(Plan { primary: None, attachments: Vec::new() }) }; 3]);
    assert_eq!(running.fake.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn calls_in_flight_are_finished_at_the_end() {
    let running = start(limits());
    let stream = running.send(&frame(&resolve("slow", 30_000))).await;
    until(|| running.fake.running.load(Ordering::SeqCst) == 1).await;
    running.stop.send(()).unwrap();
    sleep(Duration::from_millis(20)).await;
    assert!(UnixStream::connect(&running.path).await.is_err());
    assert!(!running.server.is_finished());
    running.fake.release.notify_one();
    assert_eq!(receive(stream).await, Answer::Plan(Plan::default()));
    running.server.await.unwrap();
}
