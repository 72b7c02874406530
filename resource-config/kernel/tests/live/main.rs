//! Against the kernel, in network namespaces that are thrown away. These need root; without it each says that it was
//! skipped, or fails when `FAIRLEAD_REQUIRE_ROOT_TESTS=1` is set, so that CI cannot pass by skipping.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, outside of test functions")]

mod addresses_and_routes;
mod announcements;
mod bridges;
mod links;
mod monitor;
mod namespaces;
mod rules;
mod support;
