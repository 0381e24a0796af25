//! Programs and those who start them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    program::{
        Kind, MASK, Moment, Program, Setting, StartedIn,
        entries::{ByUnit, Entry, conftests, declared, started, unreached},
        here,
        link::Linked,
        order::{Inherited, Walked, Walker},
        pins, uses,
    },
    project::Project,
    source::Language,
    unit::{Does, EventId, Runs, UnitId},
    workers::{self, Workers},
};

/// How many links of a chain of starters are followed: script, script, program.
const ROUNDS: usize = 3;

/// Functions of a `conftest.py` that pytest calls before it imports the test files.
const HOOKS: [&str; 2] = ["pytest_configure", "pytest_sessionstart"];

/// What somebody who starts a program hands to it.
#[derive(Debug, Clone)]
struct Handed {
    by: (UnitId, EventId),
    inherited: Inherited,
}

/// Every program of the project, in path order of its entry point.
pub(crate) fn programs(project: &Project<'_>, whole: bool, workers: &dyn Workers) -> Vec<Program> {
    let linked = Linked::new(project, whole, workers);
    let mut entries = declared(project);
    let mut done: Vec<Option<Walked>> = entries.iter().map(|_| None).collect();
    let mut handed: ByUnit<Handed> = BTreeMap::new();
    let mut delegated: BTreeSet<(UnitId, EventId)> = BTreeSet::new();
    let mut stale: BTreeSet<UnitId> = entries.iter().map(|it| it.unit).collect();
    for _ in 0..ROUNDS {
        let mut next: ByUnit<Handed> = BTreeMap::new();
        let wanted = entries
            .iter()
            .zip(&mut done)
            .filter(|(entry, done)| done.is_none() || stale.contains(&entry.unit));
        workers::map(workers, wanted, |(entry, done)| {
            *done = Some(walk(project, &linked, entry, handed.get(&entry.unit)));
        });
        for (entry, done) in entries.iter().zip(&done) {
            for (starter, event, inherited) in done.iter().flat_map(|it| &it.starts) {
                let Does::Start(start) = &project.event(*starter, *event).does else { continue };
                for target in started(project, *starter, &start.runs) {
                    if target == entry.unit {
                        continue;
                    }
                    delegated.insert((*starter, *event));
                    let list = next.entry(target).or_default();
                    if list.iter().all(|it| it.by != (*starter, *event)) {
                        list.push(Handed { by: (*starter, *event), inherited: inherited.clone() });
                    }
                }
            }
        }
        stale = next.keys().filter(|it| !same(handed.get(*it), next.get(*it))).copied().collect();
        if stale.is_empty() {
            break;
        }
        for unit in &stale {
            if entries.iter().all(|it| it.unit != *unit) {
                entries.push(Entry { unit: *unit, kind: Kind::Script });
                done.push(None);
            }
        }
        handed = next;
    }
    let finish = |entry: &Entry, walked: Walked| {
        let children = if whole { children(&walked) } else { Vec::new() };
        let handed = handed.get(&entry.unit);
        Program { children, ..program(project, &linked, entry, walked, handed, &delegated) }
    };
    let mut found = workers::map(workers, entries.iter().zip(done), |(entry, walked)| {
        let walked =
            walked.unwrap_or_else(|| walk(project, &linked, entry, handed.get(&entry.unit)));
        finish(entry, walked)
    });
    let reached: BTreeSet<UnitId> = found.iter().flat_map(|it| it.units.iter().copied()).collect();
    // Who starts a program makes it one, so that nothing was handed to what no program reaches.
    let unreached = unreached(project, &reached);
    found.extend(workers::map(workers, &unreached, |entry| {
        finish(entry, walk(project, &linked, entry, None))
    }));
    found.sort_by_key(|it| it.entry);
    found
}

fn same(mine: Option<&Vec<Handed>>, theirs: Option<&Vec<Handed>>) -> bool {
    let key = |it: &Vec<Handed>| -> Vec<_> {
        it.iter()
            .map(|it| {
                (
                    it.by,
                    it.inherited.variables.clone(),
                    it.inherited.container,
                    it.inherited.pinned_by_gpupin,
                )
            })
            .collect()
    };
    mine.map(key) == theirs.map(key)
}

fn walk(
    project: &Project<'_>,
    linked: &Linked,
    entry: &Entry,
    handed: Option<&Vec<Handed>>,
) -> Walked {
    let inherited = handed.map(|it| together(it)).unwrap_or_default();
    let conftests =
        if entry.kind == Kind::Tests { conftests(project, entry.unit) } else { Vec::new() };
    let leads_to_pin = |it: &UnitId| linked.leads_to_pin[it.0 as usize];
    let has_pins = leads_to_pin(&entry.unit)
        || conftests.iter().any(leads_to_pin)
        || !inherited.variables.is_empty();
    let mut walker = Walker::new(project, linked, entry.unit, has_pins, inherited);
    match &entry.kind {
        Kind::Tests => {
            for conftest in conftests {
                walker.direct(conftest);
                walker.module(conftest);
                for hook in HOOKS {
                    if let Some(hook) = linked.find(project, conftest, &here(hook)) {
                        walker.call_in_order(hook);
                    }
                }
            }
        }
        Kind::Script | Kind::Function(_) | Kind::Module => {
            for package in packages(project, entry) {
                walker.module(package);
            }
        }
    }
    walker.module(entry.unit);
    if let Kind::Function(name) = &entry.kind
        && let Some(function) = linked.find(project, entry.unit, &here(name))
    {
        walker.call_from_outside(function);
    }
    for function in linked.called_from_outside(entry.unit) {
        walker.call_from_outside(function);
    }
    walker.finish()
}

/// Packages around an entry point that run before it: for `python -m package` and console scripts, not for `python file.py`.
fn packages(project: &Project<'_>, entry: &Entry) -> Vec<UnitId> {
    let path = &project.unit(entry.unit).source.path;
    if !path.ends_with("__main__.py") && !matches!(entry.kind, Kind::Function(_)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, _) in path.match_indices('/') {
        let init = format!("{}/__init__.py", &path[..at]);
        match project.modules.at(&init) {
            Some(unit) if unit != entry.unit => found.push(unit),
            _ => {}
        }
    }
    found
}

/// What a program has whoever starts it: of several starters every setting is possible.
fn together(handed: &[Handed]) -> Inherited {
    let Some((first, others)) = handed.split_first() else {
        return Inherited::default();
    };
    let mut all = first.inherited.clone();
    for other in others.iter().map(|it| &it.inherited) {
        let names: BTreeSet<String> =
            all.variables.keys().chain(other.variables.keys()).cloned().collect();
        for name in names {
            let theirs = other.variables.get(&name).cloned().unwrap_or_default();
            let mut mine: Setting = all.variables.get(&name).cloned().unwrap_or_default();
            mine.writes.extend(theirs.writes);
            mine.writes.sort_unstable();
            mine.writes.dedup();
            mine.inherited |= theirs.inherited;
            mine.removed |= theirs.removed;
            all.variables.insert(name, mine);
        }
        all.container = all.container.filter(|it| other.container == Some(*it));
        all.pinned_by_gpupin |= other.pinned_by_gpupin;
    }
    all
}

/// Starters of one program may run it in different containers, or outside of any.
fn containers(handed: &[Handed]) -> Vec<StartedIn> {
    let started_in = |it: &Handed| {
        let mask = it.inherited.variables.get(MASK);
        let masks = mask.map_or_else(Vec::new, |it| it.writes.clone());
        Some(StartedIn { container: it.inherited.container?, masks })
    };
    handed.iter().filter_map(started_in).collect()
}

/// What every program gets that is started.
fn children(walked: &Walked) -> Vec<Moment> {
    walked.starts.iter().map(|it| handed_on((it.0, it.1), &it.2)).collect()
}

fn handed_on(by: (UnitId, EventId), inherited: &Inherited) -> Moment {
    Moment {
        by: Some(by),
        variables: inherited.variables.clone(),
        pinned_by_gpupin: inherited.pinned_by_gpupin,
        container: inherited.container,
    }
}

fn program(
    project: &Project<'_>,
    linked: &Linked,
    entry: &Entry,
    walked: Walked,
    handed: Option<&Vec<Handed>>,
    delegated: &BTreeSet<(UnitId, EventId)>,
) -> Program {
    let mut units: Vec<UnitId> = walked.units.iter().copied().collect();
    units.sort_unstable();
    let mut moments = walked.moments;
    let python =
        matches!(project.unit(entry.unit).source.language, Language::Python | Language::Notebook);
    let delegates =
        walked.starts.iter().any(|(unit, event, _)| delegated.contains(&(*unit, *event)));
    if !python && delegates {
        // The programs it starts read its settings at their own moments, and judge them there.
        moments.retain(|it| it.by.is_some());
    }
    for (unit, event, inherited) in walked.starts {
        let Does::Start(start) = &project.event(unit, event).does else { continue };
        if delegated.contains(&(unit, event)) || matches!(start.runs, Runs::Gpupin(_)) {
            continue;
        }
        // A child of a Python program is judged only by what it is given of its own.
        let mut variables = inherited.variables;
        if python {
            let own =
                |it: &Setting| it.writes.iter().any(|it| it.slot.is_some() && it.event == event);
            if !variables.values().any(own) {
                continue;
            }
            if !variables.get(MASK).is_some_and(own) {
                variables.remove(MASK);
            }
        }
        moments.push(handed_on((unit, event), &Inherited { variables, ..inherited }));
    }
    let uses = uses::uses(project, linked, entry.unit, &entry.kind);
    let starters = handed.into_iter().flatten().map(|it| it.by).collect();
    let mut program = Program {
        entry: entry.unit,
        kind: entry.kind.clone(),
        starters,
        containers: handed.map_or_else(Vec::new, |it| containers(it)),
        trace: walked.trace,
        moments,
        handed: handed.into_iter().flatten().map(|it| handed_on(it.by, &it.inherited)).collect(),
        children: Vec::new(),
        uses,
        direct: walked.direct.into_iter().collect(),
        units,
        problems: Vec::new(),
    };
    program.problems = pins::problems(project, &program);
    program
}
