//! A machine at one moment, with what the policy has to say about its GPUs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::SystemTime,
};

use gpupin_device::{
    Answer, GpuStatus, Kind, Machine, MachineError, PcieLink, ProcessKind, Silence, Throttle,
    strangers,
};
use gpupin_policy::{Bytes, Gpu, GpuUuid, Inventory, Mig, NvmlIndex, Policy};

use crate::people::{People, Place};

/// The version of [`Snapshot`] as JSON.
const VERSION: u32 = 1;

/// A machine at one moment. What is unknown is `null`, and `silent` says why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    version: u32,
    /// Milliseconds since 1970.
    pub at: u64,
    pub host: String,
    pub kind: Kind,
    /// Who answers.
    pub source: String,
    pub driver: Option<String>,
    pub cuda: Option<String>,
    /// What the policy means, if it declares a GPU.
    pub policy: Option<Meaning>,
    pub gpus: Vec<GpuNow>,
    /// GPUs that are there and do not say what they are.
    pub unreadable: Vec<UnreadableGpu>,
}

/// What a selector means on this machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Meaning {
    /// The selector in words.
    pub wants: String,
    pub matching: Vec<GpuUuid>,
    /// Why the machine cannot serve it.
    pub problem: Option<String>,
}

/// A GPU or MIG instance at one moment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GpuNow {
    pub index: u32,
    pub uuid: GpuUuid,
    pub name: String,
    pub pci: String,
    pub compute_capability: String,
    /// GPU and compute instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<(u32, u32)>,
    pub standing: Option<Standing>,
    /// The roles of the policy that it may play.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Bytes.
    pub vram: u64,
    pub memory_used: Option<u64>,
    pub memory_reserved: Option<u64>,
    /// Percent.
    pub utilization: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    pub slowdown_temperature: Option<u32>,
    pub shutdown_temperature: Option<u32>,
    pub throttle: Option<Vec<Throttle>>,
    /// Of memory, since the driver was loaded.
    pub corrected_errors: Option<u64>,
    pub uncorrected_errors: Option<u64>,
    /// Milliwatts.
    pub power: Option<u32>,
    pub power_limit: Option<u32>,
    /// Megahertz.
    pub sm_clock: Option<u32>,
    pub memory_clock: Option<u32>,
    pub pcie: Option<PcieLink>,
    pub processes: Vec<ProcessNow>,
    /// What is not known, and why.
    pub silent: BTreeMap<String, String>,
}

impl GpuNow {
    /// Why the list of those who compute, or of those who draw, could not be read; others may be on the GPU than those that are listed.
    pub fn silent_lists(&self) -> Option<&str> {
        let lists = ["compute_processes", "graphics_processes"];
        lists.into_iter().find_map(|it| self.silent.get(it)).map(String::as_str)
    }

    /// Whether this GPU or driver has no such thing, as opposed to not telling it.
    pub fn lacks(&self, what: &str) -> bool {
        self.silent.get(what).is_some_and(|why| *why == Silence::Unsupported.to_string())
    }
}

/// What the policy has to say about a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Meant,
    Forbidden,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessNow {
    pub pid: u32,
    /// Clock ticks after boot, field 22 of `/proc/PID/stat`: a number that is used again is another process.
    pub started: Option<u64>,
    pub kinds: Vec<Use>,
    /// Bytes.
    pub memory: Option<u64>,
    /// How busy it kept the GPU in the last seconds, in percent.
    pub utilization: Option<u32>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub command: Option<String>,
    /// The directory of its project's policy.
    pub project: Option<String>,
    /// Whether it works where its project means it to; absent without a project that says so.
    pub place: Option<Place>,
    /// Whether it works under a lease of this GPU; absent where that was not asked or cannot be told.
    pub leased: Option<bool>,
    /// Whether `/proc` has no such process, as for one of another PID namespace.
    pub stranger: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UnreadableGpu {
    pub index: u32,
    pub uuid: Option<GpuUuid>,
    pub name: Option<String>,
    pub pci: Option<String>,
    /// What it does not say, and why.
    pub why: String,
}

impl Snapshot {
    /// The same machine as another project's policy sees it.
    pub fn judge_by(&mut self, policy: &Policy) {
        let gpus: Vec<_> = (0..self.gpus.len()).map(|it| self.gpu(it)).collect();
        for (now, gpu) in self.gpus.iter_mut().zip(&gpus) {
            now.standing = gpu.as_ref().and_then(|it| standing(policy, it));
            now.roles = gpu.as_ref().map(|it| roles(policy, it)).unwrap_or_default();
        }
        let whole = gpus.into_iter().flatten().filter(|it| !matches!(it.mig, Mig::Instance { .. }));
        let inventory = Inventory { host: self.host.clone(), driver: None, gpus: whole.collect() };
        self.policy = meaning(policy, &inventory);
    }

    /// What a selector sees of a GPU.
    fn gpu(&self, index: usize) -> Option<Gpu> {
        let now = &self.gpus[index];
        let mig = if let Some((gpu_instance, compute_instance)) = now.mig {
            Mig::Instance { gpu_instance, compute_instance }
        } else {
            // The instances stand behind their GPU.
            let behind = self.gpus[index + 1..].iter().take_while(|it| it.mig.is_some()).count();
            let instances = (index + 1..=index + behind).filter_map(|it| self.gpu(it));
            if behind == 0 { Mig::Disabled } else { Mig::Enabled(instances.collect()) }
        };
        Some(Gpu {
            uuid: now.uuid.clone(),
            name: now.name.clone(),
            vram: Bytes::new(now.vram),
            compute_capability: now.compute_capability.parse().ok()?,
            pci: now.pci.parse().ok()?,
            index: NvmlIndex(now.index),
            mig,
        })
    }

    /// Of which GPUs nothing is known, for people; nothing if all say what they are.
    pub fn unknown_gpus(&self) -> Option<String> {
        let gpus: Vec<_> = self.unreadable.iter().map(|it| format!("index {}", it.index)).collect();
        (!gpus.is_empty()).then(|| format!("nothing is known of {}", gpus.join(", ")))
    }
}

/// How a process uses a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    Compute,
    Graphics,
    Mps,
}

impl Use {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Graphics => "graphics",
            Self::Mps => "mps",
        }
    }
}

/// Asks the machine everything that a [`Snapshot`] tells, once. Users are read below `root`.
pub fn snapshot(
    machine: &dyn Machine,
    policy: &Policy,
    root: &Path,
) -> Result<Snapshot, MachineError> {
    next(machine, policy, root, &mut People::new(root))
}

/// The same for who asks again and again, and knows the people from the last time.
pub fn next(
    machine: &dyn Machine,
    policy: &Policy,
    root: &Path,
    people: &mut People,
) -> Result<Snapshot, MachineError> {
    let inventory = machine.inventory()?;
    let driver = machine.driver()?;
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let gpus = inventory.gpus.iter().flat_map(|gpu| std::iter::once(gpu).chain(gpu.instances()));
    let gpus: Vec<_> = gpus.map(|gpu| gpu_now(machine, gpu, policy, people, root)).collect();
    let pids: BTreeSet<_> = gpus.iter().flat_map(|it| &it.processes).map(|it| it.pid).collect();
    people.retain(|pid| pids.contains(&pid));
    let unreadable = machine.unreadable()?.into_iter().map(|it| UnreadableGpu {
        index: it.index.0,
        uuid: it.uuid,
        name: it.name,
        pci: it.pci.map(|it| it.to_string()),
        why: format!("{} is not told: {}", it.what, it.why),
    });
    Ok(Snapshot {
        version: VERSION,
        at: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        kind: machine.kind(),
        source: machine.source(),
        driver: driver.version.ok().map(|it| it.to_string()),
        cuda: driver.cuda.ok().map(|(major, minor)| format!("{major}.{minor}")),
        policy: meaning(policy, &inventory),
        gpus,
        unreadable: unreadable.collect(),
        host: inventory.host,
    })
}

/// What the policy's `[gpu]` means here.
pub fn meaning(policy: &Policy, inventory: &Inventory) -> Option<Meaning> {
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
pub fn standing(policy: &Policy, gpu: &Gpu) -> Option<Standing> {
    // Of a GPU with MIG only the instances can be used.
    if matches!(gpu.mig, Mig::Enabled(_)) {
        return None;
    }
    if policy.forbid.iter().any(|it| it.matches(gpu)) {
        return Some(Standing::Forbidden);
    }
    policy.gpu.as_ref().filter(|it| it.matches(gpu)).map(|_| Standing::Meant)
}

/// The roles of a policy that a GPU may play.
fn roles(policy: &Policy, gpu: &Gpu) -> Vec<String> {
    let plays = |role: &gpupin_policy::Role| role.selector.matches(gpu);
    policy.roles.iter().filter(|it| plays(it.1)).map(|it| it.0.clone()).collect()
}

fn gpu_now(
    machine: &dyn Machine,
    gpu: &Gpu,
    policy: &Policy,
    people: &mut People,
    root: &Path,
) -> GpuNow {
    let mut silent = BTreeMap::new();
    let status = machine.status(&gpu.uuid);
    if let Err(why) = &status {
        silent.insert("status".to_owned(), why.to_string());
    }
    let status = status.ok();
    let mut known = Known { status: status.as_ref(), silent: &mut silent };
    let memory_used = known.amount("memory_used", |it| &it.memory_used);
    let memory_reserved = known.amount("memory_reserved", |it| &it.memory_reserved);
    let utilization = known.of("utilization", |it| &it.utilization);
    let temperature = known.of("temperature", |it| &it.temperature);
    let slowdown_temperature = known.of("slowdown_temperature", |it| &it.slowdown_temperature);
    let shutdown_temperature = known.of("shutdown_temperature", |it| &it.shutdown_temperature);
    let throttle = known.of("throttle", |it| &it.throttle);
    let corrected_errors = known.of("corrected_errors", |it| &it.corrected_errors);
    let uncorrected_errors = known.of("uncorrected_errors", |it| &it.uncorrected_errors);
    let power = known.of("power", |it| &it.power);
    let power_limit = known.of("power_limit", |it| &it.power_limit);
    let sm_clock = known.of("sm_clock", |it| &it.sm_clock);
    let memory_clock = known.of("memory_clock", |it| &it.memory_clock);
    let pcie = known.of("pcie", |it| &it.pcie);
    let processes = processes(machine, gpu, people, root, &mut silent);
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
        roles: roles(policy, gpu),
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
        sm_clock,
        memory_clock,
        pcie,
        processes,
        silent,
    }
}

/// What a GPU says, and the reasons for what it does not.
struct Known<'a> {
    status: Option<&'a GpuStatus>,
    silent: &'a mut BTreeMap<String, String>,
}

impl Known<'_> {
    fn of<T: Clone>(&mut self, what: &str, of: fn(&GpuStatus) -> &Answer<T>) -> Option<T> {
        match of(self.status?) {
            Ok(value) => Some(value.clone()),
            Err(why) => {
                self.silent.insert(what.to_owned(), why.to_string());
                None
            }
        }
    }

    fn amount(&mut self, what: &str, of: fn(&GpuStatus) -> &Answer<Bytes>) -> Option<u64> {
        self.of(what, of).map(Bytes::get)
    }
}

fn processes(
    machine: &dyn Machine,
    gpu: &Gpu,
    people: &mut People,
    root: &Path,
    silent: &mut BTreeMap<String, String>,
) -> Vec<ProcessNow> {
    let usage = machine.usage(&gpu.uuid);
    for (what, list) in [
        ("compute_processes", &usage.compute),
        ("graphics_processes", &usage.graphics),
        ("mps_processes", &usage.mps),
    ] {
        if let Err(why) = list {
            silent.insert(what.to_owned(), why.to_string());
        }
    }
    let mut found: BTreeMap<u32, ProcessNow> = BTreeMap::new();
    for (kind, process) in usage.processes() {
        let entry =
            found.entry(process.pid).or_insert_with(|| process_now(process.pid, gpu, people));
        let kind = match kind {
            ProcessKind::Compute => Use::Compute,
            ProcessKind::Graphics => Use::Graphics,
            ProcessKind::Mps => Use::Mps,
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
    if !found.is_empty() {
        match machine.process_utilization(&gpu.uuid) {
            Ok(busy) => {
                for (pid, busy) in busy {
                    if let Some(process) = found.get_mut(&pid) {
                        process.utilization = Some(busy);
                    }
                }
            }
            Err(why) => drop(silent.insert("process_utilization".to_owned(), why.to_string())),
        }
    }
    found.into_values().collect()
}

fn process_now(pid: u32, gpu: &Gpu, people: &mut People) -> ProcessNow {
    let person = people.get(pid);
    let project = person.as_ref().and_then(|it| it.project.clone());
    ProcessNow {
        pid,
        started: person.as_ref().map(|it| it.id.started),
        kinds: Vec::new(),
        memory: None,
        utilization: None,
        uid: person.as_ref().map(|it| it.uid),
        user: person.as_ref().and_then(|it| it.user.clone()),
        command: person.map(|it| it.command.clone()),
        place: project.as_ref().and_then(|it| people.place(it, gpu)),
        project: project.map(|it| it.display().to_string()),
        leased: None,
        stranger: false,
    }
}

#[cfg(test)]
mod tests {
    use gpupin_device::scene::{BUILT_IN, SceneMachine};
    use gpupin_policy::{Policy, PolicyFile};

    use super::snapshot;

    #[test]
    fn a_policy_means_the_same_whenever_it_is_asked() {
        let policies = [
            "gpu.name = \"RTX 3090\"\nforbid = [{ name = \"RTX 5060 Ti\" }]",
            "gpu.min-vram = \"20 GiB\"\n[roles.tts]\nname = \"RTX 5060 Ti\"",
            "gpu.pci = \"0000:02:00.0\"",
            "gpu.min-compute-capability = \"9.0\"",
            "gpu.count = 2",
            "",
        ];
        let read = |it| Policy::parse(it, PolicyFile::Gpupin, None).unwrap().unwrap();
        let mut differ = 0;
        for (name, _) in BUILT_IN {
            for text in policies {
                let policy = read(text);
                let look = |policy| {
                    let machine = SceneMachine::find(name.as_ref()).unwrap();
                    snapshot(&machine, policy, "/".as_ref()).ok()
                };
                let (Some(own), Some(mut other)) = (look(&policy), look(&Policy::default())) else {
                    continue;
                };
                differ += usize::from(own.policy != other.policy);
                other.judge_by(&policy);
                other.at = own.at;
                assert_eq!(own, other, "{name}: {text}");
            }
        }
        assert!(differ > 10, "{differ}");
    }
}
