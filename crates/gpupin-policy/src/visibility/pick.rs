//! From the GPUs of a machine to those a mask picks.

use crate::{
    inventory::{Gpu, Mig},
    visibility::{
        Slot,
        environment::Environment,
        mask::{EntryKind, Mask, MaskEntry, MaskKind},
        mig::{self, Era, Whole},
        order::{BaseOrder, base_order, is_understood},
        trace::Trace,
    },
};

/// More than this many MIG instances are not enumerated (MIG guide, R570).
const MOST_MIG_INSTANCES: usize = 64;

/// What the mask picks from.
pub(super) struct Machine<'a> {
    pub(super) gpus: &'a [Gpu],
    pub(super) era: Era,
}

impl<'a> Machine<'a> {
    fn has_instances(&self) -> bool {
        self.gpus.iter().any(|gpu| !gpu.instances().is_empty())
    }

    /// Everything a process could be given.
    fn usable(&self) -> Slot<'a> {
        let of = |gpu: &'a Gpu| match &gpu.mig {
            Mig::Enabled(instances) => instances.as_slice(),
            Mig::Disabled | Mig::Instance { .. } => std::slice::from_ref(gpu),
        };
        self.gpus.iter().flat_map(of).collect()
    }
}

/// What the process sees, in the order of its ordinals.
pub(super) fn pick<'a>(
    machine: &Machine<'a>,
    environment: &Environment,
    trace: &mut Trace,
) -> Vec<Slot<'a>> {
    if !is_understood(environment, trace) {
        return vec![];
    }
    let Some(text) = environment.cuda_visible_devices.as_deref() else {
        let base = base_order(machine.gpus, environment, trace);
        return everything(machine, &base, trace);
    };
    let mask = Mask::parse(text);
    for entry in mask.read() {
        for quirk in &entry.quirks {
            trace.certain(format!("entry `{}` of `CUDA_VISIBLE_DEVICES` {quirk}", entry.text));
        }
    }
    if mask.hides_every_gpu() && mask.duplicate.is_none() {
        trace.certain(format!("`CUDA_VISIBLE_DEVICES={text}` hides every GPU"));
        return vec![];
    }
    match mask.kind {
        MaskKind::Empty => vec![],
        MaskKind::Indices => by_position(machine, &mask, environment, trace),
        MaskKind::Gpus => by_uuid(machine, &mask, trace),
        MaskKind::Migs => by_instance(machine, &mask, trace),
    }
}

fn everything<'a>(machine: &Machine<'a>, base: &BaseOrder<'a>, trace: &mut Trace) -> Vec<Slot<'a>> {
    if !machine.has_instances() {
        trace.certain("`CUDA_VISIBLE_DEVICES` is not set, so every GPU is visible");
        let offers = |gpu: &&Gpu| !matches!(gpu.mig, Mig::Enabled(_));
        let usable: Slot<'_> = base.gpus().iter().copied().filter(offers).collect();
        if usable.len() < base.gpus().len() {
            trace.uncertain("a GPU with MIG enabled and no instance is taken to be invisible");
        }
        return match base {
            BaseOrder::Known(_) => usable.into_iter().map(|gpu| vec![gpu]).collect(),
            BaseOrder::Unknown(_) => vec![usable.clone(); usable.len()],
        };
    }
    let instances: Slot<'_> = machine.gpus.iter().flat_map(Gpu::instances).collect();
    match machine.era {
        Era::Named | Era::One => {
            trace.uncertain(
                "`CUDA_VISIBLE_DEVICES` is not set and there are MIG instances: drivers before \
                 R570 show one of them and no other GPU, and which one is not documented",
            );
            vec![instances]
        }
        Era::Several => {
            trace.uncertain(
                "`CUDA_VISIBLE_DEVICES` is not set and there are MIG instances: drivers from R570 \
                 show one compute instance of each GPU instance beside the other GPUs; NVIDIA's \
                 documentation contradicts itself here",
            );
            let slots = base.gpus().iter().flat_map(|gpu| match gpu.mig {
                Mig::Enabled(_) => mig::gpu_instances(gpu),
                Mig::Disabled | Mig::Instance { .. } => vec![vec![*gpu]],
            });
            let slots: Vec<_> = slots.take(MOST_MIG_INSTANCES).collect();
            match base {
                BaseOrder::Known(_) => slots,
                BaseOrder::Unknown(_) => vec![machine.usable(); slots.len()],
            }
        }
        Era::Unknown => {
            trace.uncertain(
                "`CUDA_VISIBLE_DEVICES` is not set and there are MIG instances: what is visible \
                 depends on the driver, which is not recorded",
            );
            vec![machine.usable()]
        }
    }
}

fn by_position<'a>(
    machine: &Machine<'a>,
    mask: &Mask,
    environment: &Environment,
    trace: &mut Trace,
) -> Vec<Slot<'a>> {
    let position = |entry: &MaskEntry| match entry.kind {
        EntryKind::Index(index) => index as usize,
        _ => unreachable!("a list of numbers takes numbers only"),
    };
    let count = machine.gpus.len();
    let listed = || mask.taken().take_while(|entry| position(entry) < count);
    if mask.duplicate.is_some_and(|it| it < listed().count()) {
        return hidden_by_duplicate(trace);
    }
    // Without a position that exists the order cannot matter.
    let base = if listed().next().is_none() {
        BaseOrder::Known(machine.gpus.iter().collect())
    } else {
        base_order(machine.gpus, environment, trace)
    };

    let mut slots = vec![];
    for entry in mask.taken() {
        let Some(slot) = base.at(position(entry)) else {
            let there =
                if count == 1 { "is 1 GPU".to_owned() } else { format!("are {count} GPUs") };
            trace.certain(format!(
                "entry `{}` is out of range: there {there}, and the list ends here",
                entry.text
            ));
            break;
        };
        trace.certain(format!("entry `{}` is {}", entry.text, describe(&slot)));
        slots.push(slot);
    }
    let has_mig = machine.gpus.iter().any(|gpu| matches!(gpu.mig, Mig::Enabled(_)));
    if has_mig && !slots.is_empty() {
        trace.uncertain(
            "what a number means on a machine with MIG enabled is not documented; it is taken \
             for the GPU, and for one of its instances if it has any",
        );
        return one_process(machine, slots.into_iter().map(with_instances).collect(), trace);
    }
    slots
}

fn by_uuid<'a>(machine: &Machine<'a>, mask: &Mask, trace: &mut Trace) -> Vec<Slot<'a>> {
    let named = |entry: &MaskEntry| -> Vec<&'a Gpu> {
        machine.gpus.iter().filter(|gpu| names(&entry.text, gpu.uuid.as_str())).collect()
    };
    let mut picked: Vec<&Gpu> = vec![];
    for entry in mask.taken() {
        let named = named(entry);
        let [gpu] = named[..] else {
            no_single_gpu(entry, named.len(), trace);
            break;
        };
        if picked.iter().any(|it| it.uuid == gpu.uuid) {
            trace.certain(format!("entry `{}` is {} once more", entry.text, gpu.short_name()));
            return hidden_by_duplicate(trace);
        }
        trace.certain(format!("entry `{}` is {}", entry.text, gpu.short_name()));
        picked.push(gpu);
    }
    if picked.iter().any(|gpu| matches!(gpu.mig, Mig::Enabled(_))) {
        trace.uncertain(
            "what the UUID of a GPU with MIG enabled means is not documented; it is taken for one \
             of its instances",
        );
        let slots = picked.into_iter().map(|gpu| with_instances(vec![gpu])).collect();
        return one_process(machine, slots, trace);
    }
    picked.into_iter().map(|gpu| vec![gpu]).collect()
}

fn by_instance<'a>(machine: &Machine<'a>, mask: &Mask, trace: &mut Trace) -> Vec<Slot<'a>> {
    if mask.duplicate.is_some() {
        trace.uncertain("what a duplicate does among MIG instances is not documented");
        return vec![];
    }
    let mut slots: Vec<Slot<'a>> = vec![];
    for entry in mask.taken() {
        let with_parent = |gpu: &'a Gpu| gpu.instances().iter().map(move |it| (gpu, it));
        let named: Vec<_> = machine
            .gpus
            .iter()
            .flat_map(with_parent)
            .filter_map(|(parent, it)| {
                Some((it, mig::names(&entry.text, it, parent, machine.era)?))
            })
            .collect();
        if named.is_empty()
            && let Some(gpu) = whole_gpu(machine, &entry.text)
        {
            trace.uncertain(format!(
                "entry `{}` is the UUID of {} behind `MIG-`, which driver 580 was seen to take for that GPU",
                entry.text,
                gpu.short_name()
            ));
            slots.push(vec![gpu]);
            continue;
        }
        let [(instance, Whole(whole))] = named[..] else {
            no_single_gpu(entry, named.len(), trace);
            break;
        };
        if !whole {
            trace.uncertain(format!(
                "entry `{}` is the beginning of a MIG instance's UUID, which is documented for \
                 whole GPUs only",
                entry.text
            ));
        }
        if machine.era == Era::Unknown && instance.uuid.as_str().starts_with(&entry.text) {
            trace.uncertain("drivers before R470 do not know the UUIDs of MIG instances, and the driver is not recorded");
        }
        if slots.iter().flatten().any(|it| it.uuid == instance.uuid) {
            trace.uncertain(format!(
                "entry `{}` is {} once more, and what a duplicate does among MIG instances is not \
                 documented",
                entry.text,
                instance.short_name()
            ));
            return vec![];
        }
        trace.certain(format!("entry `{}` is {}", entry.text, instance.short_name()));
        slots.push(vec![instance]);
    }
    if machine.era == Era::Several || machine.era == Era::Unknown {
        slots = one_per_gpu_instance(machine, slots, trace);
    }
    one_process(machine, slots, trace)
}

/// The GPU without MIG whose whole UUID stands behind `MIG-`.
fn whole_gpu<'a>(machine: &Machine<'a>, entry: &str) -> Option<&'a Gpu> {
    let digits = entry.strip_prefix("MIG-")?;
    let is_meant = |gpu: &&Gpu| gpu.uuid.as_str().strip_prefix("GPU-") == Some(digits);
    machine.gpus.iter().find(|gpu| gpu.mig == Mig::Disabled && is_meant(gpu))
}

/// Joins compute instances of one GPU instance: CUDA picks one of them.
fn one_per_gpu_instance<'a>(
    machine: &Machine<'a>,
    slots: Vec<Slot<'a>>,
    trace: &mut Trace,
) -> Vec<Slot<'a>> {
    if slots.len() < 2 {
        return slots;
    }
    trace.uncertain(
        "several MIG instances for one process need R570 or later; NVIDIA's documentation \
         contradicts itself here",
    );
    let groups: Vec<_> = machine.gpus.iter().flat_map(mig::gpu_instances).collect();
    let group_of = |gpu: &Gpu| groups.iter().position(|it| it.iter().any(|it| it.uuid == gpu.uuid));
    let mut joined: Vec<(Option<usize>, Slot<'a>)> = vec![];
    for slot in slots {
        let group = slot.first().and_then(|gpu| group_of(gpu));
        match joined.iter_mut().find(|(other, _)| *other == group) {
            Some((_, existing)) => existing.extend(slot),
            None => joined.push((group, slot)),
        }
    }
    joined.into_iter().map(|(_, slot)| slot).take(MOST_MIG_INSTANCES).collect()
}

/// Applies the limit of drivers before R570: one MIG instance, and nothing beside it.
fn one_process<'a>(
    machine: &Machine<'a>,
    mut slots: Vec<Slot<'a>>,
    trace: &mut Trace,
) -> Vec<Slot<'a>> {
    let limited = matches!(machine.era, Era::Named | Era::One);
    let is_instance =
        |slot: &Slot<'_>| slot.iter().any(|it| matches!(it.mig, Mig::Instance { .. }));
    if limited && slots.len() > 1 && slots.iter().any(is_instance) {
        trace.uncertain(
            "drivers before R570 show one MIG instance and no other GPU, taken to be the first \
             instance listed",
        );
        slots.retain(is_instance);
        slots.truncate(1);
    }
    slots
}

fn with_instances(slot: Slot<'_>) -> Slot<'_> {
    let mut expanded = vec![];
    for gpu in slot {
        match gpu.instances() {
            [] => expanded.push(gpu),
            instances => expanded.extend(instances),
        }
    }
    expanded
}

fn no_single_gpu(entry: &MaskEntry, named: usize, trace: &mut Trace) {
    let what = match named {
        0 => "names no GPU".to_owned(),
        _ => format!("is the beginning of {named} UUIDs"),
    };
    trace.certain(format!("entry `{}` {what}, and the list ends here", entry.text));
}

/// A list that says the same twice, before anything ends it, makes `cuInit` fail.
fn hidden_by_duplicate<'a>(trace: &mut Trace) -> Vec<Slot<'a>> {
    trace.failure("CUDA does not start with a mask that names a GPU twice");
    vec![]
}

/// Whether an entry is the beginning of a UUID, with hexadecimal digits in any case; text behind a whole one does not count.
fn names(entry: &str, uuid: &str) -> bool {
    let entry = entry.get(..uuid.len()).unwrap_or(entry);
    let (prefix, digits) = entry.split_at(entry.len().min("GPU-".len()));
    !digits.is_empty()
        && uuid.starts_with(prefix)
        && uuid.get(prefix.len()..entry.len()).is_some_and(|it| it.eq_ignore_ascii_case(digits))
}

fn describe(slot: &Slot<'_>) -> String {
    let names: Vec<_> = slot.iter().map(|gpu| gpu.short_name()).collect();
    match names.len() {
        1 => names.join(""),
        _ => format!("one of {}", names.join(", ")),
    }
}
