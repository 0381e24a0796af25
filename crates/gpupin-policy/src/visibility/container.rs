use crate::{
    inventory::{Gpu, Inventory, Mig},
    visibility::{environment::Environment, trace::Trace},
};

/// What the container runtime leaves of a machine, in NVML order.
pub(super) fn filter(
    inventory: &Inventory,
    environment: &Environment,
    trace: &mut Trace,
) -> Vec<Gpu> {
    let mut gpus = inventory.gpus.clone();
    gpus.sort_by(|a, b| (a.index, a.pci, &a.uuid).cmp(&(b.index, b.pci, &b.uuid)));
    let Some(value) = environment.nvidia_visible_devices.as_deref() else { return gpus };
    let given = format!("the container was made with `NVIDIA_VISIBLE_DEVICES={value}`");
    match value {
        "all" => {
            trace.certain(format!("{given}: it has every GPU"));
            return gpus;
        }
        "" | "void" | "none" => {
            trace.certain(format!("{given}: it has no GPU"));
            return vec![];
        }
        _ => {}
    }

    let mut kept = vec![];
    for entry in value.split(',') {
        let named = named(&gpus, entry);
        match named.as_slice() {
            [] => {
                // The runtime refuses to make such a container; nothing can run in it.
                trace.uncertain(format!("{given}, but `{entry}` names no GPU: it does not start"));
                return vec![];
            }
            [_] => {}
            _ => trace.uncertain(format!("{given}, but `{entry}` names several GPUs")),
        }
        kept.extend(named.into_iter().map(|gpu| gpu.uuid.clone()));
    }
    let is_kept = |gpu: &Gpu| kept.contains(&gpu.uuid);
    gpus.retain_mut(|gpu| {
        let whole = is_kept(gpu);
        if let Mig::Enabled(instances) = &mut gpu.mig {
            instances.retain(|it| whole || is_kept(it));
            return whole || !instances.is_empty();
        }
        whole
    });
    let names: Vec<_> = gpus
        .iter()
        .enumerate()
        .map(|(index, gpu)| format!("{index} is {}", gpu.short_name()))
        .collect();
    trace.certain(format!("{given}, which numbers its GPUs anew: {}", names.join(", ")));
    gpus
}

/// The GPUs an entry of `NVIDIA_VISIBLE_DEVICES` names: an index, `<gpu>:<instance>`, or the
/// beginning of a UUID.
fn named<'a>(gpus: &'a [Gpu], entry: &str) -> Vec<&'a Gpu> {
    let index = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
    if let Some(index) = index(entry) {
        return gpus.iter().filter(|gpu| gpu.index.0 == index).collect();
    }
    if let Some((gpu, instance)) = entry.split_once(':') {
        let (Some(gpu), Some(instance)) = (index(gpu), index(instance)) else { return vec![] };
        let parent = gpus.iter().find(|it| it.index.0 == gpu);
        let instance = parent.and_then(|it| it.instances().get(usize::try_from(instance).ok()?));
        return instance.into_iter().collect();
    }
    if !entry.starts_with("GPU-") && !entry.starts_with("MIG-") {
        return vec![];
    }
    let instances = gpus.iter().flat_map(Gpu::instances);
    gpus.iter().chain(instances).filter(|gpu| gpu.uuid.as_str().starts_with(entry)).collect()
}
