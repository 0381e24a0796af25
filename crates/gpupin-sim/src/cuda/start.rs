use std::{
    collections::HashMap,
    ffi::{CString, c_char, c_int, c_uint},
    sync::OnceLock,
};

use gpupin_device::scene::{CUDA_CODES, Scene};
use gpupin_policy::{GpuUuid, PciAddress, visibility};

use super::{
    INVALID_DEVICE, INVALID_VALUE, NO_DEVICE, Outcome, Process, UNKNOWN, call, context::Contexts,
    guarded, lookup::Function, memory::Memory, process, put,
};
use crate::{
    nvml::cuda_number,
    session::{self, variable},
};

#[unsafe(no_mangle)]
unsafe extern "C" fn cuInit(flags: c_uint) -> c_int {
    guarded(|| {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        start()
    })
}

/// Works before the driver is started.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    guarded(|| {
        call("cuDriverGetVersion", None)?;
        let scene = session::live().ok_or(NO_DEVICE)?.scene().map_err(|_| UNKNOWN)?;
        // SAFETY: CUDA's contract: the pointer is null or good for writing.
        unsafe { put(version, cuda_number(scene.cuda())) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> c_int {
    // SAFETY: CUDA's contract: the pointer is null or good for writing.
    guarded(|| unsafe { put_text(code, name) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    // SAFETY: CUDA's contract: the pointer is null or good for writing.
    guarded(|| unsafe { put_text(code, text) })
}

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("cuInit", Function(cuInit as *const ())),
    ("cuDriverGetVersion", Function(cuDriverGetVersion as *const ())),
    ("cuGetErrorName", Function(cuGetErrorName as *const ())),
    ("cuGetErrorString", Function(cuGetErrorString as *const ())),
];

/// # Safety
///
/// `to` is null or good for writing.
unsafe fn put_text(code: c_int, to: *mut *const c_char) -> Outcome {
    static TEXTS: OnceLock<HashMap<c_int, CString>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| {
        CUDA_CODES.iter().filter_map(|it| Some((it.0, CString::new(it.2).ok()?))).collect()
    });
    let text = texts.get(&code).ok_or(INVALID_VALUE)?;
    // SAFETY: as the caller says; the texts stay.
    unsafe { put(to, text.as_ptr()) }
}

/// Reads the environment, once.
fn start() -> Outcome {
    call("cuInit", None)?;
    let scene = session::live().ok_or(NO_DEVICE)?.scene().map_err(|_| UNKNOWN)?;
    let mut process = process();
    if process.as_ref().is_some_and(|it| it.pid == std::process::id()) {
        return Ok(());
    }
    let (mask, order) = (variable("CUDA_VISIBLE_DEVICES"), variable("CUDA_DEVICE_ORDER"));
    let visible = visible(&scene, mask, order.as_deref())?;
    if visible.is_empty() {
        return Err(NO_DEVICE);
    }
    let pid = std::process::id();
    *process = Some(Process {
        pid,
        visible,
        contexts: Contexts::of_this_process(),
        memory: Memory::default(),
    });
    Ok(())
}

/// The GPUs of a process, by ordinal.
fn visible(
    scene: &Scene,
    mask: Option<String>,
    order: Option<&str>,
) -> Result<Vec<GpuUuid>, super::Code> {
    let mut inventory = scene.inventory();
    // A GPU that fell off the bus is not enumerated.
    inventory.gpus.retain(|gpu| scene.gpu(&gpu.uuid).is_some_and(|it| !it.1.lost));
    match order {
        Some("PCI_BUS_ID") => {}
        // The scene's order, told as an order of the bus, which alone is one that `visibility` knows.
        None | Some("FASTEST_FIRST") => {
            let place = |uuid: &GpuUuid| scene.cuda_order.iter().position(|it| it == uuid);
            let last = scene.cuda_order.len();
            inventory.gpus.sort_by_key(|it| (place(&it.uuid).unwrap_or(last), it.pci));
            for (bus, gpu) in (0..).zip(&mut inventory.gpus) {
                gpu.pci = PciAddress { domain: 0, bus, device: 0, function: 0 };
            }
        }
        // As driver 580 does.
        Some(_) => return Err(INVALID_DEVICE),
    }
    let environment = visibility::Environment {
        cuda_visible_devices: mask,
        cuda_device_order: Some("PCI_BUS_ID".to_owned()),
        nvidia_visible_devices: None,
    };
    let visibility = visibility::resolve(&inventory, &environment);
    if !visibility.starts {
        return Err(INVALID_DEVICE);
    }
    Ok(visibility
        .visible
        .into_iter()
        .filter_map(|it| it.uuid.or(it.candidates.into_iter().next()))
        .collect())
}

#[cfg(test)]
mod tests {
    use gpupin_device::scene::BUILT_IN;
    use gpupin_policy::Gpu;

    use super::{Scene, visible};

    /// The short names that a process sees under a mask and an order.
    #[track_caller]
    fn check(scene: &str, mask: Option<&str>, order: Option<&str>, expected: &[&str]) {
        let scene = Scene::parse(BUILT_IN.iter().find(|it| it.0 == scene).unwrap().1).unwrap();
        let uuids = visible(&scene, mask.map(str::to_owned), order);
        let inventory = scene.inventory();
        let name = |uuid| inventory.get(&uuid).map(Gpu::short_name);
        let names: Vec<_> = uuids.unwrap_or_default().into_iter().filter_map(name).collect();
        assert_eq!(names, expected, "{mask:?} {order:?}");
    }

    #[test]
    fn a_process_sees_what_mask_and_order_leave() {
        let pci = Some("PCI_BUS_ID");
        check("mixed", None, None, &["RTX 3090", "RTX 5060 Ti"]);
        check("mixed", None, pci, &["RTX 5060 Ti", "RTX 3090"]);
        check("mixed", Some("1"), None, &["RTX 5060 Ti"]);
        check("mixed", Some("1"), pci, &["RTX 3090"]);
        check("mixed", Some("GPU-8932"), None, &["RTX 3090"]);
        check("mixed", Some("1,0"), Some("FASTEST_FIRST"), &["RTX 5060 Ti", "RTX 3090"]);
        check("mixed", Some(""), None, &[]);
        check("mixed", Some("0,7,1"), None, &["RTX 3090"]);
        check("mixed", None, Some("pci_bus_id"), &[]);
        check("mixed", Some("1,1"), pci, &[]);
        check("lost", None, None, &["RTX 3090"]);
        check("mig", Some("MIG-6a9b4f2d"), None, &["A100-SXM4-80GB MIG 1g.10gb"]);
    }
}
