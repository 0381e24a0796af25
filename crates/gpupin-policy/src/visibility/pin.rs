use crate::{
    identity::GpuUuid,
    inventory::{Inventory, Mig},
    policy::PinAs,
};

/// The variables that leave exactly `gpus` visible to a process outside of a container, in this
/// order: an environment for which [`resolve`](super::resolve) is exact.
///
/// `None` if that cannot be done: a GPU is not on this machine, is listed twice or has MIG enabled,
/// a MIG instance is to be named by index or is not alone.
pub fn pin(
    inventory: &Inventory,
    gpus: &[GpuUuid],
    pin_as: PinAs,
) -> Option<Vec<(&'static str, String)>> {
    let distinct = |index: usize| !gpus[..index].contains(&gpus[index]);
    if gpus.is_empty() || !(0..gpus.len()).all(distinct) {
        return None;
    }
    let mut sorted: Vec<_> = inventory.gpus.iter().collect();
    sorted.sort_by_key(|gpu| gpu.pci);
    let position = |uuid: &GpuUuid| sorted.iter().position(|gpu| gpu.uuid == *uuid);
    let has_mig = inventory.gpus.iter().any(|gpu| gpu.mig != Mig::Disabled);

    let mut entries = vec![];
    for uuid in gpus {
        let gpu = inventory.get(uuid)?;
        entries.push(match (&gpu.mig, pin_as) {
            (Mig::Disabled, PinAs::Uuid) => uuid.to_string(),
            // What a number means beside MIG instances is not documented.
            (Mig::Disabled, PinAs::Index) if !has_mig => position(uuid)?.to_string(),
            (Mig::Instance { .. }, PinAs::Uuid) if gpus.len() == 1 => uuid.to_string(),
            _ => return None,
        });
    }
    let mask = ("CUDA_VISIBLE_DEVICES", entries.join(","));
    Some(match pin_as {
        PinAs::Uuid => vec![mask],
        PinAs::Index => vec![("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()), mask],
    })
}
