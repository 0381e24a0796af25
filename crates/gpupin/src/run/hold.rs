use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use gpupin_device::Machine;
use gpupin_policy::{GpuUuid, Policy};
use gpupin_run::{
    lease::{
        self, Cancel, HolderText, Hooks, Lease, LeaseError, Outer, Patience, Request, Waiting,
    },
    process::{Process, ProcessId},
};

use super::{LeaseWish, Order, choice::Wanted};
use crate::{
    failure::{Exit, Failure},
    run::words,
    state,
    terminal::Terminal,
};

/// GPUs that a program may use now.
pub(crate) struct Held {
    pub(crate) gpus: Vec<GpuUuid>,
    pub(crate) lease: Option<Lease>,
}

/// Waits for the GPUs, visibly.
pub(crate) fn hold(
    order: &Order,
    wanted: &Wanted,
    policy: &Policy,
    machine: &dyn Machine,
    terminal: &mut Terminal,
) -> Result<Held, Failure> {
    let LeaseWish::Within(patience) = order.lease else {
        let gpus = idle_first(wanted, machine);
        return Ok(Held { gpus, lease: None });
    };
    let directory = state::leases()?;
    let this = Process::this().map_err(|error| {
        Failure::from(anyhow::Error::new(error).context("failed to read `/proc`"))
    })?;
    let outer = std::env::var(lease::VARIABLE).ok();
    let request = Request {
        gpus: wanted.candidates.clone(),
        count: wanted.count,
        slots: policy.lease.slots,
        holder: HolderText { process: this.id, command: words::command(&order.command) },
        outer: outer.and_then(|it| Outer::find(&directory, &it)),
        patience: Patience::For(patience),
    };
    let mut said = None;
    let mut tell = |waiting: &Waiting| {
        // A line when something changes, a running clock on a terminal.
        let news = words::waiting(waiting);
        if said.as_ref() != Some(&news) {
            terminal.status(&news);
            said = Some(news);
        }
        terminal.progress(|| words::waited(waiting, patience));
    };
    let mut clear = |gpu: &GpuUuid, before: &[ProcessId]| still_there(machine, gpu, before);
    let mut hooks = Hooks {
        tell: &mut tell,
        clear: &mut clear,
        cancel: &Cancel::default(),
        clock: SystemTime::now,
    };
    match lease::acquire(&directory, &request, &mut hooks) {
        Ok(lease) => Ok(Held { gpus: lease.gpus().to_vec(), lease: Some(lease) }),
        Err(error) => Err(not_had(error, patience)),
    }
}

/// Without a lease: those of the candidates on which nobody is seen come first.
fn idle_first(wanted: &Wanted, machine: &dyn Machine) -> Vec<GpuUuid> {
    let mut gpus = wanted.candidates.clone();
    if gpus.len() > wanted.count {
        gpus.sort_by_cached_key(|it| machine.usage(it).processes().count());
    }
    gpus.truncate(wanted.count);
    gpus
}

/// Who of an earlier holder's processes is still on a GPU.
fn still_there(machine: &dyn Machine, gpu: &GpuUuid, before: &[ProcessId]) -> Vec<ProcessId> {
    let usage = machine.usage(gpu);
    let listed: BTreeSet<u32> = usage.processes().map(|(_, it)| it.pid).collect();
    // A list that is silent does not say that somebody has left.
    let knows = usage.compute.is_ok();
    let is_there = |it: &ProcessId| (!knows || listed.contains(&it.pid)) && Process::is_alive(*it);
    before.iter().copied().filter(is_there).collect()
}

fn not_had(error: LeaseError, patience: Duration) -> Failure {
    match &error {
        LeaseError::Busy { waiting, .. } => {
            let who = words::waiting(waiting);
            let hint = if patience.is_zero() {
                "without `--no-wait` it waits for its turn"
            } else {
                "`--timeout` waits longer, `gpupin lease ls` shows who holds what"
            };
            Failure::new(Exit::Busy, error).hint(who).hint(hint)
        }
        LeaseError::BusyInside { .. } => Failure::new(Exit::Busy, error)
            .hint("start the outer program with all GPUs it needs, or this one outside of it"),
        LeaseError::Cancelled => Failure::new(Exit::Busy, error),
        _ => Failure::new(Exit::Failed, error).hint("`--no-lease` runs without one"),
    }
}
