//! The functions of NVML that are used. The bindings' own loader looks up all four hundred, which takes as long as starting a program.

#![expect(unsafe_code, reason = "functions of the driver's library are looked up by name")]
#![expect(non_snake_case, reason = "the fields are called as NVML calls its functions")]

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlAccountingStats_t, nvmlClockType_t, nvmlDevice_t, nvmlEccCounterType_t, nvmlEnableState_t,
    nvmlEventData_t, nvmlEventSet_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlMemoryErrorType_t,
    nvmlPciInfo_t, nvmlProcessUtilizationSample_t, nvmlReturn_t, nvmlTemperatureSensors_t,
    nvmlTemperatureThresholds_t, nvmlUtilization_t,
};

macro_rules! functions {
    ($($name:ident($($argument:ty),*);)*) => {
        /// What a library has of them. They are good as long as it is loaded.
        pub(super) struct Functions {
            $(
                pub(super) $name:
                    Result<unsafe extern "C" fn($($argument),*) -> nvmlReturn_t, libloading::Error>,
            )*
            /// Last, so that it is unloaded last.
            _library: libloading::Library,
        }

        impl Functions {
            /// Looks them up.
            ///
            /// # Safety
            ///
            /// The library's functions of these names must be those of NVIDIA's header.
            pub(super) unsafe fn of(library: libloading::Library) -> Self {
                Self {
                    $(
                        // SAFETY: as the caller says; the types are those of the bindings, which a test compares.
                        $name: unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }
                            .map(|it| *it),
                    )*
                    _library: library,
                }
            }
        }

        /// Does not compile if a type is another than in the bindings, which are made from NVIDIA's header.
        #[cfg(test)]
        fn from_bindings(
            bindings: nvml_wrapper_sys::bindings::NvmlLib,
            library: libloading::Library,
        ) -> Functions {
            Functions { $($name: bindings.$name,)* _library: library }
        }
    };
}

functions! {
    nvmlInitWithFlags(c_uint);
    nvmlInit_v2();
    nvmlShutdown();
    nvmlSystemGetDriverVersion(*mut c_char, c_uint);
    nvmlSystemGetNVMLVersion(*mut c_char, c_uint);
    nvmlSystemGetCudaDriverVersion(*mut c_int);
    nvmlSystemGetCudaDriverVersion_v2(*mut c_int);
    nvmlDeviceGetCount_v2(*mut c_uint);
    nvmlDeviceGetHandleByIndex_v2(c_uint, *mut nvmlDevice_t);
    nvmlDeviceGetHandleByUUID(*const c_char, *mut nvmlDevice_t);
    nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t, c_uint, *mut nvmlDevice_t);
    nvmlDeviceGetMigMode(nvmlDevice_t, *mut c_uint, *mut c_uint);
    nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t, *mut c_uint);
    nvmlDeviceGetGpuInstanceId(nvmlDevice_t, *mut c_uint);
    nvmlDeviceGetComputeInstanceId(nvmlDevice_t, *mut c_uint);
    nvmlDeviceGetUUID(nvmlDevice_t, *mut c_char, c_uint);
    nvmlDeviceGetName(nvmlDevice_t, *mut c_char, c_uint);
    nvmlDeviceGetPciInfo_v3(nvmlDevice_t, *mut nvmlPciInfo_t);
    nvmlDeviceGetCudaComputeCapability(nvmlDevice_t, *mut c_int, *mut c_int);
    nvmlDeviceGetMemoryInfo(nvmlDevice_t, *mut nvmlMemory_t);
    nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t, *mut nvmlMemory_v2_t);
    nvmlDeviceGetUtilizationRates(nvmlDevice_t, *mut nvmlUtilization_t);
    nvmlDeviceGetTemperature(nvmlDevice_t, nvmlTemperatureSensors_t, *mut c_uint);
    nvmlDeviceGetTemperatureThreshold(nvmlDevice_t, nvmlTemperatureThresholds_t, *mut c_uint);
    nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t, *mut c_ulonglong);
    nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t, *mut c_ulonglong);
    nvmlDeviceGetTotalEccErrors(
        nvmlDevice_t,
        nvmlMemoryErrorType_t,
        nvmlEccCounterType_t,
        *mut c_ulonglong
    );
    nvmlDeviceGetClockInfo(nvmlDevice_t, nvmlClockType_t, *mut c_uint);
    nvmlDeviceGetPowerUsage(nvmlDevice_t, *mut c_uint);
    nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t, *mut c_uint);
    nvmlDeviceGetPersistenceMode(nvmlDevice_t, *mut nvmlEnableState_t);
    nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t, *mut c_uint);
    nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t, *mut c_uint);
    nvmlDeviceGetProcessUtilization(
        nvmlDevice_t,
        *mut nvmlProcessUtilizationSample_t,
        *mut c_uint,
        c_ulonglong
    );
    nvmlEventSetCreate(*mut nvmlEventSet_t);
    nvmlEventSetFree(nvmlEventSet_t);
    nvmlEventSetWait_v2(nvmlEventSet_t, *mut nvmlEventData_t, c_uint);
    nvmlDeviceRegisterEvents(nvmlDevice_t, c_ulonglong, nvmlEventSet_t);
    nvmlDeviceGetMinorNumber(nvmlDevice_t, *mut c_uint);
    nvmlDeviceGetAccountingMode(nvmlDevice_t, *mut nvmlEnableState_t);
    nvmlDeviceGetAccountingPids(nvmlDevice_t, *mut c_uint, *mut c_uint);
    nvmlDeviceGetAccountingStats(nvmlDevice_t, c_uint, *mut nvmlAccountingStats_t);
}

#[cfg(test)]
mod tests {
    use super::{Functions, from_bindings};

    #[test]
    fn the_types_are_those_of_the_bindings() {
        // That it compiles is the test.
        let _: fn(_, _) -> Functions = from_bindings;
    }

    #[test]
    fn what_a_library_lacks_is_an_error_of_its_own() {
        let this = libloading::os::unix::Library::this().into();
        // SAFETY: this program has no function of NVML.
        let functions = unsafe { Functions::of(this) };
        assert!(functions.nvmlInit_v2.is_err() && functions.nvmlShutdown.is_err());
    }
}
