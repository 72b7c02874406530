//! `fairlead-dpdk-check`: the command line.

mod cli;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use fairlead_dpdk_tests::interrupt::Interrupt;
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::Outcome;

use self::cli::options::{CheckOptions, Cli, Command};

/// A peer has limits of its own for everything that it waits for.
const A_DAY: Duration = Duration::from_secs(86_400);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let helped = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return exit(if helped { Outcome::Ok } else { Outcome::Usage });
        }
    };
    let limit = match &cli.command {
        None => cli::check::time_limit(&cli.check),
        Some(Command::Compare(options)) => Duration::try_from_secs_f64(options.timeout).unwrap_or(A_DAY),
        Some(Command::Peer(_) | Command::Render(_)) => A_DAY,
    };
    let interrupt = match Interrupt::on_signals(limit) {
        Ok(interrupt) => interrupt,
        Err(error) => {
            let _ = writeln!(io::stderr(), "fairlead-dpdk-check: cannot watch for signals: {error}");
            return exit(Outcome::RunFailed);
        }
    };
    exit(match &cli.command {
        None => check(&cli.check, &interrupt),
        Some(Command::Peer(options)) => {
            cli::peer::peer(options, &interrupt, &mut Progress::new(io::stdout()))
        }
        Some(Command::Compare(options)) => {
            let mut progress = progress(options.json.as_deref() == Some(Path::new("-")));
            cli::compare::compare(options, &interrupt, &mut progress)
        }
        Some(Command::Render(options)) => cli::render::render(options, &mut Progress::new(io::stderr())),
    })
}

fn check(options: &CheckOptions, interrupt: &Interrupt) -> Outcome {
    let outputs = options.outputs.outputs();
    let mut progress = progress(outputs.use_stdout());
    let report = cli::check::check(options, interrupt, &mut progress);
    match outputs.finish(&report) {
        Ok(()) => report.outcome,
        Err(why) => {
            progress.print(why);
            if report.outcome == Outcome::Ok { Outcome::RunFailed } else { report.outcome }
        }
    }
}

/// Progress goes to standard output, unless that is for a report alone.
fn progress(stdout_is_taken: bool) -> Progress {
    if stdout_is_taken { Progress::new(io::stderr()) } else { Progress::new(io::stdout()) }
}

fn exit(outcome: Outcome) -> ExitCode {
    ExitCode::from(outcome.code())
}
