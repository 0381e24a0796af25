//! Settings as nested values: what JSON and TOML have in common.

use super::{UnitBuilder, command, settings};
use crate::{
    span::Span,
    unit::Step,
    value::{Spanned, Value},
};

pub(super) fn entries(value: &Spanned) -> &[(Spanned, Spanned)] {
    match &value.value {
        Value::Dict(entries) => entries,
        _ => &[],
    }
}

pub(super) fn items(value: &Spanned) -> &[Spanned] {
    match &value.value {
        Value::List(items) => items,
        _ => &[],
    }
}

pub(super) fn get<'v>(value: &'v Spanned, key: &str) -> Option<&'v Spanned> {
    entries(value).iter().find(|it| command::text(&it.0) == Some(key)).map(|it| &it.1)
}

pub(super) fn at_path<'v>(value: &'v Spanned, path: &[&str]) -> Option<&'v Spanned> {
    path.iter().try_fold(value, |value, key| get(value, key))
}

/// From a key to the end of its value.
pub(super) fn entry_span(entry: &(Spanned, Spanned)) -> Span {
    let (key, value) = (entry.0.span, entry.1.span);
    if key.start <= value.start { key.cover(value) } else { key }
}

/// Settings that say GPU, wherever they stand. Values are no deeper than their parsers allow.
pub(super) fn settings(value: &Spanned, out: &mut UnitBuilder, steps: &mut Vec<Step>) {
    for (key, inner) in entries(value) {
        if let Some(name) = command::text(key) {
            steps.extend(settings::entry(name, key.span, inner, out));
        }
        settings(inner, out, steps);
    }
    for item in items(value) {
        settings(item, out, steps);
    }
}
