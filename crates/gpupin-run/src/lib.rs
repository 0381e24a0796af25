//! One program on its GPU: holding it, starting the program, seeing where it works, and saying so.
//!
//! Threads, no async. Nothing here prints, reads flags or the environment: directories, clock and
//! [`gpupin_device::Machine`] are parameters.

pub mod evidence;
pub mod growth;
pub mod isolate;
pub mod lease;
pub mod log;
pub mod observe;
pub mod plain;
pub mod plan;
pub mod process;
pub mod supervise;
