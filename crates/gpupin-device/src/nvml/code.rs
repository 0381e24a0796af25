use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::nvmlReturn_t;

use crate::{answer::Silence, machine::MachineError};

/// What NVML returns when it does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(nvmlReturn_t);

impl Code {
    pub(super) const UNINITIALIZED: Self = Self(1);
    pub(super) const INVALID_ARGUMENT: Self = Self(2);
    pub(super) const NOT_SUPPORTED: Self = Self(3);
    pub(super) const NO_PERMISSION: Self = Self(4);
    pub(super) const NOT_FOUND: Self = Self(6);
    pub(super) const INSUFFICIENT_SIZE: Self = Self(7);
    pub(super) const DRIVER_NOT_LOADED: Self = Self(9);
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
        match self {
            Self::DRIVER_NOT_LOADED => MachineError::NotLoaded,
            Self::VERSION_MISMATCH => MachineError::VersionMismatch,
            Self::NO_PERMISSION => MachineError::NoPermission,
            code => MachineError::Query { what, why: code.text() },
        }
    }

    /// In NVML's words, which `nvmlErrorString` would give too if every library had it.
    fn text(self) -> String {
        let words = match self.0 {
            1 => "uninitialized",
            2 => "invalid argument",
            3 => "not supported",
            4 => "insufficient permissions",
            6 => "not found",
            7 => "insufficient size",
            8 => "insufficient external power",
            9 => "driver not loaded",
            10 => "timeout",
            11 => "interrupt request issue",
            13 => "function not found",
            14 => "corrupted infoROM",
            15 => "GPU is lost",
            16 => "GPU requires reset",
            17 => "blocked by the operating system",
            18 => "driver and library versions differ",
            19 => "in use by another client",
            20 => "insufficient memory",
            21 => "no data",
            23 => "insufficient resources",
            25 => "argument version mismatch",
            27 => "not ready",
            28 => "GPU not found",
            29 => "invalid state",
            999 => "unknown error",
            code => return format!("NVML error {code}"),
        };
        format!("{words} (NVML error {})", self.0)
    }
}

impl From<Code> for Silence {
    fn from(code: Code) -> Self {
        match code {
            Code::NOT_SUPPORTED => Self::Unsupported,
            Code::FUNCTION_NOT_FOUND | Code::ARGUMENT_VERSION_MISMATCH => Self::TooOld,
            Code::NO_PERMISSION => Self::NoPermission,
            Code::GPU_IS_LOST => Self::Lost,
            code => Self::Failed(code.text()),
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
