//! The policy, and what it means on this machine.

use gpupin_device::Kind;
use gpupin_policy::{Gpu, Inventory, Selector};

use super::{Found, GPUS_FIRST, Patient};
use crate::project::Project;

pub(super) fn check(patient: &Patient, found: &mut Found) {
    const NAME: &str = "policy";
    let project = match &patient.project {
        Ok(project) => project,
        Err(failure) => {
            let lines: Vec<_> = failure.lines().map(|it| it.1).collect();
            let advice = "correct it; until then nothing can be pinned";
            found.problem(NAME, lines.join("; "), advice);
            return;
        }
    };
    let Some(path) = &project.policy_path else {
        let advice = "declare one: `gpupin init`";
        found.unknown(NAME, "there is none, so no GPU is the right one", advice);
        return;
    };
    found.ok(NAME, format!("`{}`", project.display(path)));
    let Some(inventory) = patient.inventory() else {
        found.unknown("GPU", "the machine does not answer", "see the driver's problem first");
        return;
    };
    let policy = &project.policy;
    match &policy.gpu {
        Some(selector) => {
            let wanted = Wanted { name: "GPU", role: "", selector, forbid: &policy.forbid };
            selected(&wanted, inventory, found);
        }
        None => found.unknown("GPU", "the policy declares none", "add a table `[gpu]`"),
    }
    for (role, it) in &policy.roles {
        // A role is exempt from `forbid`.
        let wanted = Wanted { name: "role", role, selector: &it.selector, forbid: &[] };
        selected(&wanted, inventory, found);
    }
    forbidden(project, patient, inventory, found);
    // A lock file is about real machines.
    if patient.kind() == Some(Kind::Measured) {
        lock(project, inventory, found);
    }
}

/// A GPU that the policy wants.
struct Wanted<'a> {
    /// Of the check.
    name: &'static str,
    role: &'a str,
    selector: &'a Selector,
    forbid: &'a [Selector],
}

/// Whether the machine has the GPUs that are wanted.
fn selected(wanted: &Wanted<'_>, inventory: &Inventory, found: &mut Found) {
    let Wanted { name, role, selector, forbid } = wanted;
    let gap = if role.is_empty() { "" } else { ": " };
    let wanted = format!("{role}{gap}{selector}");
    let selection = selector.select(inventory);
    let is_allowed = |gpu: &&&Gpu| !forbid.iter().any(|it| it.matches(gpu));
    let matching: Vec<_> = selection.matching.iter().filter(is_allowed).copied().collect();
    let names = names(&matching);
    if let Some(problem) = selection.problem() {
        let excluded = selection.excluded.iter().map(|(gpu, why)| {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            format!("{}: {}", gpu.short_name(), why.join(", "))
        });
        let excluded: Vec<_> = excluded.collect();
        let seen = format!("{wanted} is wanted: {problem} ({})", excluded.join("; "));
        found.problem(name, seen, "correct the policy, or use the machine that it is meant for");
    } else if matching.len() < selector.count as usize {
        let seen = format!("{wanted} is wanted, and `forbid` leaves too few: {names}");
        found.problem(name, seen, "give the entry of `forbid` more conditions");
    } else if matching.len() > selector.count as usize {
        // Twins are meant to be interchangeable.
        let seen = format!("{wanted}: any of {names}; `gpupin run` takes the first that is free");
        found.ok(name, seen);
    } else {
        found.ok(name, format!("{wanted}: {names}"));
    }
}

fn forbidden(project: &Project, patient: &Patient, inventory: &Inventory, found: &mut Found) {
    const NAME: &str = "forbidden";
    let forbid = &project.policy.forbid;
    if forbid.is_empty() {
        return;
    }
    let is_forbidden = |gpu: &&Gpu| forbid.iter().any(|it| it.matches(gpu));
    let here: Vec<_> = inventory.usable().filter(is_forbidden).collect();
    let shown = |gpu: &&Gpu| {
        let plays = project.policy.roles.iter().filter(|it| it.1.selector.matches(gpu));
        let roles: Vec<_> = plays.map(|it| format!("role {}", it.0)).collect();
        let but = if roles.is_empty() { "" } else { ", except for " };
        format!("{}{but}{}", names(&[gpu]), roles.join(", "))
    };
    let seen = match here.as_slice() {
        [] => "no GPU of this machine is".to_owned(),
        here => here.iter().map(shown).collect::<Vec<_>>().join("; "),
    };
    match patient.unknown_gpus() {
        Some(unknown) if here.is_empty() => found.unknown(NAME, unknown, GPUS_FIRST),
        Some(unknown) => found.unknown(NAME, format!("{seen}; {unknown}"), GPUS_FIRST),
        None => found.ok(NAME, seen),
    }
}

/// Whether the lock file is right about this machine.
fn lock(project: &Project, inventory: &Inventory, found: &mut Found) {
    const NAME: &str = "lock file";
    let shown = project.lock_path.as_deref().unwrap_or("gpupin.lock");
    match project.lock.machine(&inventory.host) {
        Some(_) if project.lock.is_simulated(&inventory.host) => found.problem(
            NAME,
            format!("`{shown}` has `{}` from a scene, and not from this machine", inventory.host),
            "record the GPUs that are here with `gpupin lock`",
        ),
        Some(recorded) if recorded.gpus == inventory.gpus => {
            found.ok(NAME, format!("`{shown}` is right about `{}`", inventory.host));
        }
        Some(_) => found.problem(
            NAME,
            format!("`{shown}` is wrong about the GPUs of `{}`", inventory.host),
            "see `gpupin lock --check`, and record them anew with `gpupin lock`",
        ),
        None => found.unknown(
            NAME,
            format!("`{}` is not recorded in `{shown}`", inventory.host),
            "`gpupin lock` records it, so that a scan elsewhere can tell what an index means here",
        ),
    }
}

fn names(gpus: &[&Gpu]) -> String {
    let names = gpus.iter().map(|it| format!("{} ({})", it.short_name(), it.uuid));
    names.collect::<Vec<_>>().join(", ")
}
