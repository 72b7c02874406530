//! A host and its pods, each a network namespace of the test's own.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use fairlead_cni::{
    agent_protocol::PodRef,
    config::{Injection, NetworkConfig},
    drivers::Pod,
    engine::{self, Engine, Evidence, Sandbox, Wish},
    protocol::{env::CniArgs, error::CniError},
    record::Record,
};
use fairlead_kernel::{Errno, Link, LinkKind, Netns, NewLink, Route};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use serde_json::{Value, json};

/// The executable. On the emulated node it is elsewhere than where it was built.
pub(crate) fn built() -> std::ffi::OsString {
    std::env::var_os("FAIRLEAD_BINARY").unwrap_or(env!("CARGO_BIN_EXE_fairlead").into())
}

/// What a call is told besides.
#[derive(Clone, Copy)]
struct Around<'a> {
    /// `CNI_PATH`.
    path: &'a Path,
    /// `CNI_ARGS`.
    args: &'a str,
    /// Other variables.
    env: &'a [(&'a str, &'a str)],
}

/// A fresh network namespace, at a path as runtimes make them; it ends with this value, and leaves an ordinary file.
pub(crate) struct Namespace {
    file: tempfile::TempPath,
}

impl Namespace {
    fn new() -> Result<Self, String> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("unshare: {errno}"))?;
            Self::at(Path::new("/proc/thread-self/ns/net"))
        });
        made.join().map_err(|_| "the thread panicked".to_owned())?
    }

    /// Another path to a namespace.
    fn at(other: &Path) -> Result<Self, String> {
        // Beside others, as runtimes do it: their folder tells whether anybody could see it.
        let file = tempfile::Builder::new().prefix("netns-").tempfile().map_err(|error| error.to_string())?;
        let path = file.into_temp_path();
        mount(Some(other), &*path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| format!("mount: {errno}"))?;
        Ok(Self { file: path })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.file.to_path_buf()
    }

    pub(crate) fn netns(&self) -> Netns {
        Netns::open(&self.path()).unwrap()
    }

    pub(crate) fn route(&self) -> Route {
        Route::open_in(&self.netns()).unwrap()
    }

    pub(crate) fn link(&self, name: &str) -> Option<Link> {
        self.route().link_by_name(name).unwrap()
    }

    /// Addresses of a link without those that the kernel gave it.
    pub(crate) fn addresses(&self, name: &str) -> Vec<String> {
        let Some(link) = self.link(name) else { return Vec::new() };
        let addresses = self.route().addresses(&link).unwrap();
        let texts = addresses.iter().map(|address| address.net.to_string());
        texts.filter(|text| !text.starts_with("fe80")).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
    }
}

impl Namespace {
    /// All that plugins may change in it, in words, but not what the kernel does by itself: to be compared.
    pub(crate) fn state(&self) -> Vec<String> {
        let mut route = self.route();
        let mut state = Vec::new();
        for link in route.links().unwrap() {
            let name = &link.name;
            // A bridge's comes and goes with its ports.
            let mac = link.mac.filter(|_| link.kind.as_deref() != Some("bridge"));
            state.push(format!(
                "{name}: {:?} mac {:?} mtu {} queue {} up {} promisc {} allmulti {} master {:?} alias {:?} group {}",
                link.altnames,
                mac,
                link.mtu,
                link.tx_queue_len,
                link.up,
                link.promisc,
                link.allmulti,
                link.master,
                link.alias,
                link.group
            ));
            let addresses =
                route.addresses(&link).unwrap().into_iter().map(|address| address.net.to_string());
            let given = addresses.filter(|text| !text.starts_with("fe80"));
            state.extend(given.map(|address| format!("{name}: address {address}")));
            let routes = route.routes(&link).unwrap().into_iter();
            let given = routes.filter(|entry| !entry.dst.to_string().starts_with("fe80"));
            // A link may come back with another number.
            let given = given.map(|entry| fairlead_kernel::route::RouteEntry { oif: None, ..entry });
            state.extend(given.map(|entry| format!("{name}: route {entry:?}")));
        }
        state.extend(route.rules().unwrap().into_iter().map(|rule| format!("rule {rule:?}")));
        state.sort();
        state
    }
}

/// A node with one interface, `uplink0`.
pub(crate) struct Bed {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) host: Namespace,
}

impl Bed {
    /// `None` where namespaces are not permitted and need not be.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let host = match Namespace::new() {
            Ok(host) => host,
            Err(reason) => {
                let required =
                    std::env::var_os("FAIRLEAD_REQUIRE_ROOT_TESTS").is_some_and(|value| value == "1");
                assert!(!required, "{test} needs root: {reason}");
                skip(&format!("{test} needs root ({reason})"));
                return None;
            }
        };
        let kind = LinkKind::Veth { peer_name: "switch0".into(), peer_netns: None };
        host.route().add_link(&NewLink { up: true, ..NewLink::new("uplink0", kind) }).unwrap();
        Some(Self { dir: tempfile::tempdir().unwrap(), host })
    }

    /// The namespace that the tests run in, for what is done with devices of the node.
    pub(crate) fn of_node() -> Self {
        let own = || Namespace::at(Path::new("/proc/self/ns/net"));
        Self { dir: tempfile::tempdir().unwrap(), host: own().unwrap() }
    }

    /// Index of the interface.
    pub(crate) fn uplink(&self) -> u32 {
        self.host.link("uplink0").unwrap().index
    }

    /// Whether the kernel has such links; where it has not, it is said.
    pub(crate) fn has(&self, kind: LinkKind<'_>, name: &str) -> bool {
        let made = self.host.route().add_link(&NewLink::new("probe0", kind));
        let has = !matches!(made, Err(error) if error.errno() == Some(Errno::EOPNOTSUPP));
        if let Some(probe) = self.host.link("probe0") {
            self.host.route().delete_link(&probe).unwrap();
        }
        if !has {
            skip(&format!("this kernel has no {name} links"));
        }
        has
    }

    pub(crate) fn pod(&self) -> Namespace {
        Namespace::new().unwrap()
    }

    /// Works as a plugin does: in the host's namespace.
    pub(crate) fn on_host<T: Send>(&self, work: impl FnOnce(&mut Engine) -> T + Send) -> T {
        let run = || {
            let mut engine =
                Engine::open(&self.dir.path().join("state"), &self.dir.path().join("run")).unwrap();
            work(&mut engine)
        };
        self.host.netns().run(run).unwrap()
    }

    /// One attachment, as the meta plugin makes it: all or nothing.
    pub(crate) fn attach(
        &self,
        container: &str,
        interface: &str,
        pod: &Namespace,
        plugin: &Value,
    ) -> Result<Record, CniError> {
        let path = pod.path();
        self.on_host(|engine| {
            let sandbox = sandbox(container, &path, engine)?;
            let mut inside = Pod::open(Netns::open(&path).unwrap())?;
            let done = engine::plan(wish(interface, plugin), &sandbox, engine, |_| true)
                .and_then(|planned| engine::attach(planned, &sandbox, engine, &mut inside));
            if done.is_err() {
                let records = engine.store.of_sandbox(container)?;
                engine::roll_back(container, records, &path, engine)?;
            }
            done
        })
    }

    /// DEL of a container, from its records; without `pod` its namespace is gone.
    pub(crate) fn detach(&self, container: &str, pod: Option<&Namespace>) -> Result<(), CniError> {
        let path = pod.map(Namespace::path);
        self.on_host(|engine| {
            let records = engine.store.of_sandbox(container)?;
            engine::undo_all(records, Evidence::Runtime(path.as_deref()), engine)
        })
    }

    /// A macvlan on the uplink with addresses from a store of the test's own.
    pub(crate) fn macvlan(&self, subnet: &str) -> Value {
        let store = self.dir.path().join("networks");
        json!({"cniVersion": "1.0.0", "name": "net", "type": "macvlan", "master": "uplink0",
               "ipam": {"type": "host-local", "subnet": subnet, "dataDir": store, "routes": [{"dst": "0.0.0.0/0"}]}})
    }

    /// The executable under a plugin's name, called as a runtime does. An error is the document that it printed.
    pub(crate) fn call(
        &self,
        plugin: &str,
        verb: &str,
        config: &Value,
        container: &str,
        netns: &Path,
    ) -> Result<Value, Value> {
        let path = self.dir.path().join("plugins");
        self.call_within(Around { path: &path, args: "", env: &[] }, plugin, verb, config, container, netns)
    }

    /// The same in the host's namespace for the host's own, as `CNI_NETNS_OVERRIDE` allows.
    pub(crate) fn call_on_host(&self, plugin: &str, verb: &str, config: &Value) -> Result<Value, Value> {
        let path = self.dir.path().join("plugins");
        let around = Around { path: &path, args: "", env: &[("CNI_NETNS_OVERRIDE", "1")] };
        self.call_within(around, plugin, verb, config, "c1", &self.host.path())
    }

    /// The same with `CNI_ARGS`.
    pub(crate) fn call_with_args(
        &self,
        plugin: &str,
        verb: &str,
        config: &Value,
        container: &str,
        netns: &Path,
        args: &str,
    ) -> Result<Value, Value> {
        let path = self.dir.path().join("plugins");
        self.call_within(Around { path: &path, args, env: &[] }, plugin, verb, config, container, netns)
    }

    fn call_within(
        &self,
        around: Around<'_>,
        plugin: &str,
        verb: &str,
        config: &Value,
        container: &str,
        netns: &Path,
    ) -> Result<Value, Value> {
        let program = self.program(plugin);
        let mut config = config.clone();
        config["stateDir"] = json!(self.dir.path().join("state"));
        config["runDir"] = json!(self.dir.path().join("run"));
        config["sriovCniDir"] = json!(self.dir.path().join("sriov-cni"));
        let output = self.host.netns().run(|| {
            let mut child = Command::new(&program)
                .env_clear()
                .envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", container), ("CNI_IFNAME", "net1")])
                .env("CNI_NETNS", netns)
                .env("CNI_ARGS", around.args)
                .env("CNI_PATH", around.path)
                .envs(around.env.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = output.unwrap();
        let document = match output.stdout.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&output.stdout).unwrap(),
        };
        if output.status.success() { Ok(document) } else { Err(document) }
    }

    /// The executable under a plugin's name.
    fn program(&self, plugin: &str) -> PathBuf {
        let program = self.dir.path().join(plugin);
        // Another thread's call may have been faster, or it is there from an earlier one.
        if let Err(error) = std::os::unix::fs::symlink(built(), &program) {
            assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
        }
        program
    }

    /// See [`Namespace::state`].
    pub(crate) fn host_state(&self) -> Vec<String> {
        self.host.state()
    }

    /// Names of the reservations in that store.
    pub(crate) fn reserved(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("networks/net")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        names.sort();
        names
    }
}

/// Says loudly that the running test was skipped, and which one it is: the table of scenarios is made from that. Not by a macro:
/// the test harness hides what those print in tests that pass.
pub(crate) fn skip(reason: &str) {
    let thread = thread::current();
    let text = format!("\n*** SKIPPED: {}: {reason} ***\n", thread.name().unwrap_or("main"));
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

fn sandbox(container: &str, netns: &Path, engine: &Engine) -> Result<Sandbox, CniError> {
    Ok(Sandbox {
        container_id: container.into(),
        pod: PodRef { namespace: "default".into(), name: container.into(), uid: String::new() },
        netns_path: netns.to_owned(),
        netns: engine.sandbox_netns(netns)?.1,
        path: vec!["/nonexistent".into()],
        runtime_network: "fairlead".into(),
        alone: None,
    })
}

fn wish(interface: &str, plugin: &Value) -> Wish {
    Wish {
        network: "default/net".into(),
        interface: interface.into(),
        order: 1,
        config: NetworkConfig::parse(&plugin.to_string()).unwrap(),
        injection: Injection::default(),
        args: CniArgs::default(),
        device_info: None,
        previous: None,
    }
}

/// One pod connects to an address that the other has, and is answered.
pub(crate) fn talk(from: &Namespace, to: &Namespace, address: &str) {
    let address: std::net::IpAddr = address.parse().unwrap();
    let listener = to.netns().run(|| std::net::TcpListener::bind((address, 7)).unwrap()).unwrap();
    let limit = std::time::Duration::from_secs(5);
    let connected =
        from.netns().run(|| std::net::TcpStream::connect_timeout(&(address, 7).into(), limit)).unwrap();
    connected.unwrap();
    listener.accept().unwrap();
}
