//! What is known of libraries: a declared table that a reader can extend by a line.

use crate::unit::Sureness;

/// Which numbers an API takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// Ordinal after the mask: `cuda:N`.
    Ordinal,
    /// Written into the mask: an index of the base order, replacing the mask that was there.
    BaseOrder,
    /// NVML or `nvidia-smi` index.
    Nvml,
    /// Another API's numbering (OpenCL, DirectML, Vulkan).
    Other,
}

/// A library whose import makes a program a GPU program.
#[derive(Debug)]
pub struct Library {
    /// Top-level or dotted module name, as imported.
    pub module: &'static str,
    /// Whether importing it makes CUDA read its environment.
    pub import_freezes: Option<Sureness>,
    /// Whether it computes on the GPU; monitors (`pynvml`) do not.
    pub computes: bool,
    /// The allocator variables it reads: `PYTORCH_CUDA_ALLOC_CONF` and kin.
    pub reads: &'static [&'static str],
}
