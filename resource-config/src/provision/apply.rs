//! Carrying out a policy: PF by PF, each under its lock, from a look at the node that is taken under the lock.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use super::carry_out::{Target, carry_out};
use super::changes;
use super::error::{ProvisionError, StepError};
use super::family;
use super::files;
use super::lock::{self, Lock};
use super::node::{self, Folders};
use super::plan::{DropIn, NodeState, PfPlan, Plan, Request, provision};
use super::policy::Policy;
use super::port::CurrentPf;
use super::result::{Outcome, PfReport, Report};
use super::step::Step;
use super::system::System;
use crate::error_text;
use crate::pci::PciAddress;

/// Pause between two looks for PFs that are not there yet.
const PAUSE: Duration = Duration::from_millis(500);

/// An apply at work.
pub struct Apply<'a> {
    /// What the node shall be like.
    pub policy: &'a Policy,
    /// This node, and what may be touched although it is in use.
    pub request: &'a Request,
    /// The node's folders.
    pub folders: &'a Folders,
    /// The node.
    pub system: &'a mut dyn System,
    /// How long to wait for PFs that the policy names and the node does not have yet: at boot.
    pub wait: Duration,
    /// Gets every step as it is done, for people.
    pub progress: &'a mut dyn FnMut(&str),
}

impl Apply<'_> {
    /// Does everything that is not refused, and reports. What fails on one PF is put back there and keeps no other PF from being
    /// set up.
    #[must_use]
    pub fn run(mut self, mut report: Report) -> Report {
        let start = Instant::now();
        // At boot, PFs may not have their final names yet.
        self.system.settle();
        match self.look_until_pfs_are_there() {
            Ok(plan) => self.carry_out_plan(plan, &mut report),
            Err(error) => report.error = Some(error_text(&error)),
        }
        report.seconds = start.elapsed().as_secs_f64();
        report.conclude();
        report
    }

    fn look_until_pfs_are_there(&mut self) -> Result<Plan, ProvisionError> {
        let mut waited = Duration::ZERO;
        loop {
            let (_, plan) = self.look()?;
            // What is refused without any PF is a section that finds none.
            if plan.refusals.is_empty() || waited >= self.wait {
                return Ok(plan);
            }
            self.system.pause(PAUSE);
            waited += PAUSE;
        }
    }

    fn look(&mut self) -> Result<(NodeState, Plan), ProvisionError> {
        let state = node::look(self.system, self.folders, self.policy, &self.request.node)?;
        let plan = provision(self.policy, &state, self.request);
        Ok((state, plan))
    }

    fn carry_out_plan(&mut self, plan: Plan, report: &mut Report) {
        report.refusals = plan.refusals;
        report.warnings.extend(plan.warnings);
        // Before any VF appears, as they are about what happens then.
        match self.change_drop_ins(&plan.drop_ins) {
            Ok(changed) => report.drop_ins = changed,
            Err(error) => report.error = Some(error_text(&error)),
        }
        self.finish_left_over(&plan.pfs, report);
        for pf in plan.pfs {
            let has_lock_file = lock::in_progress(&self.folders.run_dir).contains(&pf.address);
            let part = if pf.steps.is_empty() && !has_lock_file { unchanged(pf) } else { self.locked(pf) };
            report.pfs.push(part);
        }
    }

    fn change_drop_ins(&mut self, drop_ins: &[DropIn]) -> Result<Vec<String>, ProvisionError> {
        let mut changed = Vec::new();
        for drop_in in drop_ins {
            let path = self.folders.udev_rules.join(&drop_in.file);
            let result = match &drop_in.text {
                Some(text) => files::replace(&self.folders.udev_rules, &drop_in.file, text.as_bytes()),
                None => fs::remove_file(&path),
            };
            result.map_err(|source| ProvisionError::DropIns { path: path.clone(), source })?;
            let verb = if drop_in.text.is_some() { "write" } else { "remove" };
            let text = format!("{verb} {}", path.display());
            (self.progress)(&text);
            changed.push(text);
        }
        if !changed.is_empty() {
            self.system.reload_rules();
        }
        Ok(changed)
    }

    /// PFs that a killed call left, and that the policy does not name any more: only automatic probing is put back there.
    fn finish_left_over(&mut self, pfs: &[PfPlan], report: &mut Report) {
        for address in lock::in_progress(&self.folders.run_dir) {
            if pfs.iter().any(|pf| pf.address == address) {
                continue;
            }
            // One that is locked is another call's.
            let Ok(_lock) = Lock::take(&self.folders.run_dir, address) else { continue };
            if let Some(on) = lock::autoprobe_before(&self.folders.run_dir, address) {
                let target = Target { pf: address, netdev: String::new() };
                if let Err(error) = carry_out(self.system, &target, &Step::Autoprobe { on }) {
                    report.warnings.push(format!("PF {address}: {}", error_text(&error)));
                }
            }
        }
    }

    /// Takes the PF's lock, looks again, and does what there is to do then.
    fn locked(&mut self, first_look: PfPlan) -> PfReport {
        let address = first_look.address;
        let mut lock = match Lock::take(&self.folders.run_dir, address) {
            Ok(lock) => lock,
            Err(error) => return failed(first_look, error_text(&error)),
        };
        let (state, plan) = match self.look() {
            Ok(looked) => looked,
            Err(error) => return failed(first_look, error_text(&error)),
        };
        let Some(plan) = plan.pfs.into_iter().find(|pf| pf.address == address) else {
            return failed(first_look, "the PF is gone".to_owned());
        };
        if plan.steps.is_empty() { unchanged(plan) } else { self.one_pf(&plan, &state, &mut lock) }
    }

    fn one_pf(&mut self, plan: &PfPlan, state: &NodeState, lock: &mut Lock) -> PfReport {
        let target = Target { pf: plan.address, netdev: plan.netdev.clone().unwrap_or_default() };
        let mut report = unchanged(plan.clone());
        if let Err(error) = note_autoprobe(plan, state, lock) {
            report.error = Some(error_text(&error));
            report.outcome = Outcome::Failed;
            return report;
        }
        for planned in &plan.steps {
            if let Err(error) = self.one_step(&target, &planned.step) {
                let text = error_text(&error);
                self.say(&target, &format!("FAILED: {}: {text}", planned.text));
                report.error = Some(format!("{}: {text}", planned.text));
                report.outcome = Outcome::Failed;
                self.restore(&target, plan, state, &mut report);
                return report;
            }
            report.done.push(planned.text.clone());
        }
        report.outcome = if plan.refusals.is_empty() { Outcome::Applied } else { Outcome::Refused };
        report.notes.extend(self.still_to_do(plan.address));
        report
    }

    /// What differs although every step was done: a driver took a setting and does not report it, or somebody changes it back.
    fn still_to_do(&mut self, address: PciAddress) -> Option<String> {
        let (_, plan) = self.look().ok()?;
        let steps = plan.pfs.into_iter().find(|pf| pf.address == address)?.steps;
        let texts: Vec<String> = steps.into_iter().map(|planned| planned.text).collect();
        (!texts.is_empty())
            .then(|| format!("the PF still differs: the next apply would do again: {}", texts.join("; ")))
    }

    fn one_step(&mut self, target: &Target, step: &Step) -> Result<(), StepError> {
        let start = Instant::now();
        carry_out(self.system, target, step)?;
        self.say(target, &format!("{step} ({:.1} s)", start.elapsed().as_secs_f64()));
        Ok(())
    }

    fn say(&mut self, target: &Target, text: &str) {
        (self.progress)(&format!("{} {}: {text}", target.pf, target.netdev));
    }

    /// Puts back what was changed, by the same decisions that change things: from how it is now to how it was.
    fn restore(&mut self, target: &Target, plan: &PfPlan, before: &NodeState, report: &mut PfReport) {
        let steps = match self.steps_back(target, before) {
            Ok(steps) => steps,
            Err(problem) => {
                report.not_restored.push(problem);
                return;
            }
        };
        let allowed = plan.steps.iter().any(|planned| planned.step == Step::Noiommu { allowed: true })
            && report.done.contains(&Step::Noiommu { allowed: true }.to_string());
        let mut failed_vfs = BTreeSet::new();
        for step in steps.into_iter().chain(allowed.then_some(Step::Noiommu { allowed: false })) {
            if step.vf().is_some_and(|vf| failed_vfs.contains(&vf)) {
                continue;
            }
            match self.one_step(target, &step) {
                Ok(()) => report.restored.push(step.to_string()),
                Err(error) => {
                    let text = format!("{step}: {}", error_text(&error));
                    self.say(target, &format!("not restored: {text}"));
                    report.not_restored.push(text);
                    failed_vfs.extend(step.vf());
                }
            }
        }
    }

    fn steps_back(&mut self, target: &Target, before: &NodeState) -> Result<Vec<Step>, String> {
        let text = |error: &dyn std::error::Error| format!("the PF cannot be read: {}", error_text(error));
        let gone = || "the PF is gone".to_owned();
        let current = |state: &NodeState| {
            let pf = state.inventory.function(&target.pf)?;
            CurrentPf::of(&state.inventory, pf, state.ports.get(&target.pf)?)
        };
        let state =
            node::look(self.system, self.folders, self.policy, &self.request.node).map_err(|e| text(&e))?;
        let now = current(&state).ok_or_else(gone)?;
        let then = current(before).ok_or_else(gone)?;
        let driver = state.inventory.function(&target.pf).and_then(|pf| pf.driver.as_deref());
        Ok(changes::steps(&now, &then.as_wanted(), family::of(driver)))
    }
}

/// Notes what automatic probing is before it is changed, so that a call after one that is killed knows what to put back.
fn note_autoprobe(plan: &PfPlan, state: &NodeState, lock: &mut Lock) -> Result<(), ProvisionError> {
    if !plan.steps.iter().any(|planned| matches!(planned.step, Step::Autoprobe { .. })) {
        return Ok(());
    }
    let port = state.ports.get(&plan.address);
    lock.note_autoprobe(port.and_then(|port| port.autoprobe_before.or(port.autoprobe)))
}

fn unchanged(plan: PfPlan) -> PfReport {
    PfReport {
        address: plan.address,
        netdev: plan.netdev,
        section: plan.section,
        outcome: if plan.refusals.is_empty() { Outcome::Unchanged } else { Outcome::Refused },
        done: Vec::new(),
        refusals: plan.refusals,
        error: None,
        restored: Vec::new(),
        not_restored: Vec::new(),
        notes: plan.notes,
    }
}

fn failed(plan: PfPlan, error: String) -> PfReport {
    PfReport { outcome: Outcome::Failed, error: Some(error), ..unchanged(plan) }
}
