//! The manifests' pods on the emulated node: from the images that ship, with the mounts, users, capabilities and profiles that
//! the manifests say, and the examples with them.
//!
//! The stand-ins have no DaemonSet controller: each DaemonSet's pod is made from its template. What they cannot do is changed in
//! one place, [`pod_of`]. With Kubernetes itself nothing of that is needed: see [`manifests`].

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    Options, Progress, Tally,
    cluster::{CNI_CONF, Cluster, KUBECONFIG, NODE},
    dpdk::pods_of,
    examples, manifests,
    shell::run,
};
use crate::{cri::Runtime, images};

/// Every object of the overlay `all`, rendered.
pub(super) const MANIFESTS: &str = "all.yaml";
/// The uninstaller, rendered.
pub(super) const UNINSTALL: &str = "uninstall.yaml";
/// What a ConfigMap's volume becomes here.
const CONFIG_MAPS: &str = "/var/lib/fairlead-testbed/config-maps";
/// Where a container looks for the API server's address and credentials.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const RUNTIME: &str = "/run/containerd/containerd.sock";
const PRIMARY: &str = "10-bridge.conflist";

/// A probe that kubelet would make.
#[derive(Debug, PartialEq, Eq)]
struct Probe {
    port: u16,
    path: String,
}

/// A pod of a DaemonSet, as the stand-in kubelet runs it.
#[derive(Debug)]
struct Made {
    pod: Value,
    /// Files of ConfigMaps, by path on the node.
    files: BTreeMap<PathBuf, String>,
    probes: Vec<Probe>,
}

/// Plays it. True when all went well.
///
/// # Errors
/// Only what keeps it from starting.
pub async fn play(options: &Options) -> Result<bool> {
    let progress = Progress { start: Instant::now() };
    progress.say(&options.setting_up());
    images::import_shipped(&Runtime::at(Path::new(RUNTIME))?, env!("CARGO_PKG_VERSION")).await?;
    place_primary(options)?;
    let mut cluster = Cluster::start_bare(options).await?;
    let mut tally = Tally::default();
    let start = Instant::now();
    let is_real = options.kubernetes.is_some();
    let result = match is_real {
        true => manifests::deploy(&mut cluster, options).await,
        false => deploy(&mut cluster, options).await,
    };
    tally.count("the manifests' pods run from the images that ship", start, &result);
    if result.is_ok() {
        for case in examples::cases(&options.manifests.join("examples"))? {
            let start = Instant::now();
            let result = case.play(&cluster).await;
            tally.count(&case.title, start, &result);
        }
        let start = Instant::now();
        let result = examples::clean(&cluster).await;
        tally.count("after the examples the node is as before the first", start, &result);
        let start = Instant::now();
        tally.count("the containers have no more rights than the manifests say", start, &rights());
        if is_real {
            let start = Instant::now();
            let result = manifests::restarted(&mut cluster, options).await;
            tally.count("both DaemonSets are restarted under pods with networks", start, &result);
        }
        let start = Instant::now();
        let result = match is_real {
            true => manifests::doctor(&cluster, options).await,
            false => doctor(&cluster, options).await,
        };
        tally.count("doctor's job finds nothing wrong", start, &result);
        let start = Instant::now();
        let result = match is_real {
            true => manifests::uninstalled(&cluster, options).await,
            false => uninstall(&cluster, options).await,
        };
        tally.count("the uninstaller's pod takes everything from the node", start, &result);
    }
    if tally.failed > 0 {
        cluster.show_logs();
        show_containers();
    }
    cluster.stop().await;
    Ok(tally.end())
}

/// The cluster's own network is there before Fairlead.
fn place_primary(options: &Options) -> Result<()> {
    fs::create_dir_all(CNI_CONF)?;
    let from = options.manifests.join("examples/first-pods").join(PRIMARY);
    fs::copy(&from, Path::new(CNI_CONF).join(PRIMARY)).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// Runs the pods of all DaemonSets, until kubelet has the devices and the configuration is in place.
async fn deploy(cluster: &mut Cluster, options: &Options) -> Result<()> {
    let objects = manifests::objects(&options.manifests.join(MANIFESTS))?;
    let mut probes = Vec::new();
    let mut names = Vec::new();
    for set in objects.iter().filter(|object| object["kind"] == "DaemonSet") {
        let made = pod_of(set, &objects)?;
        for (path, text) in &made.files {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            fs::write(path, text).with_context(|| path.display().to_string())?;
        }
        cluster.apply_document(&made.pod)?;
        probes.extend(made.probes);
        names.push(made.pod["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(names.len() == 2, "there are {} DaemonSets: {names:?}", names.len());
    for name in &names {
        cluster.wait_for_pod(name).await?;
    }
    let conflist = Path::new(CNI_CONF).join("00-fairlead.conflist");
    cluster
        .wait_until("our configuration is in place", async |_| Ok(conflist.exists().then_some(())))
        .await?;
    for resource in ["intel.com/sriov", "intel.com/sriov_dpdk"] {
        cluster.wait_for_allocatable(resource, 2).await?;
    }
    for probe in &probes {
        cluster
            .wait_until(&format!("port {} says that {} is well", probe.port, probe.path), async |_| {
                Ok(probe.answers().then_some(()))
            })
            .await?;
    }
    ensure!(probes.len() == 4, "{} probes", probes.len());
    cluster.look_before()
}

impl Probe {
    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", self.path)?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
    }
}

/// The pod of a DaemonSet on this node. The stand-ins have no ConfigMaps (their volumes become folders), no service accounts (the
/// API server's address is a file of the node), and make no probes (they are asked here).
fn pod_of(set: &Value, objects: &[Value]) -> Result<Made> {
    let name = set["metadata"]["name"].as_str().context("a DaemonSet without a name")?;
    let mut pod = set["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(format!("{name}-node1"));
    pod["metadata"]["namespace"] = json!("default");
    let mut files = BTreeMap::new();
    for volume in pod["spec"]["volumes"].as_array_mut().context("a pod without volumes")? {
        let host = if let Some(map) = volume["configMap"]["name"].as_str() {
            let folder = Path::new(CONFIG_MAPS).join(map);
            files.extend(files_of(map, objects)?.into_iter().map(|(key, text)| (folder.join(key), text)));
            json!({ "path": folder, "type": "Directory" })
        } else if volume["projected"].is_object() {
            json!({ "path": Path::new(KUBECONFIG).parent(), "type": "Directory" })
        } else {
            continue;
        };
        *volume = json!({ "name": volume["name"], "hostPath": host });
    }
    let mut probes = Vec::new();
    for container in pod["spec"]["containers"].as_array_mut().context("a pod without containers")? {
        for key in ["livenessProbe", "readinessProbe"] {
            let probe = container.as_object_mut().and_then(|container| container.remove(key));
            probes.extend(probe.as_ref().map(probe_of).transpose()?);
        }
        container["imagePullPolicy"] = json!("Never");
        let has_token =
            container["volumeMounts"].as_array().into_iter().flatten().any(|m| m["mountPath"] == TOKEN);
        if has_token {
            let arguments = container["args"].as_array_mut().context("a container without arguments")?;
            arguments.push(json!(format!("--kubeconfig={TOKEN}/config")));
        }
    }
    Ok(Made { pod, files, probes })
}

fn files_of(map: &str, objects: &[Value]) -> Result<BTreeMap<String, String>> {
    let found = objects.iter().find(|o| o["kind"] == "ConfigMap" && o["metadata"]["name"] == map);
    let data = &found.with_context(|| format!("there is no ConfigMap {map}"))?["data"];
    serde_json::from_value(data.clone()).with_context(|| format!("ConfigMap {map}"))
}

fn probe_of(probe: &Value) -> Result<Probe> {
    let get = &probe["httpGet"];
    ensure!(get["host"] == "127.0.0.1", "a probe that is not of the loopback: {probe}");
    let port = get["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok(Probe {
        port: port.context("a probe without port")?,
        path: get["path"].as_str().context("a probe without path")?.to_owned(),
    })
}

/// The example's job, in a pod: what it says is in its log.
async fn doctor(cluster: &Cluster, options: &Options) -> Result<()> {
    let pods = pods_of(&options.manifests.join("examples/doctor/job.yaml"))?;
    let [pod] = pods.as_slice() else { bail!("{} jobs instead of one", pods.len()) };
    let mut pod = pod.clone();
    pod["metadata"]["namespace"] = json!("default");
    pod["spec"]["nodeName"] = json!(NODE);
    pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    cluster.apply_document(&pod)?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    cluster
        .wait_until("doctor has ended", async |cluster| {
            let phase = cluster.pods().get(name).await?.status.and_then(|status| status.phase);
            Ok(phase.filter(|phase| phase == "Succeeded" || phase == "Failed"))
        })
        .await?;
    manifests::judge(&cluster.pod_log(name)?)?;
    cluster.delete_pods(&[name]).await
}

/// As the documents have it: the DaemonSet goes, then the uninstaller comes.
async fn uninstall(cluster: &Cluster, options: &Options) -> Result<()> {
    let objects = manifests::objects(&options.manifests.join(UNINSTALL))?;
    let set = objects.iter().find(|object| object["kind"] == "DaemonSet").context("no DaemonSet")?;
    let pod = pod_of(set, &objects)?.pod;
    let placed = manifests::placed();
    ensure!(placed.iter().all(|file| file.exists()), "nothing is there that could go");
    cluster.delete_pods(&["fairlead-cni-node1"]).await?;
    ensure!(placed.iter().all(|file| file.exists()), "it went with its DaemonSet");
    cluster.apply_document(&pod)?;
    cluster
        .wait_until("program and configuration are gone", async |_| {
            Ok((!placed.iter().any(|file| file.exists())).then_some(()))
        })
        .await?;
    cluster.delete_pods(&["fairlead-uninstall-node1"]).await
}

/// What the kernel lets the containers' processes do, and what memory they took at most.
fn rights() -> Result<()> {
    for program in ["fairlead-device", "fairlead-agent", "fairlead"] {
        let pid = process(program)?;
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned()).with_context(|| format!("no {name} of {program}"))
        };
        for (name, wanted) in [
            ("CapEff", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            let found = field(name)?;
            ensure!(found == wanted, "{program}: {name} is {found}, not {wanted}");
        }
        println!("  {program}: at most {} in memory", field("VmHWM")?);
        // Its root file system is read-only.
        if fs::write(format!("/proc/{pid}/root/written"), "").is_ok() {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mounts"))?;
            let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap_or_default();
            bail!("{program} has a root that can be written: {root}");
        }
    }
    Ok(())
}

/// The oldest process of a program; its name as the kernel shortens it.
fn process(program: &str) -> Result<u32> {
    let mut found: Vec<u32> = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.trim_end() == program {
            found.extend(entry.file_name().to_string_lossy().parse::<u32>().ok());
        }
    }
    found.into_iter().min().with_context(|| format!("no process {program}"))
}

/// Prints the end of what the containers of the manifests' pods said.
fn show_containers() {
    let Ok(list) = run("sh", &["-c", "ls /var/log/pods/*fairlead*/*/*.log"]) else { return };
    for file in list.lines() {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        println!("--- end of {file} ---\n{}", lines[lines.len().saturating_sub(25)..].join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_sets_pod_keeps_everything_but_what_the_stand_ins_lack() {
        let set = json!({ "kind": "DaemonSet", "metadata": { "name": "s" }, "spec": { "template": {
            "metadata": { "labels": { "a": "b" } },
            "spec": {
                "hostNetwork": true,
                "containers": [{
                    "name": "c", "image": "i", "args": ["--x"], "securityContext": { "runAsUser": 0 },
                    "livenessProbe": { "httpGet": { "host": "127.0.0.1", "port": 9808, "path": "/healthz" } },
                    "volumeMounts": [{ "name": "t", "mountPath": TOKEN }, { "name": "m", "mountPath": "/etc/m" }],
                }],
                "volumes": [
                    { "name": "t", "projected": { "sources": [] } },
                    { "name": "m", "configMap": { "name": "map" } },
                    { "name": "h", "hostPath": { "path": "/h" } },
                ],
            },
        } } });
        let map = json!({ "kind": "ConfigMap", "metadata": { "name": "map" }, "data": { "k": "text" } });
        let made = pod_of(&set, &[set.clone(), map]).unwrap();
        let container = &made.pod["spec"]["containers"][0];
        assert_eq!(container["args"], json!(["--x", format!("--kubeconfig={TOKEN}/config")]));
        assert_eq!(container["securityContext"], json!({ "runAsUser": 0 }));
        assert_eq!(made.probes, [Probe { port: 9808, path: "/healthz".into() }]);
        assert_eq!(made.files, [(Path::new(CONFIG_MAPS).join("map/k"), "text".to_owned())].into());
        let volumes = &made.pod["spec"]["volumes"];
        assert_eq!(volumes[0]["hostPath"]["path"], "/root/.kube");
        assert_eq!(volumes[2], json!({ "name": "h", "hostPath": { "path": "/h" } }));
        assert_eq!(
            made.pod["metadata"],
            json!({ "labels": { "a": "b" }, "name": "s-node1", "namespace": "default" })
        );
        assert!(pod_of(&set, &[]).is_err());
    }
}
