use crate::{
    identity::{ComputeCapability, DriverVersion, GpuUuid, NvmlIndex, PciAddress},
    value::Bytes,
};

/// The GPUs of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    pub host: String,
    /// Decides how MIG behaves; `None` when the driver was not recorded.
    pub driver: Option<DriverVersion>,
    /// The physical GPUs. MIG instances are inside their parent.
    pub gpus: Vec<Gpu>,
}

impl Inventory {
    /// The GPU or MIG instance with this UUID.
    pub fn get(&self, uuid: &GpuUuid) -> Option<&Gpu> {
        let instances = self.gpus.iter().flat_map(Gpu::instances);
        self.gpus.iter().chain(instances).find(|gpu| gpu.uuid == *uuid)
    }

    /// What a program can be given: GPUs without MIG, and the MIG instances of the others.
    pub fn usable(&self) -> impl Iterator<Item = &Gpu> {
        self.gpus.iter().flat_map(|gpu| match &gpu.mig {
            Mig::Enabled(instances) => instances.as_slice(),
            Mig::Disabled | Mig::Instance { .. } => std::slice::from_ref(gpu),
        })
    }
}

/// A physical GPU or a MIG instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    pub uuid: GpuUuid,
    /// The name as NVML gives it, vendor words included.
    pub name: String,
    pub vram: Bytes,
    pub compute_capability: ComputeCapability,
    /// For a MIG instance, where its parent sits.
    pub pci: PciAddress,
    /// For a MIG instance, the index of its parent.
    pub index: NvmlIndex,
    pub mig: Mig,
}

impl Gpu {
    /// The product name without vendor words: `RTX 3090`.
    pub fn short_name(&self) -> String {
        short_name(&self.name)
    }

    /// The MIG instances, if this is a GPU that has any.
    pub fn instances(&self) -> &[Self] {
        match &self.mig {
            Mig::Enabled(instances) => instances,
            Mig::Disabled | Mig::Instance { .. } => &[],
        }
    }

    /// Whether both are the same product, so that nothing makes one faster than the other.
    pub fn same_model(&self, other: &Self) -> bool {
        let model = |gpu: &Self| (gpu.short_name(), gpu.vram, gpu.compute_capability);
        model(self) == model(other)
    }
}

/// What a GPU has to do with Multi-Instance GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mig {
    /// A physical GPU used as a whole.
    Disabled,
    /// A physical GPU of which programs can only use these instances.
    Enabled(Vec<Gpu>),
    /// An instance.
    Instance { gpu_instance: u32, compute_instance: u32 },
}

/// Words in front of a product name that people leave out.
const VENDOR_WORDS: &[&str] = &["nvidia", "geforce", "quadro", "tesla"];

pub(crate) fn short_name(name: &str) -> String {
    let is_vendor_word = |word: &&str| VENDOR_WORDS.iter().any(|it| it.eq_ignore_ascii_case(word));
    let words: Vec<_> = name.split_whitespace().skip_while(is_vendor_word).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_lose_the_vendor_only() {
        for (name, short) in [
            ("NVIDIA GeForce RTX 3090", "RTX 3090"),
            ("GeForce RTX 3090 Ti", "RTX 3090 Ti"),
            ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "A100-SXM4-80GB MIG 1g.10gb"),
            ("Tesla T4", "T4"),
            ("NVIDIA TITAN  RTX", "TITAN RTX"),
            ("RTX 3090", "RTX 3090"),
            ("NVIDIA", ""),
        ] {
            assert_eq!(short_name(name), short);
        }
    }
}
