use gpupin_policy::GpuUuid;

use super::Directory;

/// The lease a process runs under, as [`VARIABLE`](super::VARIABLE) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The GPUs whose tickets are live.
    pub gpus: Vec<GpuUuid>,
}

impl Outer {
    /// What the variable's value means; `None` if none of its tickets is live, or it is of another directory.
    pub fn find(_directory: &Directory, _value: &str) -> Option<Self> {
        None
    }
}
