use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
};

use gpupin_lint::{
    span::Span,
    unit::{Unit, UnitId},
};
use lsp_types::{Location, Range, Uri};

use super::{
    document::Document,
    text::{Encoding, Lines},
    uri,
};
use crate::project::{Project, normal};

/// The open documents, by path.
pub(super) type Documents = BTreeMap<PathBuf, Document>;

/// A byte order mark.
const MARK: char = '\u{feff}';

/// Where things are in the files of a scan, for the editor.
#[derive(Debug)]
pub(super) struct Places<'a> {
    project: &'a Project,
    pub(super) units: &'a [Unit],
    documents: &'a Documents,
    encoding: Encoding,
    files: BTreeMap<UnitId, File<'a>>,
}

#[derive(Debug)]
struct File<'a> {
    uri: Uri,
    version: Option<i32>,
    lines: Lines<'a>,
    /// How many bytes the editor's text has in front of what was scanned.
    mark: u32,
}

impl<'a> Places<'a> {
    pub(super) fn new(
        project: &'a Project,
        units: &'a [Unit],
        documents: &'a Documents,
        encoding: Encoding,
    ) -> Self {
        Self { project, units, documents, encoding, files: BTreeMap::new() }
    }

    pub(super) fn unit(&self, unit: UnitId) -> &'a Unit {
        &self.units[unit.0 as usize]
    }

    pub(super) fn path(&self, unit: UnitId) -> PathBuf {
        normal(&self.project.root.join(&self.unit(unit).source.path))
    }

    /// Of a file that is not there, by its path as seen from the root.
    pub(super) fn new_uri(&self, path: &str) -> Uri {
        uri::of(&normal(&self.project.root.join(path)))
    }

    pub(super) fn uri(&mut self, unit: UnitId) -> Uri {
        self.file(unit).uri.clone()
    }

    /// Of the document, if it is open.
    pub(super) fn version(&mut self, unit: UnitId) -> Option<i32> {
        self.file(unit).version
    }

    pub(super) fn range(&mut self, unit: UnitId, span: Span) -> Range {
        let file = self.file(unit);
        file.lines.range(Span { start: span.start + file.mark, end: span.end + file.mark })
    }

    pub(super) fn location(&mut self, unit: UnitId, span: Span) -> Location {
        Location { uri: self.uri(unit), range: self.range(unit, span) }
    }

    fn file(&mut self, unit: UnitId) -> &File<'a> {
        let path = self.path(unit);
        let scanned = self.unit(unit).source.text.as_str();
        match self.files.entry(unit) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let document = self.documents.get(&path);
                let text = document.map_or(scanned, |it| it.text.as_str());
                let has_mark = text.starts_with(MARK) && !scanned.starts_with(MARK);
                entry.insert(File {
                    uri: document.map_or_else(|| uri::of(&path), |it| it.uri.clone()),
                    version: document.map(|it| it.version),
                    lines: Lines::new(text, self.encoding),
                    mark: if has_mark { 3 } else { 0 },
                })
            }
        }
    }
}
