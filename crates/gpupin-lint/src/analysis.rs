//! From units to findings.

use std::collections::HashMap;

use gpupin_policy::{LockFile, Policy};

use crate::{
    baseline,
    finding::{Finding, once_per_place},
    program::together,
    project::Project,
    rules::{Check, Rule},
    selection::Selection,
    suppress::suppress,
    unit::{Unit, UnitId},
    workers::{self, Workers},
};

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub selection: Selection,
    /// Python files that exist and were not read because they cannot matter; they decide what is a package.
    pub other_files: Vec<String>,
    /// Order every program whole, also where no pin is set: for people who want to see it.
    pub whole_order: bool,
}

/// Findings, ordered by path and place.
#[derive(Debug, Default)]
pub struct Analysis {
    pub findings: Vec<Finding>,
    /// Findings that a suppression comment covers; SARIF shows them, marked.
    pub suppressed: Vec<Finding>,
    /// How many programs use a GPU.
    pub programs: usize,
    /// Files that are best judged together, each group sorted: of what is found in them little depends on the rest of the project.
    pub groups: Vec<Vec<UnitId>>,
}

/// Judges a project. Units are expected in path order. Who does the work makes no difference to the result.
pub fn analyze(
    units: &[Unit],
    policy: &Policy,
    lock: &LockFile,
    options: &Options,
    workers: &dyn Workers,
) -> Analysis {
    let project = order(units, policy, lock, options, workers);
    let found = workers::map(workers, options.selection.rules(), |rule| run(rule, &project));
    let mut found: Vec<_> = found.into_iter().flatten().collect();
    let selected = |rule: &Rule, unit: UnitId| {
        options.selection.includes(rule, &units[unit.0 as usize].source.path)
    };
    found.retain(|it| selected(it.rule, it.unit));

    let (mut findings, mut suppressed, comments) = suppress(units, found);
    for rule in options.selection.rules() {
        let Check::Suppression(check) = rule.check else { continue };
        for (unit, used) in &comments {
            if selected(rule, *unit) {
                check(rule, *unit, used, &|rule| selected(rule, *unit), &mut findings);
            }
        }
    }
    count_occurrences(units, &mut findings, &mut suppressed);
    Analysis {
        findings,
        suppressed,
        programs: project.programs.iter().filter(|it| !it.uses.is_empty()).count(),
        groups: together::groups(&project),
    }
}

/// Puts units together: modules, and programs with their order. What [`analyze`] judges.
pub fn order<'a>(
    units: &'a [Unit],
    policy: &'a Policy,
    lock: &'a LockFile,
    options: &Options,
    workers: &dyn Workers,
) -> Project<'a> {
    let other_files = options.other_files.iter().map(String::as_str);
    let mut project = Project::new(units, other_files, policy, lock);
    project.programs = crate::program::programs(&project, options.whole_order, workers);
    project
}

/// Runs one rule over everything.
fn run(rule: &'static Rule, project: &Project<'_>) -> Vec<Finding> {
    let mut of_rule = Vec::new();
    match rule.check {
        Check::Unit(check) => {
            for (id, unit) in (0..).map(UnitId).zip(project.units) {
                check(rule, project, id, unit, &mut of_rule);
            }
            drop_unexpected(rule, project, &mut of_rule);
        }
        Check::Program(check) => {
            for program in &project.programs {
                check(rule, project, program, &mut of_rule);
            }
            of_rule = once_per_place(of_rule);
        }
        Check::Programs(check) => check(rule, project, &mut of_rule),
        Check::Project(check) => {
            check(rule, project, &mut of_rule);
            drop_unexpected(rule, project, &mut of_rule);
        }
        Check::Suppression(_) => {}
    }
    of_rule
}

/// Drops findings in files that a filtered scan would not have read, so that both find the same.
fn drop_unexpected(rule: &Rule, project: &Project<'_>, found: &mut Vec<Finding>) {
    let mut expected = HashMap::new();
    found.retain(|it| {
        let source = &project.unit(it.unit).source;
        *expected.entry(it.unit).or_insert_with(|| rule.may_find_in(source))
    });
}

/// Sorts, and numbers the findings that have the same rule, file and text.
fn count_occurrences(units: &[Unit], findings: &mut [Finding], suppressed: &mut [Finding]) {
    let place = |it: &Finding| (it.unit, it.span, it.rule.code);
    findings.sort_by_key(place);
    suppressed.sort_by_key(place);
    // Suppressed ones count too, so that a new comment does not renumber what follows it.
    let mut all: Vec<_> = findings.iter_mut().chain(suppressed).collect();
    all.sort_by_key(|it| place(it));
    let mut seen = HashMap::new();
    for finding in all {
        let text = baseline::statement(&units[finding.unit.0 as usize].source, finding.span);
        let next = seen.entry((finding.rule.code, finding.unit, text)).or_insert(0);
        finding.occurrence = *next;
        *next += 1;
    }
}
