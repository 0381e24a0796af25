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
    unit::{Does, UnitId},
    value::Value,
};

/// Writes another value where the value of a write stands. `None` if that place is not certain.
pub(crate) fn value(project: &Project<'_>, write: Write, new: &str) -> Option<Edit> {
    let (_, value) = project.written(write)?;
    let source = &project.unit(write.unit).source;
    let edit = |(span, replacement)| Edit { unit: write.unit, span, replacement };
    let is_conditional = is_conditional(project, write);
    let mut known = project.known(write.unit, value);
    if is_conditional {
        // What hides every GPU is somebody's way to the CPU.
        known.retain(|it| !hides_every_gpu(it));
    }
    if let [known] = &*known
        && known.unit == write.unit
        && value.span.contains(known.span)
        && !is_shared(project, write.unit, known.span)
    {
        return edit_literal(project, write, known, new).map(edit).or_else(|| {
            let is_put_together =
                !is_conditional && matches!(known.literal, Literal::Str(_)) && is_python(source);
            is_put_together
                .then(|| expression(project, write))
                .flatten()
                .map(|span| edit((span, quoted(source, new))))
        });
    }
    if let [known] = &*known
        && known.by_default
    {
        return (known.unit == write.unit && is_python(source))
            .then(|| edit_default(source, known, new))
            .flatten()
            .map(edit);
    }
    // A name or a call gives it: other places may use that.
    if !is_python(source) || known.is_empty() || is_conditional {
        return None;
    }
    expression(project, write).map(|span| edit((span, quoted(source, new))))
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

fn is_python(source: &Source) -> bool {
    matches!(source.language, Language::Python | Language::Notebook)
}

/// Whether a literal defines a name (`GPU = 0`) that more than one place uses.
fn is_shared(project: &Project<'_>, unit: UnitId, literal: Span) -> bool {
    let source = &project.unit(unit).source;
    if !is_python(source) {
        return false;
    }
    let before = &source.text[..literal.start as usize];
    let statement = before.rsplit(['\n', ';', '"']).next().unwrap_or_default();
    let Some(name) = statement.trim_end().strip_suffix('=').map(str::trim) else { return false };
    let is_part = |it: char| it.is_alphanumeric() || it == '_';
    if name.is_empty() || !name.chars().all(is_part) {
        return false;
    }
    let uses = |source: &Source, name: &str| {
        source.text.split(|it| !is_part(it)).filter(|it| *it == name).count()
    };
    let file = source.path.rsplit('/').next().unwrap_or_default();
    let module = file.split('.').next().unwrap_or_default();
    let others = project.units.iter().map(|it| &it.source).filter(|it| it.path != source.path);
    uses(source, name) > 2
        || others.into_iter().any(|it| uses(it, name) > 0 && uses(it, module) > 0)
}

/// The expression that Python sets a variable to, on one line. What is known of it may stand elsewhere: `str(GPU)`.
fn expression(project: &Project<'_>, write: Write) -> Option<Span> {
    let source = &project.unit(write.unit).source;
    let span = right_side(project, write).or_else(|| {
        let value = project.written(write)?.1.span;
        project.event(write.unit, write.event).span.contains(value).then_some(value)
    })?;
    (!source.slice(span).is_empty() && !source.slice(span).contains('\n')).then_some(span)
}

/// What stands behind the name in `os.environ["NAME"] = …` and `os.environ.setdefault("NAME", …)`.
fn right_side(project: &Project<'_>, write: Write) -> Option<Span> {
    let event = project.event(write.unit, write.event);
    let Does::SetVariable(set) = &event.does else { return None };
    let text = &project.unit(write.unit).source.text;
    let statement = text.get(set.name_span.end as usize..event.span.end as usize)?;
    let behind = statement.trim_start_matches(['\\', '"', '\'']).trim_start();
    let value = match behind.strip_prefix(']') {
        Some(rest) => rest.trim_start().strip_prefix('=')?,
        None => behind.strip_prefix(',')?.strip_suffix(')')?.trim_end(),
    };
    let end = event.span.end as usize - usize::from(!behind.starts_with(']'));
    let start = text[..end].rfind(value.trim())?;
    // `a = b = c` sets another too.
    (!value.contains('=')).then(|| Span::new(start, start + value.trim().len()))
}

fn edit_literal(
    project: &Project<'_>,
    write: Write,
    known: &Known,
    new: &str,
) -> Option<(Span, String)> {
    let source = &project.unit(write.unit).source;
    let (text, is_number) = match &known.literal {
        Literal::Str(text) => (text.clone(), false),
        Literal::Int(number) => (number.to_string(), true),
        _ => return None,
    };
    let span = source.find_in(known.span, &text)?;
    let is_bare = source.slice(known.span).trim() == text;
    let wants_quotes = match source.language {
        // A number is a value in PowerShell, and any other word a command.
        Language::PowerShell => true,
        Language::Toml | Language::Json => is_number,
        // `str(0)` has a number in it, and a command that Python starts is a text already.
        Language::Python | Language::Notebook => is_number || !is_word(project, write),
        _ => false,
    };
    Some((span, if is_bare && wants_quotes { quoted(source, new) } else { new.to_owned() }))
}

/// Whether a variable is set as a shell does it (`NAME=0`), in a command or a line that begins with `%` or `!`.
fn is_word(project: &Project<'_>, write: Write) -> bool {
    Piece::of(project, write).is_some_and(|it| it.gap().trim_matches([' ', '=']).is_empty())
}

/// The default of an option or parameter. It stays of its type, which the program may convert it to.
fn edit_default(source: &Source, known: &Known, new: &str) -> Option<(Span, String)> {
    let text = match &known.literal {
        Literal::Str(text) => text.clone(),
        Literal::Int(number) => number.to_string(),
        _ => return None,
    };
    let span = source.find_in(known.span, &text)?;
    let is_bare = source.slice(known.span).trim() == text;
    (!is_bare || new.parse::<u32>().is_ok()).then(|| (span, new.to_owned()))
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
    let (at, replacement) = if is_python(source) {
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
        let python = is_python(source).then(|| expression(project, write)).flatten();
        let value = python.unwrap_or(value.span).range();
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
    if source.language == Language::Notebook
        && let Some(magic) = magic(source, piece.name.start)
    {
        return in_magic(source, write.unit, piece, (name, value), magic);
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

/// What is no Python in a notebook.
#[derive(Clone, Copy)]
enum Magic {
    /// `%env X=1`, in a line that begins here.
    Line(usize),
    /// `!command`, `%%bash`.
    Shell,
}

fn magic(source: &Source, place: usize) -> Option<Magic> {
    let cell = source.cells.iter().find(|it| it.span.range().contains(&place))?;
    let lines = || cell.lines.iter().map(|it| *it as usize);
    let line = lines().filter(|it| *it <= place).max()?;
    let begins = |it: usize, with: char| source.text[it..place].trim_start().starts_with(with);
    if lines().next().is_some_and(|it| source.text[it..].starts_with("%%")) || begins(line, '!') {
        return Some(Magic::Shell);
    }
    begins(line, '%').then_some(Magic::Line(line))
}

/// Another `%env` line in front, or another word in front of a command.
fn in_magic(
    source: &Source,
    unit: UnitId,
    piece: &Piece<'_>,
    (name, value): (&str, &str),
    magic: Magic,
) -> Option<(usize, String)> {
    let old = &source.text[piece.value.clone()];
    let quote = ["\\\"", "'"]
        .into_iter()
        .find(|it| old.len() > it.len() && old.starts_with(it) && old.ends_with(it));
    let quote = quote.unwrap_or_default();
    let (gap, value) = (piece.gap(), format!("{quote}{value}{quote}"));
    match magic {
        Magic::Line(line) => {
            let next = Script::of(unit, source)?.next_line(line)?;
            let lead = &source.text[line..piece.name.start];
            Some((line, format!("{lead}{name}{gap}{value}{next}")))
        }
        Magic::Shell => {
            let word = piece.lead().split_whitespace().last().unwrap_or_default();
            let option = match word {
                "-e" | "--env" => format!("{word} "),
                _ => String::new(),
            };
            let is_word = !matches!(piece.lead().chars().last(), Some('\'' | '$' | '\\'));
            (gap == "=" && is_word).then(|| (piece.name.start, format!("{name}={value} {option}")))
        }
    }
}
