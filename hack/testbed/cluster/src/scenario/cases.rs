//! Cases beyond the demo: what goes wrong in clusters, and what must come of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    alone, cluster::Cluster, crowd, devices, install, migrate, mixed, networks, primary, quickstarts,
    shell::run, tools,
};

/// How long the executable is killed again and again.
const KILLING: Duration = Duration::from_secs(15);

/// How many pods may come and go until the last of what killed calls left is undone: each DEL sweeps four sandboxes.
const SWEEPS: usize = 3;
/// Where the executable records its attachments.
pub(super) const ATTACHMENTS: &str = "/var/lib/fairlead/attachments";

/// A case.
pub(super) struct Case {
    pub(super) title: &'static str,
    which: Which,
}

#[derive(Clone, Copy)]
enum Which {
    AgentAway,
    BadNetwork,
    NetnsGone,
    PluginKilled,
    PluginUpgraded,
    HotAdded,
    KubeletEmptied,
    Unbound,
    ExecutableKilled,
    DefaultRoute,
    DefaultNetwork,
    WithoutSocket,
    DoctorAndHistory,
    RemovedAndBack,
    FromMultusAndBack,
    QuickStarts,
    Mixed,
    Operated,
    WithoutCluster,
    Crowd,
    AgentKilled,
    ServerAway,
}

/// The cases; each starts and ends with a node without pods.
pub(super) const ALL: &[Case] = &[
    Case {
        title: "without the agent a plain pod starts, one with networks waits, and DEL needs nobody",
        which: Which::AgentAway,
    },
    Case {
        title: "a network that cannot be attached takes the pod's other interfaces back with it",
        which: Which::BadNetwork,
    },
    Case { title: "a VF comes home from a pod whose network namespace is gone", which: Which::NetnsGone },
    Case {
        title: "a device plugin that is killed and started again offers its devices again",
        which: Which::PluginKilled,
    },
    Case {
        title: "two device plugins overlap during an upgrade, and the older one goes without the devices",
        which: Which::PluginUpgraded,
    },
    Case { title: "VFs that are made while pods run are handed out", which: Which::HotAdded },
    Case {
        title: "a kubelet that was stopped, and its folder emptied, has the devices again",
        which: Which::KubeletEmptied,
    },
    Case {
        title: "a VF that is unbound by hand is not handed out until it is bound again",
        which: Which::Unbound,
    },
    Case {
        title: "pods start and go although the executable is killed again and again, and nothing is left",
        which: Which::ExecutableKilled,
    },
    Case {
        title: "the default route moves to the network that asks for it, and device information goes with its attachment",
        which: Which::DefaultRoute,
    },
    Case {
        title: "a pod's default-network annotation takes the place of eth0",
        which: Which::DefaultNetwork,
    },
    Case {
        title: "without kubelet's PodResources socket the devices are known by its checkpoint",
        which: Which::WithoutSocket,
    },
    Case {
        title: "doctor finds nothing wrong with a well node and all of what is broken on purpose, history tells who has what",
        which: Which::DoctorAndHistory,
    },
    Case {
        title: "Fairlead is taken off the node, but not under a pod, and put there again",
        which: Which::RemovedAndBack,
    },
    Case {
        title: "a node of Multus is checked, shadowed, taken over with its pods, and given back",
        which: Which::FromMultusAndBack,
    },
    Case {
        title: "quick starts: macvlan once and twice, addresses asked for, a static pod, ipvlan with sbr, plugins on disk",
        which: Which::QuickStarts,
    },
    Case { title: "pods with networks of every kind at once, and a deployment of many", which: Which::Mixed },
    Case {
        title: "a primary network made in process, a port of the node mapped on disk, and chains in folders beside it",
        which: Which::Operated,
    },
    Case {
        title: "without a cluster networks come from a folder of definitions",
        which: Which::WithoutCluster,
    },
    Case { title: "many pods of 4 interfaces start at once and go at once", which: Which::Crowd },
    Case {
        title: "pods start and go although the agent is killed again and again, and all say what they have",
        which: Which::AgentKilled,
    },
    Case {
        title: "the API server is away from the agent before, during and after ADD, and network-status follows",
        which: Which::ServerAway,
    },
];

/// Plays a case, and makes sure that the node is as before.
pub(super) async fn play(case: &Case, cluster: &mut Cluster) -> Result<()> {
    match case.which {
        Which::AgentAway => agent_away(cluster).await?,
        Which::BadNetwork => bad_network(cluster).await?,
        Which::NetnsGone => netns_gone(cluster).await?,
        Which::PluginKilled => plugin_killed(cluster).await?,
        Which::PluginUpgraded => devices::upgraded(cluster).await?,
        Which::HotAdded => devices::hot_added(cluster).await?,
        Which::KubeletEmptied => devices::kubelet_emptied(cluster).await?,
        Which::Unbound => devices::unbound(cluster).await?,
        Which::ExecutableKilled => executable_killed(cluster).await?,
        Which::DefaultRoute => networks::default_route(cluster).await?,
        Which::DefaultNetwork => networks::default_network(cluster).await?,
        Which::WithoutSocket => networks::without_socket(cluster).await?,
        Which::DoctorAndHistory => tools::doctor_and_history(cluster).await?,
        Which::RemovedAndBack => install::removed_and_back(cluster).await?,
        Which::FromMultusAndBack => migrate::there_and_back(cluster).await?,
        Which::QuickStarts => quickstarts::all(cluster).await?,
        Which::Mixed => mixed::all_kinds(cluster).await?,
        Which::Operated => primary::operated(cluster).await?,
        Which::WithoutCluster => alone::without_cluster(cluster).await?,
        Which::Crowd => crowd::at_once(cluster).await?,
        Which::AgentKilled => crowd::agent_killed(cluster).await?,
        Which::ServerAway => crowd::server_away(cluster).await?,
    }
    cluster.is_as_before().await
}

/// A pod that sleeps.
pub(super) fn pod(name: &str, networks: Option<&str>, limits: &Value) -> Value {
    let annotations = networks.map_or(json!({}), |text| json!({"k8s.v1.cni.cncf.io/networks": text}));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"containers": [{
            "name": "app", "image": "localhost/fairlead/busybox:1", "imagePullPolicy": "Never",
            "command": ["sleep", "1000000"], "resources": {"limits": limits}
        }]}
    })
}

async fn agent_away(cluster: &mut Cluster) -> Result<()> {
    let vf = json!({"intel.com/sriov": "1"});
    cluster.apply_document(&pod("before", Some("sriov-net"), &vf))?;
    cluster.wait_for_pod("before").await?;
    cluster.kill_part("agent").await?;
    cluster.apply_document(&pod("plain", None, &json!({})))?;
    cluster.wait_for_pod("plain").await.context("a pod without networks must not need the agent")?;
    cluster.apply_document(&pod("waiting", Some("sriov-net"), &vf))?;
    let event = cluster.wait_for_event("waiting", "fairlead-agent").await?;
    ensure!(event.contains("does not answer"), "the reason is not told: {event}");
    cluster.delete_pods(&["before"]).await.context("DEL must not need the agent")?;
    cluster.start_agent()?;
    let pod = cluster.wait_for_pod("waiting").await?;
    let status = pod.metadata.annotations.unwrap_or_default();
    ensure!(status.contains_key("k8s.v1.cni.cncf.io/network-status"), "the pod has no network-status");
    cluster.delete_pods(&["plain", "waiting"]).await
}

async fn bad_network(cluster: &mut Cluster) -> Result<()> {
    let config = json!({"cniVersion": "1.0.0", "name": "full", "type": "macvlan", "master": "enp2s0", "ipam": {
        "type": "host-local", "subnet": "10.77.0.0/30", "rangeStart": "10.77.0.2", "rangeEnd": "10.77.0.2"}});
    cluster.define("full", &config)?;
    // The second attachment to this network finds no address left.
    let vf = json!({"intel.com/sriov": "1"});
    cluster.apply_document(&pod("bad", Some("sriov-net, full, full"), &vf))?;
    let event = cluster.wait_for_event("bad", "default/full").await?;
    ensure!(event.contains("net3") && event.contains("no IP addresses available"), "not told why: {event}");
    cluster.delete_pods(&["bad"]).await
}

async fn netns_gone(cluster: &mut Cluster) -> Result<()> {
    cluster.apply_document(&pod(
        "lost",
        Some(r#"[{"name":"sriov-net","mac":"02:fa:00:00:00:09"}]"#),
        &json!({"intel.com/sriov": "1"}),
    ))?;
    cluster.wait_for_pod("lost").await?;
    let list = run("ip", &["netns", "list"])?;
    let name = list.split_whitespace().next().context("the pod has no namespace")?.to_owned();
    // The pod's processes hold the namespace, too: as after a crash of the runtime, they are gone first.
    for id in run("ctr", &["-n", "k8s.io", "tasks", "list", "-q"])?.lines() {
        run("ctr", &["-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id])?;
    }
    run("ip", &["netns", "delete", &name])?;
    cluster.delete_pods(&["lost"]).await
}

/// Kills the CNI executable at moments of chance, as long as the returned task lives.
fn killer() -> tokio::task::JoinHandle<u32> {
    tokio::task::spawn_blocking(|| {
        let start = Instant::now();
        let mut killed = 0;
        while start.elapsed() < KILLING {
            std::thread::sleep(Duration::from_millis(rand::random_range(20..400)));
            // It fails while there is none to kill.
            killed += u32::from(run("pkill", &["-KILL", "-x", "fairlead"]).is_ok());
        }
        killed
    })
}

async fn executable_killed(cluster: &mut Cluster) -> Result<()> {
    let names = ["first", "second"];
    let killing = killer();
    for name in names {
        cluster.apply_document(&pod(
            name,
            Some("sriov-net, macvlan-conf"),
            &json!({"intel.com/sriov": "1"}),
        ))?;
    }
    let mut killed = killing.await?;
    for name in names {
        cluster.wait_for_pod(name).await?;
    }
    let killing = killer();
    cluster.delete_pods(&names).await?;
    killed += killing.await?;
    // Sweeps may have been killed, too, and one DEL sweeps a few sandboxes only.
    let mut left = SWEEPS;
    while left > 0 && std::fs::read_dir(ATTACHMENTS)?.next().is_some() {
        left -= 1;
        cluster.apply_document(&pod("sweeper", None, &json!({})))?;
        cluster.wait_for_pod("sweeper").await?;
        cluster.delete_pods(&["sweeper"]).await?;
    }
    println!("  the executable was killed {killed} times");
    ensure!(killed > 0, "nothing was killed: the case shows nothing");
    Ok(())
}

async fn plugin_killed(cluster: &mut Cluster) -> Result<()> {
    let dpdk = json!({"intel.com/sriov_dpdk": "1"});
    cluster.apply_document(&pod("holder", Some("dpdk-net"), &dpdk))?;
    cluster.wait_for_pod("holder").await?;
    cluster.kill_part("device-plugin").await?;
    cluster.wait_for_allocatable("intel.com/sriov_dpdk", 0).await?;
    cluster.start_device_plugin()?;
    cluster.wait_for_allocatable("intel.com/sriov_dpdk", 2).await?;
    cluster.apply_document(&pod("second", Some("dpdk-net"), &dpdk))?;
    cluster.wait_for_pod("second").await?;
    let devices = |pod: &str| cluster.variable(pod, "PCIDEVICE_INTEL_COM_SRIOV_DPDK");
    ensure!(devices("holder")? != devices("second")?, "both pods got one device");
    cluster.delete_pods(&["holder", "second"]).await
}
