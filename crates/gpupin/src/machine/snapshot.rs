//! A machine at one moment, with what the policy has to say about its GPUs.

use std::{collections::BTreeMap, fs, path::Path};

use gpupin_device::{
    Answer, Kind, Machine, MachineError, ProcessKind, Silence, Throttle, strangers,
};
use gpupin_policy::{Bytes, Gpu, GpuUuid, Inventory, Mig, Policy};
use gpupin_run::process::Process;

/// The version of [`Snapshot`] as JSON.
const VERSION: u32 = 1;

/// A machine at one moment. What is unknown is `null`, and `silent` says why.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Snapshot {
    version: u32,
    pub(crate) host: String,
    pub(crate) kind: Kind,
    /// Who answers.
    pub(crate) source: String,
    pub(crate) driver: Option<String>,
    pub(crate) cuda: Option<String>,
    /// What the policy means, if it declares a GPU.
    pub(crate) policy: Option<Meaning>,
    pub(crate) gpus: Vec<GpuNow>,
    /// GPUs that are there and do not say what they are.
    pub(crate) unreadable: Vec<UnreadableGpu>,
}

/// What a selector means on this machine.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Meaning {
    /// The selector in words.
    pub(crate) wants: String,
    pub(crate) matching: Vec<GpuUuid>,
    /// Why the machine cannot serve it.
    pub(crate) problem: Option<String>,
}

/// A GPU or MIG instance at one moment.
#[derive(Debug, serde::Serialize)]
pub(crate) struct GpuNow {
    pub(crate) index: u32,
    pub(crate) uuid: GpuUuid,
    pub(crate) name: String,
    pub(crate) pci: String,
    pub(crate) compute_capability: String,
    /// GPU and compute instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mig: Option<(u32, u32)>,
    pub(crate) standing: Option<Standing>,
    /// The roles of the policy that it may play.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) roles: Vec<String>,
    /// Bytes.
    pub(crate) vram: u64,
    pub(crate) memory_used: Option<u64>,
    pub(crate) memory_reserved: Option<u64>,
    /// Percent.
    pub(crate) utilization: Option<u32>,
    /// Degrees Celsius.
    pub(crate) temperature: Option<u32>,
    pub(crate) slowdown_temperature: Option<u32>,
    pub(crate) shutdown_temperature: Option<u32>,
    pub(crate) throttle: Option<Vec<Throttle>>,
    /// Of memory, since the driver was loaded.
    pub(crate) corrected_errors: Option<u64>,
    pub(crate) uncorrected_errors: Option<u64>,
    /// Milliwatts.
    pub(crate) power: Option<u32>,
    pub(crate) power_limit: Option<u32>,
    pub(crate) processes: Vec<ProcessNow>,
    /// What is not known, and why.
    pub(crate) silent: BTreeMap<&'static str, String>,
}

impl GpuNow {
    /// Whether this GPU or driver has no such thing, as opposed to not telling it.
    pub(crate) fn lacks(&self, what: &str) -> bool {
        self.silent.get(what).is_some_and(|why| *why == Silence::Unsupported.to_string())
    }
}

/// What the policy has to say about a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    Meant,
    Forbidden,
}

#[derive(Debug, serde::Serialize)]
pub(crate) struct ProcessNow {
    pub(crate) pid: u32,
    pub(crate) kinds: Vec<&'static str>,
    /// Bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) user: Option<String>,
    pub(crate) command: Option<String>,
    /// Whether `/proc` has no such process, as for one of another PID namespace.
    pub(crate) stranger: bool,
}

#[derive(Debug, serde::Serialize)]
pub(crate) struct UnreadableGpu {
    pub(crate) index: u32,
    pub(crate) uuid: Option<GpuUuid>,
    pub(crate) name: Option<String>,
    pub(crate) pci: Option<String>,
    /// What it does not say, and why.
    pub(crate) why: String,
}

impl Snapshot {
    /// Of which GPUs nothing is known, for people; nothing if all say what they are.
    pub(crate) fn unknown_gpus(&self) -> Option<String> {
        let gpus: Vec<_> = self.unreadable.iter().map(|it| format!("index {}", it.index)).collect();
        (!gpus.is_empty()).then(|| format!("nothing is known of {}", gpus.join(", ")))
    }
}

/// Asks the machine everything that a [`Snapshot`] tells. Processes are read below `root`.
pub(crate) fn snapshot(
    machine: &dyn Machine,
    policy: &Policy,
    root: &Path,
) -> Result<Snapshot, MachineError> {
    let inventory = machine.inventory()?;
    let driver = machine.driver()?;
    let users = Users::read(root);
    let gpus = inventory.gpus.iter().flat_map(|gpu| std::iter::once(gpu).chain(gpu.instances()));
    let now = |gpu| gpu_now(machine, gpu, policy, &users, root);
    let unreadable = machine.unreadable()?.into_iter().map(|it| UnreadableGpu {
        index: it.index.0,
        uuid: it.uuid,
        name: it.name,
        pci: it.pci.map(|it| it.to_string()),
        why: format!("{} is not told: {}", it.what, it.why),
    });
    Ok(Snapshot {
        version: VERSION,
        kind: machine.kind(),
        source: machine.source(),
        driver: driver.version.ok().map(|it| it.to_string()),
        cuda: driver.cuda.ok().map(|(major, minor)| format!("{major}.{minor}")),
        policy: meaning(policy, &inventory),
        gpus: gpus.map(now).collect(),
        unreadable: unreadable.collect(),
        host: inventory.host,
    })
}

/// What the policy's `[gpu]` means here.
pub(crate) fn meaning(policy: &Policy, inventory: &Inventory) -> Option<Meaning> {
    let selector = policy.gpu.as_ref()?;
    let selection = selector.select(inventory);
    let allowed = |gpu: &&&Gpu| !policy.forbid.iter().any(|it| it.matches(gpu));
    Some(Meaning {
        wants: selector.to_string(),
        matching: selection.matching.iter().filter(allowed).map(|it| it.uuid.clone()).collect(),
        problem: selection.problem().map(|it| it.to_string()),
    })
}

/// What the policy has to say about a GPU. What is forbidden is never meant.
pub(crate) fn standing(policy: &Policy, gpu: &Gpu) -> Option<Standing> {
    // Of a GPU with MIG only the instances can be used.
    if matches!(gpu.mig, Mig::Enabled(_)) {
        return None;
    }
    if policy.forbid.iter().any(|it| it.matches(gpu)) {
        return Some(Standing::Forbidden);
    }
    policy.gpu.as_ref().filter(|it| it.matches(gpu)).map(|_| Standing::Meant)
}

fn gpu_now(
    machine: &dyn Machine,
    gpu: &Gpu,
    policy: &Policy,
    users: &Users,
    root: &Path,
) -> GpuNow {
    let mut silent = BTreeMap::new();
    let mut known = Known(&mut silent);
    let status = machine.status(&gpu.uuid);
    if let Err(why) = &status {
        known.0.insert("status", why.to_string());
    }
    let status = status.ok();
    let amount = |it: &Answer<Bytes>| it.clone().map(Bytes::get);
    let memory_used = known.of("memory_used", status.as_ref().map(|it| amount(&it.memory_used)));
    let memory_reserved =
        known.of("memory_reserved", status.as_ref().map(|it| amount(&it.memory_reserved)));
    let utilization = known.of("utilization", status.as_ref().map(|it| it.utilization.clone()));
    let temperature = known.of("temperature", status.as_ref().map(|it| it.temperature.clone()));
    let slowdown_temperature =
        known.of("slowdown_temperature", status.as_ref().map(|it| it.slowdown_temperature.clone()));
    let shutdown_temperature =
        known.of("shutdown_temperature", status.as_ref().map(|it| it.shutdown_temperature.clone()));
    let throttle = known.of("throttle", status.as_ref().map(|it| it.throttle.clone()));
    let corrected_errors =
        known.of("corrected_errors", status.as_ref().map(|it| it.corrected_errors.clone()));
    let uncorrected_errors =
        known.of("uncorrected_errors", status.as_ref().map(|it| it.uncorrected_errors.clone()));
    let power = known.of("power", status.as_ref().map(|it| it.power.clone()));
    let power_limit = known.of("power_limit", status.as_ref().map(|it| it.power_limit.clone()));
    let processes = processes(machine, gpu, users, root, &mut silent);
    let plays = |role: &gpupin_policy::Role| role.selector.matches(gpu);
    GpuNow {
        index: gpu.index.0,
        uuid: gpu.uuid.clone(),
        name: gpu.short_name(),
        pci: gpu.pci.to_string(),
        compute_capability: gpu.compute_capability.to_string(),
        mig: match gpu.mig {
            Mig::Instance { gpu_instance, compute_instance } => {
                Some((gpu_instance, compute_instance))
            }
            Mig::Disabled | Mig::Enabled(_) => None,
        },
        standing: standing(policy, gpu),
        roles: policy.roles.iter().filter(|it| plays(it.1)).map(|it| it.0.clone()).collect(),
        vram: gpu.vram.get(),
        memory_used,
        memory_reserved,
        utilization,
        temperature,
        slowdown_temperature,
        shutdown_temperature,
        throttle,
        corrected_errors,
        uncorrected_errors,
        power,
        power_limit,
        processes,
        silent,
    }
}

/// Values that are known, and the reasons for the others.
struct Known<'a>(&'a mut BTreeMap<&'static str, String>);

impl Known<'_> {
    fn of<T>(&mut self, what: &'static str, answer: Option<Answer<T>>) -> Option<T> {
        match answer? {
            Ok(value) => Some(value),
            Err(why) => {
                self.0.insert(what, why.to_string());
                None
            }
        }
    }
}

fn processes(
    machine: &dyn Machine,
    gpu: &Gpu,
    users: &Users,
    root: &Path,
    silent: &mut BTreeMap<&'static str, String>,
) -> Vec<ProcessNow> {
    let usage = machine.usage(&gpu.uuid);
    for (what, list) in [
        ("compute_processes", &usage.compute),
        ("graphics_processes", &usage.graphics),
        ("mps_processes", &usage.mps),
    ] {
        if let Err(why) = list {
            silent.insert(what, why.to_string());
        }
    }
    let mut found: BTreeMap<u32, ProcessNow> = BTreeMap::new();
    for (kind, process) in usage.processes() {
        let entry = found.entry(process.pid).or_insert_with(|| {
            let read = Process::read(process.pid).ok();
            ProcessNow {
                pid: process.pid,
                kinds: Vec::new(),
                memory: None,
                uid: read.as_ref().map(|it| it.uid),
                user: read.as_ref().and_then(|it| users.name(it.uid)),
                command: read.map(|it| it.command),
                stranger: false,
            }
        });
        let kind = match kind {
            ProcessKind::Compute => "compute",
            ProcessKind::Graphics => "graphics",
            ProcessKind::Mps => "mps",
        };
        if !entry.kinds.contains(&kind) {
            entry.kinds.push(kind);
        }
        // The lists tell of the same memory; the larger one has not missed any.
        entry.memory = entry.memory.max(process.memory.clone().ok().map(Bytes::get));
    }
    // One that ended since it was listed is gone; one that is listed again is of another namespace.
    if found.values().any(|it| it.command.is_none()) {
        let again = machine.usage(&gpu.uuid);
        let strangers = strangers(&usage, &again, root);
        found.retain(|pid, it| it.command.is_some() || strangers.contains(pid));
        for process in found.values_mut().filter(|it| it.command.is_none()) {
            process.stranger = true;
        }
    }
    found.into_values().collect()
}

/// The users of this machine, as far as `/etc/passwd` knows them.
pub(crate) struct Users(BTreeMap<u32, String>);

impl Users {
    pub(crate) fn read(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
        let user = |line: &str| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            Some((uid, name.to_owned()))
        };
        // The first of several names counts, as for `ps`.
        Self(text.lines().rev().filter_map(user).collect())
    }

    pub(crate) fn name(&self, uid: u32) -> Option<String> {
        self.0.get(&uid).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Users;

    #[test]
    fn the_first_name_of_a_user_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let text = "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:/bin/sh\nbroken\n";
        fs::write(root.path().join("etc/passwd"), text).unwrap();
        let users = Users::read(root.path());
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(4711), None);
    }
}
