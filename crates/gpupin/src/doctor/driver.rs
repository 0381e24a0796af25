//! The driver, its libraries and its GPUs.

use gpupin_device::{Kind, cuda::CudaError, kernel_module, on_the_bus};

use super::{Found, Patient};
use crate::{
    machine::{advice, cuda_view},
    which::comparison::with_causes,
};

pub(super) fn check(patient: &Patient, found: &mut Found) {
    let machine = match &patient.machine {
        Ok(machine) => machine,
        Err(error) => {
            if patient.is_in_simulation {
                unreal(Kind::Simulated, found);
            }
            let hint = advice(error).unwrap_or("see `gpupin gpus`");
            found.problem("driver", with_causes(error), hint);
            return;
        }
    };
    if machine.kind() != Kind::Measured {
        unreal(machine.kind(), found);
    }
    let Some(now) = patient.snapshot() else {
        let error = machine.inventory().err();
        let seen = error
            .as_ref()
            .map_or_else(|| "it answers now and then".to_owned(), |it| with_causes(it));
        let hint = error.as_ref().and_then(advice).unwrap_or("see `gpupin gpus`");
        found.problem("driver", seen, hint);
        return;
    };
    match &now.driver {
        Some(version) => found.ok("driver", format!("{version}, asked: {}", now.source)),
        None => found.unknown(
            "driver",
            format!("{} answers and does not tell its version", now.source),
            "see `nvidia-smi`",
        ),
    }
    versions(patient, found);
    gpus(patient, found);
    if !patient.is_scene {
        cuda(patient, found);
    }
}

/// Says that all that follows is not about the real machine.
fn unreal(kind: Kind, found: &mut Found) {
    let advice =
        "nothing here says anything about the real machine; leave `gpupin sim`, or `--machine`";
    found.unknown("reality", format!("everything is {kind}"), advice);
}

/// Whether what is loaded and what is installed are of one version.
fn versions(patient: &Patient, found: &mut Found) {
    const NAME: &str = "versions";
    if patient.kind() != Some(Kind::Measured) {
        return;
    }
    let driver = patient.machine.as_ref().ok().and_then(|it| it.driver().ok());
    let library = driver.and_then(|it| it.library.ok());
    match (kernel_module(&patient.root), library) {
        // NVML puts its own number in front: `13.580.65.06`.
        (Ok(module), Some(library)) if library.ends_with(module.as_str()) => {
            found.ok(NAME, format!("kernel module and NVML are both {module}"));
        }
        (Ok(module), Some(library)) => found.problem(
            NAME,
            format!("the kernel module is {module}, NVML {library}"),
            "the driver was updated while it was loaded: restart the machine",
        ),
        (Err(why), _) => found.unknown(
            NAME,
            format!("`/proc/driver/nvidia/version`: {why}"),
            "some containers hide it; compare on the host",
        ),
        (Ok(module), None) => found.unknown(
            NAME,
            format!("the kernel module is {module}, and no NVML tells its version"),
            "in a container, ask for the capability `utility`",
        ),
    }
}

/// Whether every GPU on the bus is one that the driver describes.
fn gpus(patient: &Patient, found: &mut Found) {
    const NAME: &str = "GPUs";
    let Some((inventory, now)) = &patient.now else { return };
    for it in &now.unreadable {
        let name = it.name.clone().or(it.uuid.as_ref().map(ToString::to_string));
        let name = name.map_or_else(String::new, |it| format!(" ({it})"));
        found.problem(
            NAME,
            format!("index {}{name}: {}", it.index, it.why),
            "see `dmesg` for `NVRM` and `Xid`; a lost GPU needs a reset or a restart of the machine",
        );
    }
    for gpu in &now.gpus {
        if let Some(why) = gpu.silent.get("status") {
            let seen = format!("index {}: {} does not answer: {why}", gpu.index, gpu.name);
            found.problem(NAME, seen, "see `dmesg` for `NVRM` and `Xid`");
        }
    }
    let described = match inventory.gpus.len() {
        1 => "1 GPU answers".to_owned(),
        count => format!("{count} GPUs answer"),
    };
    if inventory.gpus.is_empty() {
        found.problem(NAME, "no GPU answers", "see `gpupin gpus`, `lspci` and `dmesg`");
    } else if patient.kind() == Some(Kind::Measured)
        && let Ok(on_bus) = on_the_bus(&patient.root)
    {
        let is_missing = |it: &&gpupin_policy::PciAddress| {
            inventory.gpus.iter().all(|gpu| gpu.pci != **it)
                && now.unreadable.iter().all(|gpu| gpu.pci.as_ref() != Some(&it.to_string()))
        };
        let missing: Vec<_> = on_bus.iter().filter(is_missing).map(ToString::to_string).collect();
        let seen = format!("{described}, and the bus has more: {}", missing.join(", "));
        if missing.is_empty() {
            found.ok(NAME, described);
        } else if patient.is_in_container() {
            found.ok(NAME, format!("{seen}; this container was not given them"));
        } else {
            let advice = "a GPU that the driver does not count shifts the index of those behind it; see `dmesg`";
            found.problem(NAME, seen, advice);
        }
    } else {
        found.ok(NAME, described);
    }
}

/// Whether CUDA starts, and shows the same GPUs when nothing is masked.
fn cuda(patient: &Patient, found: &mut Found) {
    const NAME: &str = "CUDA";
    let Some(inventory) = patient.inventory() else { return };
    let unmasked = [("CUDA_VISIBLE_DEVICES", None), ("CUDA_DEVICE_ORDER", Some("PCI_BUS_ID"))];
    let view = match cuda_view(unmasked) {
        Ok(view) => view,
        Err(error @ CudaError::NoLibrary { .. }) => {
            let advice =
                "install the driver's CUDA part; in a container, ask for the capability `compute`";
            found.problem(NAME, with_causes(&error), advice);
            return;
        }
        Err(error) => {
            found.problem(
                NAME,
                with_causes(&error),
                "see `dmesg`; programs will hang or die the same way",
            );
            return;
        }
    };
    if view.simulated != (patient.kind() == Some(Kind::Simulated)) {
        let advice = "see `LD_LIBRARY_PATH`, `GPUPIN_NVML_LIBRARY` and `GPUPIN_CUDA_LIBRARY`";
        found.unknown(NAME, "one of NVML and CUDA is simulated, and the other is not", advice);
        return;
    }
    let version =
        view.cuda_version.map_or_else(String::new, |(major, minor)| format!("{major}.{minor}, "));
    match &view.error {
        Some(error) => found.problem(
            NAME,
            format!("`{}` fails with {} (code {})", error.function, error.name, error.code),
            "no program will get a GPU; see `dmesg`, and in a container whether `/dev/nvidia*` are there",
        ),
        None if view.devices.len() == inventory.usable().count() => {
            let many = if view.devices.len() == 1 { "" } else { "s" };
            found.ok(NAME, format!("{version}it starts and shows {} GPU{many}", view.devices.len()));
        }
        // With MIG CUDA may show one instance of many.
        None if inventory.gpus.iter().any(|it| !it.instances().is_empty()) => {
            let seen = format!("{version}it starts and shows {} of the MIG instances", view.devices.len());
            found.ok(NAME, seen);
        }
        None => found.problem(
            NAME,
            format!(
                "{version}it shows {} GPUs, and NVML {}",
                view.devices.len(),
                inventory.usable().count()
            ),
            "a GPU that CUDA does not show cannot be used; see `dmesg`, and the compute mode with `nvidia-smi -q -d COMPUTE`",
        ),
    }
}
