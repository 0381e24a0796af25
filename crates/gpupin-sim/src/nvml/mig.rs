use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::nvmlDevice_t;

use super::{INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, device, handle, put};

device! {
    fn nvmlDeviceGetMigMode(current: *mut c_uint, pending: *mut c_uint) |it| {
        let mode = it.whole()?.mig.ok_or(NOT_SUPPORTED)?;
        put(current, mode.into())?;
        put(pending, mode.into())
    }

    fn nvmlDeviceIsMigDeviceHandle(is_instance: *mut c_uint) |it| {
        put(is_instance, it.is_instance().into())
    }

    fn nvmlDeviceGetMaxMigDeviceCount(count: *mut c_uint) |it| {
        put(count, if it.whole()?.mig.is_some() { 7 } else { 0 })
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(index: c_uint, instance: *mut nvmlDevice_t) |it| {
        let gpu = it.whole()?;
        match gpu.mig {
            None => Err(NOT_SUPPORTED),
            Some(_) if index >= 7 => Err(INVALID_ARGUMENT),
            Some(_) => {
                let found = gpu.instances.get(index as usize).ok_or(NOT_FOUND)?;
                put(instance, handle(&found.uuid))
            }
        }
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(whole: *mut nvmlDevice_t) |it| {
        if !it.is_instance() {
            return Err(INVALID_ARGUMENT);
        }
        put(whole, handle(&it.gpu().uuid))
    }

    fn nvmlDeviceGetGpuInstanceId(id: *mut c_uint) |it| {
        let instance = it.gpu().instances.iter().find(|instance| instance.uuid == it.uuid);
        put(id, instance.ok_or(NOT_SUPPORTED)?.gpu_instance)
    }

    fn nvmlDeviceGetComputeInstanceId(id: *mut c_uint) |it| {
        let instance = it.gpu().instances.iter().find(|instance| instance.uuid == it.uuid);
        put(id, instance.ok_or(NOT_SUPPORTED)?.compute_instance)
    }
}
