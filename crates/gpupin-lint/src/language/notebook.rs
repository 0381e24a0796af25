//! Jupyter notebooks: code cells are read as one Python program, in their order, where they stand in the JSON.
//!
//! The JSON is never written anew: an edit of a cell goes into the strings of the file. Outputs are not looked at.

use std::ops::Range;

use jsonc_parser::ast;

use super::{UnitBuilder, json, python};
use crate::{
    source::Cell,
    span::{Positions, Span},
    unit::Block,
};

/// Reads the cells.
pub(crate) fn read(text: &str, out: &mut UnitBuilder) -> Block {
    match code(text, out) {
        Some(code) => python::read_cells(&code.text, &code.cells, &code.positions, out),
        None => Block::default(),
    }
}

/// The code of a notebook, put together.
pub(super) struct Code {
    /// The cells, with one line end between them.
    pub(super) text: String,
    pub(super) cells: Vec<Range<usize>>,
    pub(super) positions: Positions,
}

/// Takes the code cells out of a notebook. `None` for broken JSON and for kernels that are not Python.
pub(super) fn code(text: &str, out: &mut UnitBuilder) -> Option<Code> {
    let parsed = json::parse(text, &Positions::identity(), out)?;
    let root = parsed.value?;
    let root = root.as_object()?;
    if !is_python(root) {
        return None;
    }
    let mut joined = Joined { text: String::new(), pieces: Vec::new(), escapes: Vec::new() };
    let mut cells = Vec::new();
    for cell in code_cells(root) {
        if !cells.is_empty() {
            // Belongs to no cell: the place where the one before ends.
            joined.piece(cells.last().map_or(0, |it: &(Range<usize>, Span)| it.1.end as usize));
            joined.text.push('\n');
        }
        let start = joined.text.len();
        let span = joined.source(text, cell);
        cells.push((start..joined.text.len(), span));
    }
    let Joined { text, mut pieces, escapes } = joined;
    if pieces.is_empty() {
        pieces.push((0, 0));
    }
    let positions = Positions::escaped(pieces, escapes);
    out.unit().source.cells = (1..)
        .zip(&cells)
        .map(|(number, (range, span))| {
            let cell = &text[range.clone()];
            // An empty cell shares its place in the joined text with the line end behind it.
            if cell.is_empty() {
                return Cell { number, span: *span, lines: vec![span.start] };
            }
            let starts = std::iter::once(0).chain(cell.match_indices('\n').map(|it| it.0 + 1));
            let place = |it: usize| positions.span(range.start + it..range.start + it).start;
            let lines = starts.filter(|it| *it < cell.len()).map(place).collect();
            Cell { number, span: *span, lines }
        })
        .collect();
    let cells = cells.into_iter().map(|it| it.0).collect();
    Some(Code { text, cells, positions })
}

fn is_python(root: &ast::Object<'_>) -> bool {
    let metadata = root.get_object("metadata");
    let kernel = metadata.and_then(|it| it.get_object("kernelspec")?.get_string("language"));
    let info = metadata.and_then(|it| it.get_object("language_info")?.get_string("name"));
    kernel.or(info).is_none_or(|it| it.value.eq_ignore_ascii_case("python"))
}

/// The `source` of every code cell. Notebooks before version 4 have worksheets, and `input`.
fn code_cells<'a, 'b>(root: &'b ast::Object<'a>) -> Vec<&'b ast::Value<'a>> {
    let mut lists = Vec::from_iter(root.get_array("cells"));
    for sheet in root.get_array("worksheets").map(|it| &*it.elements).unwrap_or_default() {
        lists.extend(sheet.as_object().and_then(|it| it.get_array("cells")));
    }
    let cells = lists.into_iter().flat_map(|it| &it.elements).filter_map(|it| it.as_object());
    let code = cells.filter(|it| it.get_string("cell_type").is_some_and(|it| it.value == "code"));
    code.filter_map(|it| it.get("source").or_else(|| it.get("input"))).map(|it| &it.value).collect()
}

struct Joined {
    text: String,
    pieces: Vec<(u32, u32)>,
    escapes: Vec<(u32, u32)>,
}

fn clamp(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

impl Joined {
    /// Appends a cell's source, one string or a list of lines, and returns its place.
    fn source(&mut self, file: &str, source: &ast::Value<'_>) -> Span {
        let mut span = Span::default();
        match source {
            ast::Value::StringLit(it) => {
                span = Span::new(it.range.start, it.range.end);
                self.string(file, it.range.start..it.range.end);
            }
            ast::Value::Array(it) => {
                span = Span::new(it.range.start, it.range.end);
                for line in it.elements.iter().filter_map(|it| it.as_string_lit()) {
                    self.string(file, line.range.start..line.range.end);
                }
            }
            _ => {}
        }
        span
    }

    /// From here on the text stands at `offset` of the file.
    fn piece(&mut self, offset: usize) {
        let (local, offset) = (clamp(self.text.len()), clamp(offset));
        match self.pieces.last_mut() {
            Some(last) if last.0 == local => last.1 = offset,
            Some(last) if last.1 + (local - last.0) == offset => {}
            _ => self.pieces.push((local, offset)),
        }
    }

    /// Appends the text of a string literal that stands, quotes included, at `range` of the file.
    fn string(&mut self, file: &str, range: Range<usize>) {
        let end = range.end.saturating_sub(1);
        let mut at = range.start + 1;
        while at < end {
            let Some(rest) = file.get(at..end) else { return };
            self.piece(at);
            let plain = rest.find('\\').unwrap_or(rest.len());
            self.text.push_str(&rest[..plain]);
            at += plain;
            if at < end {
                self.piece(at);
                let (letter, len) = escape(&file[at..end]);
                self.text.push(letter);
                at += len;
                self.escapes.push((clamp(self.text.len()), clamp(at)));
            }
        }
    }
}

/// The character an escape at the start of `rest` stands for, and the escape's length.
fn escape(rest: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let letter = match rest[1..].chars().next() {
        Some('n') => '\n',
        Some('t') => '\t',
        Some('r') => '\r',
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('u') => {
            let units = [unit(0), unit(6)];
            let decode = |units: &[Option<u16>]| {
                char::decode_utf16(units.iter().copied().flatten()).next()?.ok()
            };
            return match (decode(&units[..1]), decode(&units)) {
                (Some(letter), _) => (letter, 6),
                (None, Some(letter)) => (letter, 12),
                (None, None) => (
                    char::REPLACEMENT_CHARACTER,
                    rest.len().min(if units[0].is_some() { 6 } else { 2 }),
                ),
            };
        }
        Some(other) => return (other, 1 + other.len_utf8()),
        None => return (char::REPLACEMENT_CHARACTER, 1),
    };
    (letter, 2)
}

#[cfg(test)]
mod tests;
