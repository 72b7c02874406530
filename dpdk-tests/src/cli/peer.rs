//! Port B for a check in another pod.

use std::time::Duration;

use fairlead_dpdk_tests::interrupt::Interrupt;
use fairlead_dpdk_tests::plan::{Mode, Plan};
use fairlead_dpdk_tests::preflight::{self, Needs};
use fairlead_dpdk_tests::progress::Progress;
use fairlead_dpdk_tests::report::Outcome;
use fairlead_dpdk_tests::run::stop;
use fairlead_dpdk_tests::settings::Settings;
use fairlead_dpdk_tests::station::serve::{self, ServeError};
use fairlead_dpdk_tests::testpmd::child::Patience;
use fairlead_resource_config::error_text;

use super::options::PeerOptions;
use super::ports::{Ports, look, port_settings};
use super::{Failure, sensible};

/// Serves one client.
pub(crate) fn peer(options: &PeerOptions, interrupt: &Interrupt, progress: &mut Progress) -> Outcome {
    match serve(options, interrupt, progress) {
        Ok(()) => {
            progress.say("ok: the client is done");
            Outcome::Ok
        }
        Err((outcome, reason)) => {
            progress.say(format_args!("{}: {reason}", outcome.title()));
            outcome
        }
    }
}

fn serve(options: &PeerOptions, interrupt: &Interrupt, progress: &mut Progress) -> Result<(), Failure> {
    let needs = Needs { programs: 1, tuning: options.tuning.tuning(), frame_size: 64 };
    sensible(&needs)?;
    let ports = Ports::choose(&options.ports, 1, 1)?;
    let [(path, _)] = ports.paths()[..] else {
        return Err((
            Outcome::Usage,
            "a peer has one port: give --interface, or a device, not both".to_owned(),
        ));
    };
    let facts = ports.facts(&options.ports);
    look(&facts, &needs, progress, &mut Vec::new())?;
    let testpmd = facts.testpmd.clone().map_err(|why| (Outcome::PreflightFailed, why))?;
    let settings = Settings {
        testpmd,
        ports: port_settings(&facts, &ports, &needs),
        peer: None,
        iova_mode: preflight::iova_mode(&facts),
        // What the client wants is in its orders.
        plan: Plan {
            modes: vec![Mode::Forth],
            frame_sizes: vec![64],
            repeats: 1,
            warm_up: 0.0,
            window: 1.0,
            rate_mbps: None,
            search_loss: 0.0,
            tuning: needs.tuning,
        },
        start_limit: options.ports.start_limit,
        link_limit: 0.0,
    };
    let failed = |error: &ServeError| {
        let stopped = match error {
            ServeError::Stopped(_) => true,
            ServeError::Station(error) => error.stopped().is_some(),
            _ => false,
        };
        (if stopped { Outcome::Stopped } else { Outcome::RunFailed }, error_text(error))
    };
    let listener = serve::listen(options.listen).map_err(|error| failed(&error))?;
    let mut stations = settings
        .launch(path, Patience::default())
        .map_err(|error| (Outcome::RunFailed, error_text(&error)))?;
    let Some(station) = stations.first_mut() else { return Ok(()) };
    progress.say(format_args!("{} waits for a client at {}", station.device(), options.listen));
    let wait = Duration::try_from_secs_f64(options.wait).unwrap_or_default();
    let served = serve::serve(&listener, station.as_mut(), wait, interrupt, progress);
    stop(&mut stations, progress);
    for check in preflight::released(&facts.devices) {
        progress.say(check);
    }
    served.map_err(|error| failed(&error))
}
