//! What can be started, and how.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobSet, GlobSetBuilder};
use gpupin_policy::{Policy, Role};

use crate::{
    program::{Kind, here},
    project::{
        FileId, Project,
        modules::{self, join, normal, parent},
    },
    source::Language,
    unit::{Does, Runs, Unit, UnitId},
    value::{Name, Root},
};

/// An entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) unit: UnitId,
    pub(super) kind: Kind,
}

/// Entry points that files declare by themselves or that the policy names, in path order.
pub(super) fn declared(project: &Project<'_>) -> Vec<Entry> {
    let named = named_by_policy(project.policy);
    let mut entries = Vec::new();
    for (unit, it) in (0..).map(UnitId).zip(project.units) {
        if it.entry.tests {
            entries.push(Entry { unit, kind: Kind::Tests });
        } else if is_started(it) || named.is_match(&it.source.path) {
            entries.push(Entry { unit, kind: Kind::Script });
        }
        for script in &it.console_scripts {
            let module = Name { root: Root::Absolute, path: script.module.clone() };
            let Some(target) = project.locate(unit, &module).and_then(|it| it.unit) else {
                continue;
            };
            let Some(function) = &script.function else { continue };
            if project.function(target, &here(function)).is_some() {
                entries.push(Entry { unit: target, kind: Kind::Function(function.clone()) });
            }
        }
    }
    entries.sort_by_key(|it| it.unit);
    entries.dedup();
    entries
}

fn is_started(unit: &Unit) -> bool {
    let marks = &unit.entry;
    marks.main_guard.is_some()
        || marks.started_as_is
        || (marks.shebang && marks.top_level_work)
        || unit.source.path.ends_with("__main__.py")
}

/// Files that the policy names as entry points.
pub(crate) fn named_by_policy(policy: &Policy) -> GlobSet {
    let roles = policy.roles.values().flat_map(|it| &it.entry_points);
    matcher(policy.lint.entry_points.iter().chain(roles))
}

/// The roles of a policy, each with the files it names.
pub(crate) fn roles(policy: &Policy) -> Vec<(GlobSet, &Role)> {
    policy.roles.values().map(|it| (matcher(&it.entry_points), it)).collect()
}

/// The role of the policy that a file plays, by its path from the root of the project.
pub fn role_of<'p>(policy: &'p Policy, path: &str) -> Option<&'p str> {
    let mut roles = policy.roles.iter();
    roles.find(|it| matcher(&it.1.entry_points).is_match(path)).map(|it| it.0.as_str())
}

fn matcher<'p>(patterns: impl IntoIterator<Item = &'p String>) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let pattern = pattern.trim_start_matches("./");
        // The policy was validated when it was read; a pattern that is no glob names nothing.
        if let Ok(glob) = Glob::new(pattern) {
            set.add(glob);
        }
        // The policy's paths are relative to the policy; ours to the working directory.
        if let Ok(glob) = Glob::new(&format!("**/{pattern}")) {
            set.add(glob);
        }
    }
    set.build().unwrap_or_default()
}

/// The files of the project that a start runs.
pub(super) fn started(project: &Project<'_>, starter: UnitId, runs: &Runs) -> Vec<UnitId> {
    match runs {
        Runs::Pytest(paths) => tests_below(project, starter, paths),
        Runs::Other(name) => console_script(project, name).into_iter().collect(),
        Runs::Gpupin(inner) => started(project, starter, inner),
        _ => {
            let file = modules::started(&project.modules, FileId(starter.0), runs);
            file.and_then(|it| project.modules.unit(it)).into_iter().collect()
        }
    }
}

/// Test files below the paths a `pytest` line names, or below its own directory's root.
fn tests_below(project: &Project<'_>, starter: UnitId, paths: &[String]) -> Vec<UnitId> {
    let base = parent(&project.unit(starter).source.path);
    let below: BTreeSet<String> = if paths.is_empty() {
        [base.to_owned()].into()
    } else {
        paths
            .iter()
            .map(|it| normal(&join(base, it.split("::").next().unwrap_or_default())))
            .collect()
    };
    (0..)
        .map(UnitId)
        .zip(project.units)
        .filter(|(_, it)| it.entry.tests)
        .filter(|(_, it)| {
            below.iter().any(|dir| {
                dir.is_empty()
                    || it.source.path == *dir
                    || it.source.path.starts_with(&format!("{dir}/"))
            })
        })
        .map(|(id, _)| id)
        .collect()
}

fn console_script(project: &Project<'_>, name: &str) -> Option<UnitId> {
    (0..).map(UnitId).zip(project.units).find_map(|(id, unit)| {
        let script = unit.console_scripts.iter().find(|it| it.name == name)?;
        project.locate(id, &Name::absolute(script.module.clone()))?.unit
    })
}

/// `conftest.py` files that pytest runs before a test file, outermost first.
pub(super) fn conftests(project: &Project<'_>, test: UnitId) -> Vec<UnitId> {
    let mut found = Vec::new();
    let mut directory = parent(&project.unit(test).source.path);
    loop {
        found.extend(project.modules.at(&join(directory, "conftest.py")));
        if directory.is_empty() {
            break;
        }
        directory = parent(directory);
    }
    found.reverse();
    found
}

/// Python modules with something to order that no program runs.
pub(super) fn unreached(project: &Project<'_>, reached: &BTreeSet<UnitId>) -> Vec<Entry> {
    (0..)
        .map(UnitId)
        .zip(project.units)
        .filter(|(id, unit)| {
            unit.source.language == Language::Python
                && !reached.contains(id)
                && unit.events.iter().any(|it| {
                    matches!(
                        it.does,
                        Does::SetVariable(_)
                            | Does::RemoveVariable(_)
                            | Does::ReplaceEnvironment { .. }
                            | Does::Start(_)
                    )
                })
        })
        .map(|(unit, _)| Entry { unit, kind: Kind::Module })
        .collect()
}

impl Project<'_> {
    /// The unit of a path written in a file.
    pub(crate) fn find_file(&self, from: UnitId, path: &str) -> Option<UnitId> {
        self.modules.unit(self.modules.find(FileId(from.0), path)?)
    }
}

/// Programs by the file they start in.
pub(super) type ByUnit<T> = BTreeMap<UnitId, Vec<T>>;
