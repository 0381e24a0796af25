//! `# gpupin: ignore[GP201] reason`, in comments and inside texts of several lines.

use super::syntax::Tree;
use crate::{
    language::{UnitBuilder, suppress},
    span::Positions,
};

pub(super) fn read(tree: &Tree, text: &str, positions: &Positions, out: &mut UnitBuilder) {
    if !text.contains("gpupin:") {
        return;
    }
    let lines = tree.logical_lines();
    let in_texts = tree.texts_of_several_lines().flat_map(|range| {
        let body = &text[range.clone()];
        let hits = body.match_indices("# gpupin:").map(move |it| range.start + it.0);
        hits.map(|start| start..text[start..].find('\n').map_or(text.len(), |it| start + it))
            .collect::<Vec<_>>()
    });
    let comments = tree.comments().map(|it| (it, false));
    for (comment, in_text) in comments.chain(in_texts.map(|it| (it, true))) {
        let Some(mut suppression) = suppress::comment(text, comment.clone(), positions) else {
            continue;
        };
        // A statement of several lines is covered as a whole.
        let local = suppress::comment(text, comment, &Positions::identity());
        let mut covers = local.map_or(0..0, |it| it.covers.range());
        for line in &lines {
            if line.start < covers.end && covers.start < line.end {
                covers = covers.start.min(line.start)..covers.end.max(line.end);
            }
        }
        suppression.covers = positions.span(covers);
        suppression.in_text = in_text;
        out.suppression(suppression);
    }
}
