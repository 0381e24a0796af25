use std::ffi::{c_char, c_int, c_uint};

use gpupin_policy::{GpuUuid, PciAddress};
use nvml_wrapper_sys::bindings::{
    nvmlBrandType_t, nvmlBusType_t, nvmlDevice_t, nvmlDeviceArchitecture_t, nvmlDeviceAttributes_t,
    nvmlPciInfo_t, nvmlPciInfoExt_t, nvmlUUID_t,
};

use super::{
    ARGUMENT_VERSION_MISMATCH, GPU_IS_LOST, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Outcome,
    call, device, handle, machine, put, put_text, scene, system::parsed,
};
use crate::session::Asked;

/// `sizeof | version << 24`.
const UUID_V1: c_uint = 0x0100_0034;
const PCI_EXT_V1: c_uint = 0x0100_0040;

machine! {
    fn nvmlDeviceGetCount_v2(count: *mut c_uint) |scene| {
        put(count, c_uint::try_from(scene.gpus.len()).unwrap_or(c_uint::MAX))
    }

    fn nvmlDeviceGetCount(count: *mut c_uint) |scene| {
        put(count, c_uint::try_from(scene.gpus.len()).unwrap_or(c_uint::MAX))
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut nvmlDevice_t) |scene| {
        let gpu = scene.gpus.get(index as usize).ok_or(INVALID_ARGUMENT)?;
        put_handle("nvmlDeviceGetHandleByIndex", &gpu.uuid, device)
    }

    fn nvmlDeviceGetHandleByIndex(index: c_uint, device: *mut nvmlDevice_t) |scene| {
        let gpu = scene.gpus.get(index as usize).ok_or(INVALID_ARGUMENT)?;
        put_handle("nvmlDeviceGetHandleByIndex", &gpu.uuid, device)
    }

    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut nvmlDevice_t) |_scene| {
        put_handle("nvmlDeviceGetHandleByUUID", &parsed(uuid)?, device)
    }

    fn nvmlDeviceGetHandleByUUIDV(uuid: *const nvmlUUID_t, device: *mut nvmlDevice_t) |scene| {
        let uuid = uuid.as_ref().ok_or(INVALID_ARGUMENT)?;
        if uuid.version != UUID_V1 {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let found = match uuid.type_ {
            1 => parsed((&raw const uuid.value.str_).cast())?,
            2 => {
                let wanted = uuid.value.bytes;
                let gpu = scene.gpus.iter().find(|it| bytes_of(&it.uuid) == wanted);
                gpu.ok_or(NOT_FOUND)?.uuid.clone()
            }
            _ => return Err(INVALID_ARGUMENT),
        };
        put_handle("nvmlDeviceGetHandleByUUID", &found, device)
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(pci: *const c_char, device: *mut nvmlDevice_t) |scene| {
        let pci: PciAddress = parsed(pci)?;
        let gpu = scene.gpus.iter().find(|it| it.pci == pci).ok_or(NOT_FOUND)?;
        put_handle("nvmlDeviceGetHandleByPciBusId", &gpu.uuid, device)
    }

    fn nvmlDeviceGetHandleByPciBusId(pci: *const c_char, device: *mut nvmlDevice_t) |scene| {
        let pci: PciAddress = parsed(pci)?;
        let gpu = scene.gpus.iter().find(|it| it.pci == pci).ok_or(NOT_FOUND)?;
        put_handle("nvmlDeviceGetHandleByPciBusId", &gpu.uuid, device)
    }

    fn nvmlDeviceGetHandleBySerial(serial: *const c_char, device: *mut nvmlDevice_t) |scene| {
        let serial: String = parsed(serial)?;
        let gpu = scene.gpus.iter().find(|it| it.serial.as_ref() == Some(&serial));
        put_handle("nvmlDeviceGetHandleBySerial", &gpu.ok_or(NOT_FOUND)?.uuid, device)
    }
}

/// Gives a handle, unless that fails for this GPU.
///
/// # Safety
///
/// `device` is null or good for writing.
unsafe fn put_handle(function: &str, uuid: &GpuUuid, device: *mut nvmlDevice_t) -> Outcome {
    let asked = Asked::find(scene()?, uuid.clone()).ok_or(NOT_FOUND)?;
    let _: gpupin_device::scene::Obstacle = call(function, Some(uuid))?;
    if asked.gpu().lost {
        return Err(GPU_IS_LOST);
    }
    // SAFETY: as the caller says.
    unsafe { put(device, handle(uuid)) }
}

device! {
    fn nvmlDeviceGetIndex(index: *mut c_uint) |it| {
        let gpu = it.gpu();
        let instance = gpu.instances.iter().position(|instance| instance.uuid == it.uuid);
        put(index, c_uint::try_from(instance.unwrap_or(it.index)).unwrap_or(c_uint::MAX))
    }

    fn nvmlDeviceGetName(name: *mut c_char, length: c_uint) |it| {
        let gpu = it.gpu();
        let instance = gpu.instances.iter().find(|instance| instance.uuid == it.uuid);
        let text = match instance {
            Some(instance) => format!("{} MIG {}", gpu.name, instance.profile),
            None => gpu.name.clone(),
        };
        put_text(name, length, &text)
    }

    fn nvmlDeviceGetUUID(uuid: *mut c_char, length: c_uint) |it| {
        put_text(uuid, length, it.uuid.as_str())
    }

    fn nvmlDeviceGetSerial(serial: *mut c_char, length: c_uint) |it| {
        put_text(serial, length, it.whole()?.serial.as_deref().ok_or(NOT_SUPPORTED)?)
    }

    fn nvmlDeviceGetMinorNumber(minor: *mut c_uint) |it| {
        put(minor, it.gpu().minor.unwrap_or(c_uint::try_from(it.index).unwrap_or(c_uint::MAX)))
    }

    fn nvmlDeviceGetBrand(brand: *mut nvmlBrandType_t) |it| {
        // GeForce RTX, and NVIDIA for what has no brand of its own.
        put(brand, if it.gpu().name.contains("GeForce") { 11 } else { 14 })
    }

    fn nvmlDeviceGetArchitecture(architecture: *mut nvmlDeviceArchitecture_t) |it| {
        let capability = it.gpu().compute_capability;
        put(architecture, match (capability.major, capability.minor) {
            (5, _) => 3,
            (6, _) => 4,
            (7, 0..=2) => 5,
            (7, _) => 6,
            (8, 0..=8) => 7,
            (8, _) => 8,
            (9, _) => 9,
            (10..=12, _) => 10,
            _ => c_uint::MAX,
        })
    }

    fn nvmlDeviceGetBoardId(board: *mut c_uint) |it| {
        let pci = it.whole()?.pci;
        put(board, c_uint::from(pci.bus) << 8)
    }

    fn nvmlDeviceGetMultiGpuBoard(many: *mut c_uint) |it| {
        it.whole()?;
        put(many, 0)
    }

    fn nvmlDeviceGetNumGpuCores(cores: *mut c_uint) |it| {
        put(cores, it.whole()?.cores)
    }

    fn nvmlDeviceGetMemoryBusWidth(width: *mut c_uint) |it| {
        it.whole()?;
        put(width, 384)
    }

    fn nvmlDeviceGetBusType(bus: *mut nvmlBusType_t) |it| {
        it.whole()?;
        // PCIe.
        put(bus, 2)
    }

    fn nvmlDeviceGetCudaComputeCapability(major: *mut c_int, minor: *mut c_int) |it| {
        let capability = it.gpu().compute_capability;
        put(major, c_int::try_from(capability.major).unwrap_or(0))?;
        put(minor, c_int::try_from(capability.minor).unwrap_or(0))
    }

    fn nvmlDeviceGetVbiosVersion(version: *mut c_char, length: c_uint) |it| {
        it.whole()?;
        put_text(version, length, "00.00.00.00.01")
    }

    fn nvmlDeviceGetAttributes_v2(attributes: *mut nvmlDeviceAttributes_t) |it| {
        let gpu = it.gpu();
        let instance = gpu.instances.iter().find(|instance| instance.uuid == it.uuid);
        let instance = instance.ok_or(NOT_SUPPORTED)?;
        let slices = |text: &str| text.split('g').next().and_then(|it| it.parse().ok()).unwrap_or(1);
        let slices: c_uint = slices(&instance.profile);
        put(attributes, nvmlDeviceAttributes_t {
            multiprocessorCount: gpu.multiprocessors / 7 * slices,
            sharedCopyEngineCount: 1,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: slices,
            computeInstanceSliceCount: slices,
            memorySizeMB: instance.vram.get() >> 20,
        })
    }

    fn nvmlDeviceGetPciInfo_v3(pci: *mut nvmlPciInfo_t) |it| {
        put(pci, pci_info(it.whole()?))
    }

    // The structures of the older versions end before the long bus id, and so must what is written.
    fn nvmlDeviceGetPciInfo_v2(pci: *mut nvmlPciInfo_t) |it| {
        put_start(pci, &pci_info(it.whole()?), 36)
    }

    fn nvmlDeviceGetPciInfo(pci: *mut nvmlPciInfo_t) |it| {
        put_start(pci, &pci_info(it.whole()?), 32)
    }

    fn nvmlDeviceGetPciInfoExt(pci: *mut nvmlPciInfoExt_t) |it| {
        let found = pci.as_mut().ok_or(INVALID_ARGUMENT)?;
        if found.version != PCI_EXT_V1 {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let gpu = it.whole()?;
        let info = pci_info(gpu);
        found.domain = info.domain;
        found.bus = info.bus;
        found.device = info.device;
        found.pciDeviceId = info.pciDeviceId;
        found.pciSubSystemId = info.pciSubSystemId;
        (found.baseClass, found.subClass) = (3, 0);
        found.busId = info.busId;
        Ok(())
    }
}

/// Writes the first bytes of a structure.
///
/// # Safety
///
/// `to` is null or good for writing `length` bytes, which is no more than the structure has.
unsafe fn put_start<T>(to: *mut T, value: &T, length: usize) -> Outcome {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: as the caller says.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(std::ptr::from_ref(value).cast(), length) };
    Ok(())
}

fn pci_info(gpu: &gpupin_device::scene::SceneGpu) -> nvmlPciInfo_t {
    let PciAddress { domain, bus, device, function } = gpu.pci;
    nvmlPciInfo_t {
        busIdLegacy: chars(&format!("{domain:04X}:{bus:02X}:{device:02X}.{function:X}")),
        domain,
        bus: bus.into(),
        device: device.into(),
        pciDeviceId: device_id(&gpu.name) << 16 | 0x10de,
        pciSubSystemId: 0x1234_10de,
        busId: chars(&format!("{domain:08X}:{bus:02X}:{device:02X}.{function:X}")),
    }
}

/// As <https://pci-ids.ucw.cz> knows it, for the GPUs of our own scenes.
fn device_id(name: &str) -> c_uint {
    let known =
        [("RTX 5060 Ti", 0x2d04), ("RTX 3090", 0x2204), ("A100-SXM4-80GB", 0x20b2), ("L4", 0x27b8)];
    known.iter().find(|it| name.ends_with(it.0)).map_or(0x2000, |it| it.1)
}

fn chars<const N: usize>(text: &str) -> [c_char; N] {
    let mut chars = [0; N];
    // The last one stays the end.
    for (to, from) in chars[..N - 1].iter_mut().zip(text.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    chars
}

/// The sixteen bytes of a UUID.
pub(crate) fn bytes_of(uuid: &GpuUuid) -> [u8; 16] {
    let digits: Vec<u8> = uuid
        .as_str()
        .split_once('-')
        .map_or("", |it| it.1)
        .chars()
        .filter_map(|it| u8::try_from(it.to_digit(16)?).ok())
        .collect();
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digits[0] << 4 | digits[1];
    }
    bytes
}
