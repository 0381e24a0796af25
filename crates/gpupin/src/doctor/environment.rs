//! What this shell hands to the programs that it starts.

use gpupin_monitor::snapshot::{Standing, standing};
use gpupin_policy::{
    Gpu,
    visibility::{Certainty, Visibility},
};

use super::{Found, GPUS_FIRST, Patient};
use crate::{
    machine::cuda_view,
    which::comparison::{Comparison, Outcome},
};

pub(super) fn check(patient: &Patient, found: &mut Found) {
    container(patient, found);
    order(patient, found);
    let Some(visibility) = patient.visibility() else {
        found.unknown("mask", "the machine does not answer", "see the driver's problem first");
        return;
    };
    mask(patient, &visibility, found);
    if !patient.is_scene {
        compared(patient, &visibility, found);
    }
}

fn container(patient: &Patient, found: &mut Found) {
    const NAME: &str = "container";
    let filter = std::env::var("NVIDIA_VISIBLE_DEVICES").ok();
    match (patient.is_in_container(), filter) {
        (true, filter) => {
            let count = patient.inventory().map(|it| it.gpus.len());
            let count = match count {
                None => "which GPUs it has is unknown".to_owned(),
                Some(0) => "it has no GPU".to_owned(),
                Some(1) => "its GPU is number 0 here".to_owned(),
                Some(count) => format!("its {count} GPUs are numbered anew from 0"),
            };
            let filter =
                filter.map_or_else(String::new, |it| format!(" (`NVIDIA_VISIBLE_DEVICES={it}`)"));
            let seen = format!("this is one{filter}; {count}");
            match patient.unknown_gpus() {
                Some(unknown) => found.unknown(NAME, format!("{seen}; {unknown}"), GPUS_FIRST),
                None => found.ok(NAME, seen),
            }
        }
        (false, Some(filter)) => found.problem(
            NAME,
            format!("`NVIDIA_VISIBLE_DEVICES={filter}` is set, and this seems to be no container"),
            "only a container runtime reads it: unset it, and set `CUDA_VISIBLE_DEVICES` instead",
        ),
        (false, None) => found.ok(NAME, "this seems to be none"),
    }
}

fn order(patient: &Patient, found: &mut Found) {
    const NAME: &str = "order";
    let gpus = patient.inventory().map(|it| it.gpus.as_slice()).unwrap_or_default();
    let differ = gpus.iter().any(|it| !it.same_model(&gpus[0]));
    match patient.environment.cuda_device_order.as_deref() {
        Some("PCI_BUS_ID") => found.ok(NAME, "`CUDA_DEVICE_ORDER=PCI_BUS_ID`"),
        None | Some("FASTEST_FIRST") if differ => {
            let seen = "CUDA lists the fastest GPU first, so an index of `nvidia-smi` may be another GPU to it";
            found.ok(NAME, format!("{seen}; a UUID is the same to both"));
        }
        None | Some("FASTEST_FIRST") if patient.unknown_gpus().is_some() => {
            let unknown = patient.unknown_gpus().unwrap_or_default();
            let seen = format!("the usual one, which matters with different GPUs; {unknown}");
            found.unknown(NAME, seen, GPUS_FIRST);
        }
        None | Some("FASTEST_FIRST") => {
            found.ok(NAME, "the usual one, which matters with different GPUs only");
        }
        Some(other) => found.problem(
            NAME,
            format!("`CUDA_DEVICE_ORDER={other}` is no order, and CUDA does not start with it"),
            "unset it, or set it to `PCI_BUS_ID`",
        ),
    }
}

/// Whether what is visible is the policy's.
fn mask(patient: &Patient, visibility: &Visibility, found: &mut Found) {
    const NAME: &str = "mask";
    let Some(inventory) = patient.inventory() else { return };
    let text = match &patient.environment.cuda_visible_devices {
        Some(mask) => format!("`CUDA_VISIBLE_DEVICES={mask}`"),
        None => "`CUDA_VISIBLE_DEVICES` is not set".to_owned(),
    };
    let candidates = visibility.visible.iter().flat_map(|it| &it.candidates);
    let mut visible: Vec<&Gpu> = candidates.filter_map(|it| inventory.get(it)).collect();
    visible.sort_by_key(|it| it.index);
    visible.dedup_by_key(|it| it.uuid.clone());
    let names: Vec<_> = visible.iter().map(|it| it.short_name()).collect();
    let shown = match (names.as_slice(), visibility.certainty) {
        ([], _) => "no GPU is visible".to_owned(),
        (names, Certainty::Ambiguous) => {
            format!("visible, in an unknown order: {}", names.join(", "))
        }
        (names, _) => format!("visible: {}", names.join(", ")),
    };
    let seen = format!("{text}; {shown}");
    let policy = patient.project().map(|it| &it.policy).filter(|it| it.gpu.is_some());
    let Some(policy) = policy else {
        let advice = "declare the GPU that is meant: `gpupin init`";
        found.unknown(NAME, format!("{seen}; nothing says which is meant"), advice);
        return;
    };
    let is_meant = |gpu: &&Gpu| standing(policy, gpu) == Some(Standing::Meant);
    let is_set = patient.environment.cuda_visible_devices.is_some();
    if !visible.is_empty() && visible.iter().all(is_meant) {
        found.ok(NAME, seen);
    } else if is_set {
        let advice = "unset it, or start programs with `gpupin run`";
        found.problem(NAME, format!("{seen}; that is not what the policy means"), advice);
    } else if visible.is_empty() {
        found.problem(NAME, seen, "see `gpupin which`");
    } else {
        let advice = "`gpupin run` hides the others from a program; `gpupin scan` tells which programs do it themselves";
        found.unknown(
            NAME,
            format!("{seen}; it depends on the program which one it takes"),
            advice,
        );
    }
}

/// Whether CUDA sees what gpupin makes of this environment.
fn compared(patient: &Patient, visibility: &Visibility, found: &mut Found) {
    const NAME: &str = "ordinals";
    let Some(kind) = patient.kind() else { return };
    let comparison = Comparison::of(visibility, kind, cuda_view([]));
    match comparison.outcome {
        Outcome::Agrees => {
            let names: Vec<_> = comparison
                .devices
                .iter()
                .map(|it| format!("cuda:{} is {}", it.ordinal, it.name))
                .collect();
            let names =
                if names.is_empty() { "no GPU is visible".to_owned() } else { names.join(", ") };
            found.ok(NAME, format!("CUDA was asked in this environment: {names}"));
        }
        Outcome::Differs => found.problem(
            NAME,
            format!(
                "CUDA does not see what this environment lets expect: {}",
                comparison.why.join("; ")
            ),
            "believe CUDA; see `gpupin which`, and report what it prints",
        ),
        Outcome::Unasked => {
            found.unknown(NAME, comparison.why.join("; "), "see `gpupin which`");
        }
    }
}
