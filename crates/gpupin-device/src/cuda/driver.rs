#![expect(unsafe_code, reason = "the driver's library speaks C")]

use std::{
    ffi::{CStr, c_char, c_int, c_uint},
    fmt::Write as _,
    path::Path,
};

use libloading::{Library, Symbol};

use super::{CudaDevice, CudaError, CudaFailure};

/// The CUDA driver's library, loaded.
#[derive(Debug)]
pub(super) struct Api(Library);

pub(super) type CuResult = c_uint;

/// The CUDA version of the driver, and its devices by ordinal.
type Devices = (Option<(u32, u32)>, Vec<CudaDevice>);

const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

impl Api {
    pub(super) fn load(library: &Path) -> Result<Self, CudaError> {
        // SAFETY: loading runs the library's initialisers. It is the driver's own, or one the user named.
        let loaded = unsafe { Library::new(library) };
        loaded.map(Self).map_err(|error| {
            let why = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            CudaError::NoLibrary { why }
        })
    }

    pub(super) fn is_simulated(&self) -> bool {
        // SAFETY: only whether there is such a symbol is asked; it is never called.
        unsafe { self.0.get::<*const ()>(b"gpupin_sim_version\0") }.is_ok()
    }

    pub(super) fn devices(&self) -> Result<Devices, CudaFailure> {
        let init: Symbol<'_, unsafe extern "C" fn(c_uint) -> CuResult> = self.find("cuInit")?;
        // SAFETY: takes a number, which must be 0.
        self.check("cuInit", unsafe { init(0) })?;
        let version = self.version();
        let count: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> CuResult> =
            self.find("cuDeviceGetCount")?;
        let mut devices = 0;
        // SAFETY: the function writes one number.
        self.check("cuDeviceGetCount", unsafe { count(&raw mut devices) })?;
        let devices = (0..devices).map(|it| self.device(it)).collect::<Result<_, _>>()?;
        Ok((version, devices))
    }

    fn version(&self) -> Option<(u32, u32)> {
        let function: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> CuResult> =
            self.find("cuDriverGetVersion").ok()?;
        let mut version = 0;
        // SAFETY: the function writes one number.
        self.check("cuDriverGetVersion", unsafe { function(&raw mut version) }).ok()?;
        let version = u32::try_from(version).ok()?;
        Some((version / 1000, version % 1000 / 10))
    }

    fn device(&self, ordinal: c_int) -> Result<CudaDevice, CudaFailure> {
        type Text = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> CuResult;
        let get: Symbol<'_, unsafe extern "C" fn(*mut c_int, c_int) -> CuResult> =
            self.find("cuDeviceGet")?;
        let mut device = 0;
        // SAFETY: the function writes one number.
        self.check("cuDeviceGet", unsafe { get(&raw mut device, ordinal) })?;

        let text = |name: &str| {
            let function: Symbol<'_, Text> = self.find(name)?;
            let mut buffer = [0; 256];
            // SAFETY: the buffer is as long as is said.
            self.check(name, unsafe { function(buffer.as_mut_ptr(), 256, device) })?;
            let bytes = buffer.map(c_char::cast_unsigned);
            let text = CStr::from_bytes_until_nul(&bytes);
            Ok::<_, CudaFailure>(text.unwrap_or_default().to_string_lossy().into_owned())
        };
        let attribute = |which: c_int| {
            let function: Symbol<'_, unsafe extern "C" fn(*mut c_int, c_int, c_int) -> CuResult> =
                self.find("cuDeviceGetAttribute")?;
            let mut value = 0;
            // SAFETY: the function writes one number.
            let code = unsafe { function(&raw mut value, which, device) };
            self.check("cuDeviceGetAttribute", code)?;
            Ok::<_, CudaFailure>(value)
        };
        let total: Symbol<'_, unsafe extern "C" fn(*mut usize, c_int) -> CuResult> =
            self.find("cuDeviceTotalMem_v2")?;
        let mut vram = 0;
        // SAFETY: the function writes one number.
        self.check("cuDeviceTotalMem_v2", unsafe { total(&raw mut vram, device) })?;

        let name = text("cuDeviceGetName")?;
        let (major, minor) =
            (attribute(COMPUTE_CAPABILITY_MAJOR)?, attribute(COMPUTE_CAPABILITY_MINOR)?);
        Ok(CudaDevice {
            ordinal: ordinal.cast_unsigned(),
            uuid: uuid(self.uuid(device)?, &name),
            vram: vram as u64,
            compute_capability: format!("{major}.{minor}"),
            pci: text("cuDeviceGetPCIBusId")?,
            name,
        })
    }

    fn uuid(&self, device: c_int) -> Result<[u8; 16], CudaFailure> {
        type Function = unsafe extern "C" fn(*mut [u8; 16], c_int) -> CuResult;
        // The first version gives the parent's for a MIG instance.
        let newer = ("cuDeviceGetUuid_v2", self.find::<Function>("cuDeviceGetUuid_v2"));
        let (name, function) = match newer {
            (name, Ok(function)) => (name, function),
            _ => ("cuDeviceGetUuid", self.find("cuDeviceGetUuid")?),
        };
        let mut bytes = [0; 16];
        // SAFETY: the function writes 16 bytes.
        self.check(name, unsafe { function(&raw mut bytes, device) })?;
        Ok(bytes)
    }

    /// A function of the CUDA driver API, with the type that NVIDIA's `cuda.h` gives it.
    pub(super) fn find<F>(&self, name: &str) -> Result<Symbol<'_, F>, CudaFailure> {
        // SAFETY: every caller takes the type from `cuda.h`, and CUDA's functions keep theirs: changed ones get a new name.
        unsafe { self.0.get(name.as_bytes()) }.map_err(|_| CudaFailure {
            function: name.to_owned(),
            code: 500,
            name: "CUDA_ERROR_NOT_FOUND".to_owned(),
        })
    }

    pub(super) fn check(&self, function: &str, code: CuResult) -> Result<(), CudaFailure> {
        if code == 0 {
            return Ok(());
        }
        Err(CudaFailure { function: function.to_owned(), code, name: self.name(code) })
    }

    /// What the driver calls an error.
    fn name(&self, code: CuResult) -> String {
        let function: Result<
            Symbol<'_, unsafe extern "C" fn(CuResult, *mut *const c_char) -> CuResult>,
            _,
        > = self.find("cuGetErrorName");
        let mut name = std::ptr::null();
        // SAFETY: the function writes one pointer.
        let is_named = function.is_ok_and(|it| unsafe { it(code, &raw mut name) } == 0);
        if !is_named || name.is_null() {
            return format!("error {code}");
        }
        // SAFETY: the driver gives a text that ends in a zero and is never freed.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

/// 16 bytes as NVML prints them. Only its name tells that a device is a MIG instance.
fn uuid(bytes: [u8; 16], name: &str) -> String {
    let mut text = if name.contains(" MIG ") { "MIG-" } else { "GPU-" }.to_owned();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("a `String` takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::uuid;

    #[test]
    fn uuids_are_printed_as_nvml_does() {
        let bytes = std::array::from_fn(|it| u8::try_from(it * 17).unwrap());
        assert_eq!(uuid(bytes, "NVIDIA H100 PCIe"), "GPU-00112233-4455-6677-8899-aabbccddeeff");
        let instance = uuid(bytes, "NVIDIA H100 PCIe MIG 1g.10gb");
        assert_eq!(instance, "MIG-00112233-4455-6677-8899-aabbccddeeff");
    }
}
