//! Setting the hardware up as a policy says: VFs, their drivers and settings, so that they are there after every boot.
//!
//! [`policy`] reads the file, [`provision`] decides on steps, [`Apply`] carries them out and puts things back when one fails.
//! A PF that the policy does not name is never touched, and nothing is taken away because a section is gone.

mod apply;
mod carry_out;
mod changes;
mod choice;
mod drop_ins;
mod error;
mod family;
mod files;
mod guard;
mod lock;
mod node;
mod plan;
mod port;
mod result;
mod step;
mod system;
mod usage;
mod wanted;

pub mod policy;

pub use self::apply::Apply;
pub use self::error::{KernelError, ProvisionError, StepError};
pub use self::lock::in_progress;
pub use self::node::{Folders, look, of_inventory};
pub use self::plan::{DropIn, NodeState, PfPlan, Plan, PlannedStep, Refusal, Request, provision};
pub use self::port::Port;
pub use self::result::{Outcome, PfReport, Report};
pub use self::step::Step;
pub use self::system::{RunningSystem, System};
pub use self::usage::{Usage, UsageSources, User};

/// Where results go.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/fairlead/provision";
/// Where locks are.
pub const DEFAULT_RUN_DIR: &str = "/run/fairlead/provision";

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod fake;
