use std::{
    collections::HashMap,
    ffi::{CString, c_char, c_int, c_uint},
    sync::{OnceLock, atomic::Ordering},
};

use gpupin_device::scene::NVML_CODES;
use nvml_wrapper_sys::bindings::{nvmlReturn_t, nvmlSystemDriverBranchInfo_t};

use super::{
    INVALID_ARGUMENT, NOT_FOUND, Outcome, STARTED, call, guarded, machine, put, put_text, scene,
    text_at,
};

fn start() -> Outcome {
    let _: gpupin_device::scene::Obstacle = call("nvmlInit", None)?;
    scene()?;
    STARTED.fetch_add(1, Ordering::AcqRel);
    Ok(())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlInit() -> u32 {
    guarded(start)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlInit_v2() -> u32 {
    guarded(start)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlInitWithFlags(_: c_uint) -> u32 {
    guarded(start)
}

/// Succeeds also if the library was not started, as NVIDIA's does.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlShutdown() -> u32 {
    let less = |it: u32| it.checked_sub(1);
    let _: Result<u32, u32> = STARTED.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlErrorString(result: nvmlReturn_t) -> *const c_char {
    static TEXTS: OnceLock<HashMap<u32, CString>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| {
        let text =
            |it: &(i32, &str, &str)| Some((u32::try_from(it.0).ok()?, CString::new(it.2).ok()?));
        NVML_CODES.iter().filter_map(text).collect()
    });
    texts.get(&result).map_or(c"Unknown Error".as_ptr(), |it| it.as_ptr())
}

/// Works before the library is started, as NVIDIA's does.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> u32 {
    guarded(|| {
        let _: gpupin_device::scene::Obstacle = call("nvmlSystemGetNVMLVersion", None)?;
        let scene = scene()?;
        let text = format!("{}.{}", scene.cuda().0, scene.driver);
        // SAFETY: NVML's contract: the pointer is null or good for `length` bytes.
        unsafe { put_text(version, length, &text) }
    })
}

machine! {
    fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) |scene| {
        put_text(version, length, scene.driver.as_str())
    }

    fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) |scene| {
        put(version, cuda_number(scene.cuda()))
    }

    fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) |scene| {
        put(version, cuda_number(scene.cuda()))
    }

    fn nvmlSystemGetDriverBranch(branch: *mut nvmlSystemDriverBranchInfo_t, length: c_uint) |scene| {
        if branch.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        let text = format!("r{}_00", scene.driver.generation());
        let room = length.min(80);
        put_text((&raw mut (*branch).branch).cast(), room, &text)
    }

    fn nvmlSystemGetProcessName(pid: c_uint, name: *mut c_char, length: c_uint) |_scene| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|_| NOT_FOUND)?;
        let first = words.split(|it| *it == 0).next().unwrap_or_default();
        put_text(name, length, &String::from_utf8_lossy(first))
    }
}

/// CUDA's version as one number: 13000 for 13.0.
pub(crate) fn cuda_number((major, minor): (u32, u32)) -> c_int {
    c_int::try_from(major * 1000 + minor * 10).unwrap_or(c_int::MAX)
}

/// Says that everything here is simulated; who loads a library looks for this function.
///
/// The answer is the version of what it simulates, as a text.
#[unsafe(no_mangle)]
extern "C" fn gpupin_sim_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Finds a GPU by a text of the caller.
///
/// # Safety
///
/// `text` is null or ends with a zero.
pub(super) unsafe fn parsed<T: std::str::FromStr>(text: *const c_char) -> Result<T, super::Code> {
    // SAFETY: as the caller says.
    unsafe { text_at(text) }?.parse().map_err(|_| NOT_FOUND)
}

#[cfg(test)]
pub(super) fn check_starts(lib: &mut nvml_wrapper_sys::bindings::NvmlLib) {
    lib.nvmlInit = Ok(nvmlInit);
    lib.nvmlInit_v2 = Ok(nvmlInit_v2);
    lib.nvmlInitWithFlags = Ok(nvmlInitWithFlags);
    lib.nvmlShutdown = Ok(nvmlShutdown);
    lib.nvmlErrorString = Ok(nvmlErrorString);
    lib.nvmlSystemGetNVMLVersion = Ok(nvmlSystemGetNVMLVersion);
}
