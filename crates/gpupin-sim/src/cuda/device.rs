use std::ffi::{CStr, c_char, c_int, c_uint};

use gpupin_device::scene::ComputeMode;
use gpupin_policy::PciAddress;

use super::{INVALID_DEVICE, INVALID_VALUE, Outcome, call, cuda, put};
use crate::{nvml::bytes_of, session::Asked};

cuda! {
    fn cuDeviceGetCount(count: *mut c_int) |process| {
        put(count, c_int::try_from(process.visible.len()).unwrap_or(c_int::MAX))
    }

    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) |process| {
        call("cuDeviceGet", Some(process.uuid(ordinal)?))?;
        put(device, ordinal)
    }

    fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) |process| {
        let it = process.gpu(device)?;
        put_text(name, length, &name_of(&it))
    }

    fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) |process| {
        // The older function tells of a MIG instance which GPU it is a part of.
        put(uuid, bytes_of(&process.gpu(device)?.gpu().uuid))
    }

    fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) |process| {
        put(uuid, bytes_of(process.uuid(device)?))
    }

    fn cuDeviceGetPCIBusId(pci: *mut c_char, length: c_int, device: c_int) |process| {
        let PciAddress { domain, bus, device, function } = process.gpu(device)?.gpu().pci;
        put_text(pci, length, &format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
    }

    fn cuDeviceGetByPCIBusId(device: *mut c_int, pci: *const c_char) |process| {
        if pci.is_null() {
            return Err(INVALID_VALUE);
        }
        let text = CStr::from_ptr(pci).to_str().map_err(|_| INVALID_VALUE)?;
        let pci: PciAddress = text.parse().map_err(|_| INVALID_VALUE)?;
        let ordinals = 0..c_int::try_from(process.visible.len()).unwrap_or(c_int::MAX);
        let is_it = |it: &c_int| process.gpu(*it).is_ok_and(|it| it.gpu().pci == pci);
        put(device, ordinals.into_iter().find(is_it).ok_or(INVALID_DEVICE)?)
    }

    // Of 32 bits, as the function is that has no version.
    fn cuDeviceTotalMem(bytes: *mut c_uint, device: c_int) |process| {
        let it = process.gpu(device)?;
        put(bytes, c_uint::try_from(it.gpu().total(&it.uuid)).unwrap_or(c_uint::MAX))
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) |process| {
        let it = process.gpu(device)?;
        put(bytes, usize::try_from(it.gpu().total(&it.uuid)).unwrap_or(usize::MAX))
    }

    fn cuDeviceComputeCapability(major: *mut c_int, minor: *mut c_int, device: c_int) |process| {
        let capability = process.gpu(device)?.gpu().compute_capability;
        put(major, number(capability.major))?;
        put(minor, number(capability.minor))
    }

    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) |process| {
        let it = process.gpu(device)?;
        put(value, value_of(&it, attribute)?)
    }
}

pub(super) fn name_of(it: &Asked) -> String {
    let gpu = it.gpu();
    let instance = gpu.instances.iter().find(|instance| instance.uuid == it.uuid);
    match instance {
        Some(instance) => format!("{} MIG {}", gpu.name, instance.profile),
        None => gpu.name.clone(),
    }
}

fn number(value: u32) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

/// A value of `CUdevice_attribute`: what the scene knows, limits that all GPUs of the last ten years have, zero for the rest.
fn value_of(it: &Asked, attribute: c_int) -> Result<c_int, super::Code> {
    let gpu = it.gpu();
    Ok(match attribute {
        1..=3 => 1024,
        4 => 64,
        5 => c_int::MAX,
        6 | 7 => 65535,
        8 => 48 << 10,
        9 => 64 << 10,
        10 => 32,
        11 => c_int::MAX,
        12 => 65536,
        13 => number(gpu.clocks.max_sm.saturating_mul(1000)),
        16 => number(gpu.multiprocessors),
        // Concurrent kernels, unified addressing, managed memory, 64-bit host access: yes.
        31 | 41 | 83 | 95 => 1,
        20 => match gpu.compute_mode {
            ComputeMode::Default => 0,
            ComputeMode::Prohibited => 2,
            ComputeMode::ExclusiveProcess => 3,
        },
        32 => c_int::from(gpu.ecc.is_some_and(|it| it.enabled)),
        33 => gpu.pci.bus.into(),
        34 => gpu.pci.device.into(),
        36 => number(gpu.clocks.max_memory.saturating_mul(1000)),
        37 => 384,
        38 => 4 << 20,
        39 => 1536,
        40 => 2,
        50 => number(gpu.pci.domain),
        75 => number(gpu.compute_capability.major),
        76 => number(gpu.compute_capability.minor),
        other if (1..=160).contains(&other) => 0,
        _ => return Err(INVALID_VALUE),
    })
}

/// Writes a text with its end, cut where the buffer ends.
///
/// # Safety
///
/// `to` is null or good for writing `length` bytes.
unsafe fn put_text(to: *mut c_char, length: c_int, text: &str) -> Outcome {
    let room =
        usize::try_from(length).ok().and_then(|it| it.checked_sub(1)).ok_or(INVALID_VALUE)?;
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    let length = text.len().min(room);
    // SAFETY: text and end fit into the buffer, which overlaps nothing of ours.
    unsafe {
        to.copy_from_nonoverlapping(text.as_ptr().cast(), length);
        to.add(length).write(0);
    }
    Ok(())
}
