//! All files of a project together: modules, names, programs.

use gpupin_policy::{LockFile, Policy};

use crate::{
    program::Program,
    span::Span,
    unit::{Unit, UnitId},
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
    /// The modules that importing it runs, outermost package first.
    pub(crate) runs: Vec<UnitId>,
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
        Self { units, policy, lock, programs: Vec::new(), modules }
    }

    /// Follows an absolute or relative name that stands in a unit to a module of the project.
    pub(crate) fn locate<'n>(&self, from: UnitId, name: &'n Name) -> Option<Module<'n>> {
        // Units were added first, so their files have their numbers.
        let located = self.modules.locate(FileId(from.0), name)?;
        let unit = |file| self.modules.unit(file);
        Some(Module {
            runs: located.runs.into_iter().filter_map(unit).collect(),
            unit: located.file.and_then(unit),
            rest: located.rest,
        })
    }

    pub fn unit(&self, id: UnitId) -> &'a Unit {
        &self.units[id.0 as usize]
    }
}
