//! `libcuda.so.1`, for programs that use the driver API.
//!
//! A process sees the GPUs that its environment leaves it, as [`gpupin_policy::visibility`] resolves it, in the order that the scene
//! gives instead of the one NVIDIA does not document. What it allocates is written to the state directory, where NVML's side of the
//! scene finds it. There is no memory behind the addresses and no kernel can be started.

#![expect(
    unsafe_code,
    reason = "functions with C's calling convention, which write where the caller says"
)]
#![expect(unused_unsafe, reason = "the macro treats functions that write nothing like the others")]

use std::{
    ffi::c_int,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gpupin_policy::GpuUuid;

use crate::session::{self, Asked};

mod context;
mod device;
mod lookup;
mod memory;
mod start;

/// A return value other than success.
type Code = c_int;
type Outcome = Result<(), Code>;

const INVALID_VALUE: Code = 1;
const OUT_OF_MEMORY: Code = 2;
const NOT_INITIALIZED: Code = 3;
const DEVICE_UNAVAILABLE: Code = 46;
const NO_DEVICE: Code = 100;
const INVALID_DEVICE: Code = 101;
const INVALID_CONTEXT: Code = 201;
const NOT_FOUND: Code = 500;
const NOT_SUPPORTED: Code = 801;
const UNKNOWN: Code = 999;

/// What the driver knows of this process since `cuInit`.
#[derive(Debug)]
struct Process {
    pid: u32,
    /// By ordinal. The environment is read once.
    visible: Vec<GpuUuid>,
    contexts: context::Contexts,
    memory: memory::Memory,
}

static PROCESS: Mutex<Option<Process>> = Mutex::new(None);

/// Defines functions of the driver, and the list in which `cuGetProcAddress` looks. Before the body runs, the driver must have been
/// started, and the faults of the scene are met.
macro_rules! cuda {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),*) |$process:ident| $body:block)*) => {
        $(
            $(#[$meta])*
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> std::ffi::c_int {
                $crate::cuda::guarded(|| {
                    $crate::cuda::call(stringify!($name), None)?;
                    let mut process = $crate::cuda::process();
                    let $process = $crate::cuda::started(&mut process)?;
                    // SAFETY: CUDA's contract: pointers are null or good for what the function writes and reads.
                    unsafe { $body }
                })
            }
        )*
        pub(in crate::cuda) const FUNCTIONS: &[(&str, $crate::cuda::lookup::Function)] =
            &[$((stringify!($name), $crate::cuda::lookup::Function($name as *const ()))),*];
    };
}

use cuda;

/// The return value of a function; a panic must not reach the program that called it.
fn guarded(function: impl FnOnce() -> Outcome) -> c_int {
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code,
        Err(_) => UNKNOWN,
    }
}

/// Meets the faults of a function.
fn call(function: &str, gpu: Option<&GpuUuid>) -> Outcome {
    let live = session::live().ok_or(NO_DEVICE)?;
    live.call(function, gpu).map_err(|_| UNKNOWN)?.code.map_or(Ok(()), Err)
}

fn process() -> MutexGuard<'static, Option<Process>> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process, if the driver was started in it: a fork of one that started it cannot use it.
fn started(process: &mut Option<Process>) -> Result<&mut Process, Code> {
    process.as_mut().filter(|it| it.pid == std::process::id()).ok_or(NOT_INITIALIZED)
}

impl Process {
    fn uuid(&self, device: c_int) -> Result<&GpuUuid, Code> {
        let ordinal = usize::try_from(device).map_err(|_| INVALID_DEVICE)?;
        self.visible.get(ordinal).ok_or(INVALID_DEVICE)
    }

    /// The GPU of an ordinal. One that is gone or lost fails.
    fn gpu(&self, device: c_int) -> Result<Asked, Code> {
        find(self.uuid(device)?)
    }
}

fn find(uuid: &GpuUuid) -> Result<Asked, Code> {
    let scene = session::live().ok_or(NO_DEVICE)?.scene().map_err(|_| UNKNOWN)?;
    let asked = Asked::find(scene, uuid.clone()).ok_or(UNKNOWN)?;
    if asked.gpu().lost { Err(UNKNOWN) } else { Ok(asked) }
}

/// Writes a value where the caller wants it.
///
/// # Safety
///
/// `to` is null or good for writing a `T`.
unsafe fn put<T>(to: *mut T, value: T) -> Outcome {
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: not null, so the caller says that it can be written; callers from C need not align it.
    unsafe { to.write_unaligned(value) };
    Ok(())
}
