//! Masks that somebody reads: without an order, and with where they lead.

use gpupin_policy::{
    Gpu, Inventory,
    visibility::{Certainty, EntryKind, Environment, Mask, MaskKind, resolve},
};

use super::{Leads, Problem, Wrong, is_lasting, known_masks, texts};
use crate::{
    program::{Happening, MASK, Moment, ORDER, Program, Setting, Write},
    project::Project,
    unit::{ContainerGpus, Does, EventId, GpuRequest, UnitId},
};

/// Every mask that somebody certainly reads, with the moment.
fn effective<'p>(
    project: &'p Project<'_>,
    program: &'p Program,
) -> impl Iterator<Item = (&'p Moment, Write)> + 'p {
    program
        .moments
        .iter()
        .filter(|it| !is_uncertain_freeze(project, it))
        .filter(|it| !it.pinned_by_gpupin)
        .flat_map(|it| it.setting(MASK).writes.into_iter().map(move |write| (it, write)))
}

/// Masks of starters that the program replaces by its own. They are as good or bad as what replaces them:
/// only an order that the program sets makes up for one that they lack.
fn replaced<'p>(
    project: &'p Project<'_>,
    program: &'p Program,
) -> impl Iterator<Item = (&'p Moment, Write)> + 'p {
    let moments = || effective(project, program).map(|it| it.0);
    let replaces = |it: &&Happening| {
        let does = &project.event(it.unit, it.event).does;
        matches!(does, Does::SetVariable(set) if set.name == MASK && is_lasting(set.how))
    };
    program
        .trace
        .iter()
        .filter(replaces)
        .flat_map(|it| &it.before.writes)
        .filter(|it| !program.runs(it.unit))
        .flat_map(move |write| moments().map(|it| (it, *write)))
}

fn is_uncertain_freeze(project: &Project<'_>, moment: &Moment) -> bool {
    use crate::unit::Sureness::Uncertain;
    moment.by.is_some_and(|(unit, event)| match &project.event(unit, event).does {
        Does::Freeze(it) => it.sure == Uncertain,
        Does::ImportLibrary(it) => it.import_freezes == Some(Uncertain),
        _ => false,
    })
}

pub(super) fn without_order(project: &Project<'_>, program: &Program) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    let machines = machines(project, program);
    for (moment, write) in effective(project, program).chain(replaced(project, program)) {
        if !order(program, moment, write).writes.is_empty()
            || containers(program, moment, write).any(|it| has_one_gpu(project, it))
        {
            continue;
        }
        let index = known_masks(project, write).into_iter().find(|(text, _)| is_index_mask(text));
        let Some((text, by_default)) = index else {
            continue;
        };
        // With one GPU there is only one order; an index that no GPU has is wrong under any.
        let settled = |it: &&Inventory| it.usable().count() == 1 || beyond(it, &text);
        if !machines.is_empty() && machines.iter().all(settled) {
            continue;
        }
        if found
            .iter()
            .all(|it| !matches!(it, Problem::NoOrder { write: known, .. } if *known == write))
        {
            found.push(Problem::NoOrder { write, by_default });
        }
    }
    found
}

/// The order that a mask meets. What one starter sets says nothing of the mask that another one sets, or starts a program
/// with that sets it.
fn order(program: &Program, moment: &Moment, mask: Write) -> Setting {
    let all = moment.setting(ORDER);
    if all.writes.iter().any(|it| program.runs(it.unit)) {
        return all;
    }
    let hands_mask = |it: &&Moment| it.setting(MASK).writes.contains(&mask);
    let has_own_mask = !program.handed.iter().any(|it| hands_mask(&it));
    let starters = program.handed.iter().filter(|it| has_own_mask || hands_mask(it));
    let orders: Vec<Setting> = starters.map(|it| it.setting(ORDER)).collect();
    match orders.iter().find(|it| it.writes.is_empty()) {
        Some(none) => none.clone(),
        None if orders.is_empty() => all,
        None => Setting { writes: orders.into_iter().flat_map(|it| it.writes).collect(), ..all },
    }
}

fn is_index_mask(text: &str) -> bool {
    let mask = Mask::parse(text);
    mask.kind == MaskKind::Indices && !mask.hides_every_gpu()
}

/// Whether a mask's first index is one that no GPU of the machine has.
fn beyond(machine: &Inventory, text: &str) -> bool {
    let gpus = machine.usable().count() as u64;
    let mask = Mask::parse(text);
    mask.taken()
        .next()
        .is_some_and(|it| matches!(it.kind, EntryKind::Index(index) if u64::from(index) >= gpus))
}

/// The containers in which a mask is read: the program's, or that of the starter who sets it.
fn containers(
    program: &Program,
    moment: &Moment,
    write: Write,
) -> impl Iterator<Item = (UnitId, EventId)> {
    let started_in = program.containers.iter().filter(move |it| it.masks.contains(&write));
    moment.container.into_iter().chain(started_in.map(|it| it.container))
}

/// Whether a container shows one GPU.
pub(super) fn has_one_gpu(project: &Project<'_>, (unit, event): (UnitId, EventId)) -> bool {
    let Does::ContainerGpus(ContainerGpus { request, .. }) = &project.event(unit, event).does
    else {
        return false;
    };
    match request {
        GpuRequest::Count(count) | GpuRequest::Amount(count) => *count == 1,
        GpuRequest::Ids(ids) => ids.len() == 1,
        GpuRequest::All | GpuRequest::RuntimeOnly => false,
    }
}

pub(super) fn wrong_gpu(project: &Project<'_>, program: &Program) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    for (moment, write) in effective(project, program) {
        // In a container the index counts among what the container shows.
        if containers(program, moment, write).next().is_some() {
            continue;
        }
        let orders = orders(project, &order(program, moment, write));
        for (mask, _) in known_masks(project, write) {
            let Some(wrong) = leads_elsewhere(project, program, &mask, &orders) else {
                continue;
            };
            if found
                .iter()
                .all(|it| !matches!(it, Problem::WrongGpu { write: known, .. } if *known == write))
            {
                found.push(Problem::WrongGpu { write, wrong });
            }
        }
    }
    found
}

/// The orders that may be in effect; `None` is none set.
fn orders(project: &Project<'_>, setting: &Setting) -> Vec<Option<String>> {
    let mut orders: Vec<_> =
        setting.writes.iter().flat_map(|it| texts(project, *it)).map(Some).collect();
    if orders.is_empty() {
        orders.push(None);
    }
    orders
}

fn leads_elsewhere(
    project: &Project<'_>,
    program: &Program,
    mask: &str,
    orders: &[Option<String>],
) -> Option<Wrong> {
    if Mask::parse(mask).hides_every_gpu() {
        return None;
    }
    let mut wrong = None;
    let mut right = false;
    for machine in machines(project, program) {
        for order in orders {
            let environment = Environment {
                cuda_visible_devices: Some(mask.to_owned()),
                cuda_device_order: order.clone(),
                nvidia_visible_devices: None,
            };
            let seen = resolve(machine, &environment);
            let leads = if seen.visible.is_empty() {
                Some(Leads::Nowhere { gpus: machine.usable().count() })
            } else if seen.certainty == Certainty::Ambiguous {
                continue;
            } else {
                let mut gpus = seen.visible.iter().filter_map(|it| machine.get(it.uuid.as_ref()?));
                gpus.find_map(|gpu| other_than_meant(project, program, gpu))
            };
            match leads {
                Some(leads) => {
                    wrong.get_or_insert(Wrong {
                        mask: mask.to_owned(),
                        host: machine.host.clone(),
                        leads,
                    });
                }
                None => right = true,
            }
        }
    }
    // A UUID is one machine's; it need not be right on the others.
    let by_uuid = !is_index_mask(mask);
    wrong.filter(|_| !(by_uuid && right))
}

/// The machines that have the GPU the program is meant for.
fn machines<'p>(project: &'p Project<'_>, program: &Program) -> Vec<&'p Inventory> {
    let wanted = project.wanted(program);
    let has =
        |it: &&Inventory| wanted.is_none_or(|wanted| it.usable().any(|gpu| wanted.matches(gpu)));
    project.lock.machines().iter().filter(has).collect()
}

fn other_than_meant(project: &Project<'_>, program: &Program, gpu: &Gpu) -> Option<Leads> {
    let forbidden = project.is_forbidden(program, gpu);
    let other = project.wanted(program).is_some_and(|it| !it.matches(gpu));
    (forbidden || other).then(|| Leads::To { name: gpu.short_name(), forbidden })
}
