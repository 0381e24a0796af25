//! Readers: one per language, each turns text into events and their order.
//!
//! A reader is `language/<name>.rs` with `fn read(text, &Positions, &mut UnitBuilder) -> Block`. It may embed another:
//! a workflow's `run:` goes through the shell reader, a notebook cell through the Python reader, with
//! [`Positions`](crate::span::Positions) that lead back to the file.

use crate::{
    source::{Encoding, Language, Source},
    span::Span,
    unit::{Block, Does, Event, EventId, Function, Step, Suppression, Unit},
    value::{Name, Spanned},
};

pub(crate) mod settings;
pub(crate) mod suppress;

/// Reads a file. `None` when its language is not one that can matter.
///
/// `path` is relative to the working directory and `/`-separated.
pub fn read(path: &str, bytes: &[u8]) -> Option<Unit> {
    let _ = (path, bytes);
    None
}

/// Collects what readers find in one file.
#[derive(Debug)]
pub struct UnitBuilder {
    unit: Unit,
    function: Option<String>,
    service: Option<String>,
}

impl UnitBuilder {
    pub fn new(path: &str, language: Language, encoding: Encoding, text: String) -> Self {
        Self {
            unit: Unit {
                source: Source {
                    path: path.to_owned(),
                    language,
                    text,
                    encoding,
                    cells: Vec::new(),
                },
                events: Vec::new(),
                body: Block::default(),
                functions: std::collections::BTreeMap::new(),
                constants: std::collections::BTreeMap::new(),
                imported_names: std::collections::BTreeMap::new(),
                star_imports: Vec::new(),
                bases: std::collections::BTreeMap::new(),
                entry: crate::unit::EntryMarks::default(),
                suppressions: Vec::new(),
                console_scripts: Vec::new(),
                possible: Vec::new(),
                syntax_errors: Vec::new(),
            },
            function: None,
            service: None,
        }
    }

    /// Records an event and returns the step at which it happens.
    pub fn event(&mut self, span: Span, does: Does) -> Step {
        let id = EventId(u32::try_from(self.unit.events.len()).unwrap_or(u32::MAX));
        let (function, service) = (self.function.clone(), self.service.clone());
        self.unit.events.push(Event { span, does, function, service });
        Step::Event(id)
    }

    /// The function that following events stand in; returns the one before, to restore.
    pub fn enter(&mut self, function: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.function, function)
    }

    /// The service, container or job that following events belong to; returns the one before, to restore.
    pub fn enter_service(&mut self, service: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.service, service)
    }

    /// Everything else a reader fills in directly.
    pub fn unit(&mut self) -> &mut Unit {
        &mut self.unit
    }

    pub fn function(&mut self, path: String, function: Function) {
        self.unit.functions.insert(path, function);
    }

    /// A constant; a second assignment makes the name unknown.
    pub fn constant(&mut self, path: String, value: Spanned) {
        use std::collections::btree_map::Entry;
        match self.unit.constants.entry(path) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => entry.get_mut().value = crate::value::Value::Unknown,
        }
    }

    pub fn imported_name(&mut self, bound: String, name: Name) {
        self.unit.imported_names.insert(bound, name);
    }

    pub fn suppression(&mut self, suppression: Suppression) {
        self.unit.suppressions.push(suppression);
    }

    /// The unit, with its top-level steps.
    pub fn finish(mut self, body: Block) -> Unit {
        self.unit.body = body;
        self.unit
    }
}
