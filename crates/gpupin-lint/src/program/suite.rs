//! Programs that one cure helps, so that they are told together.
//!
//! pytest runs all test files of a project in one process, and what a `conftest.py` above them sets holds for all.
//! A finding for each of them would be the same finding hundreds of times.

use std::collections::BTreeMap;

use crate::{
    language::python::directory_of_tests,
    program::{Kind, Program},
    project::{
        Project,
        modules::{join, parent},
    },
    span::Span,
    unit::UnitId,
};

/// Test files below one directory; or one file, however it is started.
#[derive(Debug)]
pub(crate) struct Suite<'p> {
    /// In path order, with the statement of each that a finding is about.
    programs: Vec<(&'p Program, Span)>,
    /// The directory, if there are several files.
    directory: Option<&'p str>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'p> {
    File(UnitId, Span),
    Below(&'p str),
}

/// Puts programs together, each with the statement that a finding is about. The order is that of the first programs.
pub(crate) fn suites<'p>(
    project: &'p Project<'_>,
    programs: impl IntoIterator<Item = (&'p Program, Span)>,
) -> Vec<Suite<'p>> {
    let mut by_key: BTreeMap<Key<'p>, Vec<(&'p Program, Span)>> = BTreeMap::new();
    for (program, span) in programs {
        let key = match program.kind {
            Kind::Tests => Key::Below(directory(project, program.entry)),
            _ => Key::File(program.entry, span),
        };
        by_key.entry(key).or_default().push((program, span));
    }
    let suite = |(key, programs): (Key<'p>, Vec<_>)| {
        let directory = match key {
            Key::Below(directory) if programs.len() > 1 => Some(directory),
            _ => None,
        };
        Suite { programs, directory }
    };
    let mut suites: Vec<_> = by_key.into_iter().map(suite).collect();
    suites.sort_by_key(|it| it.programs.first().map(|it| it.0.entry));
    suites
}

/// The directory whose `conftest.py` would reach a test file: the outermost one named for tests, else the package around it.
pub(super) fn directory<'p>(project: &'p Project<'_>, test: UnitId) -> &'p str {
    let path = &project.unit(test).source.path;
    if let Some(directory) = directory_of_tests(path) {
        return directory;
    }
    let is_package = |it: &str| project.modules.file(&join(it, "__init__.py")).is_some();
    let mut directory = parent(path);
    while is_package(directory) && is_package(parent(directory)) && !directory.is_empty() {
        directory = parent(directory);
    }
    directory
}

impl<'p> Suite<'p> {
    pub(crate) fn first(&self) -> &'p Program {
        self.programs[0].0
    }

    pub(crate) fn programs(&self) -> impl Iterator<Item = &'p Program> {
        self.programs.iter().map(|it| it.0)
    }

    pub(crate) fn entries(&self) -> Vec<UnitId> {
        let mut entries: Vec<_> = self.programs.iter().map(|it| it.0.entry).collect();
        entries.dedup();
        entries
    }

    /// Where to say it: in the `conftest.py` that a cure goes to, if there is one; else at the statement of the first.
    pub(crate) fn place(&self, project: &Project<'_>) -> (UnitId, Span) {
        let conftest = self.conftest().and_then(|it| project.modules.at(&it));
        let (first, span) = self.programs[0];
        conftest.map_or((first.entry, span), |it| (it, Span::default()))
    }

    /// The path of the `conftest.py` that would cure several files. It need not exist.
    pub(crate) fn conftest(&self) -> Option<String> {
        self.directory.map(|it| join(it, "conftest.py"))
    }

    /// `this program`, or how many test files, where.
    pub(crate) fn subject(&self) -> String {
        match self.directory {
            None => "this program".to_owned(),
            Some("") => format!("{} test files", self.programs.len()),
            Some(directory) => format!("{} test files below `{directory}`", self.programs.len()),
        }
    }

    /// Which form of a verb goes with the subject.
    pub(crate) fn verb(&self, one: &'static str, several: &'static str) -> &'static str {
        if self.directory.is_none() { one } else { several }
    }
}
