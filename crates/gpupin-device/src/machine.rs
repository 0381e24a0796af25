use std::{fmt::Debug, io, path::PathBuf, time::Duration};

use gpupin_policy::{Bytes, DriverVersion, GpuUuid, Inventory, NvmlIndex, PciAddress};

use crate::{
    answer::{Answer, Silence},
    kind::Kind,
};

/// A machine with GPUs.
///
/// Cheap to ask again and again: implementations keep what does not change, and notice when a GPU vanishes or the driver is
/// reloaded. An error is about the machine; what one GPU does not say is a [`Silence`] in the answer about it.
pub trait Machine: Send + Sync + Debug {
    /// How what it says was obtained. A simulated library makes it [`Kind::Simulated`], whoever loaded it and however.
    fn kind(&self) -> Kind;

    /// Who answers, in words for people: `NVML 13.580.65.06`, `scene mixed`, `/proc/driver/nvidia`.
    fn source(&self) -> String;

    fn driver(&self) -> Result<Driver, MachineError>;

    /// The GPUs as they are now, with MIG instances inside their parents, in NVML order.
    fn inventory(&self) -> Result<Inventory, MachineError>;

    /// GPUs that are counted and do not say what they are, so that they are missing in the inventory: lost ones, for example.
    fn unreadable(&self) -> Result<Vec<Unreadable>, MachineError> {
        Ok(Vec::new())
    }

    /// One GPU now.
    fn status(&self, gpu: &GpuUuid) -> Result<GpuStatus, Silence>;

    /// The processes on one GPU now.
    fn usage(&self, gpu: &GpuUuid) -> Usage;

    /// Processes by number, and how busy each kept the multiprocessors in the last seconds, in percent. Who did nothing may be missing.
    fn process_utilization(&self, _gpu: &GpuUuid) -> Answer<Vec<(u32, u32)>> {
        Err(Silence::Unsupported)
    }

    /// The next error that the driver reports, waiting up to `wait`. What happened before the first call is not told.
    fn next_xid(&self, _wait: Duration) -> Answer<Option<Xid>> {
        Err(Silence::Unsupported)
    }

    /// Processes that the driver's accounting has recorded on one GPU, ended ones too.
    /// [`Silence::NotAvailable`] where accounting is off.
    fn accounting(&self, gpu: &GpuUuid) -> Answer<Vec<Accounted>>;
}

/// What runs below the GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    pub version: Answer<DriverVersion>,
    /// The newest CUDA that the driver supports, as major and minor.
    pub cuda: Answer<(u32, u32)>,
    /// The version of the library that answers.
    pub library: Answer<String>,
}

/// A GPU that is there and not in the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub index: NvmlIndex,
    pub uuid: Option<GpuUuid>,
    pub name: Option<String>,
    pub pci: Option<PciAddress>,
    /// What it does not say: `its memory`.
    pub what: &'static str,
    pub why: Silence,
}

/// One GPU at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuStatus {
    pub memory_total: Answer<Bytes>,
    /// By processes; what the driver keeps for itself is not in it where the driver tells the two apart.
    pub memory_used: Answer<Bytes>,
    pub memory_reserved: Answer<Bytes>,
    /// Share of the last sample period in which a kernel ran, in percent.
    pub utilization: Answer<u32>,
    /// Degrees Celsius.
    pub temperature: Answer<u32>,
    /// Degrees Celsius at which the hardware slows down. From Ada on the driver may have none to tell.
    pub slowdown_temperature: Answer<u32>,
    /// Degrees Celsius at which the hardware stops.
    pub shutdown_temperature: Answer<u32>,
    /// What keeps the clocks down now.
    pub throttle: Answer<Vec<Throttle>>,
    /// Errors of memory that were corrected since the driver was loaded; [`Silence::Unsupported`] without error correction.
    pub corrected_errors: Answer<u64>,
    /// Errors of memory that could not be corrected since the driver was loaded.
    pub uncorrected_errors: Answer<u64>,
    /// Milliwatts.
    pub power: Answer<u32>,
    /// Milliwatts.
    pub power_limit: Answer<u32>,
    /// Megahertz, of the streaming multiprocessors.
    pub sm_clock: Answer<u32>,
    /// Megahertz.
    pub memory_clock: Answer<u32>,
    /// How it is connected now; most GPUs save power on the link while they idle.
    pub pcie: Answer<PcieLink>,
    pub persistence: Answer<bool>,
    /// Whether the driver records processes, so that short ones leave a trace.
    pub accounting: Answer<bool>,
    /// The minor number of `/dev/nvidiaN`.
    pub minor: Answer<u32>,
}

/// A connection over PCI Express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct PcieLink {
    pub generation: u32,
    /// Lanes.
    pub width: u32,
}

/// Why the clocks of a GPU are lower than they could be: NVML's `nvmlClocksEventReason*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Throttle {
    /// Nothing runs.
    GpuIdle,
    /// A user set the clocks.
    ApplicationsClocks,
    /// The power limit is reached, as it often is at work.
    SwPowerCap,
    /// The hardware at least halves the clocks: too hot, or too much power.
    HwSlowdown,
    /// GPUs of a group go as slow as the slowest.
    SyncBoost,
    /// The driver keeps the GPU or its memory from becoming hotter than it should.
    SwThermalSlowdown,
    /// The hardware at least halves the clocks, because it is too hot.
    HwThermalSlowdown,
    /// The hardware at least halves the clocks, because the power supply asks for it.
    HwPowerBrake,
    /// A display asks for certain clocks.
    DisplayClock,
}

impl Throttle {
    pub const ALL: [Self; 9] = [
        Self::GpuIdle,
        Self::ApplicationsClocks,
        Self::SwPowerCap,
        Self::HwSlowdown,
        Self::SyncBoost,
        Self::SwThermalSlowdown,
        Self::HwThermalSlowdown,
        Self::HwPowerBrake,
        Self::DisplayClock,
    ];

    /// Its bit in NVML's mask.
    pub fn bit(self) -> u64 {
        1 << self as u64
    }

    /// What a mask of NVML says. Bits that NVML did not have in 2026 say nothing.
    pub(crate) fn of_bits(bits: u64) -> Vec<Self> {
        Self::ALL.into_iter().filter(|it| bits & it.bit() != 0).collect()
    }
}

/// Who uses a GPU. A list that is silent proves nothing about who is not on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub compute: Answer<Vec<GpuProcess>>,
    pub graphics: Answer<Vec<GpuProcess>>,
    /// Clients of an MPS server, which the other lists show as the server only.
    pub mps: Answer<Vec<GpuProcess>>,
}

/// A process on a GPU. The number is of the driver's PID namespace, which may not be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuProcess {
    pub pid: u32,
    pub memory: Answer<Bytes>,
    /// GPU and compute instance, under MIG.
    pub instance: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcessKind {
    Compute,
    Graphics,
    Mps,
}

/// An error that the driver reports of a GPU. What the numbers mean: NVIDIA's "XID Errors".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xid {
    pub gpu: GpuUuid,
    pub number: u64,
}

/// A process that the driver's accounting recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounted {
    pub pid: u32,
    /// Like everything below, not known of a process that the driver lists and has no statistics of.
    pub is_running: Answer<bool>,
    /// Microseconds since 1970 at which it came to the GPU.
    pub started: Answer<u64>,
    pub peak_memory: Answer<Bytes>,
}

impl Usage {
    /// Nothing is known, for one reason.
    pub fn silent(why: &Silence) -> Self {
        let silent = || Err(why.clone());
        Self { compute: silent(), graphics: silent(), mps: silent() }
    }

    /// Every process that is listed, with its kind; a process can be on several lists.
    pub fn processes(&self) -> impl Iterator<Item = (ProcessKind, &GpuProcess)> {
        let lists = [
            (ProcessKind::Compute, &self.compute),
            (ProcessKind::Graphics, &self.graphics),
            (ProcessKind::Mps, &self.mps),
        ];
        lists.into_iter().flat_map(|(kind, list)| list.iter().flatten().map(move |it| (kind, it)))
    }
}

/// Why a machine could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// There is no driver library, so that there is no NVIDIA driver that could be asked.
    #[error("no NVIDIA driver library was found: {why}")]
    NoLibrary { why: String },
    /// The library is there, and the kernel module is not loaded.
    #[error("the NVIDIA driver is not loaded")]
    NotLoaded,
    /// The driver was updated and the machine not restarted.
    #[error("the driver library does not fit the loaded kernel module")]
    VersionMismatch,
    #[error("no permission to use the NVIDIA driver")]
    NoPermission,
    /// The driver refused.
    #[error("the driver did not answer a query for {what}: {why}")]
    Query { what: &'static str, why: String },
    /// A function of the driver has not returned.
    #[error("the driver did not answer `{function}` within {} s", waited.as_secs_f64())]
    Hangs { function: String, waited: Duration },
    /// A file could not be read.
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file is not what it should be.
    #[error("`{}` is not valid: {why}", path.display())]
    Invalid { path: PathBuf, why: String },
}
