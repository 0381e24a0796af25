#![expect(unsafe_code, reason = "the driver's library speaks C")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong},
    path::Path,
};

use nvml_wrapper_sys::bindings::{
    nvmlAccountingStats_t, nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlMemory_t,
    nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessUtilizationSample_t, nvmlReturn_t,
    nvmlUtilization_t,
};

use super::{
    code::{Code, count, not_loaded},
    functions::Functions,
    processes::{Lists, Row},
};
use crate::{
    machine::{MachineError, ProcessKind},
    watchdog::calling,
};

/// A function of a library that is called next.
macro_rules! named {
    ($library:ident.$function:ident) => {{
        calling(stringify!($function));
        found(&$library.raw.$function)
    }};
}

/// `libnvidia-ml`, loaded and started. Dropping it stops it.
///
/// The bindings are used as they are: what a safe wrapper adds is its own reading of process lists, whose layout depends on the
/// driver and which it does not tell apart.
pub(super) struct Library {
    raw: Functions,
    lists: Lists,
    is_simulated: bool,
}

/// A GPU or MIG instance, as the library names it while it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(nvmlDevice_t);

// SAFETY: NVML is thread-safe (NVML API reference, "Known issues and limitations"), and what is behind the pointer is the
// library's only.
unsafe impl Send for Handle {}
// SAFETY: as above; the pointer is never followed here.
unsafe impl Sync for Handle {}

/// The symbol that only gpupin's simulated libraries export.
const SIMULATED: &[u8] = b"gpupin_sim_version\0";

/// `NVML_INIT_FLAG_NO_GPUS`: a machine without GPUs is no failure.
const WITHOUT_GPUS_TOO: c_uint = 1;

/// Events that a library collects, from some GPUs. It must not outlive the library.
#[derive(Debug)]
pub(super) struct EventSet(nvmlEventSet_t);

// SAFETY: as for handles.
unsafe impl Send for EventSet {}

/// The type of event that tells of an Xid.
const XID_EVENTS: c_ulonglong = 0x8;

/// A function that fills one value about one GPU.
type Getter<T> = Result<unsafe extern "C" fn(nvmlDevice_t, *mut T) -> nvmlReturn_t, Code>;

/// A function that fills a text about one GPU.
type TextGetter =
    Result<unsafe extern "C" fn(nvmlDevice_t, *mut c_char, c_uint) -> nvmlReturn_t, Code>;

/// A function that fills a text about the machine.
type SystemTextGetter = Result<unsafe extern "C" fn(*mut c_char, c_uint) -> nvmlReturn_t, Code>;

/// What is known of memory, in bytes.
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) used: u64,
    /// Absent where `used` includes it.
    pub(super) reserved: Option<u64>,
}

/// The numbers that are asked of a GPU, by the function that gives them.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Power,
    EnforcedPowerLimit,
    Persistence,
    Accounting,
    Minor,
    PcieGeneration,
    PcieWidth,
    MaxMigDevices,
    GpuInstance,
    ComputeInstance,
}

/// The clocks that are asked of a GPU, with NVML's numbers.
#[derive(Clone, Copy)]
pub(super) enum Clock {
    Sm = 1,
    Memory = 2,
}

/// The limits of temperature that are asked of a GPU, with NVML's numbers.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    Shutdown = 0,
    Slowdown = 1,
}

/// The counts of errors of memory that are asked of a GPU, with NVML's numbers.
#[derive(Clone, Copy)]
pub(super) enum MemoryErrors {
    Corrected = 0,
    Uncorrected = 1,
}

impl Library {
    pub(super) fn start(path: &Path) -> Result<Self, MachineError> {
        calling("dlopen");
        // SAFETY: loading runs the library's initialisers. It is the driver's own, or one the user named.
        let loaded = unsafe { libloading::Library::new(path) };
        let loaded = loaded.map_err(|error| not_loaded(&error))?;
        // SAFETY: only whether there is such a symbol is asked; it is never called.
        let is_simulated = unsafe { loaded.get::<*const ()>(SIMULATED) }.is_ok();
        let lists = Lists::of(&loaded);
        // SAFETY: every version of the library keeps to NVIDIA's header.
        let raw = unsafe { Functions::of(loaded) };
        if raw.nvmlInitWithFlags.is_err() && raw.nvmlInit_v2.is_err() {
            let why = format!("`{}` is no NVML", path.display());
            return Err(MachineError::NoLibrary { why });
        }
        calling("nvmlInitWithFlags");
        let code = match (&raw.nvmlInitWithFlags, &raw.nvmlInit_v2) {
            // SAFETY: takes a plain number.
            (Ok(init), _) => unsafe { init(WITHOUT_GPUS_TOO) },
            // SAFETY: takes nothing.
            (Err(_), Ok(init)) => unsafe { init() },
            (Err(_), Err(_)) => unreachable!("one of them is there"),
        };
        Code::check(code).map_err(|code| code.about_machine("its start"))?;
        Ok(Self { raw, lists, is_simulated })
    }

    pub(super) fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    pub(super) fn driver_version(&self) -> Result<String, Code> {
        system_text(named!(self.nvmlSystemGetDriverVersion))
    }

    pub(super) fn library_version(&self) -> Result<String, Code> {
        system_text(named!(self.nvmlSystemGetNVMLVersion))
    }

    /// Major and minor of the newest CUDA that the driver supports.
    pub(super) fn cuda_version(&self) -> Result<(u32, u32), Code> {
        calling("nvmlSystemGetCudaDriverVersion");
        let newer = self.raw.nvmlSystemGetCudaDriverVersion_v2.as_ref();
        let function = *newer
            .or(self.raw.nvmlSystemGetCudaDriverVersion.as_ref())
            .map_err(|_| Code::FUNCTION_NOT_FOUND)?;
        let mut version: c_int = 0;
        // SAFETY: the function writes one number.
        Code::check(unsafe { function(&raw mut version) })?;
        let version = u32::try_from(version).map_err(|_| Code::UNKNOWN)?;
        Ok((version / 1000, version % 1000 / 10))
    }

    pub(super) fn gpu_count(&self) -> Result<u32, Code> {
        let function = named!(self.nvmlDeviceGetCount_v2)?;
        let mut count = 0;
        // SAFETY: the function writes one number.
        Code::check(unsafe { function(&raw mut count) })?;
        Ok(count)
    }

    pub(super) fn gpu_at(&self, index: u32) -> Result<Handle, Code> {
        let function = named!(self.nvmlDeviceGetHandleByIndex_v2)?;
        let mut device = std::ptr::null_mut();
        // SAFETY: the function writes one pointer.
        Code::check(unsafe { function(index, &raw mut device) })?;
        Ok(Handle(device))
    }

    /// A GPU or MIG instance. NVML takes no shortened UUIDs.
    pub(super) fn gpu_named(&self, uuid: &str) -> Result<Handle, Code> {
        let function = named!(self.nvmlDeviceGetHandleByUUID)?;
        let uuid = CString::new(uuid).map_err(|_| Code::NOT_FOUND)?;
        let mut device = std::ptr::null_mut();
        // SAFETY: the text ends in a zero and outlives the call, and the function writes one pointer.
        Code::check(unsafe { function(uuid.as_ptr(), &raw mut device) })?;
        Ok(Handle(device))
    }

    pub(super) fn mig_instance_at(&self, gpu: Handle, index: u32) -> Result<Handle, Code> {
        let function = named!(self.nvmlDeviceGetMigDeviceHandleByIndex)?;
        let mut device = std::ptr::null_mut();
        // SAFETY: the handle is of this library, and the function writes one pointer.
        Code::check(unsafe { function(gpu.0, index, &raw mut device) })?;
        Ok(Handle(device))
    }

    /// Whether the GPU is split into MIG instances now.
    pub(super) fn has_mig(&self, gpu: Handle) -> Result<bool, Code> {
        let function = named!(self.nvmlDeviceGetMigMode)?;
        let (mut current, mut pending) = (0, 0);
        // SAFETY: the handle is of this library, and the function writes two numbers.
        Code::check(unsafe { function(gpu.0, &raw mut current, &raw mut pending) })?;
        Ok(current == 1)
    }

    pub(super) fn uuid(&self, gpu: Handle) -> Result<String, Code> {
        text(named!(self.nvmlDeviceGetUUID), gpu)
    }

    pub(super) fn name(&self, gpu: Handle) -> Result<String, Code> {
        text(named!(self.nvmlDeviceGetName), gpu)
    }

    pub(super) fn pci(&self, gpu: Handle) -> Result<String, Code> {
        // SAFETY: numbers and texts of C, for which zeros are a value.
        let empty: nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        let info = get(named!(self.nvmlDeviceGetPciInfo_v3), gpu, empty)?;
        Ok(until_zero(&info.busId))
    }

    pub(super) fn compute_capability(&self, gpu: Handle) -> Result<(u32, u32), Code> {
        let function = named!(self.nvmlDeviceGetCudaComputeCapability)?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the handle is of this library, and the function writes two numbers.
        Code::check(unsafe { function(gpu.0, &raw mut major, &raw mut minor) })?;
        let number = |it| u32::try_from(it).map_err(|_| Code::UNKNOWN);
        Ok((number(major)?, number(minor)?))
    }

    pub(super) fn memory(&self, gpu: Handle) -> Result<Memory, Code> {
        // The version says how large the structure is. With any other number the real driver answers that it has no such
        // function, although the header asks for a plain 2.
        let version = count(size_of::<nvmlMemory_v2_t>()) | 2 << 24;
        let asked = nvmlMemory_v2_t { version, total: 0, reserved: 0, free: 0, used: 0 };
        match get(named!(self.nvmlDeviceGetMemoryInfo_v2), gpu, asked) {
            Ok(it) => {
                return Ok(Memory { total: it.total, used: it.used, reserved: Some(it.reserved) });
            }
            Err(Code::FUNCTION_NOT_FOUND | Code::ARGUMENT_VERSION_MISMATCH) => {}
            Err(code) => return Err(code),
        }
        let asked = nvmlMemory_t { total: 0, free: 0, used: 0 };
        let it = get(named!(self.nvmlDeviceGetMemoryInfo), gpu, asked)?;
        Ok(Memory { total: it.total, used: it.used, reserved: None })
    }

    /// Share of time in which a kernel ran, in percent.
    pub(super) fn utilization(&self, gpu: Handle) -> Result<u32, Code> {
        let asked = nvmlUtilization_t { gpu: 0, memory: 0 };
        get(named!(self.nvmlDeviceGetUtilizationRates), gpu, asked).map(|it| it.gpu)
    }

    /// Degrees Celsius.
    pub(super) fn temperature(&self, gpu: Handle) -> Result<u32, Code> {
        const OF_THE_GPU: c_uint = 0;
        let function = named!(self.nvmlDeviceGetTemperature)?;
        let mut temperature = 0;
        // SAFETY: the handle is of this library, and the function writes one number.
        Code::check(unsafe { function(gpu.0, OF_THE_GPU, &raw mut temperature) })?;
        Ok(temperature)
    }

    /// Degrees Celsius.
    pub(super) fn temperature_limit(&self, gpu: Handle, limit: Limit) -> Result<u32, Code> {
        let function = named!(self.nvmlDeviceGetTemperatureThreshold)?;
        let mut temperature = 0;
        // SAFETY: the handle is of this library, and the function writes one number.
        Code::check(unsafe { function(gpu.0, limit as c_uint, &raw mut temperature) })?;
        Ok(temperature)
    }

    /// A bit for each reason why the clocks are low.
    pub(super) fn throttle(&self, gpu: Handle) -> Result<u64, Code> {
        match get(named!(self.nvmlDeviceGetCurrentClocksEventReasons), gpu, 0) {
            // Its name before driver 535.
            Err(Code::FUNCTION_NOT_FOUND) => {
                get(named!(self.nvmlDeviceGetCurrentClocksThrottleReasons), gpu, 0)
            }
            answer => answer,
        }
    }

    /// Errors since the driver was loaded.
    pub(super) fn memory_errors(&self, gpu: Handle, errors: MemoryErrors) -> Result<u64, Code> {
        const SINCE_LOADED: c_uint = 0;
        let function = named!(self.nvmlDeviceGetTotalEccErrors)?;
        let mut many = 0;
        // SAFETY: the handle is of this library, and the function writes one number.
        Code::check(unsafe { function(gpu.0, errors as c_uint, SINCE_LOADED, &raw mut many) })?;
        Ok(many)
    }

    /// Megahertz.
    pub(super) fn clock(&self, gpu: Handle, clock: Clock) -> Result<u32, Code> {
        let function = named!(self.nvmlDeviceGetClockInfo)?;
        let mut megahertz = 0;
        // SAFETY: the handle is of this library, and the function writes one number.
        Code::check(unsafe { function(gpu.0, clock as c_uint, &raw mut megahertz) })?;
        Ok(megahertz)
    }

    pub(super) fn number(&self, gpu: Handle, number: Number) -> Result<u32, Code> {
        let function = match number {
            Number::Power => named!(self.nvmlDeviceGetPowerUsage),
            Number::EnforcedPowerLimit => named!(self.nvmlDeviceGetEnforcedPowerLimit),
            Number::Persistence => named!(self.nvmlDeviceGetPersistenceMode),
            Number::Accounting => named!(self.nvmlDeviceGetAccountingMode),
            Number::Minor => named!(self.nvmlDeviceGetMinorNumber),
            Number::PcieGeneration => named!(self.nvmlDeviceGetCurrPcieLinkGeneration),
            Number::PcieWidth => named!(self.nvmlDeviceGetCurrPcieLinkWidth),
            Number::MaxMigDevices => named!(self.nvmlDeviceGetMaxMigDeviceCount),
            Number::GpuInstance => named!(self.nvmlDeviceGetGpuInstanceId),
            Number::ComputeInstance => named!(self.nvmlDeviceGetComputeInstanceId),
        };
        get(function, gpu, 0)
    }

    pub(super) fn processes(&self, gpu: Handle, kind: ProcessKind) -> Result<Vec<Row>, Code> {
        let function = self.lists.function(kind)?;
        calling(match kind {
            ProcessKind::Compute => "nvmlDeviceGetComputeRunningProcesses",
            ProcessKind::Graphics => "nvmlDeviceGetGraphicsRunningProcesses",
            ProcessKind::Mps => "nvmlDeviceGetMPSComputeRunningProcesses",
        });
        self.lists.read(kind, |capacity, buffer| {
            // SAFETY: the handle is of this library, and the buffer holds as many rows of the largest layout as are said.
            Code::check(unsafe { function(gpu.0, capacity, buffer) })
        })
    }

    /// The newest sample of each process that was busy since `since`, in microseconds since 1970.
    pub(super) fn process_utilization(
        &self,
        gpu: Handle,
        since: u64,
    ) -> Result<Vec<nvmlProcessUtilizationSample_t>, Code> {
        let function = named!(self.nvmlDeviceGetProcessUtilization)?;
        // SAFETY: plain numbers, for which zeros are a value.
        let empty: nvmlProcessUtilizationSample_t = unsafe { std::mem::zeroed() };
        let mut samples = vec![empty; 128];
        loop {
            let mut filled = count(samples.len());
            // SAFETY: the handle is of this library, and the buffer holds as many samples as are said.
            let code = Code::check(unsafe {
                function(gpu.0, samples.as_mut_ptr(), &raw mut filled, since)
            });
            match code {
                Err(Code::INSUFFICIENT_SIZE) if samples.len() < 1 << 16 => {
                    samples.resize(samples.len() * 2, empty);
                }
                // Nobody was busy.
                Err(Code::NOT_FOUND) => return Ok(Vec::new()),
                Err(code) => return Err(code),
                Ok(()) => {
                    samples.truncate(usize::try_from(filled).unwrap_or(usize::MAX));
                    return Ok(samples);
                }
            }
        }
    }

    pub(super) fn event_set(&self) -> Result<EventSet, Code> {
        let function = named!(self.nvmlEventSetCreate)?;
        let mut set = std::ptr::null_mut();
        // SAFETY: the function writes one pointer.
        Code::check(unsafe { function(&raw mut set) })?;
        Ok(EventSet(set))
    }

    /// Collects the Xids of a GPU from now on.
    pub(super) fn watch(&self, gpu: Handle, set: &EventSet) -> Result<(), Code> {
        let function = named!(self.nvmlDeviceRegisterEvents)?;
        // SAFETY: handle and set are of this library.
        Code::check(unsafe { function(gpu.0, XID_EVENTS, set.0) })
    }

    /// The next Xid within some milliseconds.
    pub(super) fn next_xid(
        &self,
        set: &EventSet,
        milliseconds: u32,
    ) -> Result<Option<(Handle, u64)>, Code> {
        let function = named!(self.nvmlEventSetWait_v2)?;
        // SAFETY: a pointer and plain numbers, for which zeros are a value.
        let mut event: nvmlEventData_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is of this library, and the function writes one structure.
        match Code::check(unsafe { function(set.0, &raw mut event, milliseconds) }) {
            Ok(()) if event.eventType & XID_EVENTS != 0 => {
                Ok(Some((Handle(event.device), event.eventData)))
            }
            Ok(()) | Err(Code::TIMEOUT) => Ok(None),
            Err(code) => Err(code),
        }
    }

    pub(super) fn free(&self, set: &EventSet) {
        if let Ok(function) = named!(self.nvmlEventSetFree) {
            // SAFETY: the set is of this library and not used again.
            unsafe { function(set.0) };
        }
    }

    /// The PIDs that accounting has kept.
    pub(super) fn accounted_pids(&self, gpu: Handle) -> Result<Vec<u32>, Code> {
        let function = named!(self.nvmlDeviceGetAccountingPids)?;
        // The driver keeps 4000 (`nvmlDeviceGetAccountingBufferSize`), and more may come between two calls.
        let mut pids = vec![0; 4096];
        loop {
            let mut filled = count(pids.len());
            // SAFETY: the handle is of this library, and the buffer holds as many numbers as are said.
            let code = Code::check(unsafe { function(gpu.0, &raw mut filled, pids.as_mut_ptr()) });
            match code {
                Err(Code::INSUFFICIENT_SIZE) if pids.len() < 1 << 20 => {
                    pids.resize(pids.len() * 2, 0);
                }
                Err(code) => return Err(code),
                Ok(()) => {
                    pids.truncate(usize::try_from(filled).unwrap_or(usize::MAX));
                    return Ok(pids);
                }
            }
        }
    }

    pub(super) fn accounting_of(
        &self,
        gpu: Handle,
        pid: u32,
    ) -> Result<nvmlAccountingStats_t, Code> {
        let function = named!(self.nvmlDeviceGetAccountingStats)?;
        // SAFETY: plain numbers, for which zeros are a value.
        let mut stats: nvmlAccountingStats_t = unsafe { std::mem::zeroed() };
        // SAFETY: the handle is of this library, and the function writes one structure.
        Code::check(unsafe { function(gpu.0, pid, &raw mut stats) })?;
        Ok(stats)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if let Ok(shutdown) = named!(self.nvmlShutdown) {
            calling("nvmlShutdown");
            // SAFETY: takes nothing, and undoes the start that made this value.
            unsafe { shutdown() };
        }
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("is_simulated", &self.is_simulated).finish_non_exhaustive()
    }
}

fn found<F: Copy>(function: &Result<F, libloading::Error>) -> Result<F, Code> {
    function.as_ref().copied().map_err(|_| Code::FUNCTION_NOT_FOUND)
}

fn get<T>(function: Getter<T>, gpu: Handle, asked: T) -> Result<T, Code> {
    let function = function?;
    let mut value = asked;
    // SAFETY: the handle is of this library, and the bindings say that the function writes one such value.
    Code::check(unsafe { function(gpu.0, &raw mut value) })?;
    Ok(value)
}

/// Longer than every text that NVML gives, which is 96 bytes.
const LONGEST_TEXT: usize = 256;

fn text(function: TextGetter, gpu: Handle) -> Result<String, Code> {
    let function = function?;
    let mut buffer = [0; LONGEST_TEXT];
    // SAFETY: the handle is of this library, and the buffer is as long as is said.
    Code::check(unsafe { function(gpu.0, buffer.as_mut_ptr(), count(LONGEST_TEXT)) })?;
    Ok(until_zero(&buffer))
}

fn system_text(function: SystemTextGetter) -> Result<String, Code> {
    let function = function?;
    let mut buffer = [0; LONGEST_TEXT];
    // SAFETY: the buffer is as long as is said.
    Code::check(unsafe { function(buffer.as_mut_ptr(), count(LONGEST_TEXT)) })?;
    Ok(until_zero(&buffer))
}

/// A text of C in a buffer; all of the buffer if nothing ends it.
fn until_zero(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|it| it.cast_unsigned()).chain([0]).collect();
    let text = CStr::from_bytes_until_nul(&bytes).expect("a zero was added");
    text.to_string_lossy().into_owned()
}
