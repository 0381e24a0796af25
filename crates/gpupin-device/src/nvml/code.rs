use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::nvmlReturn_t;

use crate::{
    answer::Silence,
    machine::MachineError,
    scene::code::{machine_error, silence},
};

/// What NVML returns when it does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(nvmlReturn_t);

impl Code {
    pub(super) const UNINITIALIZED: Self = Self(1);
    pub(super) const INVALID_ARGUMENT: Self = Self(2);
    pub(super) const NOT_SUPPORTED: Self = Self(3);
    pub(super) const NOT_FOUND: Self = Self(6);
    pub(super) const INSUFFICIENT_SIZE: Self = Self(7);
    pub(super) const DRIVER_NOT_LOADED: Self = Self(9);
    pub(super) const TIMEOUT: Self = Self(10);
    /// Also what stands for a function that the library does not have.
    pub(super) const FUNCTION_NOT_FOUND: Self = Self(13);
    pub(super) const GPU_IS_LOST: Self = Self(15);
    pub(super) const VERSION_MISMATCH: Self = Self(18);
    pub(super) const ARGUMENT_VERSION_MISMATCH: Self = Self(25);
    pub(super) const UNKNOWN: Self = Self(999);

    pub(super) fn check(code: nvmlReturn_t) -> Result<(), Self> {
        if code == 0 { Ok(()) } else { Err(Self(code)) }
    }

    /// Whether a new start of the library may help: the driver was reloaded, or a container got its devices back.
    pub(super) fn asks_for_restart(self) -> bool {
        [Self::UNINITIALIZED, Self::DRIVER_NOT_LOADED, Self::VERSION_MISMATCH, Self::UNKNOWN]
            .contains(&self)
    }

    /// Whether the handle that was asked about may be one of another time.
    pub(super) fn blames_handle(self) -> bool {
        [Self::INVALID_ARGUMENT, Self::NOT_FOUND, Self::GPU_IS_LOST, Self::UNINITIALIZED]
            .contains(&self)
    }

    pub(super) fn about_machine(self, what: &'static str) -> MachineError {
        machine_error(what, self.number())
    }

    fn number(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }
}

impl From<Code> for Silence {
    fn from(code: Code) -> Self {
        match code {
            // So does a library answer that does not know a structure's version yet.
            Code::ARGUMENT_VERSION_MISMATCH => Self::TooOld,
            code => silence(code.number()),
        }
    }
}

/// Why a library could not be loaded, in the loader's words, which are in the source of the error and name the file.
pub(super) fn not_loaded(error: &libloading::Error) -> MachineError {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    MachineError::NoLibrary { why: source.to_string() }
}

/// NVML counts in C's `unsigned int`.
pub(super) fn count(length: usize) -> c_uint {
    c_uint::try_from(length).unwrap_or(c_uint::MAX)
}
