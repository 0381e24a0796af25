//! Programs: entry points and the order in which their events happen.
//!
//! A mask works only if it is set before CUDA reads it, and that is a matter of the whole program: a module
//! three imports away may ask `is_available()` first. So every entry point is followed the way the
//! interpreter would: top-level statements, each project module once at its first import, calls to
//! functions the project defines (to a depth of 12), `if __name__ == "__main__"` only in the program itself.
//! Branches join: what holds on one way only is kept as possible.
//!
//! - `entries` finds what can be started, and how;
//! - `link` resolves imports and calls once per file;
//! - `order` walks one program and records its [`Happening`]s;
//! - `starts` lets programs inherit what scripts, services and units set before they start them;
//! - `suite` puts test files together that one pin would cure;
//! - `together` tells which files are judged together.
//!
//! Out of scope: code in functions nothing calls (it has no order), threads, and values that only exist at run time.

use std::collections::BTreeMap;

use crate::{
    project::Project,
    span::Span,
    unit::{ChildEnvironment, Does, Event, EventId, UnitId},
    value::{Name, Spanned},
};

pub(crate) mod entries;
mod link;
mod order;
pub(crate) mod pins;
mod starts;
pub(crate) mod suite;
pub(crate) mod together;
mod uses;

pub use entries::role_of;
pub(crate) use order::{MASK, ORDER};
pub(crate) use pins::Problem;
pub(crate) use starts::programs;

/// A program, with everything that happens in it.
#[derive(Debug)]
pub struct Program {
    pub entry: UnitId,
    pub kind: Kind,
    /// Places that start it, as far as the project shows: a script's line, a service, a unit.
    pub starters: Vec<(UnitId, EventId)>,
    /// Containers that starters run it in.
    pub containers: Vec<StartedIn>,
    /// Events in the order they happen.
    pub trace: Vec<Happening>,
    /// The environments that somebody reads: CUDA at each freeze, or whoever comes after the end.
    pub moments: Vec<Moment>,
    /// What each of its starters hands to it.
    pub handed: Vec<Moment>,
    /// What each program that it starts gets, where it is known; only in a whole order.
    pub children: Vec<Moment>,
    /// GPU libraries imported, in order: see [`uses`].
    pub uses: Vec<Use>,
    /// Modules that the entry point imports itself, sorted.
    pub direct: Vec<UnitId>,
    /// Every unit that runs in it.
    pub units: Vec<UnitId>,
    /// What is wrong with its pin, by precedence: one root cause is one problem.
    pub(crate) problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The file is started.
    Script,
    /// The file is imported and a function of it called: a console script.
    Function(String),
    /// Collected by pytest.
    Tests,
    /// A module that no entry point reaches, judged as if it were started itself.
    Module,
}

/// A container in which a starter runs a program.
#[derive(Debug, Clone)]
pub struct StartedIn {
    /// The container, as its [`Does::ContainerGpus`] event.
    pub container: (UnitId, EventId),
    /// The masks that the program gets there.
    pub masks: Vec<Write>,
}

/// An event at its moment.
#[derive(Debug, Clone)]
pub struct Happening {
    pub unit: UnitId,
    pub event: EventId,
    /// The statement of the entry point that led here.
    pub via: Span,
    /// What had frozen the environment before, if anything had on some way here. A sure freeze goes before an uncertain one.
    pub frozen: Option<Earlier>,
    /// The first GPU library imported before.
    pub imported: Option<Earlier>,
    /// Reached only on some ways through the program.
    pub conditional: bool,
    /// What the variable (of a setting or a removal) held before.
    pub before: Setting,
    /// An order or mask that took effect before; `import gpupin.auto` counts.
    pub pinned_by_gpupin: bool,
}

/// Something that happened before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    pub unit: UnitId,
    pub event: EventId,
    /// The fact that it has that effect is sure.
    pub certain: bool,
}

/// An environment that is read.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The freeze, or the start of another program; `None` at the end.
    pub by: Option<(UnitId, EventId)>,
    pub variables: BTreeMap<String, Setting>,
    /// `import gpupin.auto` ran before.
    pub pinned_by_gpupin: bool,
    /// The container that the program runs in whoever starts it, as its [`Does::ContainerGpus`] event.
    pub container: Option<(UnitId, EventId)>,
}

/// What a variable may hold at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The writes that may be in effect.
    pub writes: Vec<Write>,
    /// Also perhaps what the program inherited, which nobody knows.
    pub inherited: bool,
    /// Perhaps not there at all: it was taken out on some way.
    pub removed: bool,
}

/// One assignment: an event that sets a variable, or one variable of a child's environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Write {
    pub unit: UnitId,
    pub event: EventId,
    /// Which of a started child's variables, for [`Does::Start`] and [`Does::ReplaceEnvironment`].
    pub slot: Option<u32>,
}

/// An import of a GPU library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    pub unit: UnitId,
    pub event: EventId,
    /// The statement of the entry point that led there.
    pub via: Span,
}

impl Write {
    /// What an event sets that sets one variable.
    pub(crate) fn of(unit: UnitId, event: EventId) -> Self {
        Self { unit, event, slot: None }
    }
}

impl Default for Setting {
    fn default() -> Self {
        Self { writes: Vec::new(), inherited: true, removed: false }
    }
}

impl Moment {
    /// What a variable may hold; inherited if the program never touched it.
    pub fn setting(&self, variable: &str) -> Setting {
        self.variables.get(variable).cloned().unwrap_or_default()
    }
}

impl Program {
    /// Whether a unit runs in this program.
    pub fn runs(&self, unit: UnitId) -> bool {
        self.units.binary_search(&unit).is_ok()
    }
}

impl<'a> Project<'a> {
    pub fn event(&self, unit: UnitId, event: EventId) -> &'a Event {
        &self.unit(unit).events[event.0 as usize]
    }

    /// The variable and value of a write.
    pub fn written(&self, write: Write) -> Option<(&'a str, &'a Spanned)> {
        let slot = |variables: &'a [(String, Spanned)]| {
            let (name, value) = variables.get(write.slot? as usize)?;
            Some((name.as_str(), value))
        };
        match &self.event(write.unit, write.event).does {
            Does::SetVariable(it) => Some((&it.name, &it.value)),
            Does::Start(it) => slot(it.environment.variables()),
            Does::ReplaceEnvironment { keeps, .. } => slot(keeps),
            _ => None,
        }
    }

    /// The place of a write: the whole statement.
    pub fn write_span(&self, write: Write) -> Span {
        match (write.slot, self.written(write)) {
            (Some(_), Some((_, value))) => value.span,
            _ => self.event(write.unit, write.event).span,
        }
    }
}

impl ChildEnvironment {
    /// What it sets.
    pub fn variables(&self) -> &[(String, Spanned)] {
        match self {
            Self::Inherited(set) | Self::Only(set) | Self::Without { set, .. } => set,
            Self::Unknown => &[],
        }
    }
}

/// The name of a function in its own module.
fn here(function: &str) -> Name {
    Name::here(function)
}
