//! What monitoring gets to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_resource_config::config::ResourceName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::health::{self, Reason};
use crate::pool::Listing;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabels {
    resource: String,
    health: &'static str,
    /// Empty for healthy ones.
    reason: &'static str,
    in_use: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    resource: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistrationLabels {
    resource: String,
    way: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: String,
}

type Latencies = Family<ResourceLabels, Histogram, fn() -> Histogram>;

/// The plugin's metrics. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    devices: Family<DeviceLabels, Gauge>,
    allocations: Family<ResultLabels, Counter>,
    allocation_seconds: Latencies,
    registrations: Family<RegistrationLabels, Counter>,
    config_generation: Gauge,
    config_reload_failed: Gauge,
}

/// From 50 microseconds to about 0.8 seconds.
fn latencies() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(50e-6, 4.0, 8))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("fairlead_device_plugin");
        let mut metrics = Self {
            registry: Arc::default(),
            devices: Family::default(),
            allocations: Family::default(),
            allocation_seconds: Latencies::new_with_constructor(latencies),
            registrations: Family::default(),
            config_generation: Gauge::default(),
            config_reload_failed: Gauge::default(),
        };
        registry.register("devices", "Devices that the pools list", metrics.devices.clone());
        registry.register("allocations", "Allocations for containers", metrics.allocations.clone());
        registry.register_with_unit(
            "allocation",
            "Time that allocations took",
            Unit::Seconds,
            metrics.allocation_seconds.clone(),
        );
        registry.register("registrations", "Registrations with kubelet", metrics.registrations.clone());
        registry.register(
            "config_generation",
            "How often a configuration was taken over",
            metrics.config_generation.clone(),
        );
        registry.register(
            "config_reload_failed",
            "Whether the configuration file has changed to one that cannot be used",
            metrics.config_reload_failed.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }
}

fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "refused" }
}

impl Metrics {
    /// What the pools list now.
    pub(crate) fn pools(&self, pools: &BTreeMap<String, Listing>) {
        let mut counts: BTreeMap<(&String, &'static str, &'static str, bool), i64> = BTreeMap::new();
        for (resource, listing) in pools {
            // A pool without devices has a number too.
            counts.insert((resource, health::word(None), "", false), 0);
            for member in listing.members.iter() {
                let reason = member.problem.as_ref().map(Reason::word).unwrap_or_default();
                let health = health::word(member.problem.as_ref());
                *counts.entry((resource, health, reason, member.in_use)).or_default() += 1;
            }
        }
        self.devices.clear();
        for ((resource, health, reason, in_use), count) in counts {
            let (resource, in_use) = (resource.clone(), if in_use { "true" } else { "false" });
            self.devices.get_or_create(&DeviceLabels { resource, health, reason, in_use }).set(count);
        }
    }

    pub(crate) fn allocation(&self, resource: &ResourceName, ok: bool, took: Duration) {
        let resource = resource.to_string();
        self.allocation_seconds
            .get_or_create(&ResourceLabels { resource: resource.clone() })
            .observe(took.as_secs_f64());
        self.allocations.get_or_create(&ResultLabels { resource, result: result(ok) }).inc();
    }

    pub(crate) fn registration(&self, resource: &ResourceName, way: &'static str, ok: bool) {
        let labels = RegistrationLabels { resource: resource.to_string(), way, result: result(ok) };
        self.registrations.get_or_create(&labels).inc();
    }

    /// A configuration has been taken over.
    pub(crate) fn config_taken(&self) {
        self.config_generation.inc();
        self.config_reload_failed.set(0);
    }

    /// A configuration could not be taken over.
    pub(crate) fn config_failed(&self) {
        self.config_reload_failed.set(1);
    }

    /// All of it, in OpenMetrics' text form.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
