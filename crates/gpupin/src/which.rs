//! What `gpupin which` tells: which GPU is `cuda:N`, by gpupin's reading of the environment and by CUDA's own.
//!
//! - [`comparison`]: the two beside each other;
//! - [`facts`]: what CUDA does with spellings that are not documented;
//! - [`process`]: the environment of a process that runs already;
//! - [`text`](mod@text): the answer for people.

pub(crate) mod comparison;
pub(crate) mod facts;
pub(crate) mod process;
pub(crate) mod text;

use gpupin_device::Kind;

/// Who says which GPUs there are.
#[derive(Debug)]
pub(crate) enum Source {
    /// A lock file, by its path as people know it.
    Recorded { lock: String, kind: Kind },
    /// A machine that was asked.
    Asked { name: String, kind: Kind },
}

/// A variable that decides which GPUs are visible.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
}
