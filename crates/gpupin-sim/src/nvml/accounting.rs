use std::ffi::c_uint;

use gpupin_device::scene::{Running, Use, now};
use nvml_wrapper_sys::bindings::{nvmlAccountingStats_t, nvmlEnableState_t};

use super::{Code, NOT_FOUND, NOT_SUPPORTED, UNKNOWN, device, put, put_list};
use crate::session::{self, Asked};

/// What was recorded about a GPU, oldest first.
fn recorded(it: &Asked) -> Result<Vec<(Running, Use)>, Code> {
    if !it.whole()?.accounting {
        return Err(NOT_SUPPORTED);
    }
    let running = session::live().ok_or(UNKNOWN)?.processes().map_err(|_| UNKNOWN)?;
    let mut found = Vec::new();
    for process in running {
        let here = process.uses.iter().find(|used| used.gpu == it.uuid && used.accounted).cloned();
        found.extend(here.map(|used| (process, used)));
    }
    Ok(found)
}

device! {
    fn nvmlDeviceGetAccountingMode(mode: *mut nvmlEnableState_t) |it| {
        put(mode, it.whole()?.accounting.into())
    }

    fn nvmlDeviceGetAccountingBufferSize(size: *mut c_uint) |it| {
        it.whole()?;
        put(size, 4000)
    }

    fn nvmlDeviceGetAccountingPids(count: *mut c_uint, pids: *mut c_uint) |it| {
        let pid = |process: &Running| process.pid.wrapping_add(it.scene.pid_offset).to_ne_bytes();
        let rows: Vec<[u8; 4]> = recorded(&it)?.iter().map(|it| pid(&it.0)).collect();
        put_list(count, pids.cast(), &rows, 0)
    }

    fn nvmlDeviceGetAccountingStats(pid: c_uint, stats: *mut nvmlAccountingStats_t) |it| {
        let recorded = recorded(&it)?;
        let is_it = |process: &Running| process.pid.wrapping_add(it.scene.pid_offset) == pid;
        // The latest, should the number have been used before.
        let (process, used) = recorded.iter().rfind(|it| is_it(&it.0)).ok_or(NOT_FOUND)?;
        let is_running = process.is_alive && used.until.is_none();
        put(stats, nvmlAccountingStats_t {
            gpuUtilization: used.utilization,
            memoryUtilization: 0,
            maxMemoryUsage: used.peak,
            // Milliseconds; zero while it runs.
            time: if is_running { 0 } else { used.until.unwrap_or_else(now).saturating_sub(used.since) / 1000 },
            startTime: used.since,
            isRunning: is_running.into(),
            reserved: [0; 5],
        })
    }
}
