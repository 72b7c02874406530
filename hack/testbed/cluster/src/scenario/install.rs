//! Taking Fairlead off the node while a pod has networks of it, and putting it there again.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{cases::pod, cluster::Cluster, shell::run};

const PROGRAM: &str = "/opt/cni/bin/fairlead";
const CONFLIST: &str = "/etc/cni/net.d/00-fairlead.conflist";

/// Places everything for the node's runtime, with the program from a folder (an empty path: the one that the shell would take).
pub(super) fn install(programs: &Path) -> Result<()> {
    run(&programs.join("fairlead").to_string_lossy(), &["install"]).map(drop)
}

/// See [`super::cases::ALL`].
pub(super) async fn removed_and_back(cluster: &Cluster) -> Result<()> {
    cluster.apply_document(&pod("held", Some("macvlan-conf"), &json!({})))?;
    cluster.wait_for_pod("held").await?;
    let Err(refused) = run("fairlead", &["uninstall"]) else { bail!("the program was removed under a pod") };
    let text = format!("{refused:#}");
    ensure!(text.contains("pod default/held") && text.contains("eth0, net1"), "the pod is not named: {text}");
    ensure!(Path::new(PROGRAM).exists() && !Path::new(CONFLIST).exists(), "not the right part was removed");
    // The runtime knows only the primary network now; the rest of the pod is swept up.
    cluster.delete_pods(&["held"]).await?;
    run("fairlead", &["gc"])?;
    run("fairlead", &["uninstall"]).context("nothing holds the program any more")?;
    ensure!(!Path::new(PROGRAM).exists(), "the program is still there");

    cluster.apply_document(&pod("plain", None, &json!({})))?;
    cluster.wait_for_pod("plain").await.context("the primary network must do without us")?;
    cluster.delete_pods(&["plain"]).await?;

    install(&cluster.programs)?;
    cluster.apply_document(&pod("again", Some("macvlan-conf"), &json!({})))?;
    cluster.wait_for_pod("again").await?;
    let links = cluster.exec("again", &["ip", "link", "show"])?;
    ensure!(links.contains("net1"), "the pod has no net1: {links}");
    cluster.delete_pods(&["again"]).await
}
