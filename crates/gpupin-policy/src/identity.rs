use std::{fmt, str::FromStr};

use crate::value::InvalidValue;

/// The UUID of a physical GPU or MIG instance, as NVML prints it.
///
/// Either `GPU-` or `MIG-` and a UUID, or the MIG name of drivers before R470:
/// `MIG-GPU-<uuid>/<gpu instance>/<compute instance>`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String")]
pub struct GpuUuid(String);

impl GpuUuid {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GpuUuid {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let valid = match text.strip_prefix("MIG-GPU-").map(|rest| rest.split('/')) {
            Some(mut parts) => {
                let uuid = parts.next().is_some_and(is_uuid);
                let numbers: Vec<_> = parts.collect();
                uuid && numbers.len() == 2 && numbers.iter().all(|it| it.parse::<u32>().is_ok())
            }
            None => text.strip_prefix("GPU-").or(text.strip_prefix("MIG-")).is_some_and(is_uuid),
        };
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidValue::new(
                "expected a UUID such as `GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01`",
            ))
        }
    }
}

impl TryFrom<String> for GpuUuid {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl fmt::Display for GpuUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|it| it == b'-' || it.is_ascii_hexdigit())
}

/// Where a GPU sits on the PCI bus. Ordered as `CUDA_DEVICE_ORDER=PCI_BUS_ID` orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    pub domain: u32,
    pub bus: u8,
    pub device: u8,
    pub function: u8,
}

impl FromStr for PciAddress {
    type Err = InvalidValue;

    /// Reads `0000:02:00.0`, and the spellings without domain or with the eight digits of NVML.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parse = || {
            let (rest, function) = text.split_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
            Some(Self {
                domain: hex(domain, 8)?,
                bus: u8::try_from(hex(bus, 2)?).ok()?,
                device: u8::try_from(hex(device, 2)?).ok().filter(|it| *it < 32)?,
                function: u8::try_from(hex(function, 1)?).ok().filter(|it| *it < 8)?,
            })
        };
        parse().ok_or_else(|| InvalidValue::new("expected a PCI address such as `0000:02:00.0`"))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

fn hex(digits: &str, longest: usize) -> Option<u32> {
    let valid = !digits.is_empty()
        && digits.len() <= longest
        && digits.bytes().all(|it| it.is_ascii_hexdigit());
    valid.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// A CUDA compute capability, such as `8.6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComputeCapability {
    pub major: u32,
    pub minor: u32,
}

impl FromStr for ComputeCapability {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let [major, minor] = numbers(text)
            .ok_or_else(|| InvalidValue::new("expected major and minor, such as `8.6`"))?;
        Ok(Self { major, minor })
    }
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version of the NVIDIA driver, such as `580.65.06`.
///
/// Its generation decides how MIG instances are named and enumerated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DriverVersion {
    text: String,
    generation: u32,
}

impl DriverVersion {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The generation: 580 for `580.65.06`, which NVIDIA calls R580.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

impl FromStr for DriverVersion {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let number = |part: &str| {
            part.bytes().all(|c| c.is_ascii_digit()).then(|| part.parse::<u32>().ok())?
        };
        match text.split('.').map(number).collect::<Option<Vec<_>>>().as_deref() {
            Some([generation, _, ..]) => {
                Ok(Self { text: text.to_owned(), generation: *generation })
            }
            _ => Err(InvalidValue::new("expected a driver version such as `580.65.06`")),
        }
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A position in NVML's order, which is what `nvidia-smi` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct NvmlIndex(pub u32);

impl fmt::Display for NvmlIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let parts: Option<Vec<u32>> = text
        .split('.')
        .map(|it| it.bytes().all(|c| c.is_ascii_digit()).then(|| it.parse().ok())?)
        .collect();
    parts?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = InvalidValue> + Display>(valid: &[(&str, &str)], invalid: &[&str]) {
        for (text, printed) in valid {
            assert_eq!(text.parse::<T>().map(|it| it.to_string()).as_deref(), Ok(*printed));
        }
        for text in invalid {
            assert!(text.parse::<T>().is_err(), "`{text}` was accepted");
        }
    }

    #[test]
    fn uuids_are_complete() {
        let uuid = "5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01";
        for text in [format!("GPU-{uuid}"), format!("MIG-{uuid}"), format!("MIG-GPU-{uuid}/1/0")] {
            check::<GpuUuid>(&[(&text, &text)], &[]);
        }
        let legacy = format!("MIG-GPU-{uuid}/1");
        check::<GpuUuid>(&[], &["", "GPU-", "GPU-5b1c0f6e", uuid, "gpu-0", &legacy]);
    }

    #[test]
    fn pci_addresses_read_every_spelling() {
        check::<PciAddress>(
            &[
                ("0000:02:00.0", "0000:02:00.0"),
                ("00000000:0A:1f.7", "0000:0a:1f.7"),
                ("02:00.0", "0000:02:00.0"),
                ("10000:E1:00.0", "10000:e1:00.0"),
            ],
            &[
                "",
                "02",
                "02:00",
                "0000:002:00.0",
                "0000:02:20.0",
                "0000:02:00.8",
                "+1:02:00.0",
                "0:0:+.0",
                "::.",
                "1:2:3:4.0",
            ],
        );
    }

    #[test]
    fn versions_are_numbers() {
        check::<ComputeCapability>(
            &[("8.6", "8.6"), ("12.0", "12.0")],
            &["8", "8.6.1", "sm_86", "+8.6", ""],
        );
        check::<DriverVersion>(
            &[("580.65.06", "580.65.06"), ("440.33", "440.33")],
            &["580", "", "R580.1", "1..2"],
        );
        assert!("12.0".parse::<ComputeCapability>().unwrap() > "8.10".parse().unwrap());
        assert_eq!("580.65.06".parse::<DriverVersion>().unwrap().generation(), 580);
    }
}
