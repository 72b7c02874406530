//! The DPDK check in pods: its jobs as they are in the examples, and a pod against its host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Options, Progress, Tally, cluster::Cluster, manifests::objects, shell::run};

/// How long a job may take.
const JOB_LIMIT: Duration = Duration::from_secs(400);
const PAUSE: Duration = Duration::from_millis(500);

/// What is played.
#[derive(Debug, Clone)]
pub struct DpdkOptions {
    /// The cluster's set-up.
    pub scenario: Options,
    /// Folder of the jobs' manifests (`deploy/examples/dpdk`); without it only the comparison is played.
    pub jobs: Option<PathBuf>,
    /// How often pod and host are measured.
    pub runs: u16,
    /// Where the comparison's report goes.
    pub report: PathBuf,
}

/// Plays it. True when all went well.
///
/// # Errors
/// Only what keeps it from starting.
pub async fn dpdk(options: &DpdkOptions) -> Result<bool> {
    let progress = Progress { start: Instant::now() };
    let Some(demo) = super::set_up(&progress, &options.scenario).await else { return Ok(false) };
    let mut cluster = demo.cluster;
    let mut tally = Tally::default();
    if let Some(jobs) = &options.jobs {
        let start = Instant::now();
        tally.count("the job of one pod with two VFs", start, &one_pod(&cluster, jobs).await);
        let start = Instant::now();
        tally.count("the jobs of two pods with a VF each", start, &two_pods(&cluster, jobs).await);
    }
    let start = Instant::now();
    tally.count("a pod against its host", start, &against_host(&cluster, options).await);
    let start = Instant::now();
    tally.count("the node is as before the first pod", start, &cluster.is_as_before().await);
    let good = tally.end();
    if !good {
        cluster.show_logs();
    }
    cluster.stop().await;
    Ok(good)
}

/// The pods that a job controller would make of a file's jobs.
pub(super) fn pods_of(file: &Path) -> Result<Vec<Value>> {
    let jobs = objects(file)?.into_iter().filter(|document| document["kind"] == "Job");
    let pods = jobs.map(|job| {
        let mut pod = job["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = job["metadata"]["name"].clone();
        pod["metadata"]["namespace"] = job["metadata"]["namespace"].clone();
        pod
    });
    Ok(pods.collect())
}

async fn one_pod(cluster: &Cluster, jobs: &Path) -> Result<()> {
    cluster.apply_file(&jobs.join("network.yaml"))?;
    let pods = pods_of(&jobs.join("job-one-pod.yaml"))?;
    let [pod] = pods.as_slice() else { bail!("{} jobs instead of one", pods.len()) };
    cluster.apply_document(pod)?;
    let report = report_of(cluster, "dpdk-check").await?;
    let modes = ["forth", "back", "both", "both"];
    expect_results(&report, &modes.map(|mode| [mode; 2]).concat())?;
    cluster.delete_pods(&["dpdk-check"]).await
}

async fn two_pods(cluster: &Cluster, jobs: &Path) -> Result<()> {
    let pods = pods_of(&jobs.join("jobs-two-pods.yaml"))?;
    let [peer, pair] = pods.as_slice() else { bail!("{} jobs instead of two", pods.len()) };
    cluster.apply_document(peer)?;
    let peer = cluster.wait_for_pod("dpdk-check-peer").await?;
    let address = peer.status.and_then(|status| status.pod_ip).context("the peer has no address")?;
    // What kubelet would set for the Service.
    let mut pair = pair.clone();
    pair["spec"]["containers"][0]["env"] =
        json!([{"name": "DPDK_CHECK_PEER_SERVICE_HOST", "value": address}]);
    cluster.apply_document(&pair)?;
    let report = report_of(cluster, "dpdk-check-pair").await?;
    let modes = ["forth", "back", "macswap", "latency"];
    expect_results(&report, &modes.map(|mode| [mode; 2]).concat())?;
    ended(cluster, "dpdk-check-peer").await?;
    cluster.delete_pods(&["dpdk-check-peer", "dpdk-check-pair"]).await
}

/// Waits until a job's pod has ended well.
async fn ended(cluster: &Cluster, name: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let pod: Pod = cluster.pods().get(name).await?;
        match pod.status.unwrap_or_default().phase.as_deref() {
            Some("Succeeded") => return Ok(()),
            Some("Failed") => bail!("pod {name} failed:\n{}", cluster.pod_log(name).unwrap_or_default()),
            _ if start.elapsed() > JOB_LIMIT => {
                bail!("pod {name} does not end: {}", cluster.events(name).await.join("; "))
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The report in the log of a job's pod, by the program's own means; also as a page.
async fn report_of(cluster: &Cluster, name: &str) -> Result<Value> {
    ended(cluster, name).await?;
    let folder = std::env::temp_dir();
    let path = |kind: &str| folder.join(format!("{name}.{kind}")).to_string_lossy().into_owned();
    fs::write(path("log"), cluster.pod_log(name)?)?;
    let (log, json, html, junit) = (path("log"), path("json"), path("html"), path("xml"));
    run("fairlead-dpdk-check", &["render", &log, "--json", &json, "--html", &html, "--junit", &junit])?;
    ensure!(fs::read_to_string(&html)?.contains("<svg"), "the page has no plot");
    let report: Value = serde_json::from_str(&fs::read_to_string(&json)?)?;
    ensure!(report["outcome"] == "ok", "outcome {}: {}", report["outcome"], report["reason"]);
    Ok(report)
}

/// Compares the modes of all results, in order of their names, and makes sure that something arrived in each.
fn expect_results(report: &Value, modes: &[&str]) -> Result<()> {
    let results = report["results"].as_array().context("no results")?;
    let mut have: Vec<&str> = results.iter().filter_map(|result| result["mode"].as_str()).collect();
    let mut wanted = modes.to_vec();
    have.sort_unstable();
    wanted.sort_unstable();
    ensure!(have == wanted, "the results are {have:?}, wanted are {wanted:?}");
    for result in results {
        let pps = result["receivedPps"]["median"].as_f64().unwrap_or(0.0);
        let (mode, size) = (&result["mode"], &result["frameSize"]);
        ensure!(pps > 1.0, "nothing arrived in {mode} with {size} bytes");
        let spread = 100.0 * result["receivedPps"]["spread"].as_f64().unwrap_or(0.0);
        println!("  {mode} {size} B: {pps:.0} packets/s, spread {spread:.0} %");
    }
    Ok(())
}

/// Lets the check itself compare: a pod that sleeps, entered by this program's kubectl.
async fn against_host(cluster: &Cluster, options: &DpdkOptions) -> Result<()> {
    cluster.apply("pod-dpdk.yaml")?;
    cluster.wait_for_pod("dpdk").await?;
    let inside = format!("{} kubectl exec dpdk --timeout 10m --", std::env::current_exe()?.display());
    let (runs, report) = (options.runs.to_string(), options.report.to_string_lossy().into_owned());
    let arguments = ["compare", "--inside", &inside, "--runs", &runs, "--json", &report, "--"];
    let plan = ["--mode", "forth,back", "--sizes", "64,1518", "--warm-up", "0.5", "--window", "2"];
    let mut command = tokio::process::Command::new("fairlead-dpdk-check");
    // Its words as they come.
    let status = command.args(arguments).args(plan).stdin(Stdio::null()).status().await;
    let status = status.context("run fairlead-dpdk-check")?;
    ensure!(status.success(), "the comparison ended with {status}");
    let comparison: Value = serde_json::from_str(&fs::read_to_string(&options.report)?)?;
    let ratios = comparison["ratios"].as_array().context("no ratios")?;
    ensure!(ratios.len() == 4, "{} ratios instead of 4", ratios.len());
    let reports = |side: &str| comparison[side].as_array().map_or(0, Vec::len);
    let wanted = usize::from(options.runs);
    ensure!(reports("inside") == wanted && reports("outside") == wanted, "not every run has its report");
    cluster.delete_pods(&["dpdk"]).await
}
