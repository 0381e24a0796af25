//! Simulated machines, described in TOML.
//!
//! A scene says what a machine has and what goes wrong on it. [`SceneMachine`] answers from one in this process; the simulated
//! libraries answer foreign programs from the same file, with the same functions. Both look at it again when it changes, so
//! that a scene that is edited is a machine on which something happens. Whatever they say is [`Kind::Simulated`](crate::Kind).
//!
//! # State
//!
//! A state directory is a scene that lives. `scene.toml` is replaced as a whole by whoever changes something: a setter of the
//! simulated NVML, a test, a user with an editor. `processes` has one file per process that uses a GPU, called
//! `<pid>-<start ticks>` and written by that process alone, so that nothing has to be locked to say what a process does. A file
//! whose process ended stays, since the driver's accounting tells of ended processes; nobody lists it as running.

mod alive;
mod builtin;
pub(crate) mod code;
mod fault;
mod format;
mod live;
mod machine;
mod process;
mod stamp;

pub use builtin::BUILT_IN;
pub use code::{CUDA_CODES, NVML_CODES};
pub use fault::{Fault, Obstacle};
pub use format::{
    Clocks, ComputeMode, Ecc, Library, Pcie, Scene, SceneGpu, SceneInstance, SceneProcess, UseKind,
};
pub use live::Live;
pub use machine::{SceneMachine, milliwatts};
pub use process::{Running, Use, earlier_uses, now, write_uses};

#[cfg(test)]
mod tests;
