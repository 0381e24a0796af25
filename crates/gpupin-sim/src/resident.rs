use std::io;

use gpupin_device::scene::{Live, Scene, SceneProcess, Use, write_uses};
use gpupin_policy::GpuUuid;

/// A process that a scene has on a GPU from the start.
#[derive(Clone, Debug)]
pub struct Resident {
    pub gpu: GpuUuid,
    pub process: SceneProcess,
}

impl Resident {
    /// Those of a scene, in its order.
    pub fn all(scene: &Scene) -> Vec<Self> {
        let of_gpu = scene.gpus.iter().flat_map(|gpu| {
            gpu.processes.iter().map(|it| Self { gpu: gpu.uuid.clone(), process: it.clone() })
        });
        of_gpu.collect()
    }

    /// Makes this process the one that the scene speaks of.
    pub fn settle(&self, live: &Live) -> io::Result<()> {
        let scene = live.scene().map_err(io::Error::other)?;
        let accounted = scene.gpu(&self.gpu).is_some_and(|it| it.1.accounting);
        let mut used = Use::new(self.gpu.clone(), self.process.kind, accounted);
        used.set_memory(self.process.memory.get());
        used.utilization = self.process.utilization;
        let directory = live.processes_directory().ok_or(io::ErrorKind::NotFound)?;
        write_uses(&directory, &[used])
    }
}
