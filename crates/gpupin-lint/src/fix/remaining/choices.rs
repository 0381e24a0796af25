//! Places of a program that choose a GPU which its pin leaves no room for, and have no fix of their own.

use crate::{
    catalogue::Numbering,
    meant::Meant,
    program::Program,
    project::{Known, Literal, Project},
    rules::{names_gpus, ordinal_without_fix},
    span::Span,
    unit::{Does, Purpose, UnitId},
    value::{Spanned, Value},
};

/// Whether the places of a program that choose a GPU still do so under its pin, or have a fix of their own. If not, which.
pub(super) fn goes_with(project: &Project<'_>, program: &Program) -> Result<(), String> {
    match program.units.iter().find_map(|it| Some((*it, astray(project, *it)?))) {
        None => Ok(()),
        Some((unit, place)) => {
            let source = &project.unit(unit).source;
            let line = source.place(place.start).line;
            Err(format!("line {line} of `{}` may choose a GPU that is not there then", source.path))
        }
    }
}

fn astray(project: &Project<'_>, id: UnitId) -> Option<Span> {
    let count = Meant::of(project, id).count();
    let chosen = project.unit(id).events.iter().find(|event| {
        let Does::Choose(choice) = &event.does else { return false };
        if choice.purpose != Purpose::Choose || choice.only_with_more_than.is_some() {
            return false;
        }
        let is_open =
            |it: &&Spanned| choice.numbering == Numbering::Ordinal && is_unknown(&it.value);
        let is_outside = |it: &Known| match it.literal {
            Literal::Int(_) if is_option(project, it) => true,
            // The place of the number may serve something else too.
            Literal::Int(ordinal) => {
                let is_here = it.unit == id && event.span.contains(it.span);
                ordinal >= count && !is_here && !names_gpus(&project.unit(it.unit).source, it.span)
            }
            Literal::NvmlIndex => true,
            _ => false,
        };
        choice.ordinals.iter().any(|it| is_open(&it))
            || choice.ordinals.iter().flat_map(|it| project.known(id, it)).any(|it| is_outside(&it))
    });
    chosen.map(|it| it.span).or_else(|| ordinal_without_fix(project, id))
}

/// A number that only the run tells. A name is not one: it may be bound to a text without a number.
fn is_unknown(value: &Value) -> bool {
    match value {
        Value::Unknown => true,
        Value::ByDefault(inner) => is_unknown(&inner.value),
        _ => false,
    }
}

/// Whether a number is the default of what the user chooses on the command line.
fn is_option(project: &Project<'_>, known: &Known) -> bool {
    let text = &project.unit(known.unit).source.text;
    let start = text[..known.span.range().start].rfind('\n').map_or(0, |it| it + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    known.by_default
        && ["add_argument(", "option(", "Option(", "getenv(", "environ"]
            .iter()
            .any(|it| line.contains(it))
}
