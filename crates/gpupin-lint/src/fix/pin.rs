//! Pinning a program where it starts, as the policy's style says, and taking out what that replaces.

use std::collections::{BTreeMap, BTreeSet};

use gpupin_policy::{PinStyle, visibility::Mask};

use super::{
    assign, reach,
    script::{Removable, Script},
    top::top,
};
use crate::{
    finding::{Edit, Finding, NewFile},
    program::{
        Happening, Kind, MASK, ORDER, Program, Write,
        pins::{is_frozen_by_cuda, is_lasting, meant_for_a_child, sure_text},
    },
    project::{Project, modules::parent},
    span::Span,
    unit::{Does, EventId, Reach, RemoveHow, SetHow, UnitId},
};

mod block;
mod risk;

pub(crate) use block::PCI_BUS_ID;
pub(super) use block::variables;
pub(super) use block::{BEGIN, END};
use block::{Block, Carried, IMPORT, block, is_installed, lines, put};

/// A place that sets or removes a variable.
type Place = (UnitId, EventId);

/// Offers to pin programs where they start, and to take out the settings at `places`, which come too late, are in
/// conflict with it or remove it.
pub(crate) fn cure(
    finding: Finding,
    project: &Project<'_>,
    programs: &[&Program],
    places: &[Place],
) -> Finding {
    let tops: Vec<_> = programs.iter().map(|it| (top(project, it), *it)).collect();
    cure_at(finding, project, &tops, places)
}

/// As [`cure`], with the file in which each program is pinned.
pub(crate) fn cure_at(
    finding: Finding,
    project: &Project<'_>,
    tops: &[(UnitId, &Program)],
    places: &[Place],
) -> Finding {
    match Cure::of(project, tops, places) {
        Some(cure) => finding.with_fix(cure.title, reach::safety(cure.safety), cure.edits),
        None => finding,
    }
}

/// Offers a new file that pins programs: pytest runs a `conftest.py` before the tests below it.
pub(crate) fn cure_in_new_file(
    finding: Finding,
    project: &Project<'_>,
    program: &Program,
    path: String,
) -> Finding {
    let Some(block) = block(project, project.wanted(program)) else { return finding };
    let text = lines(Some(&block), &[]).join("\n") + "\n";
    finding
        .with_fix(format!("Pin them in a new `{path}`"), reach::safety(block.safety), Vec::new())
        .creating(NewFile { path, text })
}

/// Where a file has a pin that gpupin wrote as a block.
pub(crate) fn block_of(project: &Project<'_>, unit: UnitId) -> Option<Span> {
    let block = Script::of(unit, &project.unit(unit).source)?.block(BEGIN, END)?;
    Some(Span::new(block.start, block.end))
}

/// Offers to give the pin of a file the policy's style.
pub(crate) fn restyled(finding: Finding, project: &Project<'_>, unit: UnitId) -> Finding {
    let Some(script) = Script::of(unit, &project.unit(unit).source) else { return finding };
    let Some(old) = script.block(BEGIN, END) else { return finding };
    let runs = |it: &&Program| it.entry == unit;
    let program = project.programs.iter().find(runs);
    let wanted = program.map_or(project.policy.gpu.as_ref(), |it| project.wanted(it));
    let by_policy = reach::by_policy(project, wanted);
    if project.policy.lint.style == PinStyle::External {
        let runs = |it: &&Program| it.runs(unit) && it.kind != Kind::Module;
        let mut programs = project.programs.iter().filter(runs).peekable();
        let is_started = if programs.peek().is_some() {
            programs.try_for_each(|it| reach::by_its_starters(project, it))
        } else {
            Err("no program is seen to run it".to_owned())
        };
        let safety = reach::safety(by_policy.and(is_started));
        return finding.with_fix("Take it out", safety, vec![script.without_block(&old)]);
    }
    finding.with_fix(
        format!("Replace it by `{IMPORT}`"),
        reach::safety(by_policy.and_then(|()| is_installed(project))),
        vec![script.replace(&old, &[IMPORT.to_owned()])],
    )
}

/// Offers to set one variable of the policy where a program starts, and nothing else.
pub(crate) fn cure_variable(
    finding: Finding,
    project: &Project<'_>,
    program: &Program,
    (name, value): (&str, &str),
) -> Finding {
    let place = top(project, program);
    let Some(script) = Script::of(place, &project.unit(place).source) else { return finding };
    // A pin of gpupin's is written anew, with all that belongs to it.
    if script.block(BEGIN, END).is_some() {
        return cure(finding, project, &[program], &[]);
    }
    let beside = own_mask(project, program, place);
    let edit = beside.and_then(|it| assign::beside(project, it, name, value)).or_else(|| {
        let carried = Carried { name: name.to_owned(), value: value.to_owned() };
        put(&script, None, &[carried])
    });
    let Some(edit) = edit else { return finding };
    let safety = reach::safety(reach::by_its_pin(project, program));
    finding.with_fix(format!("Set `{name}` where the program starts"), safety, vec![edit])
}

/// Where a file sets the mask of its program, before any GPU library is imported.
pub(super) fn own_mask(project: &Project<'_>, program: &Program, file: UnitId) -> Option<Write> {
    let sets_mask = |it: &&Happening| {
        let event = project.event(it.unit, it.event);
        matches!(&event.does, Does::SetVariable(set) if set.name == MASK && is_lasting(set.how))
            && it.unit == file
            && event.function.is_none()
            && !it.conditional
            && it.frozen.or(it.imported).is_none()
    };
    program.trace.iter().find(sets_mask).map(|it| Write::of(it.unit, it.event))
}

/// Whether a test below a `conftest.py` sets a mask of its own, with which a pin for all would be in conflict.
pub(crate) fn tests_set_masks(project: &Project<'_>, conftest: &str) -> bool {
    let directory = parent(conftest);
    let is_below = |it: &&Program| {
        let path = &project.unit(it.entry).source.path;
        let below = |it: &str| directory.is_empty() || it.starts_with('/');
        it.kind == Kind::Tests && path.strip_prefix(directory).is_some_and(below)
    };
    let sets = |it: &Program| {
        it.trace.iter().any(|it| {
            let does = &project.event(it.unit, it.event).does;
            matches!(does, Does::SetVariable(set) if set.name == MASK && is_lasting(set.how))
                && project.unit(it.unit).source.path != conftest
        })
    };
    project.programs.iter().filter(is_below).any(sets)
}

struct Cure {
    title: String,
    safety: Result<(), String>,
    edits: Vec<Edit>,
}

impl Cure {
    fn of(project: &Project<'_>, cured: &[(UnitId, &Program)], places: &[Place]) -> Option<Self> {
        let style = project.policy.lint.style;
        let mut tops: BTreeMap<UnitId, &Program> = BTreeMap::new();
        for (unit, program) in cured {
            tops.entry(*unit).or_insert(program);
        }
        let mut cure = Self { title: String::new(), safety: Ok(()), edits: Vec::new() };
        let mut scripts: BTreeMap<UnitId, Script<'_>> = BTreeMap::new();
        let mut script = |unit: UnitId| -> bool {
            if let Some(it) = Script::of(unit, &project.unit(unit).source) {
                scripts.entry(unit).or_insert(it);
            }
            scripts.contains_key(&unit)
        };
        let places: Vec<Place> = places.iter().copied().filter(|it| script(it.0)).collect();
        tops.retain(|unit, _| script(*unit));
        if tops.is_empty() {
            return None;
        }
        let blocks: BTreeMap<UnitId, Option<Block>> =
            tops.iter().map(|(unit, it)| (*unit, block(project, project.wanted(it)))).collect();
        // What cannot be pinned can still be moved, in a file of its own.
        let moves = style != PinStyle::External && blocks.values().all(Option::is_none);
        if moves && (tops.len() > 1 || places.iter().any(|it| !tops.contains_key(&it.0))) {
            return None;
        }
        let mut removed: BTreeMap<UnitId, Vec<Removable>> = BTreeMap::new();
        let mut gone: BTreeSet<Place> = BTreeSet::new();
        let mut carried: BTreeMap<UnitId, Vec<Carried>> = BTreeMap::new();
        let covered: Vec<&str> = blocks
            .values()
            .flatten()
            .flat_map(|it| it.sets.iter().map(|it| it.0.as_str()))
            .chain([MASK, ORDER])
            .chain(project.policy.env.keys().map(String::as_str))
            .collect();
        let is_covered = |name: &str| !moves && covered.contains(&name);
        let sets: Vec<(String, String)> =
            blocks.values().flatten().flat_map(|it| it.sets.clone()).collect();
        for place in redundant(project, &tops, &places, &is_covered) {
            if !tops.contains_key(&place.0) && style != PinStyle::External {
                // Others may import the module, and need what it sets: it sets the same then.
                cure.edits.extend(agreeing(project, place, &sets)?);
                gone.insert(place);
                continue;
            }
            let Some(it) = removable(project, &scripts[&place.0], place) else {
                // What cannot go would have the last word.
                if moves || places.contains(&place) {
                    return None;
                }
                continue;
            };
            for event in same_statement(project, place) {
                let Some(set) = setting(project, event) else { continue };
                if is_covered(&set.0) {
                    continue;
                }
                let value = set.1?;
                carried.entry(place.0).or_default().push(Carried { name: set.0, value });
            }
            if same_statement(project, place).iter().any(|it| yields(project, *it)) {
                let why = "it keeps what the caller chose, such as a run on the CPU, and the pin does not";
                cure.safety = cure.safety.and(Err(why.to_owned()));
            }
            gone.extend(same_statement(project, place));
            removed.entry(place.0).or_default().push(it);
        }
        if moves && removed.is_empty() {
            return None;
        }
        for (unit, program) in &tops {
            let script = &scripts[unit];
            let moved = carried.remove(unit).unwrap_or_default();
            let block = blocks[unit].as_ref();
            if style != PinStyle::External || !moved.is_empty() {
                cure.edits.push(put(script, block, &moved)?);
            }
            let judged = risk::judge(project, (*unit, program), block, &moved, &gone);
            cure.safety = cure.safety.and(judged);
        }
        // What is set in another file has nowhere to go.
        if !carried.is_empty() {
            return None;
        }
        let name = blocks.values().flatten().find_map(|it| it.name.clone());
        cure.title = match (style, name) {
            (PinStyle::External, _) => "Take it out: `gpupin run` pins from outside".to_owned(),
            _ if moves => "Move it to the top of the file".to_owned(),
            (_, Some(name)) => format!("Pin the {name} where the program starts"),
            (_, None) => "Pin the policy's GPU where the program starts".to_owned(),
        };
        for (unit, statements) in removed {
            let edits = scripts[&unit].remove(project, &statements, &cure.edits);
            // A statement that stands in a block of gpupin's is replaced with it.
            let is_new = |it: &Edit| {
                cure.edits.iter().all(|other| {
                    other.unit != it.unit
                        || it.span.end <= other.span.start
                        || it.span.start >= other.span.end
                })
            };
            let edits: Vec<_> = edits.into_iter().filter(|it| is_new(it)).collect();
            cure.edits.extend(edits);
        }
        cure.edits.sort_by_key(|it| (it.unit, it.span));
        let clash = cure
            .edits
            .windows(2)
            .any(|it| it[0].unit == it[1].unit && it[0].span.end > it[1].span.start);
        (!clash && !cure.edits.is_empty()).then_some(cure)
    }
}

/// Settings to be taken out: those asked for, and in the files that get a pin all others that it replaces.
fn redundant(
    project: &Project<'_>,
    tops: &BTreeMap<UnitId, &Program>,
    places: &[Place],
    is_covered: &dyn Fn(&str) -> bool,
) -> Vec<Place> {
    let mut all: BTreeSet<Place> = places.iter().copied().collect();
    for (unit, program) in tops {
        for (at, it) in program.trace.iter().enumerate().filter(|it| it.1.unit == *unit) {
            let event = project.event(it.unit, it.event);
            let Does::SetVariable(set) = &event.does else { continue };
            if is_covered(&set.name)
                && !meant_for_a_child(project, &set.name, &program.trace[at + 1..])
                && is_lasting(set.how)
                && set.reach == Reach::Process
                && event.function.is_none()
                && !it.conditional
            {
                all.insert((it.unit, it.event));
            }
        }
    }
    all.into_iter().collect()
}

/// What makes a setting in another file agree with the pin. `None` if that cannot be written.
fn agreeing(project: &Project<'_>, place: Place, sets: &[(String, String)]) -> Option<Vec<Edit>> {
    let Does::SetVariable(set) = &project.event(place.0, place.1).does else { return None };
    let write = Write::of(place.0, place.1);
    let old = sure_text(project, write)?;
    match sets.iter().find(|it| it.0 == set.name) {
        Some((_, new)) if *new == old => Some(Vec::new()),
        Some((_, new)) => Some(vec![assign::value(project, write, new)?]),
        // The pin says nothing of it; an order beside a mask of UUIDs does no harm.
        None if set.name == ORDER => Some(Vec::new()),
        None => None,
    }
}

/// The statement at a place, if all that it does can go. What is chosen by a user or computed stays, and so does a mask
/// that hides every GPU: somebody wants the CPU.
fn removable(project: &Project<'_>, script: &Script<'_>, place: Place) -> Option<Removable> {
    let source = &project.unit(place.0).source;
    let span = project.event(place.0, place.1).span;
    let goes = |event: &Place| match &project.event(event.0, event.1).does {
        Does::SetVariable(it) => {
            let write = Write::of(event.0, event.1);
            let hides = |text: &String| it.name == MASK && Mask::parse(text).hides_every_gpu();
            (is_frozen_by_cuda(&it.name) || project.policy.env.contains_key(&it.name))
                && sure_text(project, write).is_some_and(|it| !hides(&it))
                // `os.environ[name] = value` in a loop sets others too.
                && source.slice(span).contains(&it.name)
        }
        Does::RemoveVariable(it) => it.how == RemoveHow::Remove,
        _ => false,
    };
    if !same_statement(project, place).iter().all(goes) {
        return None;
    }
    script.removable(span)
}

/// Whether a place sets a mask only where the caller has set none.
fn yields(project: &Project<'_>, (unit, event): Place) -> bool {
    matches!(&project.event(unit, event).does, Does::SetVariable(it) if it.name == MASK && it.how == SetHow::IfUnset)
}

/// All that the statement at a place does: `os.environ.update(…)` sets several variables.
fn same_statement(project: &Project<'_>, place: Place) -> Vec<Place> {
    let span = project.event(place.0, place.1).span;
    let events = (0..).map(EventId).zip(&project.unit(place.0).events);
    events.filter(|it| it.1.span == span).map(|it| (place.0, it.0)).collect()
}

/// The variable that is set at a place, with its value if that is certain.
fn setting(project: &Project<'_>, place: Place) -> Option<(String, Option<String>)> {
    let Does::SetVariable(set) = &project.event(place.0, place.1).does else { return None };
    let write = Write::of(place.0, place.1);
    let value = sure_text(project, write).filter(|_| set.how != SetHow::IfUnset);
    Some((set.name.clone(), value))
}
