//! A container runtime on a node: it executes the meta plugin for pods with a primary network from disk and further ones, of
//! which an agent tells. Some of their addresses come from a plugin on disk that keeps what it gave in files.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use fairlead_cni::agent_protocol::{
    Answer, Call, Plan, PlannedAttachment, Request, Response, VERSION, read_frame, write_frame,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::{Value, json};

use crate::{
    snapshot::Snapshot,
    support::{Bed, Namespace, built},
    tracer::{self, Interference, Outcome},
};

/// A plugin that keeps in a file whom it gave an address, and refuses to give it another one. Called `primary` it makes an
/// interface, too.
const KEEPER: &str = r#"#!/bin/sh
config=$(cat)
kept=$(dirname "$0")/kept
own=$kept/$(basename "$0").$CNI_CONTAINERID.$CNI_IFNAME
inside() { nsenter --net="$CNI_NETNS" "$@"; }
link() { [ "$(basename "$0")" != primary ] || [ -z "$CNI_NETNS" ] || inside ip link "$@"; }
printf '%s %s\n' "$CNI_COMMAND" "$config" >>"$(dirname "$0")/log.$(basename "$0")"
fail() { printf '{"code":999,"msg":"%s"}' "$1"; exit 1; }
case $CNI_COMMAND in
ADD)
    [ ! -e "$own" ] || fail 'it has an address already'
    : >"$own"
    link add "$CNI_IFNAME" type veth peer name far0 || fail 'no interface'
    case $config in *'"without":"address"'*) printf '{"cniVersion":"1.1.0"}' && exit ;; esac
    printf '{"cniVersion":"1.1.0","ips":[{"address":"10.9.0.5/24"}]}'
    ;;
DEL)
    printf '%s %s\n' "$(basename "$0")" "$CNI_IFNAME" >>"$(dirname "$0")/order"
    link delete "$CNI_IFNAME" 2>/dev/null
    rm -f "$own"
    ;;
CHECK) [ -e "$own" ] || fail 'nothing is kept' ;;
STATUS) [ ! -e "$(dirname "$0")/unready" ] || fail 'its daemon is away' ;;
GC)
    for file in "$kept/$(basename "$0")".*; do
        id=${file#"$kept/$(basename "$0")".}
        case $config in *"\"${id%.*}\""*) ;; *) rm -f "$file" ;; esac
    done
    ;;
esac
exit 0
"#;

/// See above.
pub(crate) struct Runtime {
    pub(crate) bed: Bed,
    pub(crate) agent: Arc<Mutex<Agent>>,
    /// Whether nobody else works on the host.
    is_alone: bool,
}

impl Runtime {
    /// A node whose pods get these networks beside their primary one. `None` where tests cannot have one.
    pub(crate) fn new(test: &str, networks: impl FnOnce(&Bed) -> Vec<Value>) -> Option<Self> {
        let bed = Bed::new(test)?;
        let networks = networks(&bed);
        Some(Self { is_alone: true, ..Self::on(bed, &networks) })
    }

    /// The same on a node that there is, where others are at work, too.
    pub(crate) fn on(bed: Bed, networks: &[Value]) -> Self {
        let agent = serve(&bed.dir.path().join("agent.sock"), networks);
        let runtime = Self { bed, agent, is_alone: false };
        fs::create_dir_all(runtime.folder("bin/kept")).unwrap();
        fs::create_dir_all(runtime.folder("conf")).unwrap();
        for name in ["primary", "keeper"] {
            let file = runtime.folder("bin").join(name);
            fs::write(&file, KEEPER).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let primary = json!({"cniVersion": "1.1.0", "name": "cluster", "plugins": [{"type": "primary"}]});
        fs::write(runtime.folder("conf/10-cluster.conflist"), primary.to_string()).unwrap();
        runtime
    }

    /// A folder or file of the node's.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.bed.dir.path().join(name)
    }

    /// What is on standard input.
    pub(crate) fn config(&self) -> Value {
        json!({
            "cniVersion": "1.1.0", "name": "fairlead", "type": "fairlead", "cni.dev/valid-attachments": [],
            "primaryDir": self.folder("conf"), "stateDir": self.folder("state"), "runDir": self.folder("run"),
            "cniDir": self.folder("multus"), "cacheDir": self.folder("cni"),
            "agentSocket": self.folder("agent.sock"), "agentTimeoutSeconds": 20,
            "confDir": self.folder("nads"), "devinfoDir": self.folder("devinfo"),
        })
    }

    /// The executable in the environment of a call.
    pub(crate) fn command(&self, verb: &str, container: &str, netns: &Path) -> Command {
        self.command_of(Path::new(&built()), verb, container, netns)
    }

    fn command_of(&self, program: &Path, verb: &str, container: &str, netns: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", container), ("CNI_IFNAME", "eth0")])
            .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=p;K8S_POD_NAMESPACE=default;K8S_POD_UID=u")
            .env("CNI_NETNS", netns)
            .env("CNI_PATH", self.folder("bin"));
        command
    }

    /// One call. An error is the document that it printed.
    pub(crate) fn call(&self, verb: &str, container: &str, netns: &Path) -> Result<Value, Value> {
        self.call_with(verb, container, netns, &self.config())
    }

    /// One call with another configuration.
    pub(crate) fn call_with(
        &self,
        verb: &str,
        container: &str,
        netns: &Path,
        config: &Value,
    ) -> Result<Value, Value> {
        let mut command = self.command(verb, container, netns);
        self.bed.host.netns().run(|| finish(&mut command, config)).unwrap()
    }

    /// One call of the executable under another name.
    pub(crate) fn call_as(
        &self,
        name: &str,
        verb: &str,
        container: &str,
        netns: &Path,
        config: &Value,
    ) -> Result<Value, Value> {
        let program = self.folder(name);
        if !program.exists() {
            std::os::unix::fs::symlink(built(), &program).unwrap();
        }
        let mut command = self.command_of(&program, verb, container, netns);
        self.bed.host.netns().run(|| finish(&mut command, config)).unwrap()
    }

    /// One call of ADD or DEL that is interfered with.
    pub(crate) fn trace(
        &self,
        verb: &str,
        container: &str,
        netns: &Path,
        interference: Interference,
    ) -> Outcome {
        let (mut command, input) = (self.command(verb, container, netns), self.config().to_string());
        self.bed.host.netns().run(|| tracer::run(&mut command, input.as_bytes(), interference)).unwrap()
    }

    /// `fairlead VERB` as an operator calls it; what it printed, and whether all was well.
    pub(crate) fn operate(&self, verb: &[&str]) -> (String, bool) {
        let mut command = Command::new(built());
        command.env_clear().args(verb);
        for (option, folder) in [
            ("--state-dir", "state"),
            ("--run-dir", "run"),
            ("--networks-dir", "networks"),
            ("--multus-dir", "multus"),
            ("--cache-dir", "cni"),
            ("--plugins-dir", "bin"),
        ] {
            command.arg(option).arg(self.folder(folder));
        }
        let output = self.bed.host.netns().run(|| command.output().unwrap()).unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }

    /// As the node is; of one that is not ours alone, as the pod and the folders are.
    pub(crate) fn snapshot(&self, pod: Option<&Namespace>) -> Snapshot {
        let folders = ["state", "run", "networks", "bin/kept", "devinfo"].map(|name| self.folder(name));
        let host = Some(&self.bed.host).filter(|_| self.is_alone);
        Snapshot::take([("host", host), ("pod", pod)], &folders)
    }

    /// Waits for plugins that work on after the call that executed them was killed: they hold its lock.
    pub(crate) fn wait_for_executed(&self, container: &str) {
        if let Ok(lock) = fs::File::open(self.folder(&format!("run/locks/sandbox-{container}.lock"))) {
            lock.lock().unwrap();
        }
    }

    /// What is otherwise than it was, a line for each thing. The kernel needs a moment to take a namespace down, and a port
    /// to find its carrier.
    pub(crate) fn differences(&self, before: &Snapshot, pod: Option<&Namespace>) -> String {
        let start = Instant::now();
        let mut now = self.snapshot(pod);
        while now != *before && start.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(5));
            now = self.snapshot(pod);
        }
        before.differences(&now)
    }

    /// As [`Runtime::call`], after the node was booted again: with another boot's ID and an empty `/run`.
    pub(crate) fn call_after_boot(&self, verb: &str, container: &str) -> Result<Value, Value> {
        let mut command = self.command(verb, container, Path::new(""));
        let (config, boot_id) = (self.config(), self.folder("boot_id"));
        fs::write(&boot_id, "00000000-0000-4000-8000-000000000000\n").unwrap();
        let _ = fs::remove_dir_all(self.folder("run"));
        let in_other_boot = || {
            // This thread's alone, and its child's.
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let real = "/proc/sys/kernel/random/boot_id";
            mount(Some(&boot_id), real, none, MsFlags::MS_BIND, none).unwrap();
            finish(&mut command, &config)
        };
        self.bed.host.netns().run(in_other_boot).unwrap()
    }
}

fn finish(command: &mut Command, config: &Value) -> Result<Value, Value> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let document = match output.stdout.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&output.stdout).unwrap(),
    };
    if output.status.success() { Ok(document) } else { Err(document) }
}

/// What the agent of a node plans for every pod, and what it was asked.
pub(crate) struct Agent {
    pub(crate) plan: Plan,
    pub(crate) calls: Vec<Call>,
    /// Whether it goes when it has planned.
    pub(crate) goes: bool,
}

/// An agent that has one plan for every pod. It ends with the process.
fn serve(socket: &Path, networks: &[Value]) -> Arc<Mutex<Agent>> {
    let listener = UnixListener::bind(socket).unwrap();
    let attachments: Vec<PlannedAttachment> = networks.iter().zip(1..).map(planned).collect();
    let plan = Plan { primary: None, attachments };
    let agent = Arc::new(Mutex::new(Agent { plan, calls: Vec::new(), goes: false }));
    let serving = agent.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(request) = read_frame::<Request>(&mut stream) else { continue };
            let mut agent = serving.lock().unwrap();
            let answer = match request.call {
                Call::Resolve(_) => Answer::Plan(agent.plan.clone()),
                Call::Report(_) => Answer::Published,
                Call::Notify(_) | Call::Health { .. } | Call::Definitions { .. } => Answer::Taken,
            };
            agent.calls.push(request.call);
            let goes = agent.goes;
            drop(agent);
            let _ = write_frame(&mut stream, &Response { version: VERSION, answer });
            if goes {
                return;
            }
        }
    });
    agent
}

fn planned((config, number): (&Value, usize)) -> PlannedAttachment {
    PlannedAttachment {
        network: format!("default/net{number}"),
        interface: format!("net{number}"),
        config: config.to_string(),
        device_id: config.get("deviceID").and_then(Value::as_str).map(str::to_owned),
        ..PlannedAttachment::default()
    }
}
