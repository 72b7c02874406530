//! One `List` for all who need one at the same time: kubelet limits the rate of calls, and many pods start at once.

use std::{sync::Arc, time::Duration};

use fairlead_cni::networks::devices::ContainerDevices;
use fairlead_kubelet_api::pod_resources::PodResources;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};
use tonic::Status;

/// So many calls may follow one another at once, and then one in this time: half of kubelet's limit (100 in a second, 10 at
/// once), which other readers use up too.
const AT_ONCE: u32 = 5;
const PACE: Duration = Duration::from_millis(20);

/// What kubelet lists of one pod, without what is not needed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) containers: Vec<ContainerDevices>,
}

impl From<PodResources> for Listed {
    fn from(pod: PodResources) -> Self {
        let containers = pod.containers.into_iter().map(|container| ContainerDevices {
            container: container.name,
            rows: container.devices.into_iter().map(|row| (row.resource_name, row.device_ids)).collect(),
        });
        Self { namespace: pod.namespace, name: pod.name, containers: containers.collect() }
    }
}

/// What kubelet answered, or why it did not.
type Answer = Result<Arc<[Listed]>, Status>;

/// An answer is shared by those only who were waiting before it was asked for: kubelet has allocated a pod's devices before anybody
/// asks for them, so an answer that was asked for later has them, and one from before may not.
#[derive(Default)]
pub(super) struct Listing(Mutex<State>);

#[derive(Default)]
struct State {
    /// When the last answer was asked for, and what it is.
    last: Option<(Instant, Answer)>,
    /// When all calls until now would have had their time.
    spent: Option<Instant>,
}

impl Listing {
    /// What kubelet says now. `call` asks it, at most once; the lists of all who wait are one.
    pub(super) async fn get(&self, call: impl AsyncFnOnce() -> Result<Vec<PodResources>, Status>) -> Answer {
        let arrived = Instant::now();
        // Whoever is given up while it asks leaves the next one to ask.
        let mut state = self.0.lock().await;
        if let Some((_, answer)) = state.last.as_ref().filter(|(asked, _)| *asked > arrived) {
            return answer.clone();
        }
        if let Some(free) = state.spent.and_then(|spent| spent.checked_sub(AT_ONCE * PACE)) {
            sleep_until(free).await;
        }
        let asked = Instant::now();
        state.spent = Some(state.spent.map_or(asked, |spent| spent.max(asked)) + PACE);
        let answer = call().await.map(|pods| pods.into_iter().map(Listed::from).collect());
        state.last = Some((asked, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Notify;

    use super::*;

    fn pods(name: &str) -> Vec<PodResources> {
        vec![PodResources { name: name.into(), ..PodResources::default() }]
    }

    #[track_caller]
    fn name(answer: Answer) -> String {
        answer.unwrap()[0].name.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_asked_for_before_is_not_taken_and_a_later_one_is_shared() {
        let (listing, going_on, calls) = (Listing::default(), Notify::new(), Cell::new(0));
        let early = listing.get(async || {
            calls.set(calls.get() + 1);
            going_on.notified().await;
            Ok(pods("before"))
        });
        let late = || async {
            // Only when the first is on its way.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let call = async || {
                calls.set(calls.get() + 1);
                Ok(pods("after"))
            };
            name(listing.get(call).await)
        };
        let release = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            going_on.notify_one();
        };
        let (early, a, b, c, ()) = tokio::join!(early, late(), late(), late(), release);
        assert_eq!((name(early).as_str(), [a, b, c]), ("before", ["after"; 3].map(str::to_owned)));
        assert_eq!(calls.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_given_up_leaves_the_next_to_ask_and_calls_keep_their_distance() {
        let listing = Listing::default();
        let hanging = listing.get(async || std::future::pending().await);
        assert!(tokio::time::timeout(Duration::from_secs(1), hanging).await.is_err());
        let start = Instant::now();
        for count in 0..AT_ONCE + 3 {
            let answer = listing
                .get(async || if count == 0 { Err(Status::unavailable("away")) } else { Ok(pods("a")) });
            assert_eq!(answer.await.is_ok(), count > 0, "a failure is not kept either");
        }
        assert_eq!(start.elapsed(), 2 * PACE, "more than the first few at once");
    }
}
