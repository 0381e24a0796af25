use std::{fs, path::Path};

use super::{DriverFiles, kernel_module, on_the_bus};
use crate::{
    answer::Silence,
    cuda::{CudaDevice, CudaView},
    kind::Kind,
    machine::{Machine, MachineError},
};

const OPEN: &str = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\nGCC version:  gcc version 12.3.0\n";
const CLOSED: &str = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\nGCC version:  gcc version 12.2.0 (Debian)\n";

const UUID: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

fn information(model: &str, uuid: &str, minor: u32, excluded: &str) -> String {
    format!(
        "Model: \t\t {model}\nIRQ:   \t\t 142\nGPU UUID: \t {uuid}\nVideo BIOS: \t ??.??.??.??.??\nBus Type: \t PCIe\nDevice Minor: \t {minor}\nGPU Firmware: \t N/A\nGPU Excluded:\t {excluded}\n"
    )
}

/// A machine with a GPU that was used, one that was not, and one that the driver leaves alone.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("proc/driver/nvidia/version", OPEN);
    write("proc/sys/kernel/hostname", "workstation\n");
    for (pci, text) in [
        ("0000:02:00.0", information("NVIDIA GeForce RTX 3090", UUID, 1, "No")),
        (
            "0000:01:00.0",
            information(
                "NVIDIA GeForce RTX 5060 Ti",
                "GPU-????????-????-????-????-????????????",
                0,
                "No",
            ),
        ),
        ("0000:03:00.0", information("NVIDIA T400", UUID, 2, "Yes")),
    ] {
        write(&format!("proc/driver/nvidia/gpus/{pci}/information"), &text);
        write(&format!("sys/bus/pci/devices/{pci}/vendor"), "0x10de\n");
        write(&format!("sys/bus/pci/devices/{pci}/class"), "0x030000\n");
    }
    write("sys/bus/pci/devices/0000:02:00.1/vendor", "0x10de\n");
    write("sys/bus/pci/devices/0000:02:00.1/class", "0x040300\n");
    root
}

fn view() -> CudaView {
    CudaView {
        devices: vec![CudaDevice {
            ordinal: 0,
            uuid: UUID.to_owned(),
            name: "NVIDIA GeForce RTX 3090".to_owned(),
            vram: 25_296_568_320,
            compute_capability: "8.6".to_owned(),
            pci: "0000:02:00.0".to_owned(),
        }],
        ..CudaView::default()
    }
}

#[test]
fn what_the_files_do_not_say_is_unknown() {
    let root = machine();
    let machine = DriverFiles::open(root.path(), None).unwrap();
    let gpus = machine.gpus().unwrap();
    let uuids: Vec<_> = gpus.iter().map(|it| it.uuid.clone()).collect();
    assert_eq!(uuids, [Err(Silence::NotAvailable), Ok(UUID.parse().unwrap())]);
    assert_eq!(gpus[1].minor, Ok(1));
    assert_eq!(machine.inventory().unwrap().gpus, []);
    let missing: Vec<_> = machine.unreadable().unwrap().iter().map(|it| it.what).collect();
    assert_eq!(missing, ["its UUID", "its VRAM"]);
    let uuid = UUID.parse().unwrap();
    assert!(machine.usage(&uuid).compute.is_err());
    assert!(machine.status(&uuid).unwrap().memory_used.is_err());
    assert_eq!(machine.status(&uuid).unwrap().minor, Ok(1));
    assert_eq!(machine.kind(), Kind::Measured);
}

#[test]
fn cuda_adds_what_the_files_do_not_say() {
    let root = machine();
    let machine = DriverFiles::open(root.path(), Some(view())).unwrap();
    let inventory = machine.inventory().unwrap();
    assert_eq!(inventory.host, "workstation");
    let [gpu] = inventory.gpus.as_slice() else { panic!("{inventory:?}") };
    assert_eq!((gpu.short_name().as_str(), gpu.index.0), ("RTX 3090", 1));
    assert_eq!(machine.unreadable().unwrap().len(), 1);
    let simulated = CudaView { simulated: true, ..view() };
    let machine = DriverFiles::open(root.path(), Some(simulated)).unwrap();
    assert_eq!(machine.kind(), Kind::Simulated);
}

#[test]
fn both_kernel_modules_tell_their_version() {
    for (text, expected) in [
        (OPEN, Ok("580.65.06".parse().unwrap())),
        (CLOSED, Ok("550.163.01".parse().unwrap())),
        ("", Err(Silence::Failed("`` is not understood".to_owned()))),
    ] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/driver/nvidia")).unwrap();
        fs::write(root.path().join("proc/driver/nvidia/version"), text).unwrap();
        assert_eq!(kernel_module(root.path()), expected);
    }
}

#[test]
fn without_the_kernel_module_there_is_no_machine() {
    let root = tempfile::tempdir().unwrap();
    let opened = DriverFiles::open(root.path(), None);
    assert!(matches!(opened, Err(MachineError::NotLoaded)), "{opened:?}");
    assert_eq!(kernel_module(root.path()), Err(Silence::NotAvailable));
    assert!(on_the_bus(Path::new("/nonexistent")).is_err());
}

#[test]
fn the_bus_shows_gpus_and_not_their_sound() {
    let root = machine();
    let addresses: Vec<_> =
        on_the_bus(root.path()).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"]);
}
