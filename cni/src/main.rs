//! `fairlead`: what the container runtime executes.

use std::{
    io::{Read, Write},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process::ExitCode,
};

use fairlead_cni::{
    alone::Plugin,
    cli::{Cli, USAGE, tools},
    config::Fields,
    exec::GUARD,
    install, meta,
    protocol::{
        env::{Call, Verb},
        error::{CniError, code},
        version,
    },
    say::{log_failure, say},
};

/// What is said of a panic.
const DEFECT: &str =
    "fairlead ended by a defect of its own; please report it with the message on standard error";

fn main() -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let plugin = Plugin::named(&program);
    if std::env::var_os("CNI_COMMAND").is_none() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if plugin.is_none() && !arguments.is_empty() {
            return operate(arguments);
        }
        let what = plugin.map_or("the networks of a pod, one engine for all of them", Plugin::name);
        eprintln!("Fairlead {}: {what}", env!("CARGO_PKG_VERSION"));
        eprintln!("CNI protocol versions supported: {}", version::SUPPORTED.join(", "));
        return ExitCode::SUCCESS;
    }
    answer(plugin, meta::multus::is_named(&program))
}

/// Serves a runtime: whatever happens, it gets exactly one document.
fn answer(plugin: Option<Plugin>, is_multus: bool) -> ExitCode {
    let job = match protected(|| Job::read(plugin, is_multus)) {
        Ok(job) => job,
        Err(error) => return print(&error.to_json(version::LATEST), ExitCode::FAILURE),
    };
    match job.run() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(document)) => {
            let exit = print(&document, ExitCode::SUCCESS);
            if exit == ExitCode::FAILURE {
                job.take_back();
            }
            exit
        }
        Err(error) => {
            log_failure(&error);
            print(&error.to_json(version_of(&job.stdin)), ExitCode::FAILURE)
        }
    }
}

/// Prints a document; where that fails, so does the call.
fn print(document: &str, exit: ExitCode) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(format!("{document}\n").as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        Err(error) => {
            say(format_args!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A defect of ours becomes an error like any other.
fn protected<T>(work: impl FnOnce() -> Result<T, CniError>) -> Result<T, CniError> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(CniError::new(code::OTHER, DEFECT)))
}

/// Serves a person at a shell.
fn operate(arguments: Vec<String>) -> ExitCode {
    if arguments.first().is_some_and(|verb| tools::is_for(verb)) {
        say(tools::become_it(&arguments));
        return ExitCode::FAILURE;
    }
    let done = match install::Job::parse(&arguments) {
        Some(job) => job.map(|job| job.run()).map_err(|reason| (reason, install::USAGE)),
        None => Cli::parse(arguments).map(|cli| cli.run()).map_err(|reason| (reason, USAGE)),
    };
    let done = match done {
        Ok(done) => done,
        Err((reason, usage)) => {
            say(format_args!("{reason}\n\n{usage}"));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(answer) => {
            let printed = writeln!(std::io::stdout(), "{}", answer.text.trim_end());
            if answer.well && printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}

/// One call of a runtime.
struct Job {
    plugin: Option<Plugin>,
    /// Whether the runtime takes us for Multus.
    is_multus: bool,
    call: Call,
    /// Empty for VERSION, whose input does not matter.
    stdin: String,
}

impl Job {
    fn read(plugin: Option<Plugin>, is_multus: bool) -> Result<Self, CniError> {
        // loopback takes no arguments, so wrong ones do not matter to it.
        let ignored = if plugin == Some(Plugin::Loopback) { "CNI_ARGS" } else { "" };
        let call = Call::read(|name| std::env::var(name).ok().filter(|_| name != ignored))?;
        let mut stdin = String::new();
        if call.verb != Verb::Version {
            // A plugin by itself leads nowhere, so it may well be executed by ourselves.
            if plugin.is_none() && std::env::var_os(GUARD).is_some() {
                let text = "fairlead was executed by itself: the primary network, or a network's definition, leads back to it";
                return Err(CniError::new(code::INVALID_CONFIG, text));
            }
            std::io::stdin()
                .read_to_string(&mut stdin)
                .map_err(|error| CniError::new(code::IO, format!("read standard input: {error}")))?;
        }
        Ok(Self { plugin, is_multus, call, stdin })
    }

    /// Does it. What is returned goes to standard output.
    fn run(&self) -> Result<Option<String>, CniError> {
        if self.call.verb == Verb::Version {
            let document = serde_json::json!({
                "cniVersion": version::LATEST,
                "supportedVersions": version::SUPPORTED,
            });
            return Ok(Some(document.to_string()));
        }
        let done = protected(|| self.handle(&self.call));
        if done.as_ref().is_err_and(|error| error.msg == DEFECT) {
            self.take_back();
        }
        done
    }

    fn handle(&self, call: &Call) -> Result<Option<String>, CniError> {
        match self.plugin {
            Some(plugin) => plugin.handle(call, &self.stdin),
            None => meta::handle(call, &self.stdin, self.is_multus),
        }
    }

    /// Undoes an ADD whose result the runtime does not get: it may not ask for a DEL.
    fn take_back(&self) {
        if self.call.verb == Verb::Add {
            let del = Call { verb: Verb::Del, ..self.call.clone() };
            if let Err(error) = protected(|| self.handle(&del)) {
                say(error);
            }
        }
    }
}

/// The version that the caller's configuration speaks, as far as it can be told.
fn version_of(stdin: &str) -> &'static str {
    let config: Fields = serde_json::from_str(stdin).unwrap_or_default();
    let own = config.get("cniVersion").and_then(serde_json::Value::as_str);
    version::check(own).unwrap_or(version::LATEST)
}
