//! What monitoring gets to know. `METRICS.md` beside the crate says what each means.

mod bounded;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use fairlead_cni::agent_protocol::Timing;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use self::bounded::Bounded;

/// So many networks have a number of attachments of their own; the others have one together.
const NETWORKS: usize = 256;
/// The network of those.
const OTHERS: &str = "others";
/// So many pairs of network and step have latencies; the one that was not seen for longest makes room.
const LATENCIES: usize = 256;
/// Longer names are cut: whoever makes a network chooses them.
const LONGEST_NAME: usize = 128;

/// Upper bounds in seconds of what the executable does.
const WORK: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// Upper bounds in seconds of what the agent does.
const ANSWERS: [f64; 11] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// What the executable was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Del => "del",
        }
    }
}

/// Why an ADD or a DEL failed, coarsely: each has its own remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The pod did not come into view.
    PodUnknown,
    /// The API server gave no answer that was needed.
    ApiServer,
    /// The pod's annotation is wrong.
    Annotation,
    /// A network does not exist, or cannot be used.
    Network,
    /// The pod lacks a device.
    Devices,
    /// Kubelet did not tell the pod's devices.
    Kubelet,
    /// Something else had to end first.
    Busy,
    /// A plugin does not take its configuration.
    Configuration,
    /// The sandbox is not there, or not what it should be.
    Sandbox,
    /// A file of the node could not be read or written.
    Node,
    /// A plugin that was executed failed in its own way.
    Plugin,
    Other,
}

impl Reason {
    /// By CNI's code.
    pub(crate) fn of_code(number: u32) -> Self {
        use fairlead_cni::protocol::error::code;
        match number {
            code::INCOMPATIBLE_VERSION
            | code::UNSUPPORTED_FIELD
            | code::DECODING
            | code::INVALID_CONFIG
            | code::INVALID_ENVIRONMENT => Self::Configuration,
            code::UNKNOWN_CONTAINER | code::INVALID_NETNS => Self::Sandbox,
            code::IO => Self::Node,
            code::TRY_AGAIN => Self::Busy,
            100..code::OTHER => Self::Plugin,
            _ => Self::Other,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::PodUnknown => "pod-unknown",
            Self::ApiServer => "api-server",
            Self::Annotation => "annotation",
            Self::Network => "network",
            Self::Devices => "devices",
            Self::Kubelet => "kubelet",
            Self::Busy => "busy",
            Self::Configuration => "configuration",
            Self::Sandbox => "sandbox",
            Self::Node => "node",
            Self::Plugin => "plugin",
            Self::Other => "other",
        }
    }
}

/// What a cache is like now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheState {
    /// Its name.
    pub(crate) name: &'static str,
    /// Whether everything has been listed once.
    pub(crate) is_synced: bool,
    pub(crate) objects: usize,
    /// Since the API server told anything.
    pub(crate) age: Duration,
}

/// Declares a set of labels.
macro_rules! labels {
    ($name:ident { $($label:ident: $type:ty),* }) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),* }
    };
}

labels!(NetworkLabels { network: String });
labels!(StepLabels { verb: &'static str, network: String, step: String });
labels!(PartLabels { verb: &'static str, part: &'static str });
labels!(FailureLabels { verb: &'static str, reason: &'static str });
labels!(OutcomeLabels { outcome: &'static str });
labels!(CacheLabels { cache: &'static str });
labels!(CallLabels { method: &'static str, result: &'static str });
labels!(MethodLabels { method: &'static str });

type Latencies<L> = Family<L, Histogram, fn() -> Histogram>;

/// The agent's metrics. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    attachments: Family<NetworkLabels, Gauge>,
    attachment_seconds: Bounded<StepLabels, Histogram>,
    call_seconds: Latencies<PartLabels>,
    failures: Family<FailureLabels, Counter>,
    resolves: Family<OutcomeLabels, Counter>,
    resolve_seconds: Histogram,
    reports: Family<OutcomeLabels, Counter>,
    reports_pending: Gauge,
    cache_synced: Family<CacheLabels, Gauge>,
    cache_objects: Family<CacheLabels, Gauge>,
    cache_age: Family<CacheLabels, Gauge>,
    cache_failures: Family<CacheLabels, Counter>,
    kubelet_calls: Family<CallLabels, Counter>,
    kubelet_seconds: Latencies<MethodLabels>,
    swept: Counter,
}

fn work() -> Histogram {
    Histogram::new(WORK)
}

fn answers() -> Histogram {
    Histogram::new(ANSWERS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            attachments: Family::default(),
            attachment_seconds: Bounded::new(LATENCIES, work),
            call_seconds: Latencies::new_with_constructor(work),
            failures: Family::default(),
            resolves: Family::default(),
            resolve_seconds: answers(),
            reports: Family::default(),
            reports_pending: Gauge::default(),
            cache_synced: Family::default(),
            cache_objects: Family::default(),
            cache_age: Family::default(),
            cache_failures: Family::default(),
            kubelet_calls: Family::default(),
            kubelet_seconds: Latencies::new_with_constructor(answers),
            swept: Counter::default(),
        };
        metrics.registry = Arc::new(metrics.register());
        metrics
    }
}

impl Metrics {
    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("fairlead_agent");
        registry.register("attachments", "Interfaces that pods of this node have", self.attachments.clone());
        registry.register_with_unit(
            "attachment",
            "Time that steps of attachments took",
            Unit::Seconds,
            self.attachment_seconds.family(),
        );
        registry.register_with_unit(
            "call",
            "Time that parts of ADD and DEL took",
            Unit::Seconds,
            self.call_seconds.clone(),
        );
        registry.register("failures", "ADDs and DELs that failed", self.failures.clone());
        registry.register("resolves", "Plans that were asked for", self.resolves.clone());
        registry.register_with_unit(
            "resolve",
            "Time that plans took",
            Unit::Seconds,
            self.resolve_seconds.clone(),
        );
        registry.register("reports", "What became of network-status annotations", self.reports.clone());
        registry.register(
            "reports_pending",
            "Network-status annotations that wait for the API server",
            self.reports_pending.clone(),
        );
        registry.register("cache_synced", "Whether all objects have been listed", self.cache_synced.clone());
        registry.register("cache_objects", "Objects that are known", self.cache_objects.clone());
        registry.register_with_unit(
            "cache_age",
            "Time since the API server told anything of these objects",
            Unit::Seconds,
            self.cache_age.clone(),
        );
        registry.register("cache_failures", "Lists and watches that failed", self.cache_failures.clone());
        registry.register("kubelet_calls", "Calls to kubelet's PodResources", self.kubelet_calls.clone());
        registry.register_with_unit(
            "kubelet_call",
            "Time that calls to kubelet's PodResources took",
            Unit::Seconds,
            self.kubelet_seconds.clone(),
        );
        registry.register("swept_sandboxes", "Dead sandboxes that were cleaned up after", self.swept.clone());
        registry
    }

    /// The interfaces that there are now, each by its network.
    pub(crate) fn attached<'a>(&self, networks: impl Iterator<Item = &'a str>) {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        networks.for_each(|network| *counts.entry(shortened(network)).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let others: i64 = counts.drain(counts.len().min(NETWORKS)..).map(|(_, count)| count).sum();
        counts.extend((others > 0).then_some((OTHERS, others)));
        self.attachments.clear();
        for (network, count) in counts {
            self.attachments.get_or_create(&NetworkLabels { network: network.to_owned() }).inc_by(count);
        }
    }

    /// How long an ADD or a DEL took, as the executable tells.
    pub(crate) fn took(&self, verb: Verb, timings: &[Timing]) {
        let verb = verb.word();
        for timing in timings {
            let seconds = Duration::from_micros(timing.us).as_secs_f64();
            if timing.network.is_empty() {
                let labels = PartLabels { verb, part: part(&timing.step) };
                self.call_seconds.get_or_create(&labels).observe(seconds);
            } else {
                let network = shortened(&timing.network).to_owned();
                let labels = StepLabels { verb, network, step: shortened(&timing.step).to_owned() };
                self.attachment_seconds.with(labels, |histogram| histogram.observe(seconds));
            }
        }
    }

    /// An ADD or a DEL failed.
    pub(crate) fn failed(&self, verb: Verb, reason: Reason) {
        let labels = FailureLabels { verb: verb.word(), reason: reason.word() };
        self.failures.get_or_create(&labels).inc();
    }

    /// A plan was asked for. `may_pass` is of a failure.
    pub(crate) fn resolved(&self, failure: Option<(Reason, bool)>, took: Duration) {
        self.resolve_seconds.observe(took.as_secs_f64());
        let outcome = match failure {
            None => "planned",
            Some((_, false)) => "refused",
            Some((_, true)) => "try-again",
        };
        self.resolves.get_or_create(&OutcomeLabels { outcome }).inc();
        if let Some((reason, _)) = failure {
            self.failed(Verb::Add, reason);
        }
    }

    /// Something became of a report: `published`, `pending`, `late` (published after all), `gone`, `refused` or `dropped`.
    pub(crate) fn reported(&self, outcome: &'static str) {
        self.reports.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// So many reports wait now.
    pub(crate) fn pending(&self, count: usize) {
        self.reports_pending.set(number(count));
    }

    /// What a cache is like now.
    pub(crate) fn cache(&self, state: CacheState) {
        let labels = CacheLabels { cache: state.name };
        self.cache_synced.get_or_create(&labels).set(state.is_synced.into());
        self.cache_objects.get_or_create(&labels).set(number(state.objects));
        let seconds = i64::try_from(state.age.as_secs()).unwrap_or(i64::MAX);
        self.cache_age.get_or_create(&labels).set(seconds);
        // There from the start, so that the first failure shows as a change.
        drop(self.cache_failures.get_or_create(&labels));
    }

    /// A list or watch of a cache failed.
    pub(crate) fn cache_failed(&self, cache: &'static str) {
        self.cache_failures.get_or_create(&CacheLabels { cache }).inc();
    }

    /// Kubelet was called: `result` is `ok`, `busy` or `failed`.
    pub(crate) fn kubelet(&self, method: &'static str, result: &'static str, took: Duration) {
        self.kubelet_calls.get_or_create(&CallLabels { method, result }).inc();
        self.kubelet_seconds.get_or_create(&MethodLabels { method }).observe(took.as_secs_f64());
    }

    /// So many dead sandboxes were cleaned up after.
    pub(crate) fn swept(&self, count: u32) {
        self.swept.inc_by(count.into());
    }

    /// All of it, in OpenMetrics' text form.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The executable may be newer, and know more parts.
fn part(step: &str) -> &'static str {
    const PARTS: [&str; 6] = ["lock", "resolve", "validate", "attach", "detach", "total"];
    PARTS.into_iter().find(|part| *part == step).unwrap_or("other")
}

fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST_NAME)]
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
