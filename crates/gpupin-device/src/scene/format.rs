use std::{fmt::Display, str::FromStr};

use gpupin_policy::{
    Bytes, ComputeCapability, DriverVersion, Gpu, GpuUuid, Inventory, Mig, NvmlIndex, PciAddress,
};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::fault::Fault;
use crate::machine::Throttle;

/// The version of the format.
const SCENE_VERSION: u32 = 1;

/// A machine as a scene describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scene {
    /// Of the format: 1.
    pub version: u32,
    pub host: String,
    /// Its generation also decides which functions the simulated libraries have.
    #[serde(deserialize_with = "parsed")]
    pub driver: DriverVersion,
    /// The newest CUDA that the driver supports; by default what came with the driver.
    #[serde(default, deserialize_with = "cuda_version")]
    pub cuda: Option<(u32, u32)>,
    #[serde(default)]
    pub library: Library,
    /// The order in which CUDA lists the GPUs by default. NVIDIA does not document it, so a scene has to say it.
    #[serde(default, deserialize_with = "all_parsed")]
    pub cuda_order: Vec<GpuUuid>,
    /// What is added to the numbers of processes, as if NVML counted in another PID namespace.
    #[serde(default)]
    pub pid_offset: u32,
    /// What goes wrong.
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
    /// In NVML order.
    #[serde(default, rename = "gpu")]
    pub gpus: Vec<SceneGpu>,
}

/// Whether the driver's libraries are installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Library {
    #[default]
    Present,
    Absent,
}

/// A GPU of a scene.
#[expect(clippy::struct_excessive_bools, reason = "the format has a key for each")]
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SceneGpu {
    #[serde(deserialize_with = "parsed")]
    pub uuid: GpuUuid,
    pub name: String,
    #[serde(deserialize_with = "parsed")]
    pub vram: Bytes,
    #[serde(deserialize_with = "parsed")]
    pub compute_capability: ComputeCapability,
    #[serde(deserialize_with = "parsed")]
    pub pci: PciAddress,
    /// The N of `/dev/nvidiaN`; by default the position in the scene.
    #[serde(default)]
    pub minor: Option<u32>,
    #[serde(default)]
    pub serial: Option<String>,
    #[serde(default = "cores")]
    pub cores: u32,
    #[serde(default = "multiprocessors")]
    pub multiprocessors: u32,
    /// The GPU fell off the bus (Xid 79).
    #[serde(default)]
    pub lost: bool,
    /// Xids that happened; one that is added is an event.
    #[serde(default)]
    pub xids: Vec<u64>,

    /// Memory the driver keeps for itself.
    #[serde(default = "reserved", deserialize_with = "parsed")]
    pub reserved: Bytes,
    /// Memory in use that no process of the lists owns.
    #[serde(default = "nothing", deserialize_with = "parsed")]
    pub unowned: Bytes,
    /// What a CUDA context takes before the program allocates anything.
    #[serde(default = "context", deserialize_with = "parsed")]
    pub context: Bytes,
    /// Whether the process lists stay empty, as in a container that shares no processes with its host.
    #[serde(default)]
    pub hides_processes: bool,
    /// Whether the memory of processes is "not available", as on Windows and for some users.
    #[serde(default)]
    pub hides_process_memory: bool,

    /// Percent.
    #[serde(default)]
    pub utilization: u32,
    #[serde(default)]
    pub memory_utilization: u32,
    #[serde(default)]
    pub encoder_utilization: u32,
    #[serde(default)]
    pub decoder_utilization: u32,
    /// Degrees Celsius.
    #[serde(default = "temperature")]
    pub temperature: u32,
    /// Where the GPU slows down, and where it stops.
    #[serde(default = "temperature_limits")]
    pub temperature_limits: (u32, u32),
    /// Watts.
    #[serde(default = "power")]
    pub power: f64,
    #[serde(default = "power_limit")]
    pub power_limit: f64,
    /// The least and the greatest limit that can be set.
    #[serde(default = "power_limits")]
    pub power_limits: (f64, f64),
    /// Percent, one per fan.
    #[serde(default = "fans")]
    pub fans: Vec<u32>,
    #[serde(default)]
    pub clocks: Clocks,
    /// The least and the greatest clock that is allowed, in megahertz, once somebody locked it.
    #[serde(default)]
    pub locked_clocks: Option<(u32, u32)>,
    #[serde(default)]
    pub throttle: Vec<Throttle>,
    #[serde(default)]
    pub pcie: Pcie,
    #[serde(default = "performance_state")]
    pub performance_state: u32,
    /// `None` on GPUs without error correction.
    #[serde(default)]
    pub ecc: Option<Ecc>,

    #[serde(default)]
    pub persistence: bool,
    #[serde(default)]
    pub accounting: bool,
    #[serde(default)]
    pub compute_mode: ComputeMode,
    #[serde(default)]
    pub display: bool,
    /// Whether MIG is on; `None` on GPUs that have none.
    #[serde(default)]
    pub mig: Option<bool>,
    #[serde(default, rename = "instance")]
    pub instances: Vec<SceneInstance>,
    /// Processes that `gpupin sim` starts.
    #[serde(default, rename = "process")]
    pub processes: Vec<SceneProcess>,
}

/// A MIG instance of a scene.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SceneInstance {
    #[serde(deserialize_with = "parsed")]
    pub uuid: GpuUuid,
    /// Such as `1g.10gb`.
    pub profile: String,
    #[serde(deserialize_with = "parsed")]
    pub vram: Bytes,
    pub gpu_instance: u32,
    pub compute_instance: u32,
}

/// Something that runs on a GPU from the start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SceneProcess {
    /// Its command line, word by word.
    pub command: Vec<String>,
    #[serde(deserialize_with = "parsed")]
    pub memory: Bytes,
    #[serde(default)]
    pub kind: UseKind,
    /// Percent.
    #[serde(default)]
    pub utilization: u32,
}

/// On which of the driver's lists a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UseKind {
    #[default]
    Compute,
    Graphics,
    Mps,
}

/// Megahertz.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Clocks {
    pub graphics: u32,
    pub sm: u32,
    pub memory: u32,
    pub video: u32,
    pub max_graphics: u32,
    pub max_sm: u32,
    pub max_memory: u32,
    pub max_video: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Pcie {
    pub generation: u32,
    pub width: u32,
    pub max_generation: u32,
    pub max_width: u32,
    /// Kilobytes per second.
    pub sent: u32,
    pub received: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ecc {
    pub enabled: bool,
    #[serde(default)]
    pub corrected: u64,
    #[serde(default)]
    pub uncorrected: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeMode {
    #[default]
    Default,
    Prohibited,
    ExclusiveProcess,
}

impl Scene {
    /// Reads the text of a scene; the error says where and what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scene: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        scene.check()?;
        Ok(scene)
    }

    /// The whole machine, whatever goes wrong on it.
    pub fn inventory(&self) -> Inventory {
        let gpus = (0..).zip(&self.gpus).map(|(index, gpu)| gpu.describe(NvmlIndex(index)));
        Inventory {
            host: self.host.clone(),
            driver: Some(self.driver.clone()),
            gpus: gpus.collect(),
        }
    }

    /// The GPU with this UUID, or the one of which it names an instance.
    pub fn gpu(&self, uuid: &GpuUuid) -> Option<(usize, &SceneGpu)> {
        let is_it =
            |gpu: &SceneGpu| gpu.uuid == *uuid || gpu.instances.iter().any(|it| it.uuid == *uuid);
        self.gpus.iter().enumerate().find(|(_, gpu)| is_it(gpu))
    }

    /// The newest CUDA that the driver supports.
    pub fn cuda(&self) -> (u32, u32) {
        // https://docs.nvidia.com/cuda/cuda-toolkit-release-notes: the toolkit a driver came with.
        let shipped = match self.driver.generation() {
            ..525 => (11, 8),
            525..535 => (12, 0),
            535..545 => (12, 2),
            545..550 => (12, 3),
            550..555 => (12, 4),
            555..560 => (12, 5),
            560..565 => (12, 6),
            565..570 => (12, 7),
            570..575 => (12, 8),
            575..580 => (12, 9),
            _ => (13, 0),
        };
        self.cuda.unwrap_or(shipped)
    }

    fn check(&self) -> Result<(), String> {
        if self.version != SCENE_VERSION {
            return Err(format!("version {} is not known, only {SCENE_VERSION}", self.version));
        }
        let instances = self.gpus.iter().flat_map(|gpu| gpu.instances.iter().map(|it| &it.uuid));
        let mut uuids: Vec<_> = self.gpus.iter().map(|it| &it.uuid).chain(instances).collect();
        uuids.sort();
        if let Some((twice, _)) = uuids.iter().zip(uuids.iter().skip(1)).find(|it| it.0 == it.1) {
            return Err(format!("`{twice}` names two GPUs"));
        }
        let named = self.faults.iter().filter_map(|it| it.gpu.as_ref()).chain(&self.cuda_order);
        // A GPU that is taken out of a scene to see what happens may still be named elsewhere, but not misspelt from the start.
        if !self.gpus.is_empty()
            && named.clone().count() > 0
            && named.clone().all(|it| self.gpu(it).is_none())
        {
            return Err("`cuda-order` and the faults name no GPU of the scene".to_owned());
        }
        for gpu in &self.gpus {
            if gpu.reserved.get() + gpu.unowned.get() > gpu.vram.get() {
                return Err(format!("`{}`: more memory in use than there is", gpu.uuid));
            }
            if gpu.instances.len() > 7 || !gpu.instances.is_empty() && gpu.mig != Some(true) {
                return Err(format!("`{}`: instances need `mig = true`, 7 at most", gpu.uuid));
            }
            if gpu.processes.iter().any(|it| it.command.is_empty()) {
                return Err(format!("`{}`: a process needs a command", gpu.uuid));
            }
        }
        self.faults.iter().try_for_each(Fault::check)
    }
}

impl SceneGpu {
    fn describe(&self, index: NvmlIndex) -> Gpu {
        let mig = match self.mig {
            Some(true) => Mig::Enabled(
                self.instances.iter().map(|it| self.describe_instance(index, it)).collect(),
            ),
            Some(false) | None => Mig::Disabled,
        };
        Gpu {
            uuid: self.uuid.clone(),
            name: self.name.clone(),
            vram: self.vram,
            compute_capability: self.compute_capability,
            pci: self.pci,
            index,
            mig,
        }
    }

    fn describe_instance(&self, index: NvmlIndex, instance: &SceneInstance) -> Gpu {
        Gpu {
            uuid: instance.uuid.clone(),
            name: format!("{} MIG {}", self.name, instance.profile),
            vram: instance.vram,
            compute_capability: self.compute_capability,
            pci: self.pci,
            index,
            mig: Mig::Instance {
                gpu_instance: instance.gpu_instance,
                compute_instance: instance.compute_instance,
            },
        }
    }
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            graphics: 210,
            sm: 210,
            memory: 405,
            video: 555,
            max_graphics: 2100,
            max_sm: 2100,
            max_memory: 9751,
            max_video: 1950,
        }
    }
}

impl Default for Pcie {
    fn default() -> Self {
        Self { generation: 4, width: 16, max_generation: 4, max_width: 16, sent: 0, received: 0 }
    }
}

fn cores() -> u32 {
    4608
}

fn multiprocessors() -> u32 {
    36
}

fn reserved() -> Bytes {
    Bytes::new(300 << 20)
}

fn nothing() -> Bytes {
    Bytes::new(0)
}

fn context() -> Bytes {
    Bytes::new(256 << 20)
}

fn temperature() -> u32 {
    35
}

fn temperature_limits() -> (u32, u32) {
    (95, 98)
}

fn power() -> f64 {
    20.0
}

fn power_limit() -> f64 {
    350.0
}

fn power_limits() -> (f64, f64) {
    (100.0, 400.0)
}

fn fans() -> Vec<u32> {
    vec![30]
}

fn performance_state() -> u32 {
    8
}

fn cuda_version<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<(u32, u32)>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let numbers = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.map(Some).ok_or_else(|| D::Error::custom("expected major and minor, such as `13.0`"))
}

pub(super) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

pub(super) fn parsed_option<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    parsed(deserializer).map(Some)
}

fn all_parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|it| it.parse().map_err(D::Error::custom)).collect()
}
