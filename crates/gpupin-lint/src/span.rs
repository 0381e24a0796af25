//! Places in a file.

use std::ops::Range;

/// A half-open byte range of a file's decoded text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        let clamp = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: clamp(start), end: clamp(end.max(start)) }
    }

    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The smallest span that covers both.
    #[must_use]
    pub fn cover(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// Maps offsets of an embedded text (a notebook cell, a shell line in YAML) to offsets of its file.
///
/// The map is piecewise linear: each piece says from which local offset on which file offset counts.
/// An embedded text that was decoded (JSON escapes, folded YAML) has a piece per jump, so that an
/// edit of the embedded text can be made in the file byte for byte.
#[derive(Clone, Debug)]
pub struct Positions {
    pieces: Vec<(u32, u32)>,
    /// Characters that stand for longer ones: `(local end, file end)`, sorted.
    escapes: Vec<(u32, u32)>,
    fixed: Option<Span>,
}

/// What a map of places is made of.
#[derive(Debug)]
pub(crate) struct Pieces {
    pub(crate) pieces: Vec<(u32, u32)>,
    pub(crate) escapes: Vec<(u32, u32)>,
}

impl Positions {
    /// The text is the file itself.
    pub fn identity() -> Self {
        Self::shifted(0)
    }

    /// The text is a verbatim part of the file that starts at `offset`.
    pub fn shifted(offset: u32) -> Self {
        Self { pieces: vec![(0, offset)], escapes: Vec::new(), fixed: None }
    }

    /// The text has no faithful counterpart in the file: everything in it maps to `whole`.
    pub fn fixed(whole: Span) -> Self {
        Self { pieces: vec![(0, whole.start)], escapes: Vec::new(), fixed: Some(whole) }
    }

    /// Pieces of `(local offset, file offset)`, sorted by local offset, the first at local offset 0.
    pub fn pieces(pieces: Vec<(u32, u32)>) -> Self {
        Self::escaped(pieces, Vec::new())
    }

    /// Pieces, and for each escape of the file (`\\n`, `\\u00e9`) where it ends: local and in the file, sorted.
    pub fn escaped(pieces: Vec<(u32, u32)>, escapes: Vec<(u32, u32)>) -> Self {
        debug_assert!(pieces.first().is_some_and(|it| it.0 == 0), "a map starts at offset 0");
        Self { pieces, escapes, fixed: None }
    }

    /// The place in the file of a range of the embedded text.
    pub fn span(&self, range: Range<usize>) -> Span {
        if let Some(whole) = self.fixed {
            return whole;
        }
        let start = self.start(range.start, range.is_empty());
        // The end is mapped from the last byte, so that a jump right behind the range is not included.
        let end = if range.is_empty() { start } else { self.end(range.end) };
        Span { start, end: end.max(start) }
    }

    /// The map of a part of the embedded text that starts at `offset`.
    #[must_use]
    pub fn part(&self, offset: usize) -> Self {
        if self.fixed.is_some() {
            return self.clone();
        }
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let mut pieces = vec![(0, self.offset(offset as usize))];
        pieces
            .extend(self.pieces.iter().filter(|it| it.0 > offset).map(|it| (it.0 - offset, it.1)));
        let escapes = self.escapes.iter().filter(|it| it.0 > offset);
        let escapes = escapes.map(|it| (it.0 - offset, it.1)).collect();
        Self { pieces, escapes, fixed: None }
    }

    /// A part of the embedded text, counted from its start, as [`Self::escaped`] takes it. `None` when the text has
    /// no faithful counterpart.
    pub(crate) fn pieces_of(&self, part: Range<usize>) -> Option<Pieces> {
        if self.fixed.is_some() {
            return None;
        }
        let clamp = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        let (start, end) = (clamp(part.start), clamp(part.end));
        let between = |list: &[(u32, u32)], last: u32| {
            let from = list.partition_point(|it| it.0 <= start);
            let to = list.partition_point(|it| it.0 <= last).max(from);
            list[from..to].iter().map(|it| (it.0 - start, it.1)).collect::<Vec<_>>()
        };
        let mut pieces = vec![(0, self.offset(part.start))];
        pieces.extend(between(&self.pieces, end.saturating_sub(1)));
        Some(Pieces { pieces, escapes: between(&self.escapes, end) })
    }

    fn start(&self, local: usize, empty: bool) -> u32 {
        let here = u32::try_from(local).unwrap_or(u32::MAX);
        // Nothing stands behind the last escape: its end is the place.
        if empty
            && self.pieces.binary_search_by_key(&here, |it| it.0).is_err()
            && let Ok(found) = self.escapes.binary_search_by_key(&here, |it| it.0)
        {
            return self.escapes[found].1;
        }
        self.offset(local)
    }

    fn end(&self, local: usize) -> u32 {
        let here = u32::try_from(local).unwrap_or(u32::MAX);
        match self.escapes.binary_search_by_key(&here, |it| it.0) {
            Ok(found) => self.escapes[found].1,
            Err(_) => self.offset(local - 1) + 1,
        }
    }

    fn offset(&self, local: usize) -> u32 {
        let local = u32::try_from(local).unwrap_or(u32::MAX);
        let at = self.pieces.partition_point(|it| it.0 <= local).saturating_sub(1);
        let (from, to) = self.pieces[at];
        to.saturating_add(local - from)
    }
}

#[cfg(test)]
mod tests {
    use super::{Positions, Span};

    #[test]
    fn a_decoded_text_maps_back_to_its_file() {
        // `a\nb` in JSON: the escape takes two bytes of the file and one of the text.
        let positions = Positions::escaped(vec![(0, 10), (2, 13)], vec![(2, 13)]);
        assert_eq!(positions.span(0..1), Span { start: 10, end: 11 });
        assert_eq!(positions.span(1..2), Span { start: 11, end: 13 });
        assert_eq!(positions.span(2..3), Span { start: 13, end: 14 });
        assert_eq!(positions.part(1).span(0..1), Span { start: 11, end: 13 });
        assert_eq!(positions.part(2).span(0..1), Span { start: 13, end: 14 });
        assert_eq!(positions.part(1).span(1..2), Span { start: 13, end: 14 });
    }
}
