//! Lines, joined where a mark at the end says that the next one belongs to them.

use std::ops::Range;

use crate::span::{Positions, Span};

/// A text put together from parts of another, which knows where each part stands.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) text: String,
    pieces: Vec<(u32, u32)>,
    escapes: Vec<(u32, u32)>,
}

impl Joined {
    /// Appends a part of `source` as it stands.
    pub(super) fn push(&mut self, source: &str, range: Range<usize>, at: &Positions) {
        let Some(part) = source.get(range.clone()).filter(|it| !it.is_empty()) else { return };
        let Some(inner) = at.pieces_of(range.clone()) else {
            return self.replace(part, range, at);
        };
        let here = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let moved = |(local, offset): (u32, u32)| (here + local, offset);
        self.pieces.extend(inner.pieces.into_iter().map(moved));
        self.escapes.extend(inner.escapes.into_iter().map(moved));
        self.text.push_str(part);
    }

    /// Appends text that stands for `range` of the source. Every part of it is placed at all of that range:
    /// there is no other part of the source to change.
    pub(super) fn replace(&mut self, text: &str, range: Range<usize>, at: &Positions) {
        let place = at.span(range);
        for letter in text.chars() {
            self.piece(place.start);
            self.text.push(letter);
            let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
            self.escapes.push((end, place.end));
        }
    }

    fn piece(&mut self, offset: u32) {
        let local = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        match self.pieces.last() {
            Some((from, to)) if to + (local - from) == offset => {}
            _ => self.pieces.push((local, offset)),
        }
    }

    pub(super) fn positions(&self) -> Positions {
        match &*self.pieces {
            [] => Positions::fixed(Span::default()),
            pieces => Positions::escaped(pieces.to_vec(), self.escapes.clone()),
        }
    }
}

/// A line with those that continue it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) positions: Positions,
    /// The whole of it in the source, without the line's end.
    pub(super) range: Range<usize>,
}

impl Line {
    /// The place of a part of the line's text.
    pub(super) fn span_of(&self, part: &str) -> Span {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        self.positions.span(start..start + part.len())
    }
}

/// How lines continue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Continuation {
    /// At the end of a line that goes on.
    pub(super) mark: char,
    /// Comment lines inside a continued line are dropped.
    pub(super) skips_comments: bool,
    /// The mark and the line's end stay in the text, for a shell to read.
    pub(super) kept: bool,
}

/// Splits a text into lines. Blank ones are left out.
pub(super) fn lines(text: &str, at: &Positions, how: Continuation) -> Vec<Line> {
    let mut found = Vec::new();
    let mut joined = Joined::default();
    let mut start = None;
    let mut offset = 0;
    for raw in text.split_inclusive('\n') {
        let line_start = offset;
        offset += raw.len();
        let line = raw.trim_end_matches(['\n', '\r']);
        let continued = start.is_some();
        if continued && how.skips_comments && line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let from = *start.get_or_insert(line_start);
        let body = line.trim_end_matches([' ', '\t']);
        // Two marks are one that is meant.
        let goes_on = body.ends_with(how.mark) && !body.ends_with(&format!("{0}{0}", how.mark));
        if goes_on && offset < text.len() {
            let end = line_start + body.len() - how.mark.len_utf8();
            if how.kept {
                joined.push(text, line_start..offset, at);
            } else {
                joined.push(text, line_start..end, at);
                joined.replace(" ", end..end + 1, at);
            }
            continue;
        }
        joined.push(text, line_start..line_start + line.len(), at);
        finish(&mut found, &mut joined, from..line_start + line.len());
        start = None;
    }
    if let Some(from) = start {
        finish(&mut found, &mut joined, from..text.len());
    }
    found
}

fn finish(found: &mut Vec<Line>, joined: &mut Joined, range: Range<usize>) {
    let joined = std::mem::take(joined);
    if !joined.text.trim().is_empty() {
        let positions = joined.positions();
        found.push(Line { text: joined.text, positions, range });
    }
}
