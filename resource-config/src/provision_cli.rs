//! `plan` and `apply`: the hardware as a policy says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use fairlead_resource_config::provision::policy::{self, LoadedPolicy, NodeIdentity, Policy};
use fairlead_resource_config::provision::{
    self, Apply, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, Folders, NodeState, Outcome, PfPlan, Plan, Refusal,
    Report, Request, RunningSystem, UsageSources,
};
use fairlead_resource_config::{PciAddress, error_text};

use crate::{Format, NodeArgs, output, print};

/// Options of `plan` and `apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    /// What the hardware shall be like, JSON or YAML.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// This node's name, by which the policy's sections are chosen; the host name when it is not given.
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// A label of this node, by which sections are chosen; may be given again, or several with commas between.
    #[arg(long = "label", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Touch this device although it is in use: a VF, or a PF that carries the host's traffic. May be given again.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    force: Vec<PciAddress>,
    #[command(flatten)]
    folders: FolderArgs,
}

#[derive(Debug, clap::Args)]
struct FolderArgs {
    /// kubelet's root folder; its checkpoint says which devices containers have.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    kubelet_root: PathBuf,
    /// Where the CNI executable keeps the records of attachments.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/fairlead/attachments")]
    attachments_dir: PathBuf,
    /// Where the result is written (result.json).
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// Where locks are; below /run, since they mean nothing after a boot.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_RUN_DIR)]
    run_dir: PathBuf,
    /// Where rules for udev are written, when the policy asks for some.
    #[arg(long, value_name = "DIR", default_value = "/etc/udev/rules.d")]
    udev_rules_dir: PathBuf,
}

/// Reads a label of a node.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is written KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl PolicyArgs {
    fn request(&self) -> Request {
        let labels: BTreeMap<String, String> = self.labels.iter().cloned().collect();
        let host_name =
            || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let name = self.node_name.clone().unwrap_or_else(host_name);
        let force: BTreeSet<PciAddress> = self.force.iter().copied().collect();
        Request { node: NodeIdentity { name, labels }, force }
    }

    fn folders(&self) -> Folders {
        let args = &self.folders;
        Folders {
            usage: UsageSources {
                kubelet_root: args.kubelet_root.clone(),
                attachments: args.attachments_dir.clone(),
                proc: PathBuf::from("/proc"),
                dev: PathBuf::from("/dev"),
            },
            state_dir: args.state_dir.clone(),
            run_dir: args.run_dir.clone(),
            udev_rules: args.udev_rules_dir.clone(),
        }
    }
}

/// Prints what `apply` would do. A refusal is an error, after the plan.
pub(crate) fn plan(args: &PolicyArgs, node: &NodeArgs, format: Format) -> anyhow::Result<()> {
    let LoadedPolicy { policy, warnings } = policy::load(&args.policy)?;
    warn(&warnings);
    let request = args.request();
    let state = look(args, node, &policy, &request)?;
    let plan = provision::provision(&policy, &state, &request);
    print(format, &plan, || text(&plan))?;
    let refused = plan.all_refusals().count();
    if refused > 0 {
        bail!("{refused} refused; see above");
    }
    Ok(())
}

fn look(args: &PolicyArgs, node: &NodeArgs, policy: &Policy, request: &Request) -> anyhow::Result<NodeState> {
    if node.is_running_system() {
        let mut system = RunningSystem::open()?;
        Ok(provision::look(&mut system, &args.folders(), policy, &request.node)?)
    } else {
        Ok(provision::of_inventory(node.scanner()?.scan()?, node.sysfs_root().as_ref()))
    }
}

fn text(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    lines.extend(plan.refusals.iter().map(|refusal| format!("refused: {}", refusal.reason)));
    for drop_in in &plan.drop_ins {
        let verb = if drop_in.text.is_some() { "write" } else { "remove" };
        lines.push(format!("{verb} udev's rules {}", drop_in.file));
    }
    lines.extend(plan.pfs.iter().flat_map(of_pf));
    if plan.is_empty() && plan.all_refusals().next().is_none() {
        lines.push("nothing to do".to_owned());
    }
    lines.join("\n") + "\n"
}

fn of_pf(pf: &PfPlan) -> Vec<String> {
    let steps = if pf.steps.is_empty() && pf.refusals.is_empty() { ": as it shall be" } else { "" };
    let mut lines =
        vec![format!("{}, section {}{steps}", name(pf.address, pf.netdev.as_deref()), pf.section)];
    for (number, step) in pf.steps.iter().enumerate() {
        lines.push(format!("  {:>2}. {}", number + 1, step.text));
        lines.extend(step.disturbs.iter().map(|text| format!("      disturbs: {text}")));
    }
    lines.extend(pf.refusals.iter().map(|refusal| format!("  refused: {}", reason(refusal))));
    lines.extend(pf.notes.iter().map(|note| format!("  note: {note}")));
    lines
}

fn name(address: PciAddress, netdev: Option<&str>) -> String {
    netdev.map_or_else(|| address.to_string(), |netdev| format!("{address} ({netdev})"))
}

fn reason(refusal: &Refusal) -> String {
    let device = refusal.device.map(|device| format!("{device}: ")).unwrap_or_default();
    device + &refusal.reason
}

/// Reads an option's number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "a whole number of seconds is wanted".to_owned())
}

/// Does it. What was refused or failed is an error, after everything else was done and the result was written.
pub(crate) fn apply(args: &PolicyArgs, wait: Duration) -> anyhow::Result<()> {
    let request = args.request();
    let folders = args.folders();
    let mut report = Report::new(&request.node.name, &args.policy);
    let mut report = match policy::load(&args.policy) {
        Ok(LoadedPolicy { policy, warnings }) => match RunningSystem::open() {
            Ok(mut system) => {
                report.warnings = warnings;
                let mut progress = |text: &str| {
                    // Nobody may be there to read it; the work goes on.
                    let _ = output::write(&format!("{text}\n"));
                };
                let apply = Apply {
                    policy: &policy,
                    request: &request,
                    folders: &folders,
                    system: &mut system,
                    wait,
                    progress: &mut progress,
                };
                apply.run(report)
            }
            Err(error) => {
                report.fail(error_text(&error));
                report
            }
        },
        Err(error) => {
            report.fail(error_text(&error));
            report
        }
    };
    complain(&report);
    let written = report.write(&folders.state_dir);
    let path = written.context("the result is lost")?;
    conclude(&report, &path)
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        output::complain(&format!("warning: {warning}"));
    }
}

fn complain(report: &Report) {
    warn(&report.warnings);
    if let Some(error) = &report.error {
        output::complain(error);
    }
    for refusal in report.refusals.iter().chain(report.pfs.iter().flat_map(|pf| &pf.refusals)) {
        output::complain(&format!("refused: {}", reason(refusal)));
    }
    for pf in &report.pfs {
        let name = name(pf.address, pf.netdev.as_deref());
        for note in &pf.notes {
            output::complain(&format!("{name}: note: {note}"));
        }
        let Some(error) = &pf.error else { continue };
        output::complain(&format!("{name}: {error}"));
        if pf.done.is_empty() && pf.restored.is_empty() && pf.not_restored.is_empty() {
            output::complain(&format!("{name}: nothing was changed"));
        } else if pf.not_restored.is_empty() {
            output::complain(&format!("{name}: everything that was changed is restored"));
        }
        for text in &pf.not_restored {
            output::complain(&format!("{name}: not restored: {text}"));
        }
    }
}

fn conclude(report: &Report, path: &Path) -> anyhow::Result<()> {
    let seconds = report.seconds;
    let text = match report.outcome {
        Outcome::Unchanged => format!("nothing to do ({seconds:.1} s)"),
        Outcome::Applied => format!("applied ({seconds:.1} s)"),
        Outcome::Refused => bail!("refused, at least in part; the result is in {}", path.display()),
        Outcome::Failed => bail!("failed; the result is in {}", path.display()),
    };
    output::write(&format!("{text}\n")).context("cannot write")
}
