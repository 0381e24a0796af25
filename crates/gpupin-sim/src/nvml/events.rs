use std::{
    ffi::{c_uint, c_ulonglong},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use gpupin_policy::GpuUuid;
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t};

use super::{
    Code, GPU_IS_LOST, INVALID_ARGUMENT, Outcome, TIMEOUT, call, device, guarded, handle, put,
    scene, started,
};

/// The type of event that tells of an Xid.
const XID: c_ulonglong = 0x8;

/// How often the scene is looked at while somebody waits.
const LOOK: Duration = Duration::from_millis(20);

/// A GPU that a set watches, and how many of its Xids were told.
type Watched = (GpuUuid, usize);

/// The sets by number; `None` for one that was given back.
static SETS: Mutex<Vec<Option<Vec<Watched>>>> = Mutex::new(Vec::new());

fn with_set<T>(set: nvmlEventSet_t, work: impl FnOnce(&mut Vec<Watched>) -> T) -> Result<T, Code> {
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = set.addr().checked_sub(1).ok_or(INVALID_ARGUMENT)?;
    let set = sets.get_mut(place).and_then(Option::as_mut).ok_or(INVALID_ARGUMENT)?;
    Ok(work(set))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> u32 {
    guarded(|| {
        started()?;
        call("nvmlEventSetCreate", None)?;
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        sets.push(Some(Vec::new()));
        // SAFETY: NVML's contract: the pointer is null or good for writing.
        unsafe { put(set, std::ptr::without_provenance_mut(sets.len())) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> u32 {
    guarded(|| {
        with_set(set, |_| ())?;
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        sets[set.addr() - 1] = None;
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    milliseconds: c_uint,
) -> u32 {
    // SAFETY: NVML's contract: the pointer is null or good for writing.
    guarded(|| unsafe { wait(set, data, milliseconds) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait(
    set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    milliseconds: c_uint,
) -> u32 {
    // SAFETY: NVML's contract: the pointer is null or good for writing.
    guarded(|| unsafe { wait(set, data, milliseconds) })
}

/// # Safety
///
/// `data` is null or good for writing.
unsafe fn wait(set: nvmlEventSet_t, data: *mut nvmlEventData_t, milliseconds: c_uint) -> Outcome {
    started()?;
    call("nvmlEventSetWait", None)?;
    let end = Instant::now() + Duration::from_millis(milliseconds.into());
    loop {
        if let Some((device, xid)) = next(set)? {
            let event = nvmlEventData_t {
                device,
                eventType: XID,
                eventData: xid,
                gpuInstanceId: c_uint::MAX,
                computeInstanceId: c_uint::MAX,
            };
            // SAFETY: as the caller says.
            return unsafe { put(data, event) };
        }
        if Instant::now() >= end {
            return Err(TIMEOUT);
        }
        thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
    }
}

/// The next Xid that was not told; once a GPU is lost and its Xids are told, nothing else is.
fn next(set: nvmlEventSet_t) -> Result<Option<(nvmlDevice_t, u64)>, Code> {
    let scene = scene()?;
    with_set(set, |watched| {
        for (uuid, told) in watched.iter_mut() {
            let Some((_, gpu)) = scene.gpu(uuid) else { return Err(GPU_IS_LOST) };
            if let Some(xid) = gpu.xids.get(*told) {
                *told += 1;
                return Ok(Some((handle(uuid), *xid)));
            }
            if gpu.lost {
                return Err(GPU_IS_LOST);
            }
        }
        Ok(None)
    })?
}

device! {
    fn nvmlDeviceGetSupportedEventTypes(types: *mut c_ulonglong) |it| {
        it.whole()?;
        put(types, XID)
    }

    // What happened before is not told.
    fn nvmlDeviceRegisterEvents(_types: c_ulonglong, set: nvmlEventSet_t) |it| {
        let known = it.whole()?.xids.len();
        with_set(set, |watched| watched.push((it.uuid.clone(), known)))
    }
}

#[cfg(test)]
pub(super) fn check_waits(lib: &mut nvml_wrapper_sys::bindings::NvmlLib) {
    lib.nvmlEventSetCreate = Ok(nvmlEventSetCreate);
    lib.nvmlEventSetFree = Ok(nvmlEventSetFree);
    lib.nvmlEventSetWait_v2 = Ok(nvmlEventSetWait_v2);
    lib.nvmlEventSetWait = Ok(nvmlEventSetWait);
}
