//! All files of a project together: modules, names, programs.

use globset::GlobSet;
use gpupin_policy::{LockFile, Policy, Role};

use crate::{
    catalogue::Library,
    program::{Program, entries},
    span::Span,
    unit::{Import, Unit, UnitId},
    value::Name,
};

mod known;
pub(crate) mod modules;
mod names;

pub(crate) use modules::{FileId, Modules};

/// What rules see.
#[derive(Debug)]
pub struct Project<'a> {
    pub units: &'a [Unit],
    pub policy: &'a Policy,
    pub lock: &'a LockFile,
    pub programs: Vec<Program>,
    pub(crate) modules: Modules,
    /// The policy's roles, each with the files it names.
    pub(crate) roles: Vec<(GlobSet, &'a Role)>,
}

/// A value that is known, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub literal: Literal,
    /// Only unless the user says otherwise: a default of an option, a parameter or `${X:-0}`.
    pub by_default: bool,
    /// Where the literal stands.
    pub unit: UnitId,
    pub span: Span,
}

/// Where a dotted name leads, among the files that were read.
#[derive(Debug)]
pub(crate) struct Module<'n> {
    pub(crate) unit: Option<UnitId>,
    /// What follows the module part of the name.
    pub(crate) rest: &'n str,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Known>),
    /// An NVML index of unknown number.
    NvmlIndex,
}

impl<'a> Project<'a> {
    /// `other_files` are Python files that were not read: they still decide what is a package.
    pub(crate) fn new<'f>(
        units: &'a [Unit],
        other_files: impl IntoIterator<Item = &'f str>,
        policy: &'a Policy,
        lock: &'a LockFile,
    ) -> Self {
        let modules = Modules::of_units(units, other_files);
        let roles = entries::roles(policy);
        Self { units, policy, lock, programs: Vec::new(), modules, roles }
    }

    /// Follows an absolute or relative name that stands in a unit to a module of the project.
    pub(crate) fn locate<'n>(&self, from: UnitId, name: &'n Name) -> Option<Module<'n>> {
        // Units were added first, so their files have their numbers.
        let located = self.modules.locate(FileId(from.0), name)?;
        let unit = |file| self.modules.unit(file);
        Some(Module { unit: located.file.and_then(unit), rest: located.rest })
    }

    /// Whether a library is the project itself: what its modules do is seen, and its name proves nothing.
    pub(crate) fn is_own(&self, from: UnitId, library: &Library) -> bool {
        self.modules.locate_absolute(FileId(from.0), library.module).is_some()
    }

    pub fn unit(&self, id: UnitId) -> &'a Unit {
        &self.units[id.0 as usize]
    }
}

/// The project modules that an import statement runs, in order: packages first, then submodules among the names.
pub(crate) fn modules_of(project: &Project<'_>, unit: UnitId, import: &Import) -> Vec<UnitId> {
    let files = imported_files(&project.modules, FileId(unit.0), import);
    files.into_iter().filter_map(|it| project.modules.unit(it)).collect()
}

/// The same as files, read or not.
pub(crate) fn imported_files(modules: &Modules, from: FileId, import: &Import) -> Vec<FileId> {
    let mut files = Vec::new();
    let Some(located) = modules.locate(from, &import.module) else {
        return files;
    };
    files.extend(located.runs);
    for name in &import.names {
        let module = &import.module;
        let path =
            if module.path.is_empty() { name.clone() } else { format!("{}.{name}", module.path) };
        let submodule = Name { root: module.root.clone(), path };
        if let Some(below) = modules.locate(from, &submodule)
            && below.rest.is_empty()
        {
            files.extend(below.runs);
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|it| seen.insert(*it));
    files
}
