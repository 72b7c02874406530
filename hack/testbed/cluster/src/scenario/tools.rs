//! What operators ask of a node: `fairlead doctor` on a well node and on one that is broken on purpose, history, the system's log.

use std::{
    fs,
    io::Write,
    os::unix::{net::UnixDatagram, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    cases::pod,
    cluster::{CNI_CONF, Cluster},
    install::install,
    shell::run,
};

/// As the runtime's node has it: it passes these calls on.
const FAIRLEAD: &str = "/opt/cni/bin/fairlead";
const SYSTEM_LOG: &str = "/dev/log";
const RESERVATIONS: &str = "/var/lib/cni/networks/left-over";
const RECORD: &str = "/var/lib/fairlead/attachments/torn-net1.json";

/// See [`super::cases::ALL`].
pub(super) async fn doctor_and_history(cluster: &mut Cluster) -> Result<()> {
    cluster.apply_document(&pod("patient", Some("sriov-net"), &json!({"intel.com/sriov": "1"})))?;
    cluster.wait_for_pod("patient").await?;
    let well = examine(cluster)?;
    ensure!(
        worse(&well, &["error", "warning"]).is_empty(),
        "a well node: {:#?}",
        worse(&well, &["error", "warning"])
    );
    broken(cluster).await?;
    let again = examine(cluster)?;
    ensure!(
        worse(&again, &["error", "warning"]).is_empty(),
        "after all: {:#?}",
        worse(&again, &["error", "warning"])
    );
    explain(cluster)?;
    history(cluster)?;
    system_log(cluster).await?;
    cluster.delete_pods(&["patient"]).await
}

/// What is found now.
fn examine(cluster: &Cluster) -> Result<Vec<Value>> {
    let pools = cluster.manifest("pools.json").display().to_string();
    let output = Command::new(FAIRLEAD)
        .args(["doctor", "-o", "json", "--pools", &pools])
        .stdin(Stdio::null())
        .output()
        .context(FAIRLEAD)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let document: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("doctor: {said}"))?;
    let findings = document["findings"].as_array().context("no findings")?.clone();
    let code = output.status.code();
    let worst = if !worse(&findings, &["error"]).is_empty() {
        2
    } else {
        i32::from(!worse(&findings, &["warning", "unknown"]).is_empty())
    };
    ensure!(code == Some(worst), "doctor's exit status is {code:?}, not {worst}");
    Ok(findings)
}

fn worse<'a>(findings: &'a [Value], severities: &[&str]) -> Vec<&'a Value> {
    findings
        .iter()
        .filter(|finding| severities.iter().any(|severity| finding["severity"] == *severity))
        .collect()
}

/// Breaks the node in many ways, none of which hides another, and puts it right again.
async fn broken(cluster: &mut Cluster) -> Result<()> {
    let conf = |name: &str| Path::new(CNI_CONF).join(name);
    let (first, torn) = (conf("00-a.conflist"), conf("20-torn.conflist"));
    let stray = json!({"cniVersion": "1.0.0", "name": "stray", "plugins": [{"type": "bridge"}]});
    fs::write(&first, stray.to_string())?;
    fs::write(&torn, "{")?;
    fs::copy("/bin/true", "/opt/cni/bin/.fairlead-plugins")?;
    fs::write(RECORD, "{")?;
    fs::create_dir_all(RESERVATIONS)?;
    fs::write(format!("{RESERVATIONS}/10.99.0.9"), "gone\r\neth0")?;
    let noiommu = Path::new("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    let pages = fs::read_to_string("/proc/sys/vm/nr_hugepages")?;
    fs::write("/proc/sys/vm/nr_hugepages", "0")?;
    if noiommu.exists() {
        fs::write(noiommu, "Y")?;
    }
    cluster.kill_part("agent").await?;
    cluster.end_part("device-plugin").await?;

    let found = examine(cluster)?;
    println!("  a node that is broken in many ways:");
    for finding in worse(&found, &["error", "warning"]) {
        println!("    {} {}: {}", finding["severity"], finding["id"], finding["seen"]);
    }
    for (id, severity, word) in [
        ("cni.order", "error", "00-a.conflist comes before"),
        ("cni.broken", "warning", "20-torn.conflist"),
        ("cni.primary", "warning", "files may be the primary network"),
        ("program.aliases", "error", "somebody wrote over it"),
        ("records.broken", "warning", "torn-net1.json"),
        ("records.left", "warning", "container gone has a reservation"),
        ("hugepages", "warning", "huge pages"),
        ("agent.socket", "error", "agent.sock"),
        ("kubelet.plugins", "error", "intel.com/sriov"),
    ] {
        let is = |finding: &&Value| {
            finding["id"] == id
                && finding["severity"] == severity
                && finding["seen"].as_str().is_some_and(|seen| seen.contains(word))
                && finding["remedy"].is_string()
        };
        ensure!(found.iter().any(|finding| is(&finding)), "no {severity} {id} with {word:?}");
    }

    fs::write("/proc/sys/vm/nr_hugepages", pages)?;
    if noiommu.exists() {
        fs::write(noiommu, "N")?;
    }
    fs::remove_file(first)?;
    fs::remove_file(torn)?;
    fs::remove_file(RECORD)?;
    fs::remove_dir_all(RESERVATIONS)?;
    install(&cluster.programs)?;
    cluster.start_device_plugin()?;
    cluster.start_agent()?;
    for resource in ["intel.com/sriov", "intel.com/sriov_dpdk"] {
        cluster.wait_for_allocatable(resource, 2).await?;
    }
    cluster
        .wait_until("the agent answers", async |cluster| {
            let found = examine(cluster)?;
            Ok(worse(&found, &["error"]).is_empty().then_some(()))
        })
        .await
}

/// One VF is taken: a pod with one more fits, one with two does not, and is told who has the other.
fn explain(cluster: &Cluster) -> Result<()> {
    let path = |name: &str| cluster.manifest(name).display().to_string();
    // The agent knows the networks, or files do.
    let nads = path("networks.yaml");
    let cases = [
        ("sriov-net", 1, None, 0, "it would be admitted and attached"),
        ("sriov-net", 2, Some(&nads), 2, "pod default/patient has it"),
        ("nobodys-net", 1, None, 2, "there is no definition of default/nobodys-net"),
    ];
    for (network, count, nads, code, word) in cases {
        let resources = json!({"intel.com/sriov": count.to_string()});
        let file = std::env::temp_dir().join("explained.json");
        fs::write(&file, pod("explained", Some(network), &resources).to_string())?;
        let output = Command::new(FAIRLEAD)
            .args(["explain-pod", &file.display().to_string(), "--pools", &path("pools.json")])
            .args(nads.map(|nads| ["--nad", nads]).into_iter().flatten())
            .stdin(Stdio::null())
            .output()?;
        fs::remove_file(file)?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.code() == Some(code) && text.contains(word),
            "explain-pod: {}: {text}",
            output.status
        );
    }
    Ok(())
}

/// Who has the address of a pod, and its device.
fn history(cluster: &Cluster) -> Result<()> {
    let device = cluster.variable("patient", "PCIDEVICE_INTEL_COM_SRIOV")?;
    let text = run(FAIRLEAD, &["history", "--device", &device, "--at", "0s", "-o", "json"])?;
    let document: Value = serde_json::from_str(&text)?;
    let hold = &document["holds"][0];
    ensure!(
        hold["pod"] == "default/patient" && hold["until"].is_null(),
        "not who has {device}: {document:#}"
    );
    let address = hold["addresses"][0].as_str().context("no address")?;
    let text = run(FAIRLEAD, &["history", "--address", address])?;
    ensure!(text.contains("default/patient"), "not who has {address}: {text}");
    println!("{}", text.lines().map(|line| format!("    {line}\n")).collect::<String>().trim_end());
    Ok(())
}

/// An ADD that fails, of a plugin that is called by itself.
fn fail_by_itself() -> Result<()> {
    let mut plugin = Command::new(FAIRLEAD)
        .arg0("/opt/cni/bin/macvlan")
        .envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "by-itself"), ("CNI_IFNAME", "net1")])
        .envs([("CNI_NETNS", "/nonexistent"), ("CNI_PATH", "/opt/cni/bin")])
        .env("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=by-itself")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context(FAIRLEAD)?;
    let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "macvlan"});
    plugin.stdin.take().context("no standard input")?.write_all(config.to_string().as_bytes())?;
    ensure!(!plugin.wait()?.success(), "an ADD without a namespace went well");
    Ok(())
}

/// Why an ADD failed is in the system's log, with the pod.
async fn system_log(cluster: &Cluster) -> Result<()> {
    let keeper = match Path::new(SYSTEM_LOG).exists() {
        true => None,
        false => Some(UnixDatagram::bind(SYSTEM_LOG)?),
    };
    cluster.apply_document(&pod("told", Some("no-such-network"), &json!({})))?;
    cluster.wait_for_event("told", "no-such-network").await?;
    cluster.delete_pods(&["told"]).await?;
    fail_by_itself()?;
    let lines = match &keeper {
        None => run("journalctl", &["--quiet", "--no-pager", "-t", "fairlead"])?,
        Some(keeper) => {
            keeper.set_nonblocking(true)?;
            let (mut lines, mut line) = (String::new(), [0; 4096]);
            while let Ok(length) = keeper.recv(&mut line) {
                lines += &String::from_utf8_lossy(line.get(..length).unwrap_or_default());
                lines.push('\n');
            }
            fs::remove_file(SYSTEM_LOG)?;
            lines
        }
    };
    for words in [["pod default/told", "default/no-such-network"], ["pod default/by-itself", "/nonexistent"]]
    {
        let line = lines
            .lines()
            .find(|line| words.iter().all(|word| line.contains(word)))
            .with_context(|| format!("the system's log has no line with {words:?}: {lines}"))?;
        println!("    {line}");
    }
    Ok(())
}
