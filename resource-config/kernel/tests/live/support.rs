//! Namespaces for tests.

use std::io::Write;
use std::path::Path;

use fairlead_kernel::{Link, LinkKind, Netns, NewLink, Route};
use nix::sched::{CloneFlags, unshare};

/// A fresh network namespace with a socket in it. Nothing else holds it, so it ends with this value.
pub(crate) struct Sandbox {
    pub(crate) netns: Netns,
    pub(crate) route: Route,
}

impl Sandbox {
    /// The link of this name, which is there.
    pub(crate) fn link(&mut self, name: &str) -> Link {
        self.route.link_by_name(name).unwrap().unwrap_or_else(|| panic!("no link {name}"))
    }

    pub(crate) fn has(&mut self, name: &str) -> bool {
        self.route.link_by_name(name).unwrap().is_some()
    }

    /// A veth pair, the first of it up.
    pub(crate) fn add_veth(&mut self, name: &str, peer: &str) -> Link {
        let kind = LinkKind::Veth { peer_name: peer.to_owned(), peer_netns: None };
        self.route.add_link(&NewLink { up: true, ..NewLink::new(name, kind) }).unwrap();
        self.link(name)
    }
}

/// As many fresh namespaces as asked for; `None` where this is not permitted and need not be.
pub(crate) fn sandboxes<const N: usize>(test: &str) -> Option<[Sandbox; N]> {
    let made: Result<Vec<Sandbox>, String> = (0..N).map(|_| sandbox()).collect();
    match made {
        Ok(made) => made.try_into().ok(),
        Err(reason) => {
            let required = std::env::var_os("FAIRLEAD_REQUIRE_ROOT_TESTS").is_some_and(|value| value == "1");
            assert!(!required, "{test} needs root: {reason}");
            skip(&format!("{test} needs root ({reason})"));
            None
        }
    }
}

fn sandbox() -> Result<Sandbox, String> {
    // The thread ends, the namespace lives on by the open file.
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("unshare: {errno}"))?;
        Netns::open(Path::new("/proc/thread-self/ns/net")).map_err(|error| error.to_string())
    });
    let netns = made.join().map_err(|_| "the thread panicked".to_owned())??;
    let route = Route::open_in(&netns).map_err(|error| error.to_string())?;
    Ok(Sandbox { netns, route })
}

/// Says loudly that the running test was skipped, and which one it is: the table of scenarios is made from that. Not by a macro:
/// the test harness hides what those print in tests that pass.
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let text = format!("\n*** SKIPPED: {}: {reason} ***\n", thread.name().unwrap_or("main"));
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}
