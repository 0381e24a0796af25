use crate::{
    identity::DriverVersion,
    inventory::{Gpu, Mig},
};

/// What a driver does with MIG instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    /// Before R470: one instance per process, named `MIG-GPU-<uuid>/<gi>/<ci>`.
    Named,
    /// R470 to before R570: one instance per process, with a UUID, and no GPU beside it.
    One,
    /// From R570: one compute instance per GPU instance, and GPUs without MIG beside them.
    Several,
    /// The driver is not recorded.
    Unknown,
}

impl Era {
    pub(super) fn of(driver: Option<&DriverVersion>) -> Self {
        match driver.map(DriverVersion::generation) {
            None => Self::Unknown,
            Some(..470) => Self::Named,
            Some(470..570) => Self::One,
            Some(570..) => Self::Several,
        }
    }
}

/// Whether an entry of a mask names this instance, and whether by its whole name.
pub(super) fn names(entry: &str, instance: &Gpu, parent: &Gpu, era: Era) -> Option<Whole> {
    let Mig::Instance { gpu_instance, compute_instance } = instance.mig else { return None };
    // Programming guide: the old name stays valid.
    let old_name = format!("MIG-{}/{gpu_instance}/{compute_instance}", parent.uuid);
    let uuid = instance.uuid.as_str();
    if entry == old_name {
        Some(Whole(true))
    } else if era != Era::Named && uuid.starts_with(entry) {
        Some(Whole(uuid == entry))
    } else {
        None
    }
}

/// Whether a name is whole rather than its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(pub(super) bool);

/// The instances of a GPU grouped by GPU instance.
pub(super) fn gpu_instances(gpu: &Gpu) -> Vec<Vec<&Gpu>> {
    let mut groups: Vec<(u32, Vec<&Gpu>)> = vec![];
    for instance in gpu.instances() {
        let Mig::Instance { gpu_instance, .. } = instance.mig else { continue };
        match groups.iter_mut().find(|(number, _)| *number == gpu_instance) {
            Some((_, group)) => group.push(instance),
            None => groups.push((gpu_instance, vec![instance])),
        }
    }
    groups.sort_by_key(|(number, _)| *number);
    groups.into_iter().map(|(_, group)| group).collect()
}
