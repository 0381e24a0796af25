//! The machine we run on, as NVML describes it.
//!
//! GPUs are known by UUID: a handle is kept for each, and looked up anew when the library does not know it any more, because the
//! driver was reloaded or the GPUs numbered anew. A library that lost its driver is started again. What does not answer stays a gap,
//! and a GPU that is counted but does not say what it is, is told by [`Machine::unreadable`].
//!
//! Out of scope: everything that changes a GPU's settings.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use gpupin_policy::{Bytes, ComputeCapability, Gpu, GpuUuid, Inventory, Mig, NvmlIndex};

use self::{
    code::Code,
    library::{Clock, EventSet, Handle, Library, Limit, MemoryErrors, Number},
    processes::Row,
};
use crate::{
    answer::{Answer, Silence},
    kind::Kind,
    machine::{
        Accounted, Driver, GpuProcess, GpuStatus, Machine, MachineError, PcieLink, ProcessKind,
        Throttle, Unreadable, Usage, Xid,
    },
};

mod code;
mod functions;
mod library;
mod processes;

/// How far back samples of processes are asked for. The driver takes one or more a second.
const RECENT: Duration = Duration::from_secs(3);

/// What the dynamic loader finds NVML by.
pub const NVML_LIBRARY: &str = "libnvidia-ml.so.1";

/// The local machine, as NVML describes it.
#[derive(Debug)]
pub struct Nvml {
    library: PathBuf,
    /// The root of the file system that says what this machine is called.
    root: PathBuf,
    kind: Kind,
    session: RwLock<Arc<Session>>,
}

/// One start of the library. Handles are of one start.
#[derive(Debug)]
struct Session {
    library: Library,
    handles: Mutex<BTreeMap<GpuUuid, Handle>>,
    events: Mutex<Option<Events>>,
}

/// Xids that are collected, and of which GPUs.
#[derive(Debug)]
struct Events {
    set: EventSet,
    /// Also GPUs that have none to tell.
    asked: BTreeMap<GpuUuid, Handle>,
}

/// A GPU that is in the inventory, or the reason why it is not.
type Listed = Result<Gpu, Unreadable>;

impl Nvml {
    /// Loads and starts NVML: `library` is a path, or a name for the dynamic loader such as [`NVML_LIBRARY`].
    pub fn open(library: &Path, root: &Path) -> Result<Self, MachineError> {
        let session = Session::start(library)?;
        let kind = if session.library.is_simulated() { Kind::Simulated } else { Kind::Measured };
        Ok(Self {
            library: library.to_owned(),
            root: root.to_owned(),
            kind,
            session: RwLock::new(Arc::new(session)),
        })
    }

    fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks, and asks once more after a new start if the library has lost its driver.
    fn with_restart<T>(&self, ask: impl Fn(&Session) -> Result<T, Code>) -> Result<T, Code> {
        let session = self.session();
        match ask(&session) {
            Err(code) if code.asks_for_restart() => {
                let Ok(fresh) = Session::start(&self.library) else { return Err(code) };
                // Another library may have taken the place of the first. Its answers are of another kind.
                let is_simulated = self.kind == Kind::Simulated;
                if fresh.library.is_simulated() != is_simulated {
                    return Err(code);
                }
                let fresh = Arc::new(fresh);
                let answer = ask(&fresh);
                if answer.is_ok() {
                    *self.session.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                }
                answer
            }
            answer => answer,
        }
    }

    /// Asks about one GPU; with a new handle if the library does not know the old one.
    fn about<T>(
        &self,
        gpu: &GpuUuid,
        ask: impl Fn(&Library, Handle) -> Result<T, Code>,
    ) -> Result<T, Silence> {
        // Only who looks for the GPU learns that there is none; what is not found otherwise may be anything.
        let handle = |session: &Session| {
            session.handle(gpu).map_err(|code| match code {
                Code::NOT_FOUND | Code::INVALID_ARGUMENT => Code::GPU_IS_LOST,
                code => code,
            })
        };
        let answer = self.with_restart(|session| {
            let (known, is_new) = handle(session)?;
            match ask(&session.library, known) {
                Err(code) if code.blames_handle() && !is_new => {
                    session.forget(gpu);
                    ask(&session.library, handle(session)?.0)
                }
                answer => answer,
            }
        });
        answer.map_err(Silence::from)
    }

    fn listed(&self) -> Result<Vec<Listed>, MachineError> {
        let listed = self.with_restart(|session| {
            let count = session.library.gpu_count()?;
            Ok((0..count).map(|index| session.listed(index)).collect())
        });
        listed.map_err(|code| code.about_machine("the number of GPUs"))
    }
}

impl Machine for Nvml {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn source(&self) -> String {
        match self.session().library.library_version() {
            Ok(version) => format!("NVML {version}"),
            Err(_) => "NVML".to_owned(),
        }
    }

    fn driver(&self) -> Result<Driver, MachineError> {
        let session = self.session();
        let library = &session.library;
        let version = match library.driver_version() {
            Ok(text) => text.parse().map_err(|_| Silence::Failed(format!("`{text}`"))),
            Err(code) => Err(code.into()),
        };
        Ok(Driver {
            version,
            cuda: library.cuda_version().map_err(Silence::from),
            library: library.library_version().map_err(Silence::from),
        })
    }

    fn inventory(&self) -> Result<Inventory, MachineError> {
        let gpus = self.listed()?.into_iter().filter_map(Result::ok).collect();
        let driver = self.session().library.driver_version().ok();
        Ok(Inventory {
            host: host(&self.root)?,
            driver: driver.and_then(|it| it.parse().ok()),
            gpus,
        })
    }

    fn unreadable(&self) -> Result<Vec<Unreadable>, MachineError> {
        Ok(self.listed()?.into_iter().filter_map(Result::err).collect())
    }

    fn status(&self, gpu: &GpuUuid) -> Result<GpuStatus, Silence> {
        self.about(gpu, |library, handle| {
            let number = |it| library.number(handle, it).map_err(Silence::from);
            let limit = |it| library.temperature_limit(handle, it).map_err(Silence::from);
            let errors = |it| library.memory_errors(handle, it).map_err(Silence::from);
            let memory = library.memory(handle);
            if memory.as_ref().is_err_and(|code| code.blames_handle()) {
                return memory.map(|_| unreachable!("it is an error"));
            }
            let memory = memory.map_err(Silence::from);
            let of_memory = |part: fn(&library::Memory) -> Option<u64>| match &memory {
                Ok(it) => part(it).map(Bytes::new).ok_or(Silence::TooOld),
                Err(why) => Err(why.clone()),
            };
            Ok(GpuStatus {
                memory_total: of_memory(|it| Some(it.total)),
                memory_used: of_memory(|it| Some(it.used)),
                memory_reserved: of_memory(|it| it.reserved),
                utilization: library.utilization(handle).map_err(Silence::from),
                temperature: library.temperature(handle).map_err(Silence::from),
                slowdown_temperature: limit(Limit::Slowdown),
                shutdown_temperature: limit(Limit::Shutdown),
                throttle: library.throttle(handle).map(Throttle::of_bits).map_err(Silence::from),
                corrected_errors: errors(MemoryErrors::Corrected),
                uncorrected_errors: errors(MemoryErrors::Uncorrected),
                power: number(Number::Power),
                power_limit: number(Number::EnforcedPowerLimit),
                sm_clock: library.clock(handle, Clock::Sm).map_err(Silence::from),
                memory_clock: library.clock(handle, Clock::Memory).map_err(Silence::from),
                pcie: number(Number::PcieGeneration).and_then(|generation| {
                    Ok(PcieLink { generation, width: number(Number::PcieWidth)? })
                }),
                persistence: number(Number::Persistence).map(|it| it == 1),
                accounting: number(Number::Accounting).map(|it| it == 1),
                minor: number(Number::Minor),
            })
        })
    }

    fn usage(&self, gpu: &GpuUuid) -> Usage {
        let list = |kind| {
            let rows = self.about(gpu, |library, handle| library.processes(handle, kind));
            rows.map(|it| it.into_iter().map(process).collect())
        };
        Usage {
            compute: list(ProcessKind::Compute),
            graphics: list(ProcessKind::Graphics),
            mps: list(ProcessKind::Mps),
        }
    }

    fn process_utilization(&self, gpu: &GpuUuid) -> Answer<Vec<(u32, u32)>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = now.saturating_sub(RECENT).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let samples =
            self.about(gpu, |library, handle| library.process_utilization(handle, since))?;
        let mut newest = BTreeMap::new();
        for it in samples {
            let entry = newest.entry(it.pid).or_insert((it.timeStamp, it.smUtil));
            *entry = (*entry).max((it.timeStamp, it.smUtil));
        }
        Ok(newest.into_iter().map(|(pid, (_, busy))| (pid, busy)).collect())
    }

    fn next_xid(&self, wait: Duration) -> Answer<Option<Xid>> {
        let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let gpus: Vec<_> = self.listed().map_err(Silence::failed)?.into_iter().flatten().collect();
        let uuids: Vec<_> = gpus.into_iter().map(|it| it.uuid).collect();
        Ok(self.with_restart(|session| session.next_xid(&uuids, wait))?)
    }

    fn accounting(&self, gpu: &GpuUuid) -> Answer<Vec<Accounted>> {
        let pids = self.about(gpu, |library, handle| {
            if library.number(handle, Number::Accounting)? == 0 {
                return Ok(None);
            }
            library.accounted_pids(handle).map(Some)
        })?;
        let mut accounted = Vec::new();
        for pid in pids.ok_or(Silence::NotAvailable)? {
            let stats = self.about(gpu, |library, handle| {
                match library.accounting_of(handle, pid) {
                    // Whether a younger process took its place in the buffer or the driver fails, somebody was there.
                    Err(code @ Code::NOT_FOUND) => Ok(Err(Silence::from(code))),
                    stats => stats.map(Ok),
                }
            })?;
            accounted.push(Accounted {
                pid,
                is_running: stats.clone().map(|it| it.isRunning != 0),
                started: stats.clone().map(|it| it.startTime),
                peak_memory: stats.and_then(|it| available(it.maxMemoryUsage)),
            });
        }
        Ok(accounted)
    }
}

impl Session {
    fn start(library: &Path) -> Result<Self, MachineError> {
        Ok(Self {
            library: Library::start(library)?,
            handles: Mutex::default(),
            events: Mutex::default(),
        })
    }

    fn next_xid(&self, gpus: &[GpuUuid], wait: u32) -> Result<Option<Xid>, Code> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let events = match &mut *events {
            Some(events) => events,
            none => none.insert(Events { set: self.library.event_set()?, asked: BTreeMap::new() }),
        };
        for gpu in gpus {
            if !events.asked.contains_key(gpu) {
                let (handle, _) = self.handle(gpu)?;
                match self.library.watch(handle, &events.set) {
                    Ok(()) | Err(Code::NOT_SUPPORTED) => {}
                    Err(code) => return Err(code),
                }
                events.asked.insert(gpu.clone(), handle);
            }
        }
        let Some((handle, number)) = self.library.next_xid(&events.set, wait)? else {
            return Ok(None);
        };
        let gpu = events.asked.iter().find(|it| *it.1 == handle);
        Ok(gpu.map(|(gpu, _)| Xid { gpu: gpu.clone(), number }))
    }

    /// The handle of a GPU, and whether it was looked up just now.
    fn handle(&self, gpu: &GpuUuid) -> Result<(Handle, bool), Code> {
        let known = self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(gpu).copied();
        if let Some(handle) = known {
            return Ok((handle, false));
        }
        let handle = self.library.gpu_named(gpu.as_str())?;
        self.keep(gpu, handle);
        Ok((handle, true))
    }

    fn keep(&self, gpu: &GpuUuid, handle: Handle) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.insert(gpu.clone(), handle);
    }

    fn forget(&self, gpu: &GpuUuid) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(gpu);
    }

    fn listed(&self, index: u32) -> Listed {
        let unreadable = |what, why: Silence| Unreadable {
            index: NvmlIndex(index),
            uuid: None,
            name: None,
            pci: None,
            what,
            why,
        };
        let handle =
            self.library.gpu_at(index).map_err(|it| unreadable("its handle", it.into()))?;
        let uuid = parsed(self.library.uuid(handle));
        let uuid: GpuUuid = uuid.map_err(|why| unreadable("its UUID", why))?;
        let gpu = self.described(index, uuid.clone(), handle);
        match gpu {
            Ok(gpu) => {
                self.keep(&uuid, handle);
                Ok(gpu)
            }
            Err((what, why)) => Err(Unreadable {
                uuid: Some(uuid),
                name: self.library.name(handle).ok(),
                pci: parsed(self.library.pci(handle)).ok(),
                ..unreadable(what, why)
            }),
        }
    }

    fn described(
        &self,
        index: u32,
        uuid: GpuUuid,
        handle: Handle,
    ) -> Result<Gpu, (&'static str, Silence)> {
        let library = &self.library;
        let silent = |what| move |code: Code| (what, Silence::from(code));
        let name = library.name(handle).map_err(silent("its name"))?;
        let memory = library.memory(handle).map_err(silent("its memory"))?;
        let (major, minor) =
            library.compute_capability(handle).map_err(silent("its compute capability"))?;
        let mut gpu = Gpu {
            uuid,
            name,
            vram: Bytes::new(memory.total),
            compute_capability: ComputeCapability { major, minor },
            pci: parsed(library.pci(handle)).map_err(|why| ("its PCI address", why))?,
            index: NvmlIndex(index),
            mig: Mig::Disabled,
        };
        let has_mig = match library.has_mig(handle) {
            Ok(has_mig) => has_mig,
            // A GPU or driver that knows no MIG has none.
            Err(Code::NOT_SUPPORTED | Code::FUNCTION_NOT_FOUND) => false,
            Err(code) => return Err(("its MIG mode", code.into())),
        };
        if has_mig {
            let instances = self.instances(handle, &gpu).map_err(silent("its MIG instances"))?;
            gpu.mig = Mig::Enabled(instances);
        }
        Ok(gpu)
    }

    fn instances(&self, parent: Handle, gpu: &Gpu) -> Result<Vec<Gpu>, Code> {
        let library = &self.library;
        let mut instances = Vec::new();
        for place in 0..library.number(parent, Number::MaxMigDevices)? {
            let handle = match library.mig_instance_at(parent, place) {
                Ok(handle) => handle,
                // Places are numbered with gaps.
                Err(Code::NOT_FOUND) => continue,
                Err(code) => return Err(code),
            };
            let uuid: GpuUuid = library.uuid(handle)?.parse().map_err(|_| Code::UNKNOWN)?;
            self.keep(&uuid, handle);
            instances.push(Gpu {
                uuid,
                name: library.name(handle)?,
                vram: Bytes::new(library.memory(handle)?.total),
                mig: Mig::Instance {
                    gpu_instance: library.number(handle, Number::GpuInstance)?,
                    compute_instance: library.number(handle, Number::ComputeInstance)?,
                },
                ..gpu.clone()
            });
        }
        Ok(instances)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let events = self.events.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = events.take() {
            self.library.free(&events.set);
        }
    }
}

fn parsed<T: std::str::FromStr>(text: Result<String, Code>) -> Answer<T> {
    let text = text?;
    text.parse().map_err(|_| Silence::Failed(format!("`{text}` is not understood")))
}

fn process(row: Row) -> GpuProcess {
    let has_instance = row.instance != (u32::MAX, u32::MAX);
    GpuProcess {
        pid: row.pid,
        memory: available(row.memory),
        instance: has_instance.then_some(row.instance),
    }
}

/// An amount of memory, for which NVML's "not available" is the largest number there is.
fn available(bytes: u64) -> Answer<Bytes> {
    if bytes == u64::MAX { Err(Silence::NotAvailable) } else { Ok(Bytes::new(bytes)) }
}

/// What this machine is called.
pub(crate) fn host(root: &Path) -> Result<String, MachineError> {
    let path = root.join("proc/sys/kernel/hostname");
    let text = fs::read_to_string(&path);
    let text = text.map_err(|source| MachineError::Read { path, source })?;
    Ok(text.trim().to_owned())
}
