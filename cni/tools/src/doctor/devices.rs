//! VFs as the provisioning policy says, and pools with the devices that they have.

use std::path::PathBuf;

use fairlead_resource_config::{
    SysRoot,
    config::{self, Config},
    error_text,
    inventory::Inventory,
    pools,
    provision::{
        self, Folders, NodeState, Plan, Request, RunningSystem, UsageSources,
        policy::{self, NodeIdentity, Policy},
    },
};
use serde_json::Value;

use super::Node;
use crate::{finding::Finding, places::config_maps};

/// Where the device plugin reads its pools unless told otherwise; on the host that is seldom there.
const POOLS: &str = "/etc/pcidp/config.json";
/// Where the systemd unit has the policy.
const POLICY: &str = "/etc/fairlead/provision.yaml";

/// A file that was looked for.
#[derive(Clone, Debug)]
pub(crate) enum Given<T> {
    /// There is none.
    Nowhere,
    /// It is no good.
    Bad(PathBuf, String),
    /// It is read.
    Read(PathBuf, T),
}

impl<T> Given<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        if let Self::Read(_, value) = self { Some(value) } else { None }
    }

    pub(crate) fn path(&self) -> Option<&PathBuf> {
        if let Self::Read(path, _) | Self::Bad(path, _) = self { Some(path) } else { None }
    }
}

/// What the node has and should have.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) inventory: Result<Inventory, String>,
    pub(crate) pools: Given<Config>,
    policy: Given<Policy>,
    /// What the policy comes to.
    plan: Option<Result<Plan, String>>,
    /// How the last provisioning ended.
    outcome: Option<String>,
}

impl Facts {
    pub(crate) fn gather(node: &Node) -> Self {
        let inventory = node.root.scanner().scan().map_err(|error| error_text(&error));
        let pools = read(node, node.pools.as_ref(), POOLS, "config.json", |path| {
            config::load(path, &node.resource_prefix)
                .map(|loaded| loaded.config)
                .map_err(|error| error_text(&error))
        });
        let policy = read(node, node.policy.as_ref(), POLICY, "policy.yaml", |path| {
            policy::load(path).map(|loaded| loaded.policy).map_err(|error| error_text(&error))
        });
        let result = node.root.read(node.section.state_dir.join("provision/result.json")).ok();
        let result = result.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let plan = policy.get().map(|policy| plan(node, policy, inventory.as_ref()));
        Self {
            plan,
            outcome: result.and_then(|result| Some(result["outcome"].as_str()?.to_owned())),
            inventory,
            pools,
            policy,
        }
    }

    /// Where the policy is.
    pub(crate) fn policy_path(&self) -> Option<&PathBuf> {
        self.policy.path()
    }

    /// Whether anything here is for user space.
    pub(crate) fn is_for_user_space(&self) -> bool {
        let has = |inventory: &Inventory| {
            inventory.functions.iter().any(|function| function.driver.as_deref() == Some("vfio-pci"))
        };
        let asks = |text: String| text.contains("vfio-pci");
        self.inventory.as_ref().is_ok_and(has)
            || self.pools.get().is_some_and(|pools| asks(format!("{pools:?}")))
            || self.policy.get().is_some_and(|policy| asks(format!("{policy:?}")))
    }
}

/// Reads the file that was named, else the one at its usual place, else the one that kubelet made of a pod's ConfigMap.
fn read<T>(
    node: &Node,
    named: Option<&PathBuf>,
    usual: &str,
    name: &str,
    read: impl Fn(&std::path::Path) -> Result<T, String>,
) -> Given<T> {
    let take = |path: PathBuf| match read(&node.root.path(&path)) {
        Ok(value) => Given::Read(path, value),
        Err(error) => Given::Bad(path, error),
    };
    if let Some(path) = named {
        return take(path.clone());
    }
    if node.root.exists(usual) {
        return take(usual.into());
    }
    for path in config_maps(&node.root, &node.kubelet_root, name) {
        // Others have files of these names, too.
        if let Ok(value) = read(&node.root.path(&path)) {
            return Given::Read(path, value);
        }
    }
    Given::Nowhere
}

fn plan(node: &Node, policy: &Policy, inventory: Result<&Inventory, &String>) -> Result<Plan, String> {
    let host_name = || node.root.value("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = node.name.clone().unwrap_or_else(host_name);
    let request = Request { node: NodeIdentity { name, ..NodeIdentity::default() }, ..Request::default() };
    let state: NodeState = if node.root.is_own() {
        let folders = Folders {
            usage: UsageSources {
                kubelet_root: node.kubelet_root.clone(),
                attachments: node.section.state_dir.join("attachments"),
                proc: "/proc".into(),
                dev: "/dev".into(),
            },
            state_dir: provision::DEFAULT_STATE_DIR.into(),
            run_dir: provision::DEFAULT_RUN_DIR.into(),
            udev_rules: "/etc/udev/rules.d".into(),
        };
        let mut system = RunningSystem::open().map_err(|error| error_text(&error))?;
        provision::look(&mut system, &folders, policy, &request.node).map_err(|error| error_text(&error))?
    } else {
        provision::of_inventory(inventory?.clone(), Some(&SysRoot::new(node.root.path("/sys"))))
    };
    Ok(provision::provision(policy, &state, &request))
}

/// Says which VFs are not as planned, and which pools lack devices and why.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let inventory = match &facts.inventory {
        Ok(inventory) => inventory,
        Err(error) => {
            let remedy = "mount the node's root with what is mounted in it, and say --root";
            return vec![Finding::unknown(
                "devices",
                format!("the node's devices cannot be read: {error}"),
                remedy,
            )];
        }
    };
    let mut findings = vec![vfs(inventory)];
    findings.extend(policy_findings(facts));
    findings.extend(pool_findings(facts, inventory));
    findings
}

fn vfs(inventory: &Inventory) -> Finding {
    let pfs: Vec<String> = inventory
        .functions
        .iter()
        .filter_map(|function| {
            let pf = function.as_pf()?;
            Some(format!(
                "{}: {} of {}",
                function.address,
                pf.num_vfs.unwrap_or(0),
                pf.total_vfs.unwrap_or(0)
            ))
        })
        .collect();
    match pfs.is_empty() {
        true => Finding::info("devices.vfs", "the node has no device with SR-IOV"),
        false => Finding::ok("devices.vfs", format!("VFs by PF: {}", pfs.join(", "))),
    }
}

fn policy_findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(outcome) = facts.outcome.as_deref().filter(|outcome| ["refused", "failed"].contains(outcome))
    {
        findings.push(Finding::warning(
            "devices.provisioning",
            format!("the last `fairlead-config apply` was {outcome}"),
            "its result.json below /var/lib/fairlead/provision says why",
        ));
    }
    let remedy =
        "call `fairlead-config apply --policy FILE`; it says what each step would disturb with `plan`";
    match (&facts.policy, &facts.plan) {
        (Given::Nowhere, _) => {
            findings.push(Finding::info(
                "devices.policy",
                format!("no policy at {POLICY} or in a pod's ConfigMap (--policy names one)"),
            ));
        }
        (Given::Bad(path, error), _) => {
            findings.push(Finding::error(
                "devices.policy",
                format!("{}: {error}", path.display()),
                "correct it: `fairlead-config plan` tells of each key",
            ));
        }
        (Given::Read(path, _), Some(Ok(plan))) => {
            let steps = plan
                .pfs
                .iter()
                .flat_map(|pf| pf.steps.iter().map(move |step| format!("{}: {}", pf.address, step.text)));
            let steps: Vec<String> = steps.collect();
            for refusal in plan.all_refusals() {
                findings.push(Finding::error(
                    "devices.policy",
                    refusal.reason.clone(),
                    "see `fairlead-config plan --policy FILE`",
                ));
            }
            if !steps.is_empty() {
                let seen = format!("not as {} says; to be done: {}", path.display(), steps.join("; "));
                findings.push(Finding::warning("devices.policy", seen, remedy));
            } else if findings.is_empty() {
                findings.push(Finding::ok("devices.policy", format!("all is as {} says", path.display())));
            }
        }
        (Given::Read(path, _), plan) => {
            let why = plan.as_ref().and_then(|plan| plan.as_ref().err()).cloned().unwrap_or_default();
            findings.push(Finding::unknown(
                "devices.policy",
                format!("what {} comes to cannot be told: {why}", path.display()),
                remedy,
            ));
        }
    }
    findings
}

fn pool_findings(facts: &Facts, inventory: &Inventory) -> Vec<Finding> {
    let config = match &facts.pools {
        Given::Nowhere => {
            let seen = format!("no configuration of pools at {POOLS} or in a pod's ConfigMap");
            return vec![Finding::unknown(
                "pools",
                seen,
                "name the device plugin's configuration with --pools FILE",
            )];
        }
        Given::Bad(path, error) => {
            let remedy = "correct it: `fairlead-config validate FILE` tells of each key";
            return vec![Finding::error("pools", format!("{}: {error}", path.display()), remedy)];
        }
        Given::Read(_, config) => config,
    };
    let assignment = pools::assign(inventory, config);
    let mut findings = Vec::new();
    for empty in pools::why_empty(inventory, config, &assignment) {
        let remedy = "make the VFs (`fairlead-config apply`) or correct the pool's selectors; `fairlead-config explain` goes through each device";
        findings.push(Finding::warning("pools", empty.to_string(), remedy));
    }
    for pool in assignment.pools.iter().filter(|pool| !pool.devices.is_empty()) {
        let bad = pool
            .devices
            .iter()
            .filter_map(|device| Some(format!("{}: {}", device.id, device.problem.as_ref()?)));
        let bad: Vec<String> = bad.collect();
        findings.push(if bad.is_empty() {
            Finding::ok("pools", format!("{} has {} devices", pool.resource, pool.devices.len()))
        } else {
            let seen = format!(
                "{}: {} of {} devices cannot be used: {}",
                pool.resource,
                bad.len(),
                pool.devices.len(),
                bad.join("; ")
            );
            Finding::warning("pools", seen, "put right what is said of each; kubelet hands out the others")
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fairlead_resource_config::test_support::SysfsTree;

    use super::{super::testing::assert_found, *};
    use crate::finding::Severity;

    const POOLS_TEXT: &str = r#"{"resourceList":[{"resourceName":"vfs","selectors":{"drivers":["igbvf"]}},
        {"resourceName":"dpdk","selectors":{"drivers":["vfio-pci"]}}]}"#;

    fn facts(tree: &SysfsTree, policy: &str) -> Facts {
        let inventory =
            fairlead_resource_config::inventory::Scanner::sysfs(tree.root().path()).scan().unwrap();
        let config = config::parse(POOLS_TEXT, Path::new("pools"), config::DEFAULT_PREFIX).unwrap().config;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, policy).unwrap();
        let policy = policy::load(file.path()).unwrap().policy;
        let state = provision::of_inventory(inventory.clone(), Some(&tree.root()));
        let plan = provision::provision(&policy, &state, &Request::default());
        Facts {
            inventory: Ok(inventory),
            pools: Given::Read("pools".into(), config),
            policy: Given::Read("policy".into(), policy),
            plan: Some(Ok(plan)),
            outcome: None,
        }
    }

    fn vfs_wanted(count: u32) -> String {
        format!("sections:\n- name: a\n  pciAddresses: [\"0000:01:00.0\"]\n  numVfs: {count}\n")
    }

    #[test]
    fn vfs_are_compared_with_the_policy_and_pools_with_the_devices() {
        let tree = SysfsTree::igb(2);
        let facts = facts(&tree, &vfs_wanted(4));
        let all = judge(&facts);
        assert_found(&all, "devices.vfs", Severity::Ok, &["0000:01:00.0: 2 of"]);
        assert_found(
            &all,
            "devices.policy",
            Severity::Warning,
            &["not as policy says", "fairlead-config apply"],
        );
        assert_found(&all, "pools", Severity::Ok, &["intel.com/vfs has 2 devices"]);
        assert_found(
            &all,
            "pools",
            Severity::Warning,
            &["intel.com/dpdk has no device", "drivers turned away"],
        );
        assert!(facts.is_for_user_space(), "a pool asks for it");
    }

    #[test]
    fn devices_that_cannot_be_used_and_files_that_are_no_good_are_named() {
        let tree = SysfsTree::igb(2);
        tree.bind("0000:01:10.0", "vfio-pci");
        tree.group(12, &["0000:01:10.0", "0000:01:10.2"]);
        let mut facts = facts(&tree, &vfs_wanted(2));
        let all = judge(&facts);
        assert_found(
            &all,
            "pools",
            Severity::Warning,
            &["intel.com/dpdk: 1 of 1 devices cannot be used: 0000:01:10.0", "IOMMU"],
        );
        facts.pools = Given::Bad("p".into(), "no JSON".into());
        facts.policy = Given::Bad("q".into(), "no YAML".into());
        facts.outcome = Some("failed".into());
        let all = judge(&facts);
        assert_found(&all, "pools", Severity::Error, &["p: no JSON"]);
        assert_found(&all, "devices.policy", Severity::Error, &["q: no YAML"]);
        assert_found(&all, "devices.provisioning", Severity::Warning, &["was failed"]);
        facts.pools = Given::Nowhere;
        facts.policy = Given::Nowhere;
        assert_found(&judge(&facts), "pools", Severity::Unknown, &["--pools"]);
        facts.inventory = Err("no /sys".into());
        assert_found(&judge(&facts), "devices", Severity::Unknown, &["no /sys"]);
    }

    #[test]
    fn the_pools_of_a_pods_config_map_are_found() {
        let node = super::super::testing::MadeNode::new();
        let maps = "/var/lib/kubelet/pods/u/volumes/kubernetes.io~configmap";
        node.write(&format!("{maps}/other/config.json"), "{}");
        node.write(&format!("{maps}/pools/config.json"), POOLS_TEXT);
        node.write("/sys/bus/pci/devices/x", "");
        let facts = Facts::gather(&node.node());
        assert!(
            matches!(&facts.pools, Given::Read(path, config) if path.ends_with("pools/config.json") && config.resources.len() == 2)
        );
    }
}
