//! `python -c code` in a command line.

use super::{positions, target::inline_code, text};
use crate::{
    language::{UnitBuilder, python},
    span::Span,
    unit::{Choice, Does, Purpose},
    value::Spanned,
};

/// Which GPU the code chooses.
///
/// It is no program of the project: most such lines print a version. So what it imports, sets and checks makes no
/// order, and its names are its own.
pub(super) fn choices(words: &[Spanned], out: &mut UnitBuilder) -> Vec<(Span, Choice)> {
    let Some(code) = inline_code(words) else { return Vec::new() };
    let Some(text) = text(code) else { return Vec::new() };
    let at = positions(code, text, out);
    if !out.descend() {
        return Vec::new();
    }
    let mut own = out.embedded();
    let body = python::read(text, &at, &mut own);
    out.ascend();
    let events = own.finish(body).events.into_iter();
    events
        .filter_map(|event| match event.does {
            Does::Choose(choice) if choice.purpose != Purpose::Setting => {
                Some((event.span, choice))
            }
            _ => None,
        })
        .collect()
}
