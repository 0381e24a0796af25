//! The file in which a program is pinned.

use std::collections::BTreeSet;

use crate::{
    program::{Kind, Program},
    project::{
        Project,
        modules::{join, parent},
        modules_of,
    },
    unit::{Block, Does, Step, UnitId},
};

/// The file of the program, unless a package around it runs before it and imports a GPU library: then the outermost one.
pub(crate) fn top(project: &Project<'_>, program: &Program) -> UnitId {
    let packages = packages(project, program);
    let mut search = Search { project, entry: program.entry, seen: BTreeSet::new() };
    let comes_first = |it: &UnitId| search.module(*it) == Some(Met::Library);
    let first = packages.iter().position(comes_first);
    first.and_then(|_| packages.first().copied()).unwrap_or(program.entry)
}

/// The packages that run before a program, the outermost first: for `python -m package` and console scripts.
fn packages(project: &Project<'_>, program: &Program) -> Vec<UnitId> {
    let path = &project.unit(program.entry).source.path;
    if !path.ends_with("__main__.py") && !matches!(program.kind, Kind::Function(_)) {
        return Vec::new();
    }
    let mut packages = Vec::new();
    let mut directory = parent(path);
    while !directory.is_empty() {
        match project.modules.at(&join(directory, "__init__.py")) {
            Some(unit) if unit != program.entry => packages.push(unit),
            _ => {}
        }
        directory = parent(directory);
    }
    packages.reverse();
    packages
}

/// What importing a module comes to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Library,
    /// The program's own file, where a pin would stand.
    Entry,
}

struct Search<'p, 'a> {
    project: &'p Project<'a>,
    entry: UnitId,
    seen: BTreeSet<UnitId>,
}

impl Search<'_, '_> {
    fn module(&mut self, unit: UnitId) -> Option<Met> {
        if unit == self.entry {
            return Some(Met::Entry);
        }
        if !self.seen.insert(unit) {
            return None;
        }
        let project = self.project;
        self.block(unit, &project.unit(unit).body)
    }

    fn block(&mut self, unit: UnitId, block: &Block) -> Option<Met> {
        block.0.iter().find_map(|it| self.step(unit, it))
    }

    fn step(&mut self, unit: UnitId, step: &Step) -> Option<Met> {
        let project = self.project;
        match step {
            Step::Event(event) => match project.event(unit, *event).does {
                Does::ImportLibrary(it) if it.computes && !project.is_own(unit, it) => {
                    Some(Met::Library)
                }
                _ => None,
            },
            Step::Import(import) => {
                modules_of(project, unit, import).into_iter().find_map(|it| self.module(it))
            }
            Step::Branch(_, arms) => arms.iter().find_map(|it| self.block(unit, it)),
            Step::Try { body, handlers } => {
                let mut all = std::iter::once(body).chain(handlers);
                all.find_map(|it| self.block(unit, it))
            }
            Step::Loop(body) | Step::Scope(body) => self.block(unit, body),
            Step::Call(..) | Step::Main(_) | Step::Leave(_) => None,
        }
    }
}
