//! Who uses the GPUs, and whether that can be seen at all.

use std::fs;

use gpupin_device::{Kind, in_initial_pid_namespace};
use gpupin_monitor::{
    health::{unowned, without_owner},
    snapshot::{GpuNow, ProcessNow, Snapshot, Standing, Use},
};

use super::{Found, GPUS_FIRST, Patient};
use crate::{table::memory, terminal::one_line};

pub(super) fn check(patient: &Patient, found: &mut Found) {
    let Some(now) = patient.snapshot() else {
        found.unknown("lists", "the machine does not answer", "see the driver's problem first");
        return;
    };
    lists(now, found);
    namespace(patient, now, found);
    accounting(patient, now, found);
    leftovers(now, found);
    forbidden(patient, now, found);
}

/// The lists of processes that every driver has.
const LISTS: [&str; 2] = ["compute_processes", "graphics_processes"];

/// Tells that a check cannot know of some GPUs; whether it can of all.
fn unknown_gpus(name: &'static str, now: &Snapshot, found: &mut Found) -> bool {
    let unknown = now.unknown_gpus();
    let is_none = unknown.is_none();
    if let Some(unknown) = unknown {
        found.unknown(name, unknown, GPUS_FIRST);
    }
    is_none
}

/// Whether the lists of processes can be read.
fn lists(now: &Snapshot, found: &mut Found) {
    const NAME: &str = "lists";
    let mut is_whole = unknown_gpus(NAME, now, found);
    for gpu in &now.gpus {
        for list in LISTS {
            let Some(why) = gpu.silent.get(list) else { continue };
            is_whole = false;
            let seen = format!("{} of index {} unknown: {why}", list.replace('_', " "), gpu.index);
            let advice = "without it nobody can tell who uses the GPU: ask as root, or see what `nvidia-smi` says";
            if why == "no permission" {
                found.problem(NAME, seen, advice);
            } else {
                found.unknown(NAME, seen, advice);
            }
        }
    }
    if is_whole && !now.gpus.is_empty() {
        found.ok(NAME, "every GPU tells its processes");
    }
}

/// Whether the driver's PIDs are those of this shell.
fn namespace(patient: &Patient, now: &Snapshot, found: &mut Found) {
    const NAME: &str = "PIDs";
    let advice = "start the container with `--pid=host`, or ask on the host";
    let processes = now.gpus.iter().flat_map(|it| &it.processes);
    let strangers: Vec<_> =
        processes.filter(|it| it.stranger).map(|it| it.pid.to_string()).collect();
    if !strangers.is_empty() {
        let seen =
            format!("the driver lists processes that are not here: {}", strangers.join(", "));
        found.problem(NAME, seen, advice);
    } else if patient.kind() == Some(Kind::Simulated) {
        // Who is not told may be anybody.
        if !unknown_gpus(NAME, now, found) {
            return;
        }
        let is_silent = |it: &GpuNow| LISTS.iter().any(|list| it.silent.contains_key(*list));
        if now.gpus.iter().any(is_silent) {
            found.unknown(NAME, "not every list of processes is told", "see the lists first");
            return;
        }
        found.ok(NAME, "every process that is listed is here");
    } else {
        match in_initial_pid_namespace(&patient.root) {
            Some(true) => found.ok(NAME, "the driver and this shell number processes alike"),
            Some(false) => found.unknown(
                NAME,
                "this is a PID namespace of its own, whose numbers the driver may not know",
                advice,
            ),
            None => found.unknown(NAME, "`/proc/self/ns/pid` cannot be read", advice),
        }
    }
}

/// Whether the driver remembers short processes.
fn accounting(patient: &Patient, now: &Snapshot, found: &mut Found) {
    const NAME: &str = "accounting";
    let (Ok(machine), Some(inventory)) = (&patient.machine, patient.inventory()) else { return };
    let modes =
        inventory.gpus.iter().map(|it| machine.status(&it.uuid).and_then(|it| it.accounting));
    let modes: Vec<_> = modes.collect();
    if !unknown_gpus(NAME, now, found) || modes.is_empty() {
        return;
    }
    if modes.iter().all(|it| *it == Ok(true)) {
        found.ok(NAME, "on: short processes leave a trace");
    } else if let Some(why) = modes.iter().find_map(|it| it.as_ref().err()) {
        let advice = "processes shorter than a sample may stay unseen";
        found.unknown(NAME, format!("not every GPU tells: {why}"), advice);
    } else {
        found.ok(NAME, "off: processes shorter than a sample may stay unseen; root switches it on with `nvidia-smi -am 1`");
    }
}

/// Memory that belongs to nobody.
fn leftovers(now: &Snapshot, found: &mut Found) {
    const NAME: &str = "memory";
    let mut is_clean = unknown_gpus(NAME, now, found);
    for gpu in now.gpus.iter().filter(|it| it.mig.is_none()) {
        match without_owner(gpu) {
            None => {
                is_clean = false;
                let seen = format!("who owns the memory of index {} is not known", gpu.index);
                found.unknown(NAME, seen, "see `gpupin gpus` for what it does not tell");
            }
            Some(bytes) if unowned(gpu).is_some() => {
                is_clean = false;
                found.problem(
                    NAME,
                    format!("{} of {} belong to no process that is listed", memory(bytes), gpu.name),
                    "a process elsewhere (another container), or one that was killed and hangs: see `sudo fuser -v /dev/nvidia*`",
                );
            }
            Some(_) => {}
        }
    }
    if is_clean && !now.gpus.is_empty() {
        found.ok(NAME, "all that is used belongs to processes that are listed");
    }
}

/// Forbidden GPUs on which the owner of the project computes.
fn forbidden(patient: &Patient, now: &Snapshot, found: &mut Found) {
    use std::os::unix::fs::MetadataExt as _;

    const NAME: &str = "forbidden";
    let Some(project) = patient.project().filter(|it| !it.policy.forbid.is_empty()) else { return };
    let owner = fs::metadata(&project.root).map(|it| it.uid()).ok();
    let gpus = now.gpus.iter().filter(|it| it.standing == Some(Standing::Forbidden));
    let mut is_clean = unknown_gpus(NAME, now, found);
    for gpu in gpus {
        if gpu.silent.contains_key("compute_processes") {
            is_clean = false;
            let seen = format!("who computes on {} is not known", gpu.name);
            found.unknown(NAME, seen, "ask as root");
        }
        // A screen on a forbidden GPU is what it may be there for.
        let computes = |it: &&ProcessNow| it.kinds.iter().any(|it| *it != Use::Graphics);
        let is_owners = |it: &&ProcessNow| it.uid.is_some() && it.uid == owner;
        for process in gpu.processes.iter().filter(computes).filter(is_owners) {
            is_clean = false;
            let command = process.command.as_deref().map(one_line).unwrap_or_default();
            found.problem(
                NAME,
                format!(
                    "process {} of the project's user is on {}: {command}",
                    process.pid, gpu.name
                ),
                format!("see `gpupin which --pid {}`", process.pid),
            );
        }
    }
    if is_clean {
        found.ok(NAME, "the project's user computes on no forbidden GPU");
    }
}
