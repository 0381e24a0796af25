use std::ffi::c_uint;

use gpupin_device::scene::{ComputeMode, milliwatts};
use nvml_wrapper_sys::bindings::{nvmlComputeMode_t, nvmlEnableState_t, nvmlReturn_t};
use toml::Value;

use super::{INVALID_ARGUMENT, NO_PERMISSION, NOT_SUPPORTED, Outcome, UNKNOWN, device, put};
use crate::session::{self, Asked};

device! {
    fn nvmlDeviceGetPersistenceMode(mode: *mut nvmlEnableState_t) |it| {
        put(mode, it.gpu().persistence.into())
    }

    fn nvmlDeviceGetComputeMode(mode: *mut nvmlComputeMode_t) |it| {
        put(mode, match it.gpu().compute_mode {
            ComputeMode::Default => 0,
            ComputeMode::Prohibited => 2,
            ComputeMode::ExclusiveProcess => 3,
        })
    }

    fn nvmlDeviceGetDisplayMode(display: *mut nvmlEnableState_t) |it| {
        put(display, it.whole()?.display.into())
    }

    fn nvmlDeviceGetDisplayActive(display: *mut nvmlEnableState_t) |it| {
        put(display, it.whole()?.display.into())
    }

    fn nvmlDeviceGetEccMode(current: *mut nvmlEnableState_t, pending: *mut nvmlEnableState_t) |it| {
        let ecc = it.whole()?.ecc.ok_or(NOT_SUPPORTED)?;
        put(current, ecc.enabled.into())?;
        put(pending, ecc.enabled.into())
    }

    fn nvmlDeviceSetPersistenceMode(mode: nvmlEnableState_t) |it| {
        set(&it, "persistence", Some(switch(mode)?))
    }

    fn nvmlDeviceSetAccountingMode(mode: nvmlEnableState_t) |it| {
        set(&it, "accounting", Some(switch(mode)?))
    }

    fn nvmlDeviceSetComputeMode(mode: nvmlComputeMode_t) |it| {
        let name = match mode {
            0 => "default",
            2 => "prohibited",
            3 => "exclusive-process",
            _ => return Err(INVALID_ARGUMENT),
        };
        set(&it, "compute-mode", Some(name.into()))
    }

    fn nvmlDeviceSetPowerManagementLimit(limit: c_uint) |it| {
        let (least, most) = it.whole()?.power_limits;
        if limit < milliwatts(least) || limit > milliwatts(most) {
            return Err(INVALID_ARGUMENT);
        }
        set(&it, "power-limit", Some((f64::from(limit) / 1000.0).into()))
    }

    fn nvmlDeviceSetGpuLockedClocks(least: c_uint, most: c_uint) |it| {
        if least > most || most > it.whole()?.clocks.max_sm {
            return Err(INVALID_ARGUMENT);
        }
        set(&it, "locked-clocks", Some(vec![i64::from(least), i64::from(most)].into()))
    }

    fn nvmlDeviceResetGpuLockedClocks() |it| {
        set(&it, "locked-clocks", None)
    }

    fn nvmlDeviceSetMigMode(mode: c_uint, activation: *mut nvmlReturn_t) |it| {
        let gpu = it.whole()?;
        gpu.mig.ok_or(NOT_SUPPORTED)?;
        let mode = switch(mode)?;
        if mode == Value::Boolean(false) && !gpu.instances.is_empty() {
            // In use.
            return Err(19);
        }
        put(activation, 0)?;
        set(&it, "mig", Some(mode))
    }
}

fn switch(mode: nvmlEnableState_t) -> Result<Value, super::Code> {
    match mode {
        0 => Ok(false.into()),
        1 => Ok(true.into()),
        _ => Err(INVALID_ARGUMENT),
    }
}

/// Writes a key of a GPU into the scene, or takes it out, for whom that is allowed.
fn set(it: &Asked, key: &str, value: Option<Value>) -> Outcome {
    let uuid = &it.whole()?.uuid;
    if !rustix::process::geteuid().is_root() {
        return Err(NO_PERMISSION);
    }
    let change = |table: &mut toml::Table| {
        let gpus = table.get_mut("gpu").and_then(Value::as_array_mut).into_iter().flatten();
        let is_it =
            |gpu: &&mut toml::Table| gpu.get("uuid").and_then(Value::as_str) == Some(uuid.as_str());
        if let Some(gpu) = gpus.filter_map(Value::as_table_mut).find(is_it) {
            match value {
                Some(value) => drop(gpu.insert(key.to_owned(), value)),
                None => drop(gpu.remove(key)),
            }
        }
    };
    session::live().ok_or(UNKNOWN)?.edit(change).map_err(|_| UNKNOWN)
}
