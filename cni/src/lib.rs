//! One engine for every attachment of a pod, and the CNI executable around it.

pub mod agent_client;
pub mod agent_protocol;
pub mod alone;
mod boot;
pub mod cli;
pub mod config;
mod disk;
pub mod drivers;
pub mod engine;
pub mod exec;
pub mod history;
pub mod install;
pub mod ipam;
pub mod lock;
pub mod meta;
pub mod networks;
pub mod protocol;
pub mod record;
pub mod say;
pub mod status;
