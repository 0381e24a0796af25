//! Which GPU is `cuda:N`?
//!
//! [`resolve`] follows the driver from the GPUs of a machine to those a process sees:
//!
//! 1. the container runtime removes GPUs (`NVIDIA_VISIBLE_DEVICES`) and NVML numbers the rest anew;
//! 2. CUDA sorts what is left (`CUDA_DEVICE_ORDER`): the base order;
//! 3. the mask (`CUDA_VISIBLE_DEVICES`) picks from it, by position or by UUID;
//! 4. `cuda:N` is the Nth GPU picked.
//!
//! Every stage notes what it did in [`Step`]s, and whether it rests on something NVIDIA does not
//! document. The [`Certainty`] of the answer follows from that and cannot be set by hand: an entry
//! that may be several GPUs makes it ambiguous, an uncertain step makes it likely, and it is exact
//! otherwise. The order of different GPUs under `FASTEST_FIRST` is never predicted.
//!
//! [`pin()`] is the way back: the variables that leave exactly some GPUs visible.
//!
//! Where the driver is not documented the reading is that of PyTorch, which was tested against the
//! driver (pytorch#92315).
//!
//! Out of scope: when a change of the environment takes effect, what a framework does with the
//! visible GPUs, the mask of an MPS server, and other vendors.

use std::fmt;

use crate::{
    identity::{GpuUuid, NvmlIndex},
    inventory::{Gpu, Inventory},
};

mod container;
mod environment;
mod mask;
mod mig;
mod order;
mod pick;
mod pin;
mod report;
mod trace;

pub use environment::Environment;
pub use mask::{EntryKind, Mask, MaskEntry, MaskKind, Quirk};
pub use pin::pin;
pub use report::{GpuName, VisibilityReport, VisibleReport};
pub use trace::Step;

/// The N of `cuda:N` in one process, after masking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Ordinal(pub u32);

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How much is known about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// Some ordinal may be one of several GPUs.
    Ambiguous,
    /// Every ordinal is one GPU, if undocumented behaviour is as it was seen elsewhere.
    Likely,
    /// Every ordinal is one GPU.
    Exact,
}

/// What a process sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// `cuda:0`, `cuda:1` and so on.
    pub visible: Vec<VisibleGpu>,
    pub certainty: Certainty,
    /// Whether CUDA starts. Where it does not, `cuInit` fails with an invalid device, and no GPU is visible.
    pub starts: bool,
    /// How the answer came about.
    pub steps: Vec<Step>,
    /// What NVML numbers inside the container: its index 0, 1 and so on. `None` outside of one.
    pub container: Option<Vec<GpuUuid>>,
}

/// The GPU behind an ordinal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleGpu {
    pub ordinal: Ordinal,
    /// `None` if it may be one of several.
    pub uuid: Option<GpuUuid>,
    /// Every GPU it may be, at least one, sorted by UUID; just `uuid` when that is known.
    pub candidates: Vec<GpuUuid>,
}

impl Visibility {
    /// What `cuda:ordinal` is; `None` if there is no such ordinal.
    pub fn at(&self, ordinal: Ordinal) -> Option<&VisibleGpu> {
        self.visible.iter().find(|it| it.ordinal == ordinal)
    }

    /// The index NVML gives a GPU inside the container; `None` outside of one.
    pub fn container_index(&self, uuid: &GpuUuid) -> Option<NvmlIndex> {
        let position = self.container.as_ref()?.iter().position(|it| it == uuid)?;
        Some(NvmlIndex(u32::try_from(position).ok()?))
    }
}

/// The GPUs that an ordinal may stand for: at least one, and just one if it is known.
type Slot<'a> = Vec<&'a Gpu>;

/// Tells which GPUs of `inventory` a process with this environment sees, and in which order.
pub fn resolve(inventory: &Inventory, environment: &Environment) -> Visibility {
    let mut trace = trace::Trace::default();
    let many = if inventory.gpus.len() == 1 { "" } else { "s" };
    trace.certain(format!("`{}` has {} GPU{many}", inventory.host, inventory.gpus.len()));

    let gpus = container::filter(inventory, environment, &mut trace);
    let machine = pick::Machine { gpus: &gpus, era: mig::Era::of(inventory.driver.as_ref()) };
    let slots = pick::pick(&machine, environment, &mut trace);

    let visible: Vec<_> = (0..).zip(slots).map(|(ordinal, slot)| visible(ordinal, slot)).collect();
    let certainty = if visible.iter().any(|it| it.uuid.is_none()) {
        Certainty::Ambiguous
    } else if trace.is_uncertain() {
        Certainty::Likely
    } else {
        Certainty::Exact
    };
    let in_container = environment.nvidia_visible_devices.is_some();
    let container = in_container.then(|| gpus.iter().map(|gpu| gpu.uuid.clone()).collect());
    Visibility { visible, certainty, starts: !trace.fails, steps: trace.steps, container }
}

fn visible(ordinal: u32, slot: Slot<'_>) -> VisibleGpu {
    let mut candidates: Vec<_> = slot.into_iter().map(|gpu| gpu.uuid.clone()).collect();
    candidates.sort();
    candidates.dedup();
    let uuid = match candidates.as_slice() {
        [uuid] => Some(uuid.clone()),
        _ => None,
    };
    VisibleGpu { ordinal: Ordinal(ordinal), uuid, candidates }
}

#[cfg(test)]
mod tests;
