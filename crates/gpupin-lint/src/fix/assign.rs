//! Correcting a variable where it is set, in any language: its value, or the same once more for another variable.

use std::ops::Range;

use gpupin_policy::visibility::Mask;

use super::script::{Script, line_end};
use crate::{
    finding::Edit,
    program::Write,
    project::{Known, Literal, Project},
    source::{Language, Source},
    span::Span,
    unit::Does,
    value::Value,
};

/// Writes another value where the value of a write stands. `None` if that place is not certain.
pub(crate) fn value(project: &Project<'_>, write: Write, new: &str) -> Option<Edit> {
    let (_, value) = project.written(write)?;
    let source = &project.unit(write.unit).source;
    let edit = |span, replacement| Some(Edit { unit: write.unit, span, replacement });
    let mut all = project.known(write.unit, value);
    if is_conditional(project, write) {
        // What hides every GPU is somebody's way to the CPU.
        all.retain(|it| !hides_every_gpu(it));
    }
    if let [known] = &*all
        && known.unit == write.unit
        && value.span.contains(known.span)
    {
        return edit_literal(source, known, new)
            .and_then(|(span, replacement)| edit(span, replacement));
    }
    // A name or a call gives it: other places may use that.
    let python = matches!(source.language, Language::Python | Language::Notebook);
    let is_known = !all.is_empty();
    if !python
        || !is_known
        || is_conditional(project, write)
        || source.slice(value.span).contains('\n')
    {
        return None;
    }
    edit(value.span, quoted(source, new))
}

/// Whether a condition decides what a write sets.
pub(super) fn is_conditional(project: &Project<'_>, write: Write) -> bool {
    project.written(write).is_some_and(|(_, value)| {
        matches!(value.value, Value::OneOf(_)) || project.known(write.unit, value).len() > 1
    })
}

/// Whether nobody can tell all that a write may set.
pub(super) fn is_partly_unknown(project: &Project<'_>, write: Write) -> bool {
    let Some((_, value)) = project.written(write) else { return false };
    let (unit, value) = match &value.value {
        Value::Name(name) => project.constant(write.unit, name).unwrap_or((write.unit, value)),
        _ => (write.unit, value),
    };
    match &value.value {
        Value::OneOf(arms) => arms.iter().any(|it| project.known(unit, it).is_empty()),
        _ => false,
    }
}

pub(super) fn hides_every_gpu(known: &Known) -> bool {
    match &known.literal {
        Literal::Str(text) => Mask::parse(text).hides_every_gpu(),
        Literal::Int(number) => *number < 0,
        _ => false,
    }
}

fn edit_literal(source: &Source, known: &Known, new: &str) -> Option<(Span, String)> {
    match &known.literal {
        Literal::Str(text) => {
            let span = source.find_in(known.span, text)?;
            let is_bare = source.slice(known.span).trim() == text;
            // A number is a value in PowerShell, and any other word a command.
            let wants_quotes = source.language == Language::PowerShell;
            let written =
                if is_bare && wants_quotes { quoted(source, new) } else { new.to_owned() };
            Some((span, written))
        }
        Literal::Int(number) => {
            let number = number.to_string();
            let span = source.find_in(known.span, &number)?;
            let is_bare = source.slice(known.span).trim() == number;
            let wants_quotes = matches!(
                source.language,
                Language::Python
                    | Language::Notebook
                    | Language::Toml
                    | Language::Json
                    | Language::PowerShell
            );
            Some((span, if is_bare && wants_quotes { quoted(source, new) } else { new.to_owned() }))
        }
        _ => None,
    }
}

fn quoted(source: &Source, text: &str) -> String {
    if source.language == Language::Notebook {
        format!("\\\"{text}\\\"")
    } else {
        format!("\"{text}\"")
    }
}

/// Sets another variable in front of a write, in the same way. `None` where that way is not understood.
pub(crate) fn beside(project: &Project<'_>, write: Write, name: &str, value: &str) -> Option<Edit> {
    let source = &project.unit(write.unit).source;
    let piece = Piece::of(project, write)?;
    let python = matches!(source.language, Language::Python | Language::Notebook);
    let (at, replacement) = if python {
        in_python(project, write, &piece, name, value)?
    } else {
        piece.as_line(name, value).or_else(|| piece.in_line(name, value))?
    };
    // The name is written again, so that a fix that takes the statement out does not leave this behind.
    let end = piece.name.end;
    let replacement = replacement + &source.text[at..end];
    Some(Edit { unit: write.unit, span: Span::new(at, end), replacement })
}

/// Where a variable's name and value stand.
struct Piece<'a> {
    source: &'a Source,
    name: Range<usize>,
    /// With its quotes.
    value: Range<usize>,
}

impl<'a> Piece<'a> {
    fn of(project: &Project<'a>, write: Write) -> Option<Self> {
        let source = &project.unit(write.unit).source;
        let (name, value) = project.written(write)?;
        let does = &project.event(write.unit, write.event).does;
        let name = if let Does::SetVariable(it) = does {
            source.find_in(it.name_span, name)?.range()
        } else {
            // A child's environment does not tell where its names stand: right before their values.
            const FAR: usize = 200;
            let end = value.span.start as usize;
            let start = source.text[..end].rfind(name).filter(|it| end - it < FAR)?;
            start..start + name.len()
        };
        let value = value.span.range();
        (name.end <= value.start).then_some(Self { source, name, value })
    }

    fn text(&self) -> &'a str {
        &self.source.text
    }

    /// Where the line starts that the name stands in.
    fn line_start(&self) -> usize {
        self.text()[..self.name.start].rfind('\n').map_or(0, |it| it + 1)
    }

    /// What stands on the line in front of the name.
    fn lead(&self) -> &'a str {
        &self.text()[self.line_start()..self.name.start]
    }

    /// What stands between name and value.
    fn gap(&self) -> &'a str {
        &self.text()[self.name.end..self.value.start]
    }

    /// What stands on the line behind the value.
    fn rest(&self) -> &'a str {
        let rest = &self.text()[self.value.end..];
        rest.split('\n').next().unwrap_or_default().trim_end_matches('\r')
    }

    /// The other variable's value in the quotes that this one's has.
    fn requoted(&self, value: &str) -> String {
        let old = &self.text()[self.value.clone()];
        let quote = ["\\\"", "\"", "'"]
            .into_iter()
            .find(|it| old.len() > it.len() && old.starts_with(it) && old.ends_with(it));
        match quote {
            Some(quote) => format!("{quote}{value}{quote}"),
            None if matches!(
                self.source.language,
                Language::Python | Language::Notebook | Language::PowerShell
            ) =>
            {
                quoted(self.source, value)
            }
            None => value.to_owned(),
        }
    }

    /// A line of its own, in front, where the variable has one.
    fn as_line(&self, name: &str, value: &str) -> Option<(usize, String)> {
        let (lead, gap, rest) = (self.lead(), self.gap(), self.rest());
        let opening = lead.trim_start().trim_end_matches(['"', '\'']);
        let has_line = match opening.strip_prefix("Environment=") {
            Some(more) => more.is_empty(),
            None => !opening.contains(['=', '{', '(', '&', ';', '|', '<', '`', ',']),
        };
        // Kubernetes writes name and value on two lines.
        if !has_line || gap.matches('\n').count() > usize::from(gap.contains("value:")) {
            return None;
        }
        let words = opening.split_whitespace();
        let is_command = words.clone().any(|it| {
            matches!(
                it,
                "docker"
                    | "podman"
                    | "-e"
                    | "--env"
                    | "env"
                    | "sudo"
                    | "RUN"
                    | "run:"
                    | "CMD"
                    | "exec"
            ) || it.starts_with("ExecStart")
        });
        if is_command {
            return None;
        }
        let closing: String = rest.chars().take_while(|it| "\"',".contains(*it)).collect();
        let behind = rest[closing.len()..].trim();
        let continues =
            behind == "\\" || self.text()[..self.line_start()].trim_end().ends_with('\\');
        if !(behind.is_empty() || behind.starts_with('#') || behind == "\\") {
            return None;
        }
        let backslash = if continues { " \\" } else { "" };
        let end = line_end(self.text());
        let value = self.requoted(value);
        Some((self.line_start(), format!("{lead}{name}{gap}{value}{closing}{backslash}{end}")))
    }

    /// On the same line, in front.
    fn in_line(&self, name: &str, value: &str) -> Option<(usize, String)> {
        let (lead, gap) = (self.lead(), self.gap());
        let value = self.requoted(value);
        if self.source.language == Language::PowerShell {
            let start = self.line_start() + lead.strip_suffix("$env:")?.len();
            return Some((start, format!("$env:{name}{gap}{value}; ")));
        }
        if self.source.language == Language::Batch || lead.ends_with(['"', '\'', '$']) {
            return None;
        }
        let last = lead.split_whitespace().last().unwrap_or_default();
        let separator = match (gap, last) {
            ("=", "-e" | "--env") => format!(" {last} "),
            ("=", _) => " ".to_owned(),
            (_, it) if gap.trim() == ":" && it.ends_with(['{', ',']) => ", ".to_owned(),
            _ => return None,
        };
        Some((self.name.start, format!("{name}{gap}{value}{separator}")))
    }
}

/// A statement in front, or an item of the same dictionary or call.
fn in_python(
    project: &Project<'_>,
    write: Write,
    piece: &Piece<'_>,
    name: &str,
    value: &str,
) -> Option<(usize, String)> {
    let source = piece.source;
    let event = project.event(write.unit, write.event);
    // `!command` and `%env` are no Python.
    let opening = piece.lead().trim_start().trim_start_matches(['"', '[', ' ']);
    if source.language == Language::Notebook
        && (opening.starts_with(['!', '%'])
            || is_cell_of_another_language(source, piece.name.start))
    {
        return None;
    }
    let value = piece.requoted(value);
    let of_statement = |span: &Span| *span == event.span;
    let others = project.unit(write.unit).events.iter().map(|it| it.span).filter(of_statement);
    let is_item = {
        let gap = piece.gap().trim_start_matches(['\\', '"', '\'']).trim();
        gap == ":" || gap == "="
    };
    if !is_item && others.count() == 1 && write.slot.is_none() {
        let script = Script::of(write.unit, source)?;
        return script.copied(event.span, &[(&piece.name, name), (&piece.value, &value)]);
    }
    if !is_item || source.slice(Span::new(piece.name.start, piece.value.end)).contains('\n') {
        return None;
    }
    // The key begins with its quote.
    let quote = ["\\\"", "\"", "'"].into_iter().find(|it| piece.lead().ends_with(it));
    let start = piece.name.start - quote.map_or(0, str::len);
    let quote = quote.unwrap_or_default();
    Some((start, format!("{quote}{name}{}{value}, ", piece.gap())))
}

/// Whether a place of a notebook is in a cell such as `%%bash`.
fn is_cell_of_another_language(source: &Source, place: usize) -> bool {
    let mut cells = source.cells.iter();
    let cell = cells.find(|it| it.span.range().contains(&place));
    let first = cell.and_then(|it| it.lines.first()).map(|it| *it as usize);
    first.is_some_and(|it| source.text[it..].starts_with("%%"))
}
