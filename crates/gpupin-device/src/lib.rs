//! What GPUs a machine has and what they are doing.
//!
//! [`Machine`] is the seam between gpupin and the driver. Whoever asks it cannot tell by the answers, only by
//! [`Machine::kind`], whether a driver answers or a [`Scene`]: a machine described in TOML, which is a feature and no test
//! double. What a machine does not say stays a gap: an [`Answer`] is a value or the reason why there is none, never a zero.
//!
//! **Invariant:** no other crate talks to a driver.
//!
//! **Invariant:** this process never initialises CUDA. Which GPU is `cuda:N` is asked in a child that ends at once.

mod answer;
mod child;
pub mod cuda;
mod files;
mod kind;
mod machine;
mod nvml;
mod pids;
pub mod scene;
mod watchdog;

pub use answer::{Answer, Silence};
pub use child::output_within;
pub use files::{DriverFiles, FileGpu, kernel_module, on_the_bus};
pub use kind::Kind;
pub use machine::{
    Accounted, Driver, GpuProcess, GpuStatus, Machine, MachineError, PcieLink, ProcessKind,
    Throttle, Unreadable, Usage, Xid,
};
pub use nvml::{NVML_LIBRARY, Nvml};
pub use pids::{in_initial_pid_namespace, strangers};
pub use scene::Scene;
pub use watchdog::Watchdog;
