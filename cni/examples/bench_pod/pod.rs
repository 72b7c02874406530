//! A pod with eth0 by a bridge and three macvlans, all with addresses of host-local.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use fairlead_kernel::{
    LinkChange, LinkKind, NewLink, Request, Route,
    route::{AddressFlags, LinkRef, MacvlanMode, NewRoute, PeerEnd},
};
use fairlead_resource_config::error_text;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::{
    Result, Sandbox,
    floor::{address, all, expect_links, gateway, index, netns, route_in},
    plugins::Exec,
    timing::{Contender, Times, timed},
};

/// The device below the macvlans.
const PARENT: &str = "uplink0";
/// The bridge of the contender without plugins; the plugins make their own.
const BRIDGE: &str = "floor0";
/// What a pod has.
const LINKS: [&str; 4] = ["eth0", "net1", "net2", "net3"];
/// Link group of the pods' macvlans, by which they are removed at once.
const GROUP: u32 = 77;

/// A host with an agent.
pub(crate) struct Bed {
    folder: PathBuf,
    fairlead: PathBuf,
    plugins: PathBuf,
    agent: Child,
}

impl Bed {
    pub(crate) fn new(folder: &Path, fairlead: &Path, plugins: &Path, agent: &Path) -> Result<Self> {
        let mut route = Route::open().map_err(|error| error_text(&error))?;
        // Not every kernel has dummies.
        let cable = LinkKind::Veth { peer_name: "switch0".into(), peer_netns: None };
        let uplink = NewLink { up: true, ..NewLink::new(PARENT, cable) };
        let bridge = NewLink { up: true, ..NewLink::new(BRIDGE, LinkKind::Bridge) };
        all(&mut route, &[Request::add_link(&uplink), Request::add_link(&bridge)])?;
        let other_end = index(&mut route, "switch0")?;
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        route.set_link(other_end, &up).map_err(|error| error_text(&error))?;
        let bridge = index(&mut route, BRIDGE)?;
        let address = address(9, 1)?;
        route.add_address(bridge, &address, AddressFlags::default()).map_err(|error| error_text(&error))?;
        for number in 1..=3 {
            let definition = json!({
                "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": format!("macvlan-{number}"), "namespace": "bench"},
                "spec": {"config": macvlan(number, "ours", folder).to_string()},
            });
            write(&folder.join("nads").join(format!("{number}.json")), &definition)?;
        }
        write(
            &folder.join("net.d/10-primary.conflist"),
            &json!({
                "cniVersion": "1.0.0", "name": "primary", "plugins": [bridge_config("ours", 0, folder)],
            }),
        )?;
        let agent = start_agent(folder, agent)?;
        Ok(Self {
            folder: folder.to_owned(),
            fairlead: fairlead.to_owned(),
            plugins: plugins.to_owned(),
            agent,
        })
    }

    /// The last is the kernel's own work.
    pub(crate) fn contenders(&self) -> Result<Vec<Box<dyn Contender>>> {
        let ours = |name: &'static str, builtins: Value| Ours {
            name,
            fairlead: self.fairlead.clone(),
            plugins: self.plugins.clone(),
            section: section(&self.folder, &builtins),
        };
        Ok(vec![
            Box::new(ours("Fairlead, primary in process", json!(["bridge", "host-local", "macvlan"]))),
            Box::new(ours("Fairlead, primary from disk", Value::Null)),
            Box::new(Reference { plugins: self.plugins.clone(), folder: self.folder.clone() }),
            Box::new(Floor {
                bridge: index(&mut Route::open().map_err(|error| error_text(&error))?, BRIDGE)?,
            }),
        ])
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn write(path: &Path, document: &Value) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, document.to_string()));
    written.map_err(|error: io::Error| format!("{}: {error}", path.display()))
}

fn start_agent(folder: &Path, agent: &Path) -> Result<Child> {
    let socket = folder.join("agent.sock");
    let child = Command::new(agent)
        .args(["--log-level", "warn", "--nad-dir"])
        .arg(folder.join("nads"))
        .arg("--socket")
        .arg(&socket)
        .arg("--kubelet-root")
        .arg(folder.join("kubelet"))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", agent.display()))?;
    let start = Instant::now();
    while !socket.exists() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(format!("the agent did not make {}", socket.display()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}

fn ipam(whose: &str, network: u8, folder: &Path) -> Value {
    let folder = folder.join("addresses").join(whose);
    json!({"type": "host-local", "subnet": format!("10.{}.0.0/16", 200 + network), "dataDir": folder})
}

fn macvlan(number: u8, whose: &str, folder: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": format!("macvlan-{number}"), "type": "macvlan", "master": PARENT,
        "mode": "bridge", "ipam": ipam(whose, number, folder),
    })
}

fn bridge_config(whose: &str, network: u8, folder: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "primary", "type": "bridge", "bridge": format!("{whose}0"),
        "isDefaultGateway": true, "ipam": ipam(whose, network, folder),
    })
}

fn section(folder: &Path, builtins: &Value) -> Value {
    let mut section = json!({
        "cniVersion": "1.0.0", "name": "fairlead", "type": "fairlead",
        "primaryDir": folder.join("net.d"), "stateDir": folder.join("state"), "runDir": folder.join("run"),
        "cniDir": folder.join("multus"), "cacheDir": folder.join("cache"), "devinfoDir": folder.join("devinfo"),
        "agentSocket": folder.join("agent.sock"),
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {
            "k8s.v1.cni.cncf.io/networks": "macvlan-1, macvlan-2, macvlan-3",
        }},
    });
    if !builtins.is_null() {
        section["builtins"] = builtins.clone();
    }
    section
}

/// The suite as it runs on a node: one executable, which asks the agent.
struct Ours {
    name: &'static str,
    fairlead: PathBuf,
    plugins: PathBuf,
    section: Value,
}

impl Contender for Ours {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn once(&self, sandbox: &Sandbox) -> Result<Times> {
        let exec =
            Exec { program: &self.fairlead, path: &self.plugins, interface: "eth0", config: &self.section };
        let (_, add) = timed(|| exec.call("ADD", sandbox))?;
        expect_links(sandbox, &LINKS)?;
        let ((), del) = timed(|| exec.call("DEL", sandbox).map(drop))?;
        expect_links(sandbox, &[])?;
        Ok(Times { add, del })
    }
}

/// The reference plugins, without anybody who reads annotations.
struct Reference {
    plugins: PathBuf,
    folder: PathBuf,
}

impl Contender for Reference {
    fn name(&self) -> String {
        "reference plugins one by one".to_owned()
    }

    fn once(&self, sandbox: &Sandbox) -> Result<Times> {
        let mut configs = vec![("eth0", "bridge", bridge_config("ref", 4, &self.folder))];
        configs.extend(
            [1, 2, 3].map(|number: u8| {
                (LINKS[usize::from(number)], "macvlan", macvlan(number, "ref", &self.folder))
            }),
        );
        let program = |kind: &str| self.plugins.join(kind);
        let (mut results, mut add) = (Vec::new(), Duration::ZERO);
        for (interface, kind, config) in &configs {
            let exec = Exec { program: &program(kind), path: &self.plugins, interface, config };
            let (result, took) = timed(|| exec.call("ADD", sandbox))?;
            results.push(result);
            add += took;
        }
        expect_links(sandbox, &LINKS)?;
        let mut del = Duration::ZERO;
        for ((interface, kind, config), result) in configs.iter_mut().zip(results).rev() {
            config["prevResult"] = result;
            let exec = Exec { program: &program(kind), path: &self.plugins, interface, config };
            del += timed(|| exec.call("DEL", sandbox))?.1;
        }
        expect_links(sandbox, &[])?;
        Ok(Times { add, del })
    }
}

/// What the kernel needs: few messages, no process, no address book.
struct Floor {
    bridge: u32,
}

impl Floor {
    fn add(&self, sandbox: &Sandbox) -> Result<()> {
        let netns = netns(sandbox)?;
        let mut host = Route::open().map_err(|error| error_text(&error))?;
        let mut pod = route_in(&netns)?;
        let parent = index(&mut host, PARENT)?;
        let kind = LinkKind::Veth { peer_name: "eth0".into(), peer_netns: Some(&netns) };
        let port = NewLink {
            up: true,
            master: Some(self.bridge),
            peer: PeerEnd { group: Some(GROUP), ..PeerEnd::default() },
            ..NewLink::new("floor-port", kind)
        };
        let mut links = vec![port];
        links.extend([1_usize, 2, 3].map(|number| {
            let kind = LinkKind::Macvlan { parent, mode: MacvlanMode::Bridge, bc_queue_len: None };
            NewLink { up: true, netns: Some(&netns), group: Some(GROUP), ..NewLink::new(LINKS[number], kind) }
        }));
        let requests: Vec<Request<'_>> = links.iter().map(Request::add_link).collect();
        all(&mut host, &requests)?;
        let mut requests = Vec::new();
        let networks = [9, 1, 2, 3];
        let eth0 = index(&mut pod, "eth0")?;
        requests.push(Request::set_link(eth0, &LinkChange { up: Some(true), ..LinkChange::default() }));
        for (name, network) in LINKS.into_iter().zip(networks) {
            let link: LinkRef = index(&mut pod, name)?.into();
            requests.push(Request::add_address(link, &address(network, 2)?, AddressFlags::default()));
        }
        let all_addresses: IpNet = "0.0.0.0/0".parse().map_err(|error| format!("{error}"))?;
        let default = NewRoute { gateway: Some(gateway(9)), oif: Some(eth0), ..NewRoute::to(all_addresses) };
        requests.push(Request::add_route(&default));
        all(&mut pod, &requests)
    }

    fn del(sandbox: &Sandbox) -> Result<()> {
        let mut pod = route_in(&netns(sandbox)?)?;
        pod.delete_group(GROUP).map_err(|error| error_text(&error))
    }
}

impl Contender for Floor {
    fn name(&self) -> String {
        "the kernel's own work".to_owned()
    }

    fn once(&self, sandbox: &Sandbox) -> Result<Times> {
        let ((), add) = timed(|| self.add(sandbox))?;
        expect_links(sandbox, &LINKS)?;
        let ((), del) = timed(|| Self::del(sandbox))?;
        expect_links(sandbox, &[])?;
        Ok(Times { add, del })
    }
}
