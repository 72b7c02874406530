//! The kubelet's gRPC interfaces, clients and servers: the device plugin API, registration through the plugin watcher,
//! and PodResources; and kubelet's own file of what it has given to containers.
//!
//! The code under `generated` is made from `protos/` by `cargo run -p xtask -- gen-proto` and checked in, so that a product
//! build needs no code generator; `hack/test quick` fails when the two differ.

pub mod checkpoint;

/// Device plugin API, `v1beta1`.
#[allow(missing_docs, unreachable_pub, clippy::all, unused_qualifications)]
pub mod device_plugin {
    include!("generated/v1beta1.rs");

    /// The API version that a plugin registers with.
    pub const VERSION: &str = "v1beta1";
    /// Health of a device that may be allocated.
    pub const HEALTHY: &str = "Healthy";
    /// Health of a device that must not be allocated now.
    pub const UNHEALTHY: &str = "Unhealthy";
}

/// Registration through kubelet's plugin watcher, `v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, unused_qualifications)]
pub mod plugin_registration {
    include!("generated/pluginregistration.rs");

    /// The plugin type of a device plugin.
    pub const DEVICE_PLUGIN: &str = "DevicePlugin";
}

/// PodResources API, `v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, unused_qualifications)]
pub mod pod_resources {
    include!("generated/v1.rs");
}
