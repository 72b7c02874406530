//! `fairlead-device-plugin`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use fairlead_device_plugin::Stop;
use fairlead_device_plugin::args::{Args, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    // Thousands of devices are looked at again and again by several threads, of which nothing is to stay.
    fairlead_kernel::share_one_heap();
    let args = Args::read(std::env::args());
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(args.log_level);
    // What libraries trace, down to single frames of HTTP/2, would bury the rest.
    let ours =
        Targets::new().with_target("fairlead", args.log_level).with_default(Level::WARN.min(args.log_level));
    match args.log_format {
        LogFormat::Text => log.finish().with(ours).init(),
        LogFormat::Json => log.json().flatten_event(true).finish().with(ours).init(),
    }
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{error:#}").replace('\n', "; ");
            // Where not even this can be written there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "fairlead-device-plugin: {line}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<()> {
    for option in args.ignored() {
        tracing::info!(option, "this option of upstream's has no effect");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(run(args))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let (stop, reload) = (Stop::default(), Arc::new(Notify::new()));
    let (on_signal, on_hangup) = (stop.clone(), reload.clone());
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut quit = signal(SignalKind::quit()).context("cannot wait for SIGQUIT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    tokio::spawn(async move {
        let name = loop {
            tokio::select! {
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = quit.recv() => break "SIGQUIT",
                _ = hangup.recv() => on_hangup.notify_one(),
            }
        };
        tracing::info!(signal = name, "stopping");
        on_signal.stop();
    });
    Ok(fairlead_device_plugin::run(args.options(), stop, reload).await?)
}
