use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use gpupin_policy::{Bytes, Gpu, GpuUuid, Inventory, Mig};

use super::{
    code::{NOT_FOUND, machine_error, silence},
    format::{Ecc, Library, Scene, SceneGpu, UseKind},
    live::Live,
    process::Running,
};
use crate::{
    answer::{Answer, Silence},
    kind::Kind,
    machine::{
        Accounted, Driver, GpuProcess, GpuStatus, Machine, MachineError, PcieLink, Throttle,
        Unreadable, Usage, Xid,
    },
};

/// The machine of a scene, in this process.
///
/// It answers as a client of the simulated NVML would see it. Every question starts the library anew.
#[derive(Debug)]
pub struct SceneMachine {
    live: Live,
    /// How many Xids of each GPU were told.
    told: Mutex<BTreeMap<GpuUuid, usize>>,
}

/// How often the scene is looked at while an Xid is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// A GPU, or what it does not say.
type Described = Result<Gpu, Unreadable>;

/// How often a list that grows while it is fetched is asked for again.
const ATTEMPTS: u32 = 5;

/// What is asked to describe a GPU, and what it tells.
const DESCRIBING: &[(&str, &str)] = &[
    ("nvmlDeviceGetHandleByIndex", "its handle"),
    ("nvmlDeviceGetUUID", "its UUID"),
    ("nvmlDeviceGetName", "its name"),
    ("nvmlDeviceGetMemoryInfo", "its memory"),
    ("nvmlDeviceGetCudaComputeCapability", "its compute capability"),
    ("nvmlDeviceGetPciInfo", "its PCI address"),
    ("nvmlDeviceGetMigMode", "its MIG mode"),
    ("nvmlDeviceGetMigDeviceHandleByIndex", "its MIG instances"),
];

/// Without these a GPU has no name.
const HANDLES: &[&str] = &["its handle", "its UUID"];

impl SceneMachine {
    /// Opens what a user wrote: a scene's file, a state directory, or the name of a scene that is part of gpupin.
    pub fn find(scene: &OsStr) -> Result<Self, MachineError> {
        Ok(Self { live: Live::find(scene)?, told: Mutex::default() })
    }

    /// Opens a scene's file or a state directory.
    pub fn open(path: &Path) -> Result<Self, MachineError> {
        Ok(Self { live: Live::open(path)?, told: Mutex::default() })
    }

    /// Starts the library and asks one of its functions about the machine.
    fn ask(&self, what: &'static str, function: &str) -> Result<Arc<Scene>, MachineError> {
        let scene = self.live.scene()?;
        if scene.library == Library::Absent {
            return Err(MachineError::NoLibrary { why: "the scene has none".to_owned() });
        }
        for function in ["nvmlInit", function] {
            if let Some(code) = self.live.call(function, None)?.code {
                return Err(machine_error(what, code));
            }
        }
        Ok(scene)
    }

    /// Asks a function about a GPU.
    fn ask_gpu(&self, function: &str, gpu: &GpuUuid) -> Answer<()> {
        let obstacle = self.live.call(function, Some(gpu)).map_err(Silence::failed)?;
        obstacle.code.map_or(Ok(()), |code| Err(silence(code)))
    }

    /// A value that a function has about a GPU.
    fn value<T>(&self, function: &str, gpu: &GpuUuid, value: T) -> Answer<T> {
        self.ask_gpu(function, gpu).map(|()| value)
    }

    /// The GPU, if the driver lets anybody at it.
    fn handle<'a>(
        &self,
        scene: &'a Scene,
        uuid: &GpuUuid,
    ) -> Result<(usize, &'a SceneGpu), Silence> {
        self.ask_gpu("nvmlDeviceGetHandleByUUID", uuid)?;
        let (index, gpu) = scene.gpu(uuid).ok_or(Silence::Lost)?;
        if gpu.lost { Err(Silence::Lost) } else { Ok((index, gpu)) }
    }

    /// What the driver says of who and what each GPU is, in its order.
    fn enumerate(&self) -> Result<(Arc<Scene>, Vec<Described>), MachineError> {
        let scene = self.ask("the GPUs", "nvmlDeviceGetCount")?;
        let described = scene.inventory().gpus.into_iter().map(|gpu| {
            let is_lost = scene.gpu(&gpu.uuid).is_some_and(|it| it.1.lost);
            let functions = DESCRIBING
                .iter()
                .filter(|it| matches!(gpu.mig, Mig::Enabled(_)) || !it.0.contains("Mig"));
            let silent = |what, why, uuid: Option<GpuUuid>| {
                // What it says nevertheless.
                let says = |function| {
                    uuid.is_some() && !is_lost && self.ask_gpu(function, &gpu.uuid).is_ok()
                };
                let name = says("nvmlDeviceGetName").then(|| gpu.name.clone());
                let pci = says("nvmlDeviceGetPciInfo").then_some(gpu.pci);
                Unreadable { index: gpu.index, name, pci, uuid, what, why }
            };
            for (function, what) in functions {
                // Only who has the handle knows the UUID.
                let uuid = (!HANDLES.contains(what)).then(|| gpu.uuid.clone());
                let asked = self.ask_gpu(function, &gpu.uuid);
                asked.map_err(|why| silent(what, why, uuid))?;
                if is_lost {
                    return Err(silent(what, Silence::Lost, None));
                }
            }
            Ok(gpu)
        });
        let described = described.collect();
        Ok((scene, described))
    }

    fn list(
        &self,
        scene: &Scene,
        uuid: &GpuUuid,
        running: &Answer<Vec<Running>>,
        (function, kind): (&str, UseKind),
    ) -> Answer<Vec<GpuProcess>> {
        let (_, gpu) = self.handle(scene, uuid)?;
        let mut attempts = 0..ATTEMPTS;
        loop {
            let obstacle = self.live.call(function, Some(uuid)).map_err(Silence::failed)?;
            if let Some(code) = obstacle.code {
                return Err(silence(code));
            }
            if obstacle.grow == 0 {
                break;
            }
            attempts.next().ok_or_else(|| Silence::failed("the list kept growing"))?;
        }
        let running = running.as_ref().map_err(Clone::clone)?;
        Ok(gpu.list(scene, uuid, running, kind))
    }
}

impl SceneGpu {
    /// The processes on the GPU or instance `uuid`, as NVML lists them.
    pub fn list(
        &self,
        scene: &Scene,
        uuid: &GpuUuid,
        running: &[Running],
        kind: UseKind,
    ) -> Vec<GpuProcess> {
        let mut processes = Vec::new();
        if self.hides_processes {
            return processes;
        }
        for process in running.iter().filter(|it| it.is_alive) {
            let here = |it: &&super::Use| it.kind == kind && it.until.is_none();
            for used in process.uses.iter().filter(here) {
                let instance = self.instances.iter().find(|it| it.uuid == used.gpu);
                let is_here = used.gpu == *uuid || instance.is_some() && self.uuid == *uuid;
                if !is_here {
                    continue;
                }
                processes.push(GpuProcess {
                    pid: process.pid.wrapping_add(scene.pid_offset),
                    memory: if self.hides_process_memory {
                        Err(Silence::NotAvailable)
                    } else {
                        Ok(Bytes::new(used.memory))
                    },
                    instance: instance.map(|it| (it.gpu_instance, it.compute_instance)),
                });
            }
        }
        processes
    }

    /// Each process on the GPU, by the number the driver knows it by, and how busy it keeps the GPU, in percent.
    pub fn busy(&self, scene: &Scene, running: &[Running]) -> Vec<(u32, u32)> {
        let mut busy = Vec::new();
        for process in running.iter().filter(|it| it.is_alive && !self.hides_processes) {
            let mut here = process
                .uses
                .iter()
                .filter(|it| it.gpu == self.uuid && it.until.is_none())
                .peekable();
            if here.peek().is_some() {
                let load = here.map(|it| it.utilization).sum::<u32>().min(100);
                busy.push((process.pid.wrapping_add(scene.pid_offset), load));
            }
        }
        busy
    }

    /// Bytes in use on the GPU or instance `uuid`, without what the driver keeps for itself.
    pub fn used(&self, uuid: &GpuUuid, running: &[Running]) -> u64 {
        let uses = running.iter().filter(|it| it.is_alive).flat_map(|it| &it.uses);
        let is_here = |gpu: &GpuUuid| {
            gpu == uuid || self.uuid == *uuid && self.instances.iter().any(|it| it.uuid == *gpu)
        };
        let here = uses.filter(|it| it.until.is_none() && is_here(&it.gpu));
        let unowned = if self.uuid == *uuid { self.unowned.get() } else { 0 };
        let room = self.total(uuid).saturating_sub(self.kept(uuid));
        (here.map(|it| it.memory).sum::<u64>() + unowned).min(room)
    }

    /// Bytes that the GPU or instance has.
    pub fn total(&self, uuid: &GpuUuid) -> u64 {
        let instance = self.instances.iter().find(|it| it.uuid == *uuid);
        instance.map_or(self.vram, |it| it.vram).get()
    }

    /// Bytes that the driver keeps for itself.
    pub fn kept(&self, uuid: &GpuUuid) -> u64 {
        if self.uuid == *uuid { self.reserved.get() } else { 0 }
    }

    /// Percent, by what the scene says and what the processes do.
    pub fn load(&self, running: &[Running]) -> u32 {
        let uses = running.iter().filter(|it| it.is_alive).flat_map(|it| &it.uses);
        let here = uses.filter(|it| it.gpu == self.uuid && it.until.is_none());
        (here.map(|it| it.utilization).sum::<u32>() + self.utilization).min(100)
    }
}

impl Machine for SceneMachine {
    fn kind(&self) -> Kind {
        Kind::Simulated
    }

    fn source(&self) -> String {
        format!("scene `{}`", self.live)
    }

    fn driver(&self) -> Result<Driver, MachineError> {
        let scene = self.ask("the driver", "nvmlInit")?;
        let ask = |function| match self.live.call(function, None).map_err(Silence::failed)?.code {
            Some(code) => Err(silence(code)),
            None => Ok(()),
        };
        let (major, _) = scene.cuda();
        Ok(Driver {
            version: ask("nvmlSystemGetDriverVersion").map(|()| scene.driver.clone()),
            cuda: ask("nvmlSystemGetCudaDriverVersion").map(|()| scene.cuda()),
            library: ask("nvmlSystemGetNVMLVersion").map(|()| format!("{major}.{}", scene.driver)),
        })
    }

    fn inventory(&self) -> Result<Inventory, MachineError> {
        let (scene, gpus) = self.enumerate()?;
        Ok(Inventory { gpus: gpus.into_iter().flatten().collect(), ..scene.inventory() })
    }

    fn unreadable(&self) -> Result<Vec<Unreadable>, MachineError> {
        Ok(self.enumerate()?.1.into_iter().filter_map(Result::err).collect())
    }

    fn status(&self, uuid: &GpuUuid) -> Result<GpuStatus, Silence> {
        let scene = self.ask("a GPU", "nvmlInit").map_err(Silence::failed)?;
        let (index, gpu) = self.handle(&scene, uuid)?;
        let running = self.live.processes().map_err(Silence::failed);
        let memory = self.ask_gpu("nvmlDeviceGetMemoryInfo", uuid);
        let used = memory.clone().and(running.clone());
        let is_instance = gpu.uuid != *uuid;
        // What the driver tells about a whole GPU only.
        let of_whole = |function: &str| {
            if is_instance { Err(Silence::Unsupported) } else { self.ask_gpu(function, uuid) }
        };
        let whole = |function: &str, value: u32| of_whole(function).map(|()| value);
        let errors = |count: fn(Ecc) -> u64| {
            let ecc = gpu.ecc.filter(|it| it.enabled).ok_or(Silence::Unsupported);
            of_whole("nvmlDeviceGetTotalEccErrors").and(ecc.map(count))
        };
        let (slowdown, shutdown) = gpu.temperature_limits;
        let load = running.map(|it| gpu.load(&it));
        let minor = gpu.minor.unwrap_or(u32::try_from(index).unwrap_or(u32::MAX));
        Ok(GpuStatus {
            memory_total: memory.clone().map(|()| Bytes::new(gpu.total(uuid))),
            memory_used: used.map(|it| Bytes::new(gpu.used(uuid, &it))),
            memory_reserved: memory.map(|()| Bytes::new(gpu.kept(uuid))),
            utilization: whole("nvmlDeviceGetUtilizationRates", 0).and(load),
            temperature: whole("nvmlDeviceGetTemperature", gpu.temperature),
            slowdown_temperature: whole("nvmlDeviceGetTemperatureThreshold", slowdown),
            shutdown_temperature: whole("nvmlDeviceGetTemperatureThreshold", shutdown),
            throttle: of_whole("nvmlDeviceGetCurrentClocksEventReasons").map(|()| {
                Throttle::ALL.into_iter().filter(|it| gpu.throttle.contains(it)).collect()
            }),
            corrected_errors: errors(|it| it.corrected),
            uncorrected_errors: errors(|it| it.uncorrected),
            power: whole("nvmlDeviceGetPowerUsage", milliwatts(gpu.power)),
            power_limit: whole("nvmlDeviceGetEnforcedPowerLimit", milliwatts(gpu.power_limit)),
            sm_clock: whole("nvmlDeviceGetClockInfo", gpu.clocks.sm),
            memory_clock: whole("nvmlDeviceGetClockInfo", gpu.clocks.memory),
            pcie: of_whole("nvmlDeviceGetCurrPcieLinkGeneration")
                .and(of_whole("nvmlDeviceGetCurrPcieLinkWidth"))
                .map(|()| PcieLink { generation: gpu.pcie.generation, width: gpu.pcie.width }),
            persistence: self.value("nvmlDeviceGetPersistenceMode", uuid, gpu.persistence),
            accounting: self.value("nvmlDeviceGetAccountingMode", uuid, gpu.accounting),
            minor: self.value("nvmlDeviceGetMinorNumber", uuid, minor),
        })
    }

    fn usage(&self, uuid: &GpuUuid) -> Usage {
        let scene = match self.ask("a GPU", "nvmlInit") {
            Ok(scene) => scene,
            Err(error) => return Usage::silent(&Silence::failed(error)),
        };
        let running = self.live.processes().map_err(Silence::failed);
        let list = |function, kind| self.list(&scene, uuid, &running, (function, kind));
        Usage {
            compute: list("nvmlDeviceGetComputeRunningProcesses", UseKind::Compute),
            graphics: list("nvmlDeviceGetGraphicsRunningProcesses", UseKind::Graphics),
            mps: list("nvmlDeviceGetMPSComputeRunningProcesses", UseKind::Mps),
        }
    }

    fn process_utilization(&self, uuid: &GpuUuid) -> Answer<Vec<(u32, u32)>> {
        let scene = self.ask("a GPU", "nvmlInit").map_err(Silence::failed)?;
        let (_, gpu) = self.handle(&scene, uuid)?;
        if gpu.uuid != *uuid {
            return Err(Silence::Unsupported);
        }
        self.ask_gpu("nvmlDeviceGetProcessUtilization", uuid)?;
        let running = self.live.processes().map_err(Silence::failed)?;
        Ok(gpu.busy(&scene, &running))
    }

    fn next_xid(&self, wait: Duration) -> Answer<Option<Xid>> {
        let end = Instant::now() + wait;
        loop {
            let scene = self.ask("events", "nvmlEventSetWait").map_err(Silence::failed)?;
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            for gpu in &scene.gpus {
                let known = gpu.xids.len();
                let told = told.entry(gpu.uuid.clone()).or_insert(known);
                if let Some(&number) = gpu.xids.get(*told) {
                    *told += 1;
                    return Ok(Some(Xid { gpu: gpu.uuid.clone(), number }));
                }
            }
            drop(told);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(left.min(LOOK));
        }
    }

    fn accounting(&self, uuid: &GpuUuid) -> Answer<Vec<Accounted>> {
        let scene = self.ask("a GPU", "nvmlInit").map_err(Silence::failed)?;
        let (_, gpu) = self.handle(&scene, uuid)?;
        self.ask_gpu("nvmlDeviceGetAccountingMode", uuid)?;
        if !gpu.accounting {
            return Err(Silence::NotAvailable);
        }
        self.ask_gpu("nvmlDeviceGetAccountingPids", uuid)?;
        let running = self.live.processes().map_err(Silence::failed)?;
        let mut accounted = Vec::new();
        for process in &running {
            for used in process.uses.iter().filter(|it| it.gpu == *uuid && it.accounted) {
                let stats = self.live.call("nvmlDeviceGetAccountingStats", Some(uuid));
                let stats = match stats.map_err(Silence::failed)?.code {
                    None => Ok(()),
                    Some(code @ NOT_FOUND) => Err(silence(code)),
                    Some(code) => return Err(silence(code)),
                };
                accounted.push(Accounted {
                    pid: process.pid.wrapping_add(scene.pid_offset),
                    is_running: stats.clone().map(|()| process.is_alive && used.until.is_none()),
                    started: stats.clone().map(|()| used.since),
                    peak_memory: stats.map(|()| Bytes::new(used.peak)),
                });
            }
        }
        Ok(accounted)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "watts of a GPU; a float that is none saturates"
)]
/// NVML's unit.
pub fn milliwatts(watts: f64) -> u32 {
    (watts * 1000.0).round() as u32
}
