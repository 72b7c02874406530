//! Every component is replaced by another build's, and back, while pods run and start.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    Options, Tally,
    cases::pod,
    cluster::Cluster,
    inside::{addresses, compare, netns_of, ping, run_in},
    install,
    shell::run,
    steps::status_of,
};

/// How many pods start while one component is replaced.
const EACH: usize = 2;
/// Where the programs of this build are.
const NEWER: &str = "/usr/local/bin";

/// What is replaced, in the order in which manifests say it.
const COMPONENTS: [Component; 3] = [Component::Executable, Component::Agent, Component::DevicePlugin];

#[derive(Clone, Copy, Debug)]
enum Component {
    Executable,
    Agent,
    DevicePlugin,
}

/// A pod that runs all the while, and what it had at the beginning.
struct Kept {
    name: String,
    netns: PathBuf,
    look: String,
}

/// Plays an upgrade from the build in `older` to this one, and back. True when all went well.
///
/// # Errors
/// Only what keeps it from starting.
pub async fn play(options: &Options, older: &Path) -> Result<bool> {
    let mut tally = Tally::default();
    let mut cluster = Cluster::start_from(options, older).await?;
    let start = Instant::now();
    let played = there_and_back(&mut cluster, older, &mut tally).await;
    tally.count("all pods go, and the node is as before", start, &played);
    if played.is_err() {
        cluster.show_logs();
    }
    cluster.stop().await;
    Ok(tally.end())
}

async fn there_and_back(cluster: &mut Cluster, older: &Path, tally: &mut Tally) -> Result<()> {
    let first = keep(cluster, "older", &json!({"intel.com/sriov": "1"}), "sriov-net, macvlan-conf").await?;
    let second = keep(cluster, "neighbour", &json!({}), "macvlan-conf").await?;
    let kept = [first, second];
    replace_all(cluster, Path::new(NEWER), "upgraded", &kept, tally).await?;
    // Made by this build, and removed by the older one.
    let made = keep(cluster, "newer", &json!({"intel.com/sriov": "1"}), "sriov-net, macvlan-conf").await?;
    cluster.delete_pods(&["neighbour"]).await.context("a pod that the older build made")?;
    let [first, _] = kept;
    let kept = [first, made];
    replace_all(cluster, older, "rolled-back", &kept, tally).await?;
    cluster.delete_pods(&["newer", "older"]).await?;
    // What the older build knows nothing of, the next one that does takes away.
    run(&format!("{NEWER}/fairlead"), &["gc"])?;
    cluster.is_as_before().await
}

/// Starts a pod that is to keep all that it has.
async fn keep(cluster: &Cluster, name: &str, limits: &Value, networks: &str) -> Result<Kept> {
    cluster.create_pod(&pod(name, Some(networks), limits)).await?;
    cluster.wait_for_pod(name).await?;
    let netns = netns_of(name)?;
    let look = look(&netns)?;
    Ok(Kept { name: name.to_owned(), netns, look })
}

/// A namespace's interfaces with their addresses, and its routes.
fn look(netns: &Path) -> Result<String> {
    let brief = |what| run_in(netns, &["ip", "-brief", what, "show"]);
    Ok([brief("link")?, brief("address")?, run_in(netns, &["ip", "route", "show"])?].concat())
}

/// Replaces one component after the other while pods start; afterwards those go.
async fn replace_all(
    cluster: &mut Cluster,
    programs: &Path,
    word: &str,
    kept: &[Kept],
    tally: &mut Tally,
) -> Result<()> {
    let mut names = Vec::new();
    for component in COMPONENTS {
        let start = Instant::now();
        let replaced =
            replace(cluster, component, programs, &format!("{word}-{}", names.len()), &mut names).await;
        tally.count(&format!("{word}: {component:?}, while pods start"), start, &replaced);
        replaced?;
    }
    let start = Instant::now();
    let checked = check(cluster, &names, kept).await;
    tally.count(&format!("{word}: every pod has what it is to have"), start, &checked);
    checked?;
    cluster.delete_pods(&names.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn replace(
    cluster: &mut Cluster,
    component: Component,
    programs: &Path,
    prefix: &str,
    names: &mut Vec<String>,
) -> Result<()> {
    let new: Vec<String> = (0..EACH).map(|number| format!("{prefix}-{number}")).collect();
    for name in &new {
        cluster.create_pod(&pod(name, Some("macvlan-conf, macvlan-conf"), &json!({}))).await?;
    }
    names.extend(new);
    cluster.programs = programs.to_owned();
    match component {
        Component::Executable => install::install(programs),
        // As a DaemonSet with a surge: the new one is there before the old one is told to end.
        Component::Agent => {
            cluster.start_agent()?;
            cluster.end_part("agent").await?;
            cluster.wait_for_agent().await
        }
        Component::DevicePlugin => {
            cluster.start_device_plugin()?;
            cluster.end_part("device-plugin").await?;
            cluster.wait_for_allocatable("intel.com/sriov", 2).await
        }
    }
}

async fn check(cluster: &Cluster, names: &[String], kept: &[Kept]) -> Result<()> {
    for name in names {
        let pod = cluster.wait_for_pod(name).await?;
        let status = status_of(&pod)?;
        ensure!(status.len() == 3, "pod {name} says that it has {status:?}");
        compare(name, &netns_of(name)?, &status)?;
    }
    for Kept { name, netns, look: before } in kept {
        let now = look(netns)?;
        ensure!(now == *before, "pod {name} had\n{before}\nand has\n{now}");
        let from = status_of(&cluster.wait_for_pod(name).await?)?;
        ensure!(from.len() > 1, "pod {name} lost its network-status: {from:?}");
        let to = status_of(&cluster.wait_for_pod(&names[0]).await?)?;
        for address in to.iter().flat_map(addresses) {
            ping(netns, address).with_context(|| format!("{name} does not reach {}", names[0]))?;
        }
    }
    Ok(())
}
