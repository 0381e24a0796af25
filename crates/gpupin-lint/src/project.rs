//! All files of a project together: modules, names, programs.

use gpupin_policy::{LockFile, Policy};

use crate::{
    program::Program,
    span::Span,
    unit::{Unit, UnitId},
    value::Value,
};

/// What rules see.
#[derive(Debug)]
pub struct Project<'a> {
    pub units: &'a [Unit],
    pub policy: &'a Policy,
    pub lock: &'a LockFile,
    pub programs: Vec<Program>,
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

impl Project<'_> {
    pub fn unit(&self, id: UnitId) -> &Unit {
        &self.units[id.0 as usize]
    }

    /// What a value can be: empty when unknown, several when a condition decides.
    ///
    /// Follows names to other modules of the project, to a depth of 8.
    pub fn known(&self, _unit: UnitId, _value: &Value) -> Vec<Known> {
        Vec::new()
    }
}
