//! The agent as a whole: its caches and the calls that it answers.

use std::path::Path;

use fairlead_cni::{
    agent_protocol::{Answer, Call, Failure, PodRef, Report, Resolve},
    status::NetworkStatus,
};
use kube::Client;
use tokio::time::Instant;

use crate::{
    errors::chain,
    events::{self, Events, Writer},
    kubelet::{Kubelet, KubeletError},
    nads::Nads,
    pods::Pods,
    report,
    resolve::{self, Sources},
    server::Handler,
};

/// Answers the CNI executable's calls.
pub struct Agent {
    client: Client,
    nads: Nads,
    pods: Pods,
    kubelet: Kubelet,
    events: Events,
}

/// What an agent does besides answering; see [`Background::run`].
pub struct Background {
    events: Writer,
}

impl Agent {
    /// An agent of the node called `node`, with kubelet's files at `kubelet_root`. It can be asked at once; what it cannot
    /// know until its caches are complete is answered with a failure that may pass.
    ///
    /// # Errors
    /// When `kubelet_root` cannot be part of a socket address.
    pub fn new(
        client: Client,
        node: String,
        kubelet_root: &Path,
    ) -> Result<(Self, Background), KubeletError> {
        let (events, writer) = events::channel(client.clone(), node.clone());
        let agent = Self {
            nads: Nads::new(client.clone()),
            pods: Pods::new(client.clone(), node),
            kubelet: Kubelet::new(kubelet_root)?,
            events,
            client,
        };
        Ok((agent, Background { events: writer }))
    }

    async fn resolve(&self, call: &Resolve, deadline: Instant) -> Answer {
        let sources = Sources { nads: &self.nads, pods: &self.pods, kubelet: &self.kubelet };
        let pod = &call.pod;
        match resolve::resolve(&sources, call, deadline).await {
            Ok(plan) => {
                for one in &plan.attachments {
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

    async fn report(&self, call: &Report, deadline: Instant) -> Answer {
        let pod = self.in_api(&call.pod);
        match report::publish(&self.client, call, &pod.uid, deadline).await {
            Ok(()) => {
                tracing::info!(%pod, interfaces = call.networks.len(), "published");
                for network in call.networks.iter().filter(|network| !network.default) {
                    self.events.normal(&pod, "AddedInterface", added(network));
                }
                Answer::Published
            }
            Err(error) => {
                let (retry, message) = (error.may_pass(), chain(&error));
                tracing::warn!(%pod, retry, error = message, "not published");
                Answer::Failed(Failure { retry, message })
            }
        }
    }

    /// The pod with the UID that the API server knows it by.
    fn in_api(&self, pod: &PodRef) -> PodRef {
        PodRef { uid: self.pods.api_uid(pod), ..pod.clone() }
    }
}

impl Handler for Agent {
    async fn handle(&self, call: Call, deadline: Instant) -> Answer {
        match call {
            Call::Resolve(call) => self.resolve(&call, deadline).await,
            Call::Report(call) => self.report(&call, deadline).await,
        }
    }
}

impl Background {
    /// Keeps the caches up to date and writes events; never ends.
    pub async fn run(self, agent: &Agent) {
        tokio::join!(agent.nads.follow(), agent.pods.follow(), self.events.run());
    }
}

fn added(network: &NetworkStatus) -> String {
    let NetworkStatus { name, interface, ips, .. } = network;
    match ips.as_slice() {
        [] => format!("Add {interface} from {name}"),
        ips => format!("Add {interface} [{}] from {name}", ips.join(" ")),
    }
}

#[cfg(test)]
mod tests;
