//! What may be hidden in the parts of a broken file that could not be read.

use std::ops::Range;

use super::UnitBuilder;
use crate::{
    needle::Needle,
    span::Span,
    unit::{Unit, Unread},
};

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

/// The same in files of data, where containers are given GPUs.
const IN_DATA: &[Needle] =
    &[Needle::new("NVIDIA_VISIBLE_DEVICES"), Needle::new("device_ids"), Needle::new("gpus:")];

/// Every place in a text that looks like one, whatever it is.
pub(super) fn hits(text: &str) -> impl Iterator<Item = Range<usize>> {
    find(NEEDLES, text)
}

fn find<'t>(needles: &'static [Needle], text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
    needles.iter().flat_map(move |needle| {
        text.match_indices(needle.text)
            .map(|(start, _)| start..start + needle.text.len())
            .filter(move |it| needle.counts_at(text.as_bytes(), it.end))
    })
}

/// Whether an event says what stands there.
pub(super) fn is_read(unit: &Unit, span: Span) -> bool {
    unit.events.iter().any(|it| it.span.contains(span))
}

/// Records hits in a file of data, from the line of its first error on; everywhere, if nothing could be read.
pub(super) fn in_data(text: &str, out: &mut UnitBuilder) {
    let unit = out.unit();
    let Some(unread) = unit.unread else { return };
    let error = unit.syntax_errors.first().map_or(0, |it| it.0.start as usize);
    let from = match unread {
        Unread::Everything => 0,
        Unread::Part => text.get(..error).and_then(|it| it.rfind('\n')).map_or(0, |it| it + 1),
    };
    let hits = hits(text).chain(find(IN_DATA, text));
    let hidden = hits.filter(|it| it.start >= from).map(|it| Span::new(it.start, it.end));
    let mut found: Vec<_> = hidden.filter(|it| !is_read(unit, *it)).collect();
    found.sort_unstable();
    unit.possible.extend(found);
}
