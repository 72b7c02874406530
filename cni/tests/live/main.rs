//! The engine on real network namespaces. Needs root; without it these tests say that they were skipped, and with
//! `FAIRLEAD_REQUIRE_ROOT_TESTS=1` they fail instead.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod alone;
mod bridge;
mod chained;
mod check;
// Registers are the processor's.
#[cfg(target_arch = "x86_64")]
mod crash;
#[cfg(target_arch = "x86_64")]
mod faults;
mod history;
mod host_device;
#[cfg(target_arch = "x86_64")]
mod install;
mod ipam;
mod ipv6;
mod links;
mod loopback;
mod macvlan;
mod masters;
#[cfg(target_arch = "x86_64")]
mod meta;
#[cfg(target_arch = "x86_64")]
mod networks;
mod protocol;
mod ptp;
#[cfg(target_arch = "x86_64")]
mod runtime;
#[cfg(target_arch = "x86_64")]
mod snapshot;
mod sriov;
mod support;
#[cfg(target_arch = "x86_64")]
mod switch;
#[cfg(target_arch = "x86_64")]
mod tracer;
mod vrf;
