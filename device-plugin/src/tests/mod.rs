//! Tests against a made-up sysfs and a made-up kubelet.

mod allocation;
mod cdi;
pub(crate) mod fixture;
mod following;
mod health;
pub(crate) mod kubelet;
mod operation;
mod preference;
mod prestart;
mod registration;
mod serving;
