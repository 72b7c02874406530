//! Which networks a pod asks for, and with which device and configuration each is attached: parsing and pure decisions.
//!
//! [`annotation`] reads what the pod asks for, [`ask`] adds what the operator says, [`nad`] tells what a network is,
//! [`devices`] what kubelet allocated to the pod, and [`plan`](plan::plan) puts them together.

pub mod annotation;
pub mod ask;
pub mod devices;
mod fields;
pub mod nad;
pub mod plan;
mod syntax;
