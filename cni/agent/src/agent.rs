//! The agent as a whole: its caches and the calls that it answers.

use std::{collections::HashMap, fmt, path::Path, time::Duration};

use fairlead_cni::{
    agent_protocol::{Answer, Call, Failure, Happening, Late, Notify, PENDING, PodRef, Report, Resolve},
    status::NetworkStatus,
};
use kube::Client;
use tokio::time::Instant;

use crate::{
    errors::chain,
    events::{self, Events, Writer},
    http::Observed,
    kubelet::{Kubelet, KubeletError},
    metrics::{Metrics, Reason, Verb},
    nads::Nads,
    pending::Pending,
    pods::Pods,
    report,
    resolve::{self, Sources},
    rights,
    server::Handler,
};

/// How long a pod waits at most for its status to be taken by the API server: it then starts, and the status follows.
const IN_PLACE: Duration = Duration::from_secs(5);

/// Answers the CNI executable's calls.
pub struct Agent {
    client: Client,
    nads: Nads,
    pods: Pods,
    kubelet: Kubelet,
    events: Events,
    pending: Pending,
    metrics: Metrics,
}

/// What an agent does besides answering; see [`Background::run`].
pub struct Background {
    events: Writer,
}

impl Agent {
    /// An agent of the node called `node`, with kubelet's files at `kubelet_root` and its own in `own`. It can be asked at once; what it cannot
    /// know until its caches are complete is answered with a failure that may pass.
    ///
    /// # Errors
    /// When `kubelet_root` cannot be part of a socket address.
    pub fn new(
        client: Client,
        node: String,
        kubelet_root: &Path,
        own: &Path,
    ) -> Result<(Self, Background), KubeletError> {
        let (events, writer) = events::channel(client.clone(), node.clone());
        let metrics = Metrics::default();
        let agent = Self {
            nads: Nads::new(client.clone(), metrics.clone()),
            pods: Pods::new(client.clone(), node, metrics.clone()),
            kubelet: Kubelet::new(kubelet_root, metrics.clone())?,
            events,
            pending: Pending::new(own.join(PENDING), metrics.clone()),
            client,
            metrics,
        };
        Ok((agent, Background { events: writer }))
    }

    /// Waits until everything has been received that it takes to answer every call, or until this time.
    pub async fn complete(&self, until: Instant) {
        self.nads.synced(until).await;
        self.pods.synced(until).await;
    }

    async fn resolve(&self, call: &Resolve, deadline: Instant) -> Answer {
        let sources = Sources { nads: &self.nads, pods: &self.pods, kubelet: &self.kubelet };
        let pod = &call.pod;
        let start = Instant::now();
        let resolved = resolve::resolve(&sources, call, deadline).await;
        let failure = resolved.as_ref().err().map(|error| (error.reason(), error.may_pass()));
        self.metrics.resolved(failure, start.elapsed());
        match resolved {
            Ok(plan) => {
                for one in plan.primary.as_deref().into_iter().chain(&plan.attachments) {
                    let device = one.device_id.as_deref();
                    tracing::info!(%pod, network = one.network, interface = one.interface, device, "planned");
                }
                Answer::Plan(plan)
            }
            Err(error) => {
                let (retry, message) = (error.may_pass(), chain(&error));
                tracing::warn!(%pod, retry, error = message, "no plan");
                self.events.warning(&self.in_api(pod), "NetworkPlanFailed", message.clone());
                Answer::Failed(Failure { retry, message })
            }
        }
    }

    async fn report(&self, call: Report, deadline: Instant) -> Answer {
        let pod = self.in_api(&call.pod);
        self.metrics.took(Verb::Add, &call.timings);
        for warning in &call.warnings {
            self.events.warning(&pod, "CapabilityNotTaken", warning.clone());
        }
        // This one is newer.
        self.pending.forget(&pod);
        let in_place = deadline.min(Instant::now() + IN_PLACE);
        match report::publish(&self.client, &call, &pod.uid, in_place).await {
            Ok(()) => {
                tracing::info!(%pod, interfaces = call.networks.len(), "published");
                self.metrics.reported("published");
                self.tell_added(&pod, &call.networks);
                Answer::Published
            }
            Err(error) => {
                let (retry, message) = (error.may_pass(), chain(&error));
                tracing::warn!(%pod, retry, error = message, "not published");
                self.metrics.reported(error.outcome());
                if retry {
                    self.pending.add(call, pod.uid);
                }
                Answer::Failed(Failure { retry, message })
            }
        }
    }

    fn tell_added(&self, pod: &PodRef, networks: &[NetworkStatus]) {
        // That a pod has the node's own primary network is no news.
        let is_news = |network: &&NetworkStatus| !network.default || network.name.contains('/');
        for network in networks.iter().filter(is_news) {
            self.events.normal(pod, "AddedInterface", added(network));
        }
    }

    async fn definitions(&self, networks: &[String], deadline: Instant) -> Answer {
        let split = networks.iter().filter_map(|network| network.split_once('/'));
        match self.nads.all_of(split.map(|(namespace, name)| (namespace, name, false)), deadline).await {
            Ok(found) => Answer::Definitions { found },
            Err(error) => Answer::Failed(Failure { retry: true, message: chain(&error) }),
        }
    }

    fn notify(&self, call: Notify) -> Answer {
        let pod = self.in_api(&call.pod);
        tracing::info!(%pod, what = ?call.what, message = call.message, "told");
        // Whatever was to be published is not so any more.
        self.pending.forget_sandbox(&pod, &call.container_id);
        count(&self.metrics, &call);
        match call.what {
            Happening::AddFailed => self.events.warning(&pod, "FailedAddingInterface", call.message),
            Happening::Removed => self.events.normal(&pod, "RemovedInterface", call.message),
            Happening::RemoveFailed => self.events.warning(&pod, "FailedRemovingInterface", call.message),
            Happening::Swept => {}
        }
        Answer::Taken
    }

    /// The pod with the UID that the API server knows it by.
    fn in_api(&self, pod: &PodRef) -> PodRef {
        PodRef { uid: self.pods.api_uid(pod), ..pod.clone() }
    }
}

/// What a call of the executable tells metrics.
pub(crate) fn count(metrics: &Metrics, call: &Notify) {
    metrics.took(Verb::Del, &call.timings);
    metrics.swept(call.swept);
    match call.what {
        Happening::AddFailed => metrics.failed(Verb::Add, Reason::of_code(call.code)),
        Happening::RemoveFailed => metrics.failed(Verb::Del, Reason::of_code(call.code)),
        Happening::Removed | Happening::Swept => {}
    }
}

impl Observed for Agent {
    fn missing(&self) -> Vec<String> {
        [self.nads.missing(), self.pods.missing()].into_iter().flatten().collect()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.cache(self.nads.state());
        self.metrics.cache(self.pods.state());
        let pending = self.pending.all();
        self.metrics.pending(pending.len());
        // What waits to be published is attached all the same.
        let late: HashMap<(&str, &str), &Late> = pending
            .iter()
            .map(|late| ((late.report.pod.namespace.as_str(), late.report.pod.name.as_str()), late))
            .collect();
        let pods = self.pods.all();
        let published = pods.iter().filter(|((namespace, name), _)| !late.contains_key(&(namespace, name)));
        let published = published.flat_map(|(_, pod)| pod.attached.iter().map(String::as_str));
        let waiting = pending.iter().flat_map(|late| late.report.networks.iter());
        self.metrics.attached(published.chain(waiting.map(|network| network.name.as_str())));
        self.metrics.text()
    }
}

impl Handler for Agent {
    async fn handle(&self, call: Call, deadline: Instant) -> Answer {
        match call {
            Call::Resolve(call) => self.resolve(&call, deadline).await,
            Call::Report(call) => self.report(call, deadline).await,
            Call::Notify(call) => self.notify(call),
            Call::Health { .. } => {
                Answer::Health(rights::health(&self.client, self.missing(), deadline).await)
            }
            Call::Definitions { networks, .. } => self.definitions(&networks, deadline).await,
        }
    }
}

impl Background {
    /// Keeps the caches up to date and writes events; never ends.
    pub async fn run(self, agent: &Agent) {
        let uid_of = |pod: &PodRef| agent.pods.api_uid(pod);
        let published = |late: &Late| {
            agent.tell_added(&agent.in_api(&late.report.pod), &late.report.networks);
        };
        let pending = Box::pin(async {
            // Before, the agent does not know what the API server knows pods by.
            while !agent.pods.synced(Instant::now() + Duration::from_secs(3600)).await {}
            agent.pending.run(&agent.client, uid_of, published).await;
        });
        tokio::join!(agent.nads.follow(), agent.pods.follow(), pending, self.events.run());
    }
}

fn added(network: &NetworkStatus) -> String {
    let NetworkStatus { name, interface, ips, .. } = network;
    match ips.as_slice() {
        [] => format!("Add {interface} from {name}"),
        ips => format!("Add {interface} [{}] from {name}", ips.join(" ")),
    }
}

mod shadow;
#[cfg(test)]
mod tests;
