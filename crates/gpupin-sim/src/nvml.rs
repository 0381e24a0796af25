//! `libnvidia-ml.so.1`.
//!
//! A function checks the handle, meets the faults of the scene, and writes what the scene says. How it answers wrong calls is how
//! the library was seen to answer them: sizes first, then values, `FUNCTION_NOT_FOUND` for a structure of another version.

#![expect(
    unsafe_code,
    reason = "functions with C's calling convention, which write where the caller says"
)]
#![expect(unused_unsafe, reason = "the macros treat functions that write nothing like the others")]

use std::{
    ffi::{CStr, c_char, c_uint},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU32, Ordering},
};

use gpupin_device::scene::{Library, Obstacle};
use gpupin_policy::GpuUuid;
use nvml_wrapper_sys::bindings::nvmlDevice_t;

use crate::session::{self, Asked};

mod accounting;
mod events;
mod figures;
mod identity;
mod mig;
mod processes;
mod settings;
mod stubs;
mod system;

pub(crate) use identity::bytes_of;
pub(crate) use system::cuda_number;

/// A return value other than success.
type Code = u32;
type Outcome = Result<(), Code>;

const UNINITIALIZED: Code = 1;
const INVALID_ARGUMENT: Code = 2;
const NOT_SUPPORTED: Code = 3;
const NO_PERMISSION: Code = 4;
const NOT_FOUND: Code = 6;
const INSUFFICIENT_SIZE: Code = 7;
const DRIVER_NOT_LOADED: Code = 9;
const TIMEOUT: Code = 10;
const FUNCTION_NOT_FOUND: Code = 13;
const GPU_IS_LOST: Code = 15;
const ARGUMENT_VERSION_MISMATCH: Code = 25;
const UNKNOWN: Code = 999;

/// How often the library was started and not shut down.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Defines functions about one GPU: the handle is checked, and the faults of the scene are met, before the body runs.
macro_rules! device {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),*) |$it:ident| $body:block)*) => {
        $(
            $(#[$meta])*
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(
                device: nvml_wrapper_sys::bindings::nvmlDevice_t $(, $argument: $type)*
            ) -> u32 {
                $crate::nvml::guarded(|| {
                    let $it = $crate::nvml::asked(stringify!($name), device)?;
                    // SAFETY: NVML's contract: pointers are null or good for what the function writes and reads.
                    unsafe { $body }
                })
            }
        )*
        #[cfg(test)]
        pub(in crate::nvml) fn check_devices(lib: &mut nvml_wrapper_sys::bindings::NvmlLib) {
            $(lib.$name = Ok($name);)*
        }
    };
}

/// Defines functions about the machine: the faults of the scene are met before the body runs.
macro_rules! machine {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),*) |$it:ident| $body:block)*) => {
        $(
            $(#[$meta])*
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                $crate::nvml::guarded(|| {
                    $crate::nvml::started()?;
                    let _: gpupin_device::scene::Obstacle = $crate::nvml::call(stringify!($name), None)?;
                    let $it = $crate::nvml::scene()?;
                    // SAFETY: NVML's contract: pointers are null or good for what the function writes and reads.
                    unsafe { $body }
                })
            }
        )*
        #[cfg(test)]
        pub(in crate::nvml) fn check_machines(lib: &mut nvml_wrapper_sys::bindings::NvmlLib) {
            $(lib.$name = Ok($name);)*
        }
    };
}

use {device, machine};

/// The return value of a function; a panic must not reach the program that called it.
fn guarded(function: impl FnOnce() -> Outcome) -> u32 {
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code,
        Err(_) => UNKNOWN,
    }
}

fn scene() -> Result<std::sync::Arc<gpupin_device::Scene>, Code> {
    let scene = session::live().ok_or(DRIVER_NOT_LOADED)?.scene().map_err(|_| UNKNOWN)?;
    if scene.library == Library::Absent { Err(DRIVER_NOT_LOADED) } else { Ok(scene) }
}

fn started() -> Outcome {
    if STARTED.load(Ordering::Acquire) == 0 { Err(UNINITIALIZED) } else { Ok(()) }
}

/// Meets the faults of a function.
fn call(function: &str, gpu: Option<&GpuUuid>) -> Result<Obstacle, Code> {
    let live = session::live().ok_or(DRIVER_NOT_LOADED)?;
    let obstacle = live.call(function, gpu).map_err(|_| UNKNOWN)?;
    match obstacle.code {
        Some(code) => Err(u32::try_from(code).unwrap_or(UNKNOWN)),
        None => Ok(obstacle),
    }
}

/// The GPU of a handle, unless the function fails.
fn asked(function: &str, device: nvmlDevice_t) -> Result<Asked, Code> {
    Ok(asked_with(function, device)?.0)
}

fn asked_with(function: &str, device: nvmlDevice_t) -> Result<(Asked, Obstacle), Code> {
    started()?;
    let uuid = session::uuid_of(device.addr()).ok_or(INVALID_ARGUMENT)?;
    let obstacle = call(function, Some(&uuid))?;
    let asked = Asked::find(scene()?, uuid).ok_or(GPU_IS_LOST)?;
    if asked.gpu().lost { Err(GPU_IS_LOST) } else { Ok((asked, obstacle)) }
}

fn handle(uuid: &GpuUuid) -> nvmlDevice_t {
    std::ptr::without_provenance_mut(session::number_of(uuid))
}

impl Asked {
    /// Fails for MIG instances, about which NVML tells little.
    fn whole(&self) -> Result<&gpupin_device::scene::SceneGpu, Code> {
        if self.is_instance() { Err(NOT_SUPPORTED) } else { Ok(self.gpu()) }
    }
}

/// Writes a value where the caller wants it.
///
/// # Safety
///
/// `to` is null or good for writing a `T`.
unsafe fn put<T>(to: *mut T, value: T) -> Outcome {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, so the caller says that it can be written; callers from C need not align it.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Writes a text with its end into a buffer of `length` bytes.
///
/// # Safety
///
/// `to` is null or good for writing `length` bytes.
unsafe fn put_text(to: *mut c_char, length: c_uint, text: &str) -> Outcome {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: the text and its end fit into the buffer, which overlaps nothing of ours.
    unsafe {
        to.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        to.add(text.len()).write(0);
    }
    Ok(())
}

/// Reads a text of the caller.
///
/// # Safety
///
/// `text` is null or ends with a zero.
unsafe fn text_at<'a>(text: *const c_char) -> Result<&'a str, Code> {
    if text.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, so the caller says that it ends with a zero.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| INVALID_ARGUMENT)
}

/// Writes a list as NVML does: with too little room only its length, and the caller comes again.
///
/// # Safety
///
/// `count` is null or good for reading and writing; `to` is null or good for writing as many bytes as `count` rows have.
unsafe fn put_list<const STRIDE: usize>(
    count: *mut c_uint,
    to: *mut u8,
    rows: &[[u8; STRIDE]],
    grow: u32,
) -> Outcome {
    if count.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, so the caller says that it can be read.
    let room = unsafe { count.read_unaligned() } as usize;
    let wanted = rows.len() + grow as usize;
    let fits = wanted == 0 || room >= wanted && !to.is_null();
    // What grows is gone again for who left room for it.
    let told = if fits { rows.len() } else { wanted };
    // SAFETY: as above, for writing.
    unsafe { put(count, c_uint::try_from(told).unwrap_or(c_uint::MAX)) }?;
    if !fits {
        return Err(INSUFFICIENT_SIZE);
    }
    if !rows.is_empty() {
        // SAFETY: the caller has room for as many rows as there are.
        unsafe { to.copy_from_nonoverlapping(rows.as_ptr().cast(), std::mem::size_of_val(rows)) };
    }
    Ok(())
}

#[cfg(test)]
mod tests;
