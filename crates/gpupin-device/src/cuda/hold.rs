#![expect(unsafe_code, reason = "the driver's library speaks C")]

use std::{
    ffi::{c_int, c_uint, c_void},
    path::Path,
    ptr,
};

use libloading::Symbol;

use super::{
    CudaError, CudaFailure,
    driver::{Api, CuResult},
};

/// A context on a GPU and memory there, until it is dropped.
///
/// Who has one has initialised CUDA, so it needs a process of its own.
#[derive(Debug)]
pub struct HeldMemory {
    api: Api,
    context: *mut c_void,
    /// As NVML prints it.
    pub uuid: String,
}

impl HeldMemory {
    /// Takes memory of `cuda:ordinal` through a driver's library; with 0 bytes only what a context takes.
    pub fn take(library: &Path, ordinal: u32, bytes: u64) -> Result<Self, CudaError> {
        let api = Api::load(library)?;
        let uuid = api.devices()?.1.into_iter().find(|it| it.ordinal == ordinal).map(|it| it.uuid);
        let uuid = uuid.ok_or_else(|| CudaFailure {
            function: "cuDeviceGet".to_owned(),
            code: 101,
            name: "CUDA_ERROR_INVALID_DEVICE".to_owned(),
        })?;
        let create: Symbol<'_, unsafe extern "C" fn(*mut *mut c_void, c_uint, c_int) -> CuResult> =
            api.find("cuCtxCreate_v2")?;
        let mut context = ptr::null_mut();
        // SAFETY: the function writes one pointer; the ordinal is one of those that were listed.
        let created = unsafe { create(&raw mut context, 0, ordinal.cast_signed()) };
        api.check("cuCtxCreate_v2", created)?;
        // From here on the context is given back, whatever happens.
        let held = Self { api, context, uuid };
        if bytes > 0 {
            let allocate: Symbol<'_, unsafe extern "C" fn(*mut u64, usize) -> CuResult> =
                held.api.find("cuMemAlloc_v2")?;
            let mut address = 0;
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            // SAFETY: the function writes one number. What lies there is never read.
            held.api.check("cuMemAlloc_v2", unsafe { allocate(&raw mut address, bytes) })?;
        }
        Ok(held)
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        let destroy: Result<Symbol<'_, unsafe extern "C" fn(*mut c_void) -> CuResult>, _> =
            self.api.find("cuCtxDestroy_v2");
        if let Ok(destroy) = destroy {
            // SAFETY: the context is ours and not used any more. Its memory goes with it.
            unsafe { destroy(self.context) };
        }
    }
}
