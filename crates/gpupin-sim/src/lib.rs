//! `libnvidia-ml.so.1` and `libcuda.so.1` over a scene, for tests, demonstrations and rehearsals.
//!
//! The crate is one library with the functions of both. [`install()`] makes copies of it under the names that programs load, each
//! without the functions that the simulated driver's library does not have. A program that is started with those in front of its
//! library path and [`STATE_VARIABLE`] naming a state directory sees the GPUs of the scene, unmodified.
//!
//! **Invariant:** everything that was learnt from it can be told from what a driver said: the libraries export
//! `gpupin_sim_version`, whatever the environment says.
//!
//! Out of scope: the CUDA runtime. It asks the driver for tables that NVIDIA does not document, so PyTorch and its kin do not work.

mod cuda;
mod elf;
mod install;
mod nvml;
mod profile;
mod resident;
mod session;

pub use elf::NotElf;
pub use install::{InstallError, LIBRARY, beside, install};
pub use profile::Profile;
pub use resident::Resident;
pub use session::STATE_VARIABLE;
