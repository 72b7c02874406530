//! Whether the DPDK path of this pod works, and how fast it is: testpmd on the devices that the device plugin gave.
//!
//! [`devices`] and [`network_status`] read which devices are meant, [`preflight`] says what is missing before anything runs,
//! [`plan`] is what is to be measured, [`station`] a port under control ([`testpmd`] in this pod, or one in another),
//! [`run`] carries the plan out, [`trial`] by trial, [`rates`] and [`stats`] are the arithmetic, [`report`] is what comes out,
//! [`compare`] sets one against another.

pub mod compare;
pub mod cores;
pub mod devices;
pub mod interrupt;
pub mod network_status;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod rates;
pub mod report;
pub mod run;
pub mod search;
pub mod settings;
pub mod station;
pub mod stats;
pub mod testpmd;
pub mod trial;
