//! Which GPU libraries a program uses.
//!
//! A library counts if importing the program's modules imports it, however far away, or if a function of
//! the program's own file or of a module it imports itself does. What functions further away import
//! only when they are called does not make a program a GPU program: half of all libraries can do
//! something with `torch` if it happens to be there.
//!
//! The survey decides by the same definition which files to read: see [`crate::survey`].

use std::collections::BTreeSet;

use crate::{
    program::{Kind, Use, entries},
    project::{Project, modules_of},
    span::Span,
    unit::{Block, Does, Mock, Step, UnitId},
};

/// The libraries in the order they are imported.
pub(super) fn uses(project: &Project<'_>, entry: UnitId, kind: &Kind) -> Vec<Use> {
    let mut search =
        Search { project, entry, found: Vec::new(), seen: BTreeSet::new(), direct: Vec::new() };
    let mut mocks: Vec<&Mock> = Vec::new();
    if *kind == Kind::Tests {
        mocks.extend(&project.unit(entry).mocks);
        for conftest in entries::conftests(project, entry) {
            mocks.extend(&project.unit(conftest).mocks);
            search.direct.push((conftest, Span::default()));
            search.module(conftest, Span::default());
        }
    }
    search.module(entry, Span::default());
    search.functions(entry, None);
    for (module, via) in search.direct.clone() {
        search.functions(module, Some(via));
    }
    search.found.retain(|it| mocks.iter().all(|mock| !replaces(project, entry, mock, *it)));
    search.found
}

/// Whether an import gets a test's mock. What a test file imports itself comes before its tests' mocks.
fn replaces(project: &Project<'_>, entry: UnitId, mock: &Mock, it: Use) -> bool {
    let event = project.event(it.unit, it.event);
    let Does::ImportLibrary(library) = event.does else { return false };
    let before = it.unit == entry && event.function.is_none() && !mock.at_top_level;
    library.module == mock.module && !before
}

struct Search<'p, 'a> {
    project: &'p Project<'a>,
    entry: UnitId,
    found: Vec<Use>,
    seen: BTreeSet<UnitId>,
    /// Modules that the entry point imports itself, and where.
    direct: Vec<(UnitId, Span)>,
}

impl Search<'_, '_> {
    fn module(&mut self, unit: UnitId, via: Span) {
        if self.seen.insert(unit) {
            let project = self.project;
            self.block(unit, &project.unit(unit).body, (unit != self.entry).then_some(via));
        }
    }

    /// What functions of a unit import when they are called.
    fn functions(&mut self, unit: UnitId, via: Option<Span>) {
        let project = self.project;
        let mut functions: Vec<_> = project.unit(unit).functions.values().collect();
        functions.sort_by_key(|it| it.span);
        for function in functions {
            self.block(unit, &function.body, via);
        }
    }

    /// `via` is the entry point's statement that led here; `None` inside of the entry point.
    fn block(&mut self, unit: UnitId, block: &Block, via: Option<Span>) {
        let project = self.project;
        for step in &block.0 {
            match step {
                Step::Event(event) => {
                    let it = project.event(unit, *event);
                    if let Does::ImportLibrary(library) = it.does
                        && library.computes
                    {
                        self.found.push(Use { unit, event: *event, via: via.unwrap_or(it.span) });
                    }
                }
                Step::Import(import) => {
                    let via = via.unwrap_or(import.span);
                    for module in modules_of(project, unit, import) {
                        if unit == self.entry && self.direct.iter().all(|it| it.0 != module) {
                            self.direct.push((module, via));
                        }
                        self.module(module, via);
                    }
                }
                Step::Branch(_, arms) => arms.iter().for_each(|it| self.block(unit, it, via)),
                Step::Try { body, handlers } => {
                    self.block(unit, body, via);
                    for handler in handlers {
                        self.block(unit, handler, via);
                    }
                }
                Step::Main(body) => {
                    if unit == self.entry {
                        self.block(unit, body, via);
                    }
                }
                Step::Loop(body) | Step::Scope(body) => self.block(unit, body, via),
                Step::Call(..) | Step::Leave(_) => {}
            }
        }
    }
}
