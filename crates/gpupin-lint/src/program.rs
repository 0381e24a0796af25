//! Programs: entry points and the order in which their events happen.

use crate::unit::{EventId, UnitId};

/// A program, with everything that happens in it.
#[derive(Debug)]
pub struct Program {
    pub entry: UnitId,
    /// A module that no entry point reaches, judged as if it were started itself.
    pub only_a_module: bool,
    /// Events in the order they happen, each once per place it is reached from the top.
    pub trace: Vec<Happening>,
}

/// An event at its moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    pub unit: UnitId,
    pub event: EventId,
    /// What had frozen the environment before, if anything had on some way here.
    pub frozen: Option<Earlier>,
    /// The first GPU library imported before.
    pub imported: Option<Earlier>,
    /// Reached only on some ways through the program.
    pub conditional: bool,
}

/// Something that happened before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    pub unit: UnitId,
    pub event: EventId,
    /// It happened on every way here, and the fact that it has that effect is sure.
    pub certain: bool,
}
