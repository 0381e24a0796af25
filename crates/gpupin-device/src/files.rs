//! The machine we run on, as the files of the kernel module describe it.
//!
//! This is what is left where NVML is missing, as in containers that were given the driver's compute part only. The files name the
//! GPUs, and say nothing of memory, processes or compute capability. All of that is silent here; VRAM and compute capability may come
//! from CUDA ([`CudaView`]), asked in a child. Without them there is no inventory, because a GPU of which they are unknown is no GPU
//! that a policy could be matched with.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gpupin_policy::{DriverVersion, Gpu, GpuUuid, Inventory, Mig, NvmlIndex, PciAddress};

use crate::{
    answer::{Answer, Silence},
    cuda::CudaView,
    kind::Kind,
    machine::{Accounted, Driver, GpuStatus, Machine, MachineError, Unreadable, Usage},
    nvml::host,
};

/// Where the kernel module tells of itself.
const DRIVER: &str = "proc/driver/nvidia";

/// The local machine without NVML.
#[derive(Debug)]
pub struct DriverFiles {
    root: PathBuf,
    cuda: Option<CudaView>,
}

/// What the files say of one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGpu {
    pub pci: PciAddress,
    pub name: Answer<String>,
    /// Silent until the GPU was used for the first time.
    pub uuid: Answer<GpuUuid>,
    pub minor: Answer<u32>,
}

impl DriverFiles {
    /// The kernel module of the machine whose file system is at `root`; an error if it is not loaded.
    ///
    /// `cuda` is what CUDA says of all GPUs, without a mask, if it could be asked.
    pub fn open(root: &Path, cuda: Option<CudaView>) -> Result<Self, MachineError> {
        let path = root.join(DRIVER).join("version");
        match fs::metadata(&path) {
            Ok(_) => Ok(Self { root: root.to_owned(), cuda }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MachineError::NotLoaded),
            Err(source) => Err(MachineError::Read { path, source }),
        }
    }

    /// The GPUs, by PCI address, which is the order that NVML is seen to have.
    pub fn gpus(&self) -> Result<Vec<FileGpu>, MachineError> {
        let directory = self.root.join(DRIVER).join("gpus");
        let failed = |source| MachineError::Read { path: directory.clone(), source };
        let mut gpus = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(pci) = entry.file_name().to_string_lossy().parse() else { continue };
            let path = entry.path().join("information");
            let text = fs::read_to_string(&path);
            let text = text.map_err(|source| MachineError::Read { path, source })?;
            // The driver was told to leave it alone, and no library counts it.
            if field(&text, "GPU Excluded").is_some_and(|it| it == "Yes") {
                continue;
            }
            gpus.push(FileGpu {
                pci,
                name: field(&text, "Model").map(str::to_owned).ok_or(Silence::NotAvailable),
                uuid: parsed(&text, "GPU UUID"),
                minor: parsed(&text, "Device Minor"),
            });
        }
        gpus.sort_by_key(|it| it.pci);
        Ok(gpus)
    }

    fn gpu(&self, uuid: &GpuUuid) -> Result<FileGpu, Silence> {
        let gpus = self.gpus().map_err(Silence::failed)?;
        gpus.into_iter().find(|it| it.uuid.as_ref() == Ok(uuid)).ok_or(Silence::Lost)
    }

    fn version(&self) -> Answer<DriverVersion> {
        kernel_module(&self.root)
    }

    fn described(&self, index: u32, gpu: &FileGpu) -> Result<Gpu, Unreadable> {
        let unreadable = |what, why| Unreadable {
            index: NvmlIndex(index),
            uuid: gpu.uuid.clone().ok(),
            name: gpu.name.clone().ok(),
            pci: Some(gpu.pci),
            what,
            why,
        };
        let uuid = gpu.uuid.clone().map_err(|why| unreadable("its UUID", why))?;
        let name = gpu.name.clone().map_err(|why| unreadable("its name", why))?;
        let devices = self.cuda.iter().flat_map(|it| &it.devices);
        let cuda = devices.into_iter().find(|it| it.uuid == uuid.as_str());
        let silent = || unreadable("its VRAM", Silence::Unsupported);
        let cuda = cuda.ok_or_else(silent)?;
        let capability = cuda.compute_capability.parse();
        Ok(Gpu {
            uuid,
            name,
            vram: gpupin_policy::Bytes::new(cuda.vram),
            compute_capability: capability
                .map_err(|_| unreadable("its compute capability", Silence::NotAvailable))?,
            pci: gpu.pci,
            index: NvmlIndex(index),
            mig: Mig::Disabled,
        })
    }
}

impl Machine for DriverFiles {
    fn kind(&self) -> Kind {
        if self.cuda.as_ref().is_some_and(|it| it.simulated) {
            Kind::Simulated
        } else {
            Kind::Measured
        }
    }

    fn source(&self) -> String {
        match &self.cuda {
            Some(_) => format!("/{DRIVER} and CUDA"),
            None => format!("/{DRIVER}"),
        }
    }

    fn driver(&self) -> Result<Driver, MachineError> {
        let cuda = self.cuda.as_ref().and_then(|it| it.cuda_version);
        Ok(Driver {
            version: self.version(),
            cuda: cuda.ok_or(Silence::Unsupported),
            library: Err(Silence::Unsupported),
        })
    }

    fn inventory(&self) -> Result<Inventory, MachineError> {
        let gpus = (0..).zip(self.gpus()?).map(|(index, it)| self.described(index, &it));
        Ok(Inventory {
            host: host(&self.root)?,
            driver: self.version().ok(),
            gpus: gpus.filter_map(Result::ok).collect(),
        })
    }

    fn unreadable(&self) -> Result<Vec<Unreadable>, MachineError> {
        let gpus = (0..).zip(self.gpus()?).map(|(index, it)| self.described(index, &it));
        Ok(gpus.filter_map(Result::err).collect())
    }

    fn status(&self, gpu: &GpuUuid) -> Result<GpuStatus, Silence> {
        let minor = self.gpu(gpu)?.minor;
        let number = || Err(Silence::Unsupported);
        let amount = || Err(Silence::Unsupported);
        Ok(GpuStatus {
            memory_total: amount(),
            memory_used: amount(),
            memory_reserved: amount(),
            utilization: number(),
            temperature: number(),
            slowdown_temperature: number(),
            shutdown_temperature: number(),
            throttle: Err(Silence::Unsupported),
            corrected_errors: Err(Silence::Unsupported),
            uncorrected_errors: Err(Silence::Unsupported),
            power: number(),
            power_limit: number(),
            sm_clock: number(),
            memory_clock: number(),
            pcie: Err(Silence::Unsupported),
            persistence: Err(Silence::Unsupported),
            accounting: Err(Silence::Unsupported),
            minor,
        })
    }

    fn usage(&self, _: &GpuUuid) -> Usage {
        Usage::silent(&Silence::Unsupported)
    }

    fn accounting(&self, _: &GpuUuid) -> Answer<Vec<Accounted>> {
        Err(Silence::Unsupported)
    }
}

/// The version of the kernel module that is loaded; [`Silence::NotAvailable`] if none is.
pub fn kernel_module(root: &Path) -> Answer<DriverVersion> {
    let text = fs::read_to_string(root.join(DRIVER).join("version"));
    let text = text.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Silence::NotAvailable,
        io::ErrorKind::PermissionDenied => Silence::NoPermission,
        _ => Silence::failed(error),
    })?;
    // `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (…)`
    let line = text.lines().find(|it| it.starts_with("NVRM version:")).unwrap_or_default();
    let version = line.split_whitespace().find_map(|it| it.parse().ok());
    version.ok_or_else(|| Silence::Failed(format!("`{line}` is not understood")))
}

/// The PCI addresses of NVIDIA's GPUs that the kernel sees, whether a driver has them or not.
pub fn on_the_bus(root: &Path) -> io::Result<Vec<PciAddress>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join("sys/bus/pci/devices"))? {
        let entry = entry?;
        let value = |name| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        // 0x10de is NVIDIA; 0x03 is a display controller, with and without a screen.
        let is_gpu = value("vendor").trim() == "0x10de" && value("class").starts_with("0x03");
        if is_gpu && let Ok(pci) = entry.file_name().to_string_lossy().parse() {
            found.push(pci);
        }
    }
    found.sort();
    Ok(found)
}

/// The value behind `name:` in lines of the kernel module.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|it| it.strip_prefix(name)?.trim_start().strip_prefix(':'));
    line.map(str::trim).filter(|it| !it.is_empty())
}

/// A value that is known. An unused GPU has a UUID of question marks.
fn parsed<T: std::str::FromStr>(text: &str, name: &str) -> Answer<T> {
    field(text, name).and_then(|it| it.parse().ok()).ok_or(Silence::NotAvailable)
}

#[cfg(test)]
mod tests;
