//! Readers: one per language, each turns text into events and their order.
//!
//! A reader is `language/<name>.rs` with `fn read(text, &Positions, &mut UnitBuilder) -> Block`. It may embed another:
//! a workflow's `run:` goes through the shell reader, a notebook cell through the Python reader, with
//! [`Positions`] that lead back to the file.

use std::collections::BTreeSet;

use crate::{
    source::{Encoding, Language, Source},
    span::{Positions, Span},
    unit::{Block, Does, Event, EventId, Function, Step, Suppression, Unit, Unread},
    value::{Name, Spanned},
};

mod batch;
pub(crate) mod command;
mod compose;
mod container;
mod decode;
mod detect;
mod dict;
mod dockerfile;
mod dotenv;
mod grammar;
mod ini;
mod interpolate;
mod json;
mod kubernetes;
mod lines;
mod makefile;
mod notebook;
mod possible;
mod powershell;
pub(crate) mod python;
pub(crate) mod settings;
pub(crate) mod shell;
pub(crate) mod suppress;
mod systemd;
mod toml;
mod workflow;
mod yaml;

#[cfg(test)]
mod tests;

pub use decode::encode;
pub use detect::language;

/// How many bytes of a file are read, for languages that people write by hand in small files. A larger one is generated.
const LARGEST: usize = 4 << 20;

/// Reads a file. `None` when its language is not one that can matter.
///
/// `path` is relative to the working directory and `/`-separated. Files larger than 4 MiB are read in
/// Python and notebooks only; others get a syntax error that says so, and no event.
pub fn read(path: &str, bytes: &[u8]) -> Option<Unit> {
    let language = language(path, bytes)?;
    let (text, encoding) = decode::decode(bytes, language);
    let mut out = UnitBuilder::new(path, language, encoding, text.clone());
    let size_matters = !matches!(language, Language::Python | Language::Notebook);
    if size_matters && text.len() > LARGEST {
        let what = format!("too large: files of this kind are read up to {} MiB", LARGEST >> 20);
        out.unread(Unread::Everything, Span::new(0, 0), what);
        return Some(out.finish(Block::default()));
    }
    let at = Positions::identity();
    let body = match language {
        Language::Shell => {
            let entry = &mut out.unit().entry;
            entry.started_as_is = true;
            entry.shebang = text.starts_with("#!");
            shell::read(&text, &at, &mut out)
        }
        Language::Compose | Language::Kubernetes => {
            out.unit().entry.started_as_is = true;
            let read = if language == Language::Compose { compose::read } else { kubernetes::read };
            read(&text, &at, &mut out)
        }
        Language::Dockerfile => {
            out.unit().entry.started_as_is = true;
            dockerfile::read(&text, &at, &mut out)
        }
        Language::Dotenv => dotenv::read(&text, &at, &mut out),
        Language::Systemd => {
            out.unit().entry.started_as_is = true;
            systemd::read(&text, &at, &mut out)
        }
        Language::Ini => ini::read(&text, &at, &mut out),
        Language::Json => json::read(&text, &at, &mut out),
        Language::Toml => toml::read(&text, &at, &mut out),
        Language::Workflow => {
            out.unit().entry.started_as_is = true;
            workflow::read(&text, &at, &mut out)
        }
        Language::Yaml => yaml::read(&text, &at, &mut out),
        Language::Batch => {
            out.unit().entry.started_as_is = true;
            batch::read(&text, &at, &mut out)
        }
        Language::Makefile => {
            out.unit().entry.started_as_is = true;
            makefile::read(&text, &at, &mut out)
        }
        Language::PowerShell => {
            out.unit().entry.started_as_is = true;
            powershell::read(&text, &at, &mut out)
        }
        Language::Python => python::read(&text, &at, &mut out),
        Language::Notebook => {
            out.unit().entry.started_as_is = true;
            notebook::read(&text, &mut out)
        }
    };
    possible::in_data(&text, &mut out);
    Some(out.finish(body))
}

/// Collects what readers find in one file.
#[derive(Debug)]
pub struct UnitBuilder {
    unit: Unit,
    function: Option<String>,
    service: Option<String>,
    /// Where the comments of the suppressions start.
    suppressed: BTreeSet<u32>,
    /// How many embedded texts (`bash -c 'bash -c …'`) are being read.
    depth: u32,
}

/// How deep texts may be embedded in texts.
const DEEPEST_EMBEDDING: u32 = 8;

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
                mocks: Vec::new(),
                cpu_arms: Vec::new(),
                suppressions: Vec::new(),
                console_scripts: Vec::new(),
                possible: Vec::new(),
                syntax_errors: Vec::new(),
                unread: None,
            },
            function: None,
            service: None,
            suppressed: BTreeSet::new(),
            depth: 0,
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

    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    pub fn source(&self) -> &Source {
        &self.unit.source
    }

    /// Begins an embedded text. `false` when texts are embedded too deeply; otherwise [`Self::ascend`] ends it.
    pub(crate) fn descend(&mut self) -> bool {
        if self.depth >= DEEPEST_EMBEDDING {
            return false;
        }
        self.depth += 1;
        true
    }

    pub(crate) fn ascend(&mut self) {
        self.depth -= 1;
    }

    /// A builder for a text in this file whose names and marks are its own.
    pub(crate) fn embedded(&self) -> Self {
        let Source { path, language, text, encoding, .. } = self.source();
        Self { depth: self.depth, ..Self::new(path, *language, *encoding, text.clone()) }
    }

    /// A path no other function of the file has: two `run:` blocks may both define `setup`.
    pub(crate) fn free_function_path(&self, name: &str) -> String {
        let mut path = name.to_owned();
        for number in 2..1000 {
            if !self.unit.functions.contains_key(&path) {
                break;
            }
            path = format!("{name}#{number}");
        }
        path
    }

    /// A file of data does not parse; only what the first such error says counts.
    pub(crate) fn unread(&mut self, how_much: Unread, span: Span, why: String) {
        self.unit.unread.get_or_insert(how_much);
        self.unit.syntax_errors.push((span, why));
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

    pub(crate) fn suppressions(&mut self, found: impl IntoIterator<Item = Suppression>) {
        for it in found {
            // A comment of embedded text may have been seen by the reader of the text around it.
            if self.suppressed.insert(it.span.start) {
                self.unit.suppressions.push(it);
            }
        }
    }

    /// The unit, with its top-level steps.
    pub fn finish(mut self, body: Block) -> Unit {
        self.unit.body = body;
        self.unit
    }
}
