use std::ffi::{c_uint, c_ulonglong};

use gpupin_device::{
    GpuProcess,
    scene::{UseKind, now},
};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlProcessDetailList_t, nvmlProcessInfo_t, nvmlProcessInfo_v1_t,
    nvmlProcessInfo_v2_t, nvmlProcessUtilizationSample_t,
};

use super::{
    ARGUMENT_VERSION_MISMATCH, Code, INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_FOUND, Outcome,
    UNKNOWN, asked_with, device, guarded, put, put_list,
};
use crate::{
    profile::Profile,
    session::{self, Asked},
};

/// `sizeof | version << 24`.
const DETAIL_LIST_V1: c_uint = 0x0100_0018;

/// Defines one version of the three lists.
macro_rules! lists {
    ($($name:ident($row:ty) = $kind:ident, $fill:path;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(device: nvmlDevice_t, count: *mut c_uint, rows: *mut $row) -> u32 {
                // SAFETY: NVML's contract: the pointers are null or good for as many rows as the count says.
                guarded(|| unsafe {
                    let (it, obstacle) = asked_with(stringify!($name), device)?;
                    $fill(&it, count, rows.cast(), (UseKind::$kind, obstacle.grow))
                })
            }
        )*
        #[cfg(test)]
        pub(super) fn check_lists(lib: &mut nvml_wrapper_sys::bindings::NvmlLib) {
            $(lib.$name = Ok($name);)*
        }
    };
}

lists! {
    nvmlDeviceGetComputeRunningProcesses(nvmlProcessInfo_v1_t) = Compute, first;
    nvmlDeviceGetGraphicsRunningProcesses(nvmlProcessInfo_v1_t) = Graphics, first;
    nvmlDeviceGetMPSComputeRunningProcesses(nvmlProcessInfo_v1_t) = Mps, first;
    nvmlDeviceGetComputeRunningProcesses_v2(nvmlProcessInfo_v2_t) = Compute, second;
    nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlProcessInfo_v2_t) = Graphics, second;
    nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlProcessInfo_v2_t) = Mps, second;
    nvmlDeviceGetComputeRunningProcesses_v3(nvmlProcessInfo_t) = Compute, third;
    nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlProcessInfo_t) = Graphics, third;
    nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlProcessInfo_t) = Mps, third;
}

/// Rows of 16 bytes: PID and memory.
///
/// # Safety
///
/// As [`put_list`].
unsafe fn first(it: &Asked, count: *mut c_uint, to: *mut u8, list: (UseKind, u32)) -> Outcome {
    // SAFETY: as the caller says.
    unsafe { put_rows::<16>(it, count, to, list) }
}

/// Rows of 24 bytes: with the instances of MIG.
///
/// # Safety
///
/// As [`put_list`].
unsafe fn second(it: &Asked, count: *mut c_uint, to: *mut u8, list: (UseKind, u32)) -> Outcome {
    // SAFETY: as the caller says.
    unsafe { put_rows::<24>(it, count, to, list) }
}

/// Rows of 24 bytes, and of 32 in the first releases of R535, under the same name.
///
/// # Safety
///
/// As [`put_list`].
unsafe fn third(it: &Asked, count: *mut c_uint, to: *mut u8, list: (UseKind, u32)) -> Outcome {
    // SAFETY: as the caller says.
    unsafe {
        match Profile::of(&it.scene.driver) {
            Profile::R535Early => put_rows::<32>(it, count, to, list),
            _ => put_rows::<24>(it, count, to, list),
        }
    }
}

/// # Safety
///
/// As [`put_list`].
unsafe fn put_rows<const STRIDE: usize>(
    it: &Asked,
    count: *mut c_uint,
    to: *mut u8,
    (kind, grow): (UseKind, u32),
) -> Outcome {
    let rows: Vec<[u8; STRIDE]> = processes(it, kind)?.iter().map(row).collect();
    // SAFETY: as the caller says.
    unsafe { put_list(count, to, &rows, grow) }
}

fn processes(it: &Asked, kind: UseKind) -> Result<Vec<GpuProcess>, Code> {
    let running = session::live().ok_or(UNKNOWN)?.processes().map_err(|_| UNKNOWN)?;
    Ok(it.gpu().list(&it.scene, &it.uuid, &running, kind))
}

/// As many fields as the row has room for.
fn row<const STRIDE: usize>(process: &GpuProcess) -> [u8; STRIDE] {
    let memory = process.memory.as_ref().map_or(u64::MAX, |it| it.get());
    let (gpu, compute) = process.instance.unwrap_or((u32::MAX, u32::MAX));
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&process.pid.to_ne_bytes());
    bytes[8..16].copy_from_slice(&memory.to_ne_bytes());
    bytes[16..20].copy_from_slice(&gpu.to_ne_bytes());
    bytes[20..24].copy_from_slice(&compute.to_ne_bytes());
    let mut row = [0; STRIDE];
    row.copy_from_slice(&bytes[..STRIDE]);
    row
}

device! {
    fn nvmlDeviceGetRunningProcessDetailList(list: *mut nvmlProcessDetailList_t) |it| {
        let list = list.as_mut().ok_or(INVALID_ARGUMENT)?;
        if list.version != DETAIL_LIST_V1 {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let kind = match list.mode {
            0 => UseKind::Compute,
            1 => UseKind::Graphics,
            2 => UseKind::Mps,
            _ => return Err(INVALID_ARGUMENT),
        };
        // The last field is protected memory, of which there is none.
        let rows: Vec<[u8; 32]> = processes(&it, kind)?.iter().map(row).collect();
        put_list(&raw mut list.numProcArrayEntries, list.procArray.cast(), &rows, 0)
    }

    fn nvmlDeviceGetProcessUtilization(
        samples: *mut nvmlProcessUtilizationSample_t,
        count: *mut c_uint,
        last_seen: c_ulonglong
    ) |it| {
        let gpu = it.whole()?;
        let running = session::live().ok_or(UNKNOWN)?.processes().map_err(|_| UNKNOWN)?;
        let sample = |(pid, load)| nvmlProcessUtilizationSample_t {
            pid,
            timeStamp: now().max(last_seen.saturating_add(1)),
            smUtil: load,
            memUtil: 0,
            encUtil: 0,
            decUtil: 0,
        };
        let found: Vec<_> = gpu.busy(&it.scene, &running).into_iter().map(sample).collect();
        if found.is_empty() {
            return Err(NOT_FOUND);
        }
        let room = count.as_ref().ok_or(INVALID_ARGUMENT)?;
        let has_room = *room as usize >= found.len() && !samples.is_null();
        put(count, c_uint::try_from(found.len()).unwrap_or(c_uint::MAX))?;
        if !has_room {
            return Err(INSUFFICIENT_SIZE);
        }
        samples.copy_from_nonoverlapping(found.as_ptr(), found.len());
        Ok(())
    }
}
