//! What CUDA itself says: which GPU is `cuda:N`.
//!
//! The first call of CUDA freezes a process's environment, takes seconds on some machines and holds memory on every GPU. So
//! [`CudaView::of_this_process`] is for a child that ends at once, and [`ask`] starts that child: which program it is and in which
//! environment it looks is the caller's choice, so that the answer is one about that environment.

use std::{io, path::Path, process::Command, time::Duration};

use self::driver::Api;
use crate::child::output_within;

mod driver;
mod hold;

pub use self::hold::HeldMemory;

/// What the dynamic loader finds the CUDA driver by.
pub const CUDA_LIBRARY: &str = "libcuda.so.1";

/// The version of [`CudaView`] as JSON.
const VERSION: u32 = 1;

/// `CUDA_ERROR_NO_DEVICE`, which is an answer: the mask leaves nothing.
const NO_DEVICE: u32 = 100;

/// The devices that CUDA shows one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaView {
    pub version: u32,
    /// Whether a simulated library answered.
    pub simulated: bool,
    /// The newest CUDA that the driver supports, as major and minor.
    pub cuda_version: Option<(u32, u32)>,
    /// By ordinal.
    pub devices: Vec<CudaDevice>,
    /// Why there are no devices, in the driver's words; also when the mask hides all of them.
    pub error: Option<CudaFailure>,
}

/// A device of CUDA.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaDevice {
    pub ordinal: u32,
    /// As NVML prints it.
    pub uuid: String,
    pub name: String,
    /// What programs can have, in bytes; less than NVML's total.
    pub vram: u64,
    pub compute_capability: String,
    pub pci: String,
}

/// A call of the CUDA driver that failed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaFailure {
    pub function: String,
    pub code: u32,
    /// As the driver names it: `CUDA_ERROR_NO_DEVICE`.
    pub name: String,
}

/// Why CUDA could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    #[error("no CUDA driver library was found: {why}")]
    NoLibrary { why: String },
    #[error("failed to start the child that asks CUDA")]
    Start { source: io::Error },
    /// It was ended.
    #[error("CUDA did not answer within {} seconds", limit.as_secs())]
    Hangs { limit: Duration },
    #[error("the child that asks CUDA ended without an answer: {why}")]
    Died { why: String },
    #[error("`{}` failed with `{}`", .0.function, .0.name)]
    Refused(CudaFailure),
}

impl From<CudaFailure> for CudaError {
    fn from(failure: CudaFailure) -> Self {
        Self::Refused(failure)
    }
}

impl CudaView {
    /// Starts CUDA in this process and asks it. Only for a process that ends at once.
    pub fn of_this_process(library: &Path) -> Result<Self, CudaError> {
        let api = Api::load(library)?;
        let mut view = Self { version: VERSION, simulated: api.is_simulated(), ..Self::default() };
        match api.devices() {
            Ok((cuda_version, devices)) => {
                view.cuda_version = cuda_version;
                view.devices = devices;
            }
            Err(error) => view.error = Some(error),
        }
        Ok(view)
    }

    /// Whether CUDA answered, be it that there is no device.
    pub fn is_answer(&self) -> bool {
        self.error.as_ref().is_none_or(|it| it.code == NO_DEVICE)
    }
}

/// The exit code of a child that found no library.
pub const NO_LIBRARY_CODE: i32 = 3;

/// Asks CUDA in a child. `child` is a command that prints a [`CudaView`] as JSON and ends; it is killed after `limit`.
pub fn ask(child: &mut Command, limit: Duration) -> Result<CudaView, CudaError> {
    let output = output_within(child, limit).map_err(|source| CudaError::Start { source })?;
    let output = output.ok_or(CudaError::Hangs { limit })?;
    let err = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.code() == Some(NO_LIBRARY_CODE) {
        return Err(CudaError::NoLibrary { why: err });
    }
    let died = |why: String| CudaError::Died { why };
    if !output.status.success() {
        return Err(died(format!("{} {err}", output.status).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| died(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::{CudaError, CudaView, ask};

    #[track_caller]
    fn check(script: &str, expected: impl Fn(&Result<CudaView, CudaError>) -> bool) {
        let answer = ask(Command::new("sh").args(["-c", script]), Duration::from_millis(500));
        assert!(expected(&answer), "`{script}`: {answer:?}");
    }

    #[test]
    fn a_child_answers_or_it_is_told_why_not() {
        let view = r#"{"version":1,"simulated":false,"cuda_version":[13,0],"devices":[],"error":{"function":"cuInit","code":100,"name":"CUDA_ERROR_NO_DEVICE"}}"#;
        check(&format!("echo '{view}'"), |it| it.as_ref().is_ok_and(CudaView::is_answer));
        let broken = view.replace("100", "999");
        check(&format!("echo '{broken}'"), |it| it.as_ref().is_ok_and(|it| !it.is_answer()));
        check("echo no JSON", |it| matches!(it, Err(CudaError::Died { .. })));
        check("kill -SEGV $$", |it| matches!(it, Err(CudaError::Died { .. })));
        check("exit 3", |it| matches!(it, Err(CudaError::NoLibrary { .. })));
        check("exec sleep 60", |it| matches!(it, Err(CudaError::Hangs { .. })));
    }

    #[test]
    fn without_the_library_nothing_is_said() {
        let view = CudaView::of_this_process("/nonexistent/libcuda.so.1".as_ref());
        assert!(matches!(view, Err(CudaError::NoLibrary { .. })), "{view:?}");
    }
}
