use std::ffi::{CStr, c_char, c_int, c_ulonglong, c_void};

use super::{
    Code, INVALID_VALUE, NOT_FOUND, NOT_SUPPORTED, Outcome, context, device, guarded, memory, put,
    start,
};

/// A function of the driver, as `cuGetProcAddress` gives it away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function(pub(super) *const ());

// SAFETY: the address of a function is the same for every thread, and nothing is read or written there.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

const OURS: &[(&str, Function)] = &[
    ("cuGetProcAddress", Function(cuGetProcAddress as *const ())),
    ("cuGetProcAddress_v2", Function(cuGetProcAddress_v2 as *const ())),
    ("cuGetExportTable", Function(cuGetExportTable as *const ())),
];

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetProcAddress(
    symbol: *const c_char,
    function: *mut *const c_void,
    version: c_int,
    _flags: c_ulonglong,
) -> c_int {
    // SAFETY: CUDA's contract: the text ends with a zero, the pointer is null or good for writing.
    guarded(|| unsafe { put_function(symbol, function, version) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetProcAddress_v2(
    symbol: *const c_char,
    function: *mut *const c_void,
    version: c_int,
    _flags: c_ulonglong,
    status: *mut c_int,
) -> c_int {
    guarded(|| {
        // SAFETY: CUDA's contract: the text ends with a zero, the pointer is null or good for writing.
        let outcome = unsafe { put_function(symbol, function, version) };
        if !status.is_null() {
            // Found, or not.
            // SAFETY: not null, so the caller says that it can be written.
            unsafe { put(status, c_int::from(outcome.is_err())) }?;
        }
        outcome
    })
}

/// The runtime asks for tables that NVIDIA does not document.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetExportTable(table: *mut *const c_void, _id: *const c_void) -> c_int {
    guarded(|| {
        // SAFETY: CUDA's contract: the pointer is null or good for writing.
        unsafe { put(table, std::ptr::null()) }?;
        Err(NOT_SUPPORTED)
    })
}

/// # Safety
///
/// `symbol` is null or ends with a zero; `function` is null or good for writing.
unsafe fn put_function(
    symbol: *const c_char,
    function: *mut *const c_void,
    version: c_int,
) -> Outcome {
    if symbol.is_null() || function.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: not null, so the caller says that it ends with a zero.
    let name = unsafe { CStr::from_ptr(symbol) }.to_str().map_err(|_| INVALID_VALUE)?;
    let found = find(name, version);
    // SAFETY: as the caller says.
    unsafe { put(function, found.map_or(std::ptr::null(), |it| it.0.cast())) }?;
    found.map(drop)
}

/// The newest version of a function that a program built for CUDA `version` knows.
fn find(name: &str, version: c_int) -> Result<Function, Code> {
    let lists = [start::FUNCTIONS, device::FUNCTIONS, context::FUNCTIONS, memory::FUNCTIONS, OURS];
    let known = |name: &str| lists.iter().copied().flatten().find(|it| it.0 == name).map(|it| it.1);
    let newer = match name {
        "cuCtxCreate" if version >= 13000 => known("cuCtxCreate_v4"),
        _ => known(&format!("{name}_v2")),
    };
    newer.or_else(|| known(name)).ok_or(NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_program_gets_the_version_it_was_built_for() {
        let address = |name, version| find(name, version).map(|it| it.0.addr());
        assert_eq!(address("cuCtxCreate", 12000), address("cuCtxCreate_v2", 12000));
        assert_eq!(address("cuCtxCreate", 13000), address("cuCtxCreate_v4", 13000));
        assert_eq!(address("cuDeviceTotalMem", 12000), address("cuDeviceTotalMem_v2", 12000));
        assert!(address("cuInit", 12000).is_ok());
        assert_eq!(address("cuLaunchKernel", 12000), Err(super::NOT_FOUND));
    }
}
