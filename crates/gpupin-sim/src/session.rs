//! The scene that a process sees, and the GPUs it was given handles of.

use std::{
    env,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use gpupin_device::scene::{Live, Scene, SceneGpu};
use gpupin_policy::GpuUuid;

/// The variable that names the state directory.
pub const STATE_VARIABLE: &str = "GPUPIN_SIM";

/// The scene that the environment names; `None` if there is none, which looks like a driver that is not loaded.
pub(crate) fn live() -> Option<&'static Live> {
    static LIVE: OnceLock<Option<Live>> = OnceLock::new();
    let open = || Live::open(Path::new(&env::var_os(STATE_VARIABLE)?)).ok();
    LIVE.get_or_init(open).as_ref()
}

/// A variable of this process, as it is now.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|it| it.to_string_lossy().into_owned())
}

/// A GPU or MIG instance and the scene that it was found in.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) scene: Arc<Scene>,
    pub(crate) index: usize,
    pub(crate) uuid: GpuUuid,
}

impl Asked {
    pub(crate) fn find(scene: Arc<Scene>, uuid: GpuUuid) -> Option<Self> {
        let (index, _) = scene.gpu(&uuid)?;
        Some(Self { scene, index, uuid })
    }

    /// The physical GPU.
    pub(crate) fn gpu(&self) -> &SceneGpu {
        &self.scene.gpus[self.index]
    }

    pub(crate) fn is_instance(&self) -> bool {
        self.gpu().uuid != self.uuid
    }
}

/// GPUs by the number that foreign programs hold instead of a handle.
///
/// A handle stays that GPU's, also when the GPU is gone, as with NVML.
static HANDLES: Mutex<Vec<GpuUuid>> = Mutex::new(Vec::new());

/// The number of a GPU, from 1.
pub(crate) fn number_of(uuid: &GpuUuid) -> usize {
    let mut handles = HANDLES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = handles.iter().position(|it| it == uuid);
    1 + known.unwrap_or_else(|| {
        handles.push(uuid.clone());
        handles.len() - 1
    })
}

pub(crate) fn uuid_of(number: usize) -> Option<GpuUuid> {
    let handles = HANDLES.lock().unwrap_or_else(PoisonError::into_inner);
    handles.get(number.checked_sub(1)?).cloned()
}
