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
    program::{Kind, Use, entries},
    project::{Project, modules_of},
    span::Span,
    unit::{Block, Does, Mock, Step, UnitId},
    value::Name,
};

/// The libraries in the order they are imported.
pub(super) fn uses(project: &Project<'_>, entry: UnitId, kind: &Kind) -> Vec<Use> {
    let mut search =
        Search { project, entry, found: Vec::new(), seen: BTreeSet::new(), direct: Vec::new() };
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
            called.iter().any(|(unit, name)| {
                *unit == module
                    && path
                        .strip_prefix(name)
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
    fn functions(&mut self, unit: UnitId, via: Option<Span>, counts: impl Fn(&str) -> bool) {
        let project = self.project;
        let mut functions: Vec<_> =
            project.unit(unit).functions.iter().filter(|it| counts(it.0)).map(|it| it.1).collect();
        functions.sort_by_key(|it| it.span);
        for function in functions {
            self.block(unit, &function.body, via);
        }
    }

    /// Functions and classes of other modules that the entry point calls by name.
    fn called(&self) -> BTreeSet<(UnitId, String)> {
        fn calls<'b>(block: &'b Block, names: &mut Vec<&'b Name>) {
            for step in &block.0 {
                match step {
                    Step::Call(name, _) => names.push(name),
                    Step::Branch(_, arms) => arms.iter().for_each(|it| calls(it, names)),
                    Step::Try { body, handlers } => {
                        calls(body, names);
                        for it in handlers {
                            calls(it, names);
                        }
                    }
                    Step::Loop(body) | Step::Main(body) | Step::Scope(body) => calls(body, names),
                    Step::Event(_) | Step::Import(_) | Step::Leave(_) => {}
                }
            }
        }
        let unit = self.project.unit(self.entry);
        let mut names = Vec::new();
        calls(&unit.body, &mut names);
        unit.functions.values().for_each(|it| calls(&it.body, &mut names));
        let found = names.into_iter().filter_map(|it| self.project.function(self.entry, it));
        found
            .map(|(unit, path, _)| (unit, path.to_owned()))
            .filter(|it| it.0 != self.entry)
            .collect()
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
                        && !project.is_own(unit, library)
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
