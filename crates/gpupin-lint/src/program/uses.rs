//! Which GPU libraries a program uses.
//!
//! A library counts if importing the program's modules imports it, however far away; or if a function of
//! the program's own file does; or a function (a class's method) of another module that the program's own
//! file calls (constructs). What functions further away import only when they are called does not make a
//! program a GPU program: half of all libraries can do something with `torch` if it happens to be there.
//!
//! A library of the project itself is no library: in its own repository `import spacy` proves nothing.
//!
//! The survey decides by the same definition which files to read: see [`crate::survey`].

use std::collections::BTreeSet;

use crate::{
    program::{
        Kind, Use, entries,
        link::{Code, FunctionId, Linked, Op},
    },
    project::Project,
    span::Span,
    unit::{Does, Mock, UnitId},
};

/// The libraries in the order they are imported.
pub(super) fn uses(project: &Project<'_>, linked: &Linked, entry: UnitId, kind: &Kind) -> Vec<Use> {
    let mut search = Search {
        project,
        linked,
        entry,
        found: Vec::new(),
        seen: BTreeSet::new(),
        direct: Vec::new(),
    };
    let mut mocks: Vec<&Mock> = Vec::new();
    if *kind == Kind::Tests {
        // What `conftest.py` imports is not held against every test below it; what it mocks counts.
        mocks.extend(&project.unit(entry).mocks);
        for conftest in entries::conftests(project, entry) {
            mocks.extend(&project.unit(conftest).mocks);
        }
    }
    search.module(entry, Span::default());
    search.functions(entry, None, |_| true);
    let called = search.called();
    for (module, via) in search.direct.clone() {
        let is_called = |path: &str| {
            called.iter().any(|called| {
                let called = linked.function(*called);
                called.unit == module
                    && path
                        .strip_prefix(&*called.name)
                        .is_some_and(|it| it.is_empty() || it.starts_with('.'))
            })
        };
        search.functions(module, Some(via), is_called);
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
    linked: &'p Linked,
    entry: UnitId,
    found: Vec<Use>,
    seen: BTreeSet<UnitId>,
    /// Modules that the entry point imports itself, and where.
    direct: Vec<(UnitId, Span)>,
}

impl Search<'_, '_> {
    fn module(&mut self, unit: UnitId, via: Span) {
        if self.seen.insert(unit) {
            let body = &self.linked.bodies[unit.0 as usize];
            self.code(unit, body, (unit != self.entry).then_some(via));
        }
    }

    /// What functions of a unit import when they are called.
    fn functions(&mut self, unit: UnitId, via: Option<Span>, counts: impl Fn(&str) -> bool) {
        let linked = self.linked;
        let mut functions: Vec<_> =
            linked.functions_of(unit).filter(|it| counts(&it.name)).collect();
        functions.sort_by_key(|it| it.span);
        for function in functions {
            self.code(unit, &function.code, via);
        }
    }

    /// Functions and classes of other modules that the entry point calls by name.
    fn called(&self) -> BTreeSet<FunctionId> {
        fn calls(code: &Code, found: &mut BTreeSet<FunctionId>) {
            for op in code {
                match op {
                    Op::Call(function, _) => {
                        found.insert(*function);
                    }
                    Op::Branch(_, arms) => arms.iter().for_each(|it| calls(it, found)),
                    Op::Try { body, handlers } => {
                        calls(body, found);
                        for it in handlers {
                            calls(it, found);
                        }
                    }
                    Op::Loop(body) | Op::Main(body) | Op::Scope(body) => calls(body, found),
                    Op::Event(_) | Op::Run(..) | Op::Leave(_) => {}
                }
            }
        }
        let mut found = BTreeSet::new();
        calls(&self.linked.bodies[self.entry.0 as usize], &mut found);
        for function in self.linked.functions_of(self.entry) {
            calls(&function.code, &mut found);
        }
        found.retain(|it| self.linked.function(*it).unit != self.entry);
        found
    }

    /// `via` is the entry point's statement that led here; `None` inside of the entry point.
    fn code(&mut self, unit: UnitId, code: &Code, via: Option<Span>) {
        let project = self.project;
        for op in code {
            match op {
                Op::Event(event) => {
                    let it = project.event(unit, *event);
                    if let Does::ImportLibrary(library) = it.does
                        && library.computes
                        && !project.is_own(unit, library)
                    {
                        self.found.push(Use { unit, event: *event, via: via.unwrap_or(it.span) });
                    }
                }
                Op::Run(modules, span) => {
                    let via = via.unwrap_or(*span);
                    for module in modules {
                        if unit == self.entry && self.direct.iter().all(|it| it.0 != *module) {
                            self.direct.push((*module, via));
                        }
                        self.module(*module, via);
                    }
                }
                Op::Branch(_, arms) => arms.iter().for_each(|it| self.code(unit, it, via)),
                Op::Try { body, handlers } => {
                    self.code(unit, body, via);
                    for handler in handlers {
                        self.code(unit, handler, via);
                    }
                }
                Op::Main(body) => {
                    if unit == self.entry {
                        self.code(unit, body, via);
                    }
                }
                Op::Loop(body) | Op::Scope(body) => self.code(unit, body, via),
                Op::Call(..) | Op::Leave(_) => {}
            }
        }
    }
}
