//! Simulated machines, described in TOML.
//!
//! A scene says what a machine has and what happens on it. [`SceneMachine`] answers from one in this process; the simulated
//! libraries answer foreign programs from the same file. Both look at it again when it changes, so that a scene that is edited is
//! a machine on which something happens. Whatever they say is [`Kind::Simulated`].

use std::{fs, path::Path};

use gpupin_policy::{
    Bytes, ComputeCapability, DriverVersion, Gpu, GpuUuid, Inventory, Mig, NvmlIndex, PciAddress,
};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    answer::{Answer, Silence},
    kind::Kind,
    machine::{Accounted, Driver, GpuStatus, Machine, MachineError, Usage},
};

/// A machine as a scene describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scene {
    /// Of the format: 1.
    pub version: u32,
    pub host: String,
    #[serde(deserialize_with = "parsed")]
    pub driver: DriverVersion,
    /// The order in which CUDA lists the GPUs by default. NVIDIA does not document it, so a scene has to say it.
    #[serde(default, deserialize_with = "all_parsed")]
    pub cuda_order: Vec<GpuUuid>,
    /// In NVML order.
    #[serde(default, rename = "gpu")]
    pub gpus: Vec<SceneGpu>,
}

/// A GPU of a scene.
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
}

impl Scene {
    /// Reads the text of a scene; the error says where and what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    pub fn inventory(&self) -> Inventory {
        let gpu = |(index, it): (u32, &SceneGpu)| Gpu {
            uuid: it.uuid.clone(),
            name: it.name.clone(),
            vram: it.vram,
            compute_capability: it.compute_capability,
            pci: it.pci,
            index: NvmlIndex(index),
            mig: Mig::Disabled,
        };
        Inventory {
            host: self.host.clone(),
            driver: Some(self.driver.clone()),
            gpus: (0..).zip(&self.gpus).map(gpu).collect(),
        }
    }
}

/// The machine of a scene, in this process.
#[derive(Debug)]
pub struct SceneMachine {
    scene: Scene,
    name: String,
}

impl SceneMachine {
    pub fn open(path: &Path) -> Result<Self, MachineError> {
        let text = fs::read_to_string(path)
            .map_err(|source| MachineError::Read { path: path.to_owned(), source })?;
        let invalid = |why| MachineError::Invalid { path: path.to_owned(), why };
        Ok(Self { scene: Scene::parse(&text).map_err(invalid)?, name: path.display().to_string() })
    }
}

impl Machine for SceneMachine {
    fn kind(&self) -> Kind {
        Kind::Simulated
    }

    fn source(&self) -> String {
        format!("scene `{}`", self.name)
    }

    fn driver(&self) -> Result<Driver, MachineError> {
        let unsupported = Err(Silence::Unsupported);
        Ok(Driver {
            version: Ok(self.scene.driver.clone()),
            cuda: Err(Silence::Unsupported),
            library: unsupported,
        })
    }

    fn inventory(&self) -> Result<Inventory, MachineError> {
        Ok(self.scene.inventory())
    }

    fn status(&self, gpu: &GpuUuid) -> Result<GpuStatus, Silence> {
        let inventory = self.scene.inventory();
        let gpu = inventory.get(gpu).ok_or(Silence::Lost)?;
        let unsupported = || Err(Silence::Unsupported);
        Ok(GpuStatus {
            memory_total: Ok(gpu.vram),
            memory_used: Ok(Bytes::new(0)),
            memory_reserved: unsupported_bytes(),
            utilization: unsupported(),
            temperature: unsupported(),
            power: unsupported(),
            power_limit: unsupported(),
            sm_clock: unsupported(),
            memory_clock: unsupported(),
            persistence: Err(Silence::Unsupported),
            accounting: Err(Silence::Unsupported),
            minor: Ok(gpu.index.0),
        })
    }

    fn usage(&self, _: &GpuUuid) -> Usage {
        Usage { compute: Ok(Vec::new()), graphics: Ok(Vec::new()), mps: Ok(Vec::new()) }
    }

    fn accounting(&self, _: &GpuUuid) -> Answer<Vec<Accounted>> {
        Err(Silence::NotAvailable)
    }
}

fn unsupported_bytes() -> Answer<Bytes> {
    Err(Silence::Unsupported)
}

fn parsed<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn all_parsed<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|it| it.parse().map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::Scene;

    #[test]
    fn the_scene_of_two_different_gpus_is_a_machine() {
        let scene = Scene::parse(include_str!("../../../scenes/mixed.toml")).unwrap();
        let names: Vec<_> =
            scene.inventory().gpus.iter().map(gpupin_policy::Gpu::short_name).collect();
        assert_eq!(names, ["RTX 5060 Ti", "RTX 3090"]);
    }
}
