use serde::Deserialize;

use crate::{answer::Silence, machine::MachineError};

/// A return value of NVML or of the CUDA driver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Code {
    Number(i32),
    Name(String),
}

/// NVML's return values, with the text that the library has for each.
pub const NVML_CODES: &[(i32, &str, &str)] = &[
    (0, "success", "The operation was successful"),
    (1, "uninitialized", "Uninitialized"),
    (2, "invalid-argument", "Invalid Argument"),
    (3, "not-supported", "Not Supported"),
    (4, "no-permission", "Insufficient Permissions"),
    (5, "already-initialized", "Already Initialized"),
    (6, "not-found", "Not Found"),
    (7, "insufficient-size", "Insufficient Size"),
    (8, "insufficient-power", "Insufficient External Power"),
    (9, "driver-not-loaded", "Driver Not Loaded"),
    (10, "timeout", "Timeout"),
    (11, "irq-issue", "Interrupt Request Issue"),
    (12, "library-not-found", "NVML Shared Library Not Found"),
    (13, "function-not-found", "Function Not Found"),
    (14, "corrupted-inforom", "Corrupted infoROM"),
    (15, "gpu-is-lost", "GPU is lost"),
    (16, "reset-required", "GPU requires restart"),
    (17, "operating-system", "The operating system has blocked the request."),
    (18, "lib-rm-version-mismatch", "RM has detected an NVML/RM version mismatch."),
    (19, "in-use", "Insufficient Resources"),
    (20, "memory", "Insufficient Memory"),
    (21, "no-data", "No data"),
    (22, "vgpu-ecc-not-supported", "Vgpu Ecc Not Supported"),
    (23, "insufficient-resources", "Insufficient Resources"),
    (24, "freq-not-supported", "Freq Not Supported"),
    (25, "argument-version-mismatch", "Argument Version Mismatch"),
    (999, "unknown", "Unknown Error"),
];

/// What NVML returns for a process that it has no statistics of, and for much else.
pub(super) const NOT_FOUND: i32 = 6;

/// The CUDA driver's return values that clients meet.
pub const CUDA_CODES: &[(i32, &str, &str)] = &[
    (0, "success", "CUDA_SUCCESS"),
    (1, "invalid-value", "CUDA_ERROR_INVALID_VALUE"),
    (2, "out-of-memory", "CUDA_ERROR_OUT_OF_MEMORY"),
    (3, "not-initialized", "CUDA_ERROR_NOT_INITIALIZED"),
    (4, "deinitialized", "CUDA_ERROR_DEINITIALIZED"),
    (34, "stub-library", "CUDA_ERROR_STUB_LIBRARY"),
    (46, "device-unavailable", "CUDA_ERROR_DEVICE_UNAVAILABLE"),
    (100, "no-device", "CUDA_ERROR_NO_DEVICE"),
    (101, "invalid-device", "CUDA_ERROR_INVALID_DEVICE"),
    (201, "invalid-context", "CUDA_ERROR_INVALID_CONTEXT"),
    (214, "ecc-uncorrectable", "CUDA_ERROR_ECC_UNCORRECTABLE"),
    (500, "not-found", "CUDA_ERROR_NOT_FOUND"),
    (700, "illegal-address", "CUDA_ERROR_ILLEGAL_ADDRESS"),
    (719, "launch-failed", "CUDA_ERROR_LAUNCH_FAILED"),
    (800, "not-permitted", "CUDA_ERROR_NOT_PERMITTED"),
    (801, "not-supported", "CUDA_ERROR_NOT_SUPPORTED"),
    (802, "system-not-ready", "CUDA_ERROR_SYSTEM_NOT_READY"),
    (803, "system-driver-mismatch", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
    (804, "compat-not-supported-on-device", "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"),
    (999, "unknown", "CUDA_ERROR_UNKNOWN"),
];

impl Code {
    /// The number, as `function` returns it; `None` for a name that its library does not have.
    pub(super) fn number(&self, function: &str) -> Option<i32> {
        let codes = if function.starts_with("nvml") { NVML_CODES } else { CUDA_CODES };
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => codes.iter().find(|it| it.1 == name).map(|it| it.0),
        }
    }
}

/// What a return value of NVML means for one answer.
pub(crate) fn silence(code: i32) -> Silence {
    match code {
        3 => Silence::Unsupported,
        4 => Silence::NoPermission,
        13 => Silence::TooOld,
        15 => Silence::Lost,
        21 => Silence::NotAvailable,
        _ => Silence::Failed(text(code)),
    }
}

/// What a return value of NVML means when it ends a question about the machine.
pub(crate) fn machine_error(what: &'static str, code: i32) -> MachineError {
    match code {
        4 => MachineError::NoPermission,
        9 => MachineError::NotLoaded,
        12 => MachineError::NoLibrary { why: text(code) },
        18 => MachineError::VersionMismatch,
        _ => MachineError::Query { what, why: text(code) },
    }
}

fn text(code: i32) -> String {
    let known = NVML_CODES.iter().find(|it| it.0 == code);
    known.map_or_else(|| format!("NVML error {code}"), |it| format!("{} (NVML error {code})", it.2))
}
