//! Findings with their source, the way rustc shows errors.

use std::{borrow::Cow, io};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use gpupin_lint::{
    finding::{Finding, Safety, Severity},
    source::Source,
    span::Span,
    unit::UnitId,
};

use crate::{
    report::{Report, Style, notebook},
    terminal::one_line,
};

/// A span over more lines is marked on its first line only: what is wrong with a whole class is told
/// by its name.
const MARKED_LINES: usize = 4;

/// How many entry points a note names.
const NAMED_PROGRAMS: usize = 3;

pub(super) fn write(report: &Report<'_>, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let renderer = if style.colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.term_width(style.width);
    for finding in report.findings() {
        writeln!(out, "{}\n", renderer.render(&[group(report, finding)]))?;
    }
    Ok(())
}

fn group<'a>(report: &'a Report<'_>, finding: &'a Finding) -> Group<'a> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut title = level.primary_title(&finding.message).id(finding.rule.code);
    if let Some(url) = crate::report::url(finding.rule) {
        title = title.id_url(url);
    }

    // The place itself first, then other places, each file once.
    let main = Mark { span: finding.span, label: None };
    let mut excerpts = vec![Excerpt::new(report, finding.unit, main)];
    for related in &finding.related {
        let mark = Mark { span: related.span, label: Some(&related.message) };
        let fits = |it: &&mut Excerpt<'_>| it.fits(report, related.unit, related.span);
        match excerpts.iter_mut().find(fits) {
            Some(excerpt) => excerpt.marks.push(mark),
            None => excerpts.push(Excerpt::new(report, related.unit, mark)),
        }
    }
    let mut group = Group::with_title(title).elements(excerpts.into_iter().map(Excerpt::snippet));
    let note = programs(report, finding).map(|it| Level::NOTE.message(it));
    let help = finding.help.as_ref().map(|it| Level::HELP.message(one_line(it)));
    for message in note.into_iter().chain(help) {
        group = group.element(message);
    }
    if let Some(fix) = &finding.fix {
        let (name, why) = match &fix.safety {
            Safety::Safe => ("safe fix", String::new()),
            Safety::Unsafe(why) => ("unsafe fix", format!(" ({why})")),
        };
        let text = one_line(&format!("{}{why}", fix.title));
        group = group.element(Level::HELP.with_name(name).message(text));
    } else if let Some(why) = &finding.unfixable {
        group = group.element(Level::HELP.with_name("no fix").message(one_line(why)));
    }
    group
}

/// The entry points a finding is about, unless it is the file itself.
fn programs(report: &Report<'_>, finding: &Finding) -> Option<String> {
    if finding.programs.is_empty() || finding.programs == [finding.unit] {
        return None;
    }
    let paths: Vec<_> = finding.programs.iter().map(|it| one_line(report.path(*it))).collect();
    let named = paths[..paths.len().min(NAMED_PROGRAMS)].join("`, `");
    let more = match paths.len().saturating_sub(NAMED_PROGRAMS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let what = if paths.len() == 1 { "program" } else { "programs" };
    Some(format!("concerns the {what} `{named}`{more}"))
}

/// A part of a file, or a notebook's cell, with marked places.
struct Excerpt<'a> {
    unit: UnitId,
    cell: Option<u32>,
    path: String,
    text: Text<'a>,
    /// The finding's own first.
    marks: Vec<Mark<'a>>,
    is_main: bool,
}

/// What an excerpt is cut from.
enum Text<'a> {
    File(&'a Source),
    Cell(notebook::Decoded),
}

struct Mark<'a> {
    span: Span,
    label: Option<&'a str>,
}

impl<'a> Excerpt<'a> {
    fn new(report: &'a Report<'_>, unit: UnitId, mark: Mark<'a>) -> Self {
        let source = &report.unit(unit).source;
        let path = one_line(report.path(unit));
        let cell = notebook::cell(source, mark.span.start);
        let (path, text) = match cell {
            Some(cell) => {
                (format!("{path}:cell {}", cell.number), Text::Cell(notebook::decode(source, cell)))
            }
            None => (path, Text::File(source)),
        };
        let is_main = mark.label.is_none();
        Self { unit, cell: cell.map(|it| it.number), path, text, marks: vec![mark], is_main }
    }

    /// Whether a mark can be shown here too.
    fn fits(&self, report: &Report<'_>, unit: UnitId, span: Span) -> bool {
        let source = &report.unit(unit).source;
        self.unit == unit && self.cell == notebook::cell(source, span.start).map(|it| it.number)
    }

    fn snippet(self) -> Snippet<'a, Annotation<'a>> {
        let Self { text, marks, is_main, path, .. } = self;
        let local = |span: Span| match &text {
            Text::File(_) => span.start as usize..span.end as usize,
            Text::Cell(cell) => cell.offset(span.start)..cell.offset(span.end),
        };
        let ranges: Vec<_> = marks.iter().map(|it| local(it.span)).collect();
        let text: Cow<'a, str> = match text {
            Text::File(source) => Cow::Borrowed(&source.text),
            Text::Cell(cell) => Cow::Owned(cell.text),
        };
        let ranges: Vec<_> = ranges.into_iter().map(|it| shorten(&text, it)).collect();
        // Only the lines from the first mark to the last are handed on: the renderer looks at all it gets.
        let first = ranges.iter().map(|it| it.start).min().unwrap_or_default();
        let last = ranges.iter().map(|it| it.end).max().unwrap_or_default();
        let start = text[..first].rfind('\n').map_or(0, |it| it + 1);
        let end = text[last..].find('\n').map_or(text.len(), |it| last + it);
        // Half of a Windows line break would be shown as a character.
        let end = if text[last..end].ends_with('\r') { end - 1 } else { end };
        let line = text[..start].bytes().filter(|it| *it == b'\n').count() + 1;
        let part = match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[start..end]),
            Cow::Owned(text) => Cow::Owned(text[start..end].to_owned()),
        };
        let annotations = marks.iter().zip(ranges).enumerate().map(|(index, (mark, range))| {
            let kind = if is_main && index == 0 {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            kind.span(range.start - start..range.end - start).label(mark.label)
        });
        Snippet::source(part).path(path).line_start(line).annotations(annotations)
    }
}

/// A range inside the text that marks what people should look at: at least one character where there
/// is one, no trailing line break, and not too many lines.
fn shorten(text: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let boundary = |offset: usize| {
        let offset = offset.min(text.len());
        (0..=offset).rev().find(|it| text.is_char_boundary(*it)).unwrap_or_default()
    };
    let (start, end) = (boundary(range.start), boundary(range.end.max(range.start)));
    let marked = text[start..end].trim_end();
    let lines = marked.lines().count();
    let marked =
        if lines > MARKED_LINES { marked.lines().next().unwrap_or_default() } else { marked };
    start..start + marked.trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn marks_stay_inside_the_text_and_short() {
        for (text, range, expected) in [
            ("a = 1\n", 0..6, "a = 1"),
            ("a = 1\r\nb", 0..7, "a = 1"),
            ("class A:\n  a\n  b\n  c\n  d\n", 0..25, "class A:"),
            ("if a:\n  b\n", 0..10, "if a:\n  b"),
            ("ä", 1..9, "ä"),
            ("", 0..0, ""),
        ] {
            assert_eq!(&text[shorten(text, range)], expected);
        }
    }
}
