//! Whole lines of Python: of a module, or of a notebook's cells, where each is a string of the JSON.

use std::ops::Range;

use crate::{
    finding::{Edit, Finding, Safety},
    language::python::layout::{Layout, Statement},
    project::Project,
    source::{Language, Source},
    span::Span,
    unit::UnitId,
};

mod removal;

/// A Python file in which lines can be put and taken out.
pub(super) struct Script<'a> {
    unit: UnitId,
    source: &'a Source,
    /// Notebooks have none: their statements are taken for lines.
    layout: Option<Layout>,
}

/// A statement that can be taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removable {
    /// Whole lines, in the file.
    lines: Range<usize>,
    /// The comment behind it, as a line of its own that stays.
    comment: String,
    statement: Statement,
}

impl<'a> Script<'a> {
    /// `None` for another language, and for a module that does not parse.
    pub(super) fn of(unit: UnitId, source: &'a Source) -> Option<Self> {
        let layout = match source.language {
            Language::Python => Some(Layout::of(&source.text)?),
            Language::Notebook => None,
            _ => return None,
        };
        Some(Self { unit, source, layout })
    }

    /// Where lines go that are to run before anything else.
    pub(super) fn top(&self) -> Option<usize> {
        match &self.layout {
            Some(layout) => layout.top,
            None => self.top_of_notebook(),
        }
    }

    /// Where lines go that need `import os`, if the file begins with that.
    pub(super) fn behind_import_os(&self) -> Option<usize> {
        let top = self.layout.as_ref()?.top?;
        let text = &self.source.text;
        let start = top + text[top..].find(|it: char| !it.is_whitespace())?;
        let end = start + text[start..].find('\n')? + 1;
        (text[start..end].trim_end() == "import os").then_some(end)
    }

    fn top_of_notebook(&self) -> Option<usize> {
        for cell in &self.source.cells {
            let lines = cell.lines.iter().map(|it| *it as usize);
            let text = |at: usize| self.source.text[at..].trim_start_matches(' ');
            // `%%bash`: what stands in it is no Python.
            if lines.clone().any(|it| text(it).starts_with("%%")) {
                continue;
            }
            let goes_first = |it: &usize| {
                let text = text(*it);
                text.starts_with("from __future__") || text.starts_with('#')
            };
            // A future import must stay first; what only comments on it stays with it.
            let futures =
                lines.clone().filter(|it| text(*it).starts_with("from __future__")).count();
            let place = if futures == 0 {
                lines.clone().next()
            } else {
                lines.clone().find(|it| !goes_first(it))
            };
            // A cell without lines has no string to write into.
            let is_in_string = |it: &usize| {
                let before = &self.source.text[..*it];
                before.ends_with('"') || before.ends_with("\\n")
            };
            if let Some(place) = place.filter(is_in_string) {
                return Some(place);
            }
        }
        None
    }

    /// Whether lines that go to the top need a blank one in front.
    pub(super) fn wants_blank_before(&self, place: usize) -> bool {
        let before = &self.source.text[..place];
        self.layout.is_some()
            && !before.is_empty()
            && !before.ends_with("\n\n")
            && !before.ends_with("\n\r\n")
    }

    /// Whether lines that go to the top need a blank one behind.
    pub(super) fn wants_blank_behind(&self, place: usize) -> bool {
        let behind = &self.source.text[place..];
        self.layout.is_none() || !(behind.is_empty() || behind.starts_with(['\n', '\r']))
    }

    /// Puts lines, which have no line end, in front of the line that starts at `place`.
    pub(super) fn insert(&self, place: usize, lines: &[String]) -> Edit {
        let replacement = self.written(place, lines);
        let start = self.element(place).map_or(place, |it| it.start);
        Edit { unit: self.unit, span: Span::new(start, start), replacement }
    }

    /// Lines in the form that they have at a place.
    fn written(&self, place: usize, lines: &[String]) -> String {
        let text = &self.source.text;
        if self.layout.is_some() {
            let end = line_end(text);
            let mut written = String::new();
            // The last line of the file may have no end.
            if place == text.len() && !text.is_empty() && !text.ends_with('\n') {
                written.push_str(end);
            }
            for line in lines {
                written.push_str(line);
                written.push_str(end);
            }
            return written;
        }
        let escaped = |line: &String| {
            let quoted = serde_json::Value::from(format!("{line}\n")).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        let element = self.element(place);
        let mut written = String::new();
        for line in lines {
            let parts = match &element {
                Some(element) => ["\"", &escaped(line), "\",", element.separator].concat(),
                None => escaped(line),
            };
            written.push_str(&parts);
        }
        written
    }

    /// Ends a line of a cell and begins another one, where the line at `place` is.
    pub(super) fn next_line(&self, place: usize) -> Option<String> {
        match self.element(place) {
            Some(element) => Some(format!("\\n\",{}\"", element.separator)),
            None => self.line_of_string(place).map(|_| "\\n".to_owned()),
        }
    }

    /// The string of a list that holds the line which starts at `place`.
    fn element(&self, place: usize) -> Option<Element<'a>> {
        if self.layout.is_some() {
            return None;
        }
        let text = &self.source.text;
        let cell = self.source.cells.iter().find(|it| it.span.range().contains(&place))?;
        let start = place.checked_sub(1).filter(|it| text.as_bytes()[*it] == b'"')?;
        if !self.source.slice(cell.span).starts_with('[') {
            return None;
        }
        let before = text[..start].trim_end().len();
        Some(Element { start, separator: if before == start { " " } else { &text[before..start] } })
    }

    /// The place of the block between two lines, these included.
    pub(super) fn block(&self, first: &str, last: &str) -> Option<Range<usize>> {
        let text = &self.source.text;
        let start = text.find(first)?;
        let end = start + text[start..].find(last)?;
        let (start, end) = (self.line_at(start)?.start, self.line_at(end)?.end);
        Some(start..end)
    }

    /// Replaces whole lines by others.
    pub(super) fn replace(&self, old: &Range<usize>, lines: &[String]) -> Edit {
        let place = if self.layout.is_some() { old.start } else { old.start + 1 };
        let replacement = self.written(place, lines);
        Edit { unit: self.unit, span: Span::new(old.start, old.end), replacement }
    }

    /// Takes whole lines out, with the blank one behind them.
    pub(super) fn without_block(&self, lines: &Range<usize>) -> Edit {
        let text = &self.source.text;
        let blank = ["\r\n", "\n"].iter().find(|it| text[lines.end..].starts_with(**it));
        let end = match blank {
            Some(blank) if self.layout.is_some() => lines.end + blank.len(),
            _ => lines.end,
        };
        Edit { unit: self.unit, span: Span::new(lines.start, end), replacement: String::new() }
    }

    /// The whole line, with its end, or the element of the list, with its comma, at an offset.
    fn line_at(&self, offset: usize) -> Option<Range<usize>> {
        let text = &self.source.text;
        if self.layout.is_some() {
            let start = text[..offset].rfind('\n').map_or(0, |it| it + 1);
            let end = text[offset..].find('\n').map_or(text.len(), |it| offset + it + 1);
            return Some(start..end);
        }
        let lines = self.source.cells.iter().flat_map(|it| &it.lines).map(|it| *it as usize);
        let line = lines.filter(|it| *it <= offset).max()?;
        let element = self.element(line)?;
        // Only a line that another one follows: the last has no comma, and no line end in it.
        let close = line + end_of_string(&text[line..])?;
        let is_followed = text[..close].ends_with("\\n") && text[close..].starts_with("\",");
        if !is_followed || offset > close {
            return None;
        }
        let close = close + "\",".len();
        let next = close + text[close..].len() - text[close..].trim_start().len();
        Some(element.start..next)
    }

    /// The statement around a place, if it has its lines for itself and nobody needs what it gives.
    pub(super) fn removable(&self, place: Span) -> Option<Removable> {
        let Some(layout) = &self.layout else {
            return self.removable_of_notebook(place);
        };
        let statement = layout.around(&place.range())?;
        self.whole(statement).filter(|it| it.statement.is_plain && !self.has_comment(it))
    }

    /// A statement that has its lines for itself.
    fn whole(&self, statement: &Statement) -> Option<Removable> {
        let text = &self.source.text;
        let range = &statement.range;
        let start = text[..range.start].rfind('\n').map_or(0, |it| it + 1);
        let end = text[range.end..].find('\n').map_or(text.len(), |it| range.end + it + 1);
        let before = text[start..range.start].trim();
        let behind = text[range.end..end].trim();
        let is_whole = before.is_empty() && (behind.is_empty() || behind.starts_with('#'));
        let mut comment = String::new();
        if !behind.is_empty() && !is_for_tools(behind) {
            let indent = &text[start..range.start];
            comment = [indent, behind, line_end(text)].concat();
        }
        is_whole.then(|| Removable { lines: start..end, comment, statement: statement.clone() })
    }

    /// Whether a comment within a statement would be lost with it.
    fn has_comment(&self, it: &Removable) -> bool {
        let text = &self.source.text[it.statement.range.clone()];
        text.contains('\n') && text.contains('#')
    }

    fn removable_of_notebook(&self, place: Span) -> Option<Removable> {
        let (start, end) = (place.start as usize, place.end as usize);
        let opening = start.checked_sub(1)?;
        let statement =
            Statement { range: place.range(), block: 0, of_block: None, is_plain: true };
        if let Some(lines) = self.line_of_string(start) {
            let rest = &self.source.text[end..lines.end];
            let is_whole = lines.start == start && matches!(rest, "" | "\\n");
            return is_whole.then_some(Removable { lines, comment: String::new(), statement });
        }
        self.element(start)?;
        let rest = &self.source.text[end..];
        // In one line of its own, with nothing behind it.
        let is_whole = |rest: &str| rest.starts_with('"');
        if let Some(line) = self.line_at(start)
            && line.start == opening
            && line.end > end
            && rest.strip_prefix("\\n").map_or_else(|| is_whole(rest), is_whole)
        {
            return Some(Removable { lines: line, comment: String::new(), statement });
        }
        // The last line keeps its place in the list, which has no comma behind it.
        rest.starts_with('"').then_some(Removable {
            lines: start..end,
            comment: String::new(),
            statement,
        })
    }

    /// The line at a place of a cell that is one string, with the line end in it.
    fn line_of_string(&self, place: usize) -> Option<Range<usize>> {
        let cell = self.source.cells.iter().find(|it| it.span.range().contains(&place))?;
        if !self.source.slice(cell.span).starts_with('"') {
            return None;
        }
        let lines = || cell.lines.iter().map(|it| *it as usize);
        let start = lines().filter(|it| *it <= place).max()?;
        let end = lines().find(|it| *it > place).unwrap_or(cell.span.end as usize - 1);
        Some(start..end)
    }

    /// The line of a statement once more, with parts replaced, to be put in front of it. `None` if the statement does
    /// not stand in a line of its own.
    pub(super) fn copied(
        &self,
        place: Span,
        parts: &[(&Range<usize>, &str)],
    ) -> Option<(usize, String)> {
        let Removable { lines, statement, .. } = self.removable(place)?;
        let text = &self.source.text;
        // Without its comment, which is about the other.
        let end = if self.layout.is_some() { statement.range.end } else { place.end as usize };
        if text[lines.start..end].contains('\n') {
            return None;
        }
        // The last line of a cell begins behind its quote.
        let in_string = self.layout.is_none() && self.line_of_string(lines.start).is_some();
        let is_last = self.layout.is_none() && !in_string && !text[lines.start..].starts_with('"');
        let (start, mut line) =
            if is_last { (lines.start - 1, "\"".to_owned()) } else { (lines.start, String::new()) };
        let mut copied = lines.start;
        for (range, new) in parts {
            line.push_str(text.get(copied..range.start)?);
            line.push_str(new);
            copied = range.end;
        }
        line.push_str(text.get(copied..end)?);
        match self.element(start + 1) {
            _ if self.layout.is_some() => line.push_str(line_end(text)),
            _ if in_string => line.push_str("\\n"),
            Some(element) => line = format!("{line}\\n\",{}", element.separator),
            None => return None,
        }
        Some((start, line))
    }

    /// Where lines to be taken out end, so that no blank line stands behind another one.
    fn without_double_blank(&self, lines: &Range<usize>) -> usize {
        let text = &self.source.text;
        let is_blank_before = text[..lines.start].ends_with("\n\n")
            || text[..lines.start].ends_with("\n\r\n")
            || lines.start == 0;
        let rest = &text[lines.end..];
        let blank =
            ["\r\n", "\n"].iter().find(|it| rest.starts_with(**it)).map_or(0, |it| it.len());
        if is_blank_before && self.layout.is_some() { lines.end + blank } else { lines.end }
    }
}

/// Where the string of a JSON text ends whose content begins it: the offset of its closing quote.
fn end_of_string(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// Offers to take out a statement.
pub(crate) fn without(
    finding: Finding,
    project: &Project<'_>,
    unit: UnitId,
    place: Span,
    safety: Safety,
) -> Finding {
    // `os.environ.update(…)` may set others too.
    let of_statement = project.unit(unit).events.iter().filter(|it| it.span == place);
    let edits = match Script::of(unit, &project.unit(unit).source) {
        Some(script) if of_statement.count() == 1 => {
            script.removable(place).map(|it| script.remove(project, &[it], &[]))
        }
        _ => None,
    };
    match edits {
        Some(edits) => finding.with_fix("Take it out", safety, edits),
        None => finding,
    }
}

struct Element<'a> {
    /// Of its opening quote.
    start: usize,
    /// What stands between it and the one before.
    separator: &'a str,
}

/// Whether a comment speaks to tools about its line only.
fn is_for_tools(comment: &str) -> bool {
    let body = comment.trim_start_matches('#').trim();
    let lower = body.to_ascii_lowercase();
    let tools = ["noqa", "type:", "pylint:", "fmt:", "nosec", "isort:", "ruff:", "gpupin:"];
    tools.iter().any(|it| lower.starts_with(it)) && !body.contains("  ") && !body.contains('#')
}

/// The line end that a text uses.
pub(super) fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}
