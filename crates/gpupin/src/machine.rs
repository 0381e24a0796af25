//! Which machine a command asks.
//!
//! `--machine` names a scene. Otherwise NVML answers, and where it is missing the files of the kernel module do, with what CUDA adds to
//! them. Three variables point elsewhere, for drivers in unusual places and for tests: `GPUPIN_NVML_LIBRARY`, `GPUPIN_CUDA_LIBRARY` and
//! `GPUPIN_SYSROOT`, below which `proc` and `sys` lie. `GPUPIN_DRIVER_TIMEOUT` says how long an answer of the driver is waited for.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use gpupin_device::{
    DriverFiles, Machine, MachineError, NVML_LIBRARY, Nvml, Watchdog,
    cuda::{self, CUDA_LIBRARY, CudaError, CudaView},
    scene::{BUILT_IN, SceneMachine},
};

use crate::failure::{Exit, Failure};

pub(crate) const NVML_VARIABLE: &str = "GPUPIN_NVML_LIBRARY";
pub(crate) const CUDA_VARIABLE: &str = "GPUPIN_CUDA_LIBRARY";
pub(crate) const ROOT_VARIABLE: &str = "GPUPIN_SYSROOT";
const TIMEOUT_VARIABLE: &str = "GPUPIN_DRIVER_TIMEOUT";

/// Which machine is asked.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// Ask this scene, a file or one of `gpupin sim --list`, instead of the driver; everything it says is marked as simulated
    #[arg(long, value_name = "SCENE")]
    machine: Option<OsString>,
}

/// That a scene is neither a file nor part of gpupin.
pub(crate) fn no_scene(scene: &OsStr) -> Failure {
    let names: Vec<_> = BUILT_IN.iter().map(|it| it.0).collect();
    Failure::usage(format!("there is no scene `{}`", scene.display()))
        .hint(format!("name a file, or one of {}", names.join(", ")))
}

impl MachineArgs {
    /// The scene, or what the driver of this machine says.
    pub(crate) fn open(&self) -> Result<Box<dyn Machine>, Failure> {
        match &self.machine {
            Some(scene) => match SceneMachine::find(scene) {
                Ok(machine) => {
                    let patience = Patience::of_environment()?;
                    Ok(Box::new(Watchdog::new(Box::new(machine), patience.answer)))
                }
                Err(_) if !Path::new(scene).exists() => Err(no_scene(scene)),
                Err(error) => Err(Failure::new(Exit::Failed, error)),
            },
            None => driver().map_err(Failure::from),
        }
    }

    /// As [`Self::open`], and nothing where there is no driver. A driver that does not work is an error.
    pub(crate) fn open_if_any(&self) -> Result<Option<Box<dyn Machine>>, Failure> {
        if self.is_scene() {
            return self.open().map(Some);
        }
        match driver() {
            Ok(machine) => Ok(Some(machine)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the user asks for a simulated machine.
    pub(crate) fn is_scene(&self) -> bool {
        self.machine.is_some()
    }
}

/// Whether the error says that there is no driver at all.
pub(crate) fn is_absent(error: &MachineError) -> bool {
    matches!(error, MachineError::NoLibrary { .. })
}

/// Whether a command failed because this machine has no driver.
pub(crate) fn has_no_driver(failure: &Failure) -> bool {
    let error = failure.downcast::<MachineError>();
    matches!(error, Some(MachineError::NoLibrary { .. } | MachineError::NotLoaded))
}

/// The driver of this machine.
pub(crate) fn driver() -> Result<Box<dyn Machine>, MachineError> {
    let root = system_root();
    let patience = Patience::of_environment()?;
    let open = {
        let root = root.clone();
        move || -> Result<Box<dyn Machine>, MachineError> {
            Ok(Box::new(Nvml::open(&nvml_library(), &root)?))
        }
    };
    match Watchdog::open(open, patience.start, patience.answer) {
        Ok(machine) => Ok(Box::new(machine)),
        Err(error @ MachineError::NoLibrary { .. }) => {
            // A container with the driver's compute part only has no NVML.
            let Ok(_) = DriverFiles::open(&root, None) else { return Err(error) };
            let all = [("CUDA_VISIBLE_DEVICES", None), ("CUDA_DEVICE_ORDER", None)];
            let files = DriverFiles::open(&root, cuda_view(all).ok())?;
            Ok(Box::new(Watchdog::new(Box::new(files), patience.answer)))
        }
        Err(error) => Err(error),
    }
}

/// How long the driver is waited for.
struct Patience {
    start: Duration,
    answer: Duration,
}

impl Patience {
    fn of_environment() -> Result<Self, MachineError> {
        let Some(text) = std::env::var_os(TIMEOUT_VARIABLE).filter(|it| !it.is_empty()) else {
            // The first start of a driver without persistence takes seconds per GPU.
            return Ok(Self { start: Duration::from_mins(1), answer: Duration::from_secs(10) });
        };
        let limit = text.to_str().and_then(|it| gpupin_policy::duration(it).ok());
        let limit = limit.filter(|it| !it.is_zero()).ok_or_else(|| MachineError::Invalid {
            path: TIMEOUT_VARIABLE.into(),
            why: "expected a time such as `10s`".to_owned(),
        })?;
        Ok(Self { start: limit, answer: limit })
    }
}

/// What CUDA shows a process with the environment of this one, changed so. Asked in a child.
pub(crate) fn cuda_view<'a>(
    changes: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<CudaView, CudaError> {
    // The first start of a driver without persistence takes seconds per GPU.
    const LIMIT: Duration = Duration::from_mins(1);
    let program = std::env::current_exe().map_err(|source| CudaError::Start { source })?;
    let mut command = Command::new(program);
    command.args(["debug", "cuda-view"]);
    for (name, value) in changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    cuda::ask(&mut command, LIMIT)
}

pub(crate) fn nvml_library() -> PathBuf {
    variable(NVML_VARIABLE, NVML_LIBRARY)
}

pub(crate) fn cuda_library() -> PathBuf {
    variable(CUDA_VARIABLE, CUDA_LIBRARY)
}

/// Where `proc` and `sys` lie.
pub(crate) fn system_root() -> PathBuf {
    variable(ROOT_VARIABLE, "/")
}

fn variable(name: &str, default: &str) -> PathBuf {
    let value = std::env::var_os(name).filter(|it| !it.is_empty());
    value.map_or_else(|| Path::new(default).to_owned(), PathBuf::from)
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        let hint = advice(&error);
        let failure = Self::new(Exit::Failed, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What to do about a machine that could not be asked.
pub(crate) fn advice(error: &MachineError) -> Option<&'static str> {
    Some(match error {
        MachineError::NoLibrary { .. } => {
            "install the NVIDIA driver; in a container, give it the GPU with the capability `utility` \
             (`--gpus`, `NVIDIA_DRIVER_CAPABILITIES=compute,utility`); without a GPU, ask a scene with `--machine`"
        }
        MachineError::NotLoaded => {
            "load the kernel module (`modprobe nvidia`) and see `dmesg` if that fails; without a GPU, ask a scene with `--machine`"
        }
        MachineError::VersionMismatch => {
            "the driver was updated while it was loaded: restart the machine, or stop all that uses the GPU and load the module anew"
        }
        MachineError::NoPermission => {
            "see who may open `/dev/nvidiactl` and `/dev/nvidia0`; in a container, whether it was given them"
        }
        MachineError::Hangs { .. } => {
            "the driver hangs: see `dmesg` for `NVRM` and `Xid`; `nvidia-smi` will hang too, and often only a restart of the machine helps. \
             `GPUPIN_DRIVER_TIMEOUT` (such as `60s`) waits longer"
        }
        MachineError::Query { .. } => {
            "see what `nvidia-smi` and `dmesg` say; a container that lost its devices has to be started anew"
        }
        _ => return None,
    })
}
