//! `fairlead-tools`: what `fairlead doctor` and its like become.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fairlead_tools::{doctor, explain_pod, history, migrate, output::complain};

/// What is said of a call that is wrong: 1 and 2 have a meaning.
const WRONG_CALL: u8 = 64;

/// What an operator asks of a Fairlead node.
#[derive(Debug, Parser)]
#[command(
    name = "fairlead",
    bin_name = "fairlead",
    version,
    after_help = "Exit status 64: the call is wrong."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at everything that pods' networks need on this node, and say what is wrong and what to do.
    Doctor(doctor::Options),
    /// Say whether a pod of a manifest would be admitted and attached on this node, and if not, why.
    ExplainPod(explain_pod::Options),
    /// Say who held which device and address on this node, when, and how ADD and DEL ended.
    History(history::Options),
    /// Say what would change on a node of Multus, sriov-cni and the SR-IOV device plugin, and what is in the way.
    Migrate(migrate::Options),
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help was asked for, and nothing is wrong, or it tells what is.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(WRONG_CALL) } else { ExitCode::SUCCESS };
        }
    };
    let done = match args.command {
        Command::Doctor(options) => doctor::run(&options),
        Command::ExplainPod(options) => explain_pod::run(&options),
        Command::History(options) => history::run(&options),
        Command::Migrate(options) => migrate::run(&options),
    };
    done.unwrap_or_else(|error| {
        complain(error);
        ExitCode::FAILURE
    })
}
