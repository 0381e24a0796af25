//! Places that name ordinals the pin leaves no room for.

use std::collections::BTreeSet;

use super::RULE;
use crate::{
    catalogue::Numbering,
    language::settings::device_text,
    meant::Meant,
    project::{Known, Literal, Project},
    span::Span,
    unit::{Choice, ContainerGpus, Does, Event, GpuRequest, Purpose, UnitId},
    variables::given,
};

/// A choice that names ordinals the pin leaves no room for.
pub(super) struct Use<'a> {
    pub(super) unit: UnitId,
    pub(super) event: &'a Event,
    pub(super) choice: &'a Choice,
    pub(super) meant: Meant<'a>,
    /// All ordinals of the choice that are known.
    pub(super) all: Vec<Named>,
    /// Those that the pin leaves no room for: at least one.
    pub(super) outside: Vec<Named>,
}

/// An ordinal that a choice names.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) ordinal: i64,
    pub(super) by_default: bool,
    /// Where the number, or the text it is part of, stands.
    pub(super) place: (UnitId, Span),
}

/// Uses by unit and place, those that stand with their number first.
pub(super) fn uses<'a>(project: &Project<'a>) -> Vec<Use<'a>> {
    let units = (0..).map(UnitId).take(project.units.len());
    let mut uses: Vec<_> = units.flat_map(|it| uses_in(project, it)).collect();
    let tables: BTreeSet<_> =
        uses.iter().filter(|it| it.numbers_no_gpu()).map(|it| (it.unit, &it.choice.by)).collect();
    uses.retain(|it| {
        it.choice.purpose != Purpose::Setting || !tables.contains(&(it.unit, &it.choice.by))
    });
    uses.sort_by_key(|it| !it.holds_its_numbers());
    uses
}

/// Uses of one file, by place.
pub(super) fn uses_in<'a>(project: &Project<'a>, unit: UnitId) -> Vec<Use<'a>> {
    let mut uses = Vec::new();
    let it = project.unit(unit);
    let mut expected = None;
    for event in &it.events {
        let Does::Choose(choice) = &event.does else { continue };
        if choice.numbering != Numbering::Ordinal {
            continue;
        }
        let known: Vec<_> = choice.ordinals.iter().flat_map(|it| project.known(unit, it)).collect();
        let mut ordinals = Vec::new();
        for it in &known {
            collect(it, &mut ordinals);
        }
        if ordinals.iter().all(|it| it.ordinal <= 0) {
            continue;
        }
        let meant = Meant::of(project, unit);
        let count = meant.count();
        // Such code never runs under the pin.
        if choice.only_with_more_than.is_some_and(|it| it >= count) {
            continue;
        }
        let outside: Vec<_> = ordinals.iter().filter(|it| it.ordinal >= count).cloned().collect();
        if !outside.is_empty() {
            // What a filtered scan would not report must not stand for another report either.
            if !*expected.get_or_insert_with(|| RULE.may_find_in(&it.source)) {
                break;
            }
            uses.push(Use { unit, event, choice, meant, all: ordinals, outside });
        }
    }
    uses
}

/// Machines with more GPUs are rarer than tables that number something else.
const MOST_GPUS: i64 = 8;

impl Use<'_> {
    /// `cuda_idx=9`: in this file the name numbers something else, kernels perhaps.
    fn numbers_no_gpu(&self) -> bool {
        self.choice.purpose == Purpose::Setting
            && self.outside.iter().any(|it| it.ordinal >= MOST_GPUS)
    }

    /// `x = "cuda:1"`, as opposed to `x.to(DEVICE)`.
    fn holds_its_numbers(&self) -> bool {
        let span = self.event.span;
        self.outside.iter().all(|it| it.place.0 == self.unit && span.contains(it.place.1))
    }
}

/// Where numbers stand that are used for something else than an ordinal: a mask, an index of NVML, a container's GPU.
pub(super) fn used_otherwise(project: &Project<'_>) -> BTreeSet<(UnitId, Span)> {
    let mut places = BTreeSet::new();
    for (id, unit) in (0..).map(UnitId).zip(project.units) {
        let mut add = |value| places.extend(project.known(id, value).iter().flat_map(places_of));
        for given in given(unit) {
            add(given.value);
        }
        for event in &unit.events {
            match &event.does {
                Does::Choose(choice) if choice.numbering != Numbering::Ordinal => {
                    choice.ordinals.iter().for_each(&mut add);
                }
                Does::ContainerGpus(ContainerGpus { request: GpuRequest::Ids(ids), .. }) => {
                    ids.iter().for_each(&mut add);
                }
                _ => {}
            }
        }
    }
    places
}

fn places_of(known: &Known) -> Vec<(UnitId, Span)> {
    match &known.literal {
        Literal::List(items) => items.iter().flat_map(places_of).collect(),
        _ => vec![(known.unit, known.span)],
    }
}

/// The ordinals a value names. Negative numbers mean the CPU, all GPUs or the current one.
fn collect(known: &Known, ordinals: &mut Vec<Named>) {
    let mut add = |ordinal| {
        let place = (known.unit, known.span);
        ordinals.push(Named { ordinal, by_default: known.by_default, place });
    };
    match &known.literal {
        Literal::Int(number) => add(*number),
        Literal::Str(text) => {
            let device = device_text(text).map(|it| vec![it.ordinal]);
            // "0,1" of an option; a text with anything else in it is no list of ordinals.
            let list = || text.split(',').map(|it| it.trim().parse().ok()).collect();
            device.or_else(list).into_iter().flatten().for_each(add);
        }
        Literal::List(items) => items.iter().for_each(|it| collect(it, ordinals)),
        Literal::None | Literal::Bool(_) | Literal::Float(_) | Literal::NvmlIndex => {}
    }
}
