//! What may be hidden in the parts of a broken file that could not be read.

use super::syntax::Tree;
use crate::{language::UnitBuilder, needle::Needle, span::Positions};

/// What a choice of GPU looks like, byte for byte.
const NEEDLES: &[Needle] = &[
    Needle::new("CUDA_VISIBLE_DEVICES"),
    Needle::new("CUDA_DEVICE_ORDER"),
    Needle::new("PYTORCH_CUDA_ALLOC_CONF"),
    Needle::before("cuda:", "0123456789{"),
    Needle::before(".cuda(", "0123456789"),
    Needle::before("set_device(", "0123456789"),
    Needle::before("device_index=", "0123456789"),
    Needle::before("gpu_id=", "0123456789"),
    Needle::before("main_gpu=", "0123456789"),
];

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
    for needle in NEEDLES {
        for (start, _) in text.match_indices(needle.text) {
            let end = start + needle.text.len();
            let is_hidden = needle.counts_at(text.as_bytes(), end)
                && broken.iter().any(|it| it.start <= start && end <= it.end)
                && !comments.iter().any(|it| it.start <= start && end <= it.end);
            let span = positions.span(start..end);
            if is_hidden && !out.unit().events.iter().any(|it| it.span.contains(span)) {
                found.push(span);
            }
        }
    }
    found.sort_unstable();
    out.unit().possible.extend(found);
}
