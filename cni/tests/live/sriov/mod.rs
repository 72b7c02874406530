//! VFs on the emulated node. The tests' names begin with the numbers of the scenarios that they play.

pub(crate) mod node;
mod owners;
mod plain;
mod settings;
mod user_space;
