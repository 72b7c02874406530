//! Whether the DPDK path of this pod works, and how fast it is: testpmd on the devices that the device plugin gave.
//!
//! [`devices`] reads which devices are meant, [`preflight`] says what is missing before anything runs, [`testpmd`] runs
//! and questions the program, [`run`] is the plan (port A sends and B receives, then the reverse), [`rates`] the
//! arithmetic, [`report`] what comes out.

pub mod cores;
pub mod devices;
pub mod interrupt;
pub mod preflight;
pub mod progress;
pub mod rates;
pub mod report;
pub mod run;
pub mod testpmd;
