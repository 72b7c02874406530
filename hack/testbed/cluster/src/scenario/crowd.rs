//! Many pods at once, an agent that is killed again and again among them, and an API server that is away.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    cases::pod,
    cluster::{Cluster, SERVER_PORT},
    inside::{addresses, compare, netns_of, ping},
    steps::status_of,
    way::{State, Way},
};

/// How long each of many pods may take, under software emulation.
const EACH: Duration = Duration::from_secs(10);
/// How many come and go while the agent is killed.
const DISTURBED: usize = 8;
/// How many come and go each time that the API server is away.
const CUT_OFF: usize = 3;
/// The networks of each pod beside its primary one, all on port 2, and the first part of their addresses.
const NETWORKS: [(&str, &str); 3] = [("crowd-a", "10.60.1"), ("crowd-b", "10.60.2"), ("crowd-c", "10.60.3")];
const ANNOTATION: &str = "crowd-a, crowd-b, crowd-c";

fn define(cluster: &Cluster) -> Result<()> {
    for (name, part) in NETWORKS {
        let ipam = json!({"type": "host-local", "subnet": format!("{part}.0/24")});
        cluster.define(
            name,
            &json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "enp2s0", "ipam": ipam}),
        )?;
    }
    Ok(())
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

async fn create(cluster: &Cluster, names: &[String]) -> Result<()> {
    for name in names {
        cluster.create_pod(&pod(name, Some(ANNOTATION), &json!({}))).await?;
    }
    Ok(())
}

async fn delete(cluster: &Cluster, names: &[String]) -> Result<()> {
    cluster.delete_pods(&names.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Waits until the pods are ready and say what interfaces they have, and makes sure that it is so and no address is had twice.
/// What they say is returned.
async fn check(cluster: &Cluster, names: &[String]) -> Result<Vec<Vec<Value>>> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for name in names {
        cluster.wait_for_pod(name).await?;
        let status = cluster
            .wait_until(&format!("network-status of pod {name}"), async |cluster| {
                Ok(status_of(&cluster.pods().get(name).await?).ok())
            })
            .await?;
        let has: Vec<_> =
            status.iter().map(|entry| entry["interface"].as_str().unwrap_or_default()).collect();
        ensure!(has == ["eth0", "net1", "net2", "net3"], "pod {name} has {has:?}");
        compare(name, &netns_of(name)?, &status)?;
        for address in status.iter().flat_map(addresses) {
            ensure!(seen.insert(address.to_owned()), "pod {name} has {address}, as another pod has");
        }
        all.push(status);
    }
    Ok(all)
}

/// Pings the first pod's neighbour and the last pod over every network.
fn reach(names: &[String], statuses: &[Vec<Value>]) -> Result<()> {
    let from = netns_of(&names[0])?;
    for target in [1, names.len() - 1] {
        for address in statuses[target].iter().flat_map(addresses) {
            ping(&from, address).with_context(|| format!("{} does not reach {}", names[0], names[target]))?;
        }
    }
    Ok(())
}

/// See [`super::cases::ALL`].
pub(super) async fn at_once(cluster: &mut Cluster) -> Result<()> {
    let patience = cluster.patience;
    cluster.patience = patience.max(EACH * u32::try_from(cluster.crowd())?);
    let played = many(cluster, cluster.crowd()).await;
    cluster.patience = patience;
    played
}

async fn many(cluster: &Cluster, count: usize) -> Result<()> {
    define(cluster)?;
    let names = names("crowd", count);
    let start = Instant::now();
    create(cluster, &names).await?;
    let statuses = check(cluster, &names).await?;
    let up = start.elapsed();
    for (name, _) in NETWORKS {
        let folder = Path::new("/var/lib/cni/networks").join(name);
        let reserved = fs::read_dir(&folder)?.flatten().filter(|entry| is_address(&entry.file_name()));
        let reserved = reserved.count();
        ensure!(reserved == count, "{reserved} addresses of {name} are reserved");
    }
    reach(&names, &statuses)?;
    let start = Instant::now();
    delete(cluster, &names).await?;
    let (up, down) = (up.as_secs_f64(), start.elapsed().as_secs_f64());
    println!("  {count} pods of 4 interfaces: up in {up:.0} s, gone in {down:.0} s");
    Ok(())
}

fn is_address(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().parse::<std::net::IpAddr>().is_ok()
}

/// Kills the agent at random moments, and starts it again a little later, so many times.
async fn disturb(cluster: &mut Cluster, random: &mut StdRng, times: u32) -> Result<()> {
    for _ in 0..times {
        sleep(Duration::from_millis(random.random_range(100..1500))).await;
        cluster.kill_part("agent").await?;
        sleep(Duration::from_millis(random.random_range(0..1500))).await;
        cluster.start_agent()?;
    }
    Ok(())
}

/// See [`super::cases::ALL`].
pub(super) async fn agent_killed(cluster: &mut Cluster) -> Result<()> {
    define(cluster)?;
    let mut random = StdRng::seed_from_u64(cluster.seed());
    let names = names("disturbed", DISTURBED);
    create(cluster, &names).await?;
    disturb(cluster, &mut random, 5).await?;
    let statuses = check(cluster, &names).await?;
    reach(&names, &statuses)?;
    // While they go: DEL needs nobody.
    let (first, second) = names.split_at(DISTURBED / 2);
    cluster.kill_part("agent").await?;
    delete(cluster, first).await?;
    cluster.start_agent()?;
    disturb(cluster, &mut random, 2).await?;
    delete(cluster, second).await?;
    cluster.wait_for_agent().await
}

/// See [`super::cases::ALL`]. Only the agent's way to the API server is cut: kubelet would have no pods without it.
pub(super) async fn server_away(cluster: &mut Cluster) -> Result<()> {
    define(cluster)?;
    let way = Way::to(SERVER_PORT).await?;
    cluster.kill_part("agent").await?;
    cluster.start_agent_through(way.port)?;
    cluster.wait_for_agent().await?;
    let played = away(cluster, &way).await;
    way.set(State::Open);
    cluster.kill_part("agent").await?;
    cluster.start_agent()?;
    cluster.wait_for_agent().await?;
    played
}

async fn away(cluster: &mut Cluster, way: &Way) -> Result<()> {
    let mut random = StdRng::seed_from_u64(cluster.seed());
    // Before: pods start by what the agent knows, and their status follows.
    let before = names("before", CUT_OFF);
    way.set(State::Silent);
    create(cluster, &before).await?;
    for name in &before {
        let pod = cluster.wait_for_pod(name).await?;
        ensure!(status_of(&pod).is_err(), "pod {name} has network-status while the API server is away");
    }
    way.set(State::Open);
    check(cluster, &before).await?;
    // During: it goes while they are being made.
    let during = names("during", CUT_OFF);
    create(cluster, &during).await?;
    sleep(Duration::from_millis(random.random_range(200..1500))).await;
    way.set(State::Cut);
    for name in &during {
        cluster.wait_for_pod(name).await?;
    }
    // After: DEL needs it no more than ADD, and what an agent could not publish is for the next one to do.
    delete(cluster, &before).await?;
    cluster.kill_part("agent").await?;
    way.set(State::Open);
    cluster.start_agent_through(way.port)?;
    let statuses = check(cluster, &during).await?;
    reach(&during, &statuses)?;
    delete(cluster, &during).await
}
