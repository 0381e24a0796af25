//! What may be hidden in the parts of a broken Python file that could not be read.

use super::syntax::Tree;
use crate::{
    language::{
        UnitBuilder,
        possible::{hits, is_read},
    },
    span::Positions,
};

/// Records hits in the logical lines that an error touches, unless an event or a comment covers them.
pub(super) fn read(tree: &Tree, text: &str, positions: &Positions, out: &mut UnitBuilder) {
    if !tree.is_broken() {
        return;
    }
    let errors: Vec<_> = tree.errors().collect();
    for (range, what) in &errors {
        let span = positions.span(range.clone());
        out.unit().syntax_errors.push((span, what.clone()));
    }
    let lines = tree.logical_lines();
    let broken: Vec<_> = lines
        .iter()
        .filter(|line| errors.iter().any(|it| it.0.start <= line.end && line.start <= it.0.end))
        .collect();
    let comments: Vec<_> = tree.comments().collect();
    let mut found = Vec::new();
    for hit in hits(text) {
        let within = |it: &std::ops::Range<usize>| it.start <= hit.start && hit.end <= it.end;
        let span = positions.span(hit.clone());
        if broken.iter().any(|it| within(it))
            && !comments.iter().any(within)
            && !is_read(out.unit(), span)
        {
            found.push(span);
        }
    }
    found.sort_unstable();
    out.unit().possible.extend(found);
}
