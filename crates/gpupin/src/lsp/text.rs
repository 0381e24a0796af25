//! Places in a text, as the protocol counts them.

use lsp_types::{Position, PositionEncodingKind, Range};

use gpupin_lint::span::Span;

/// What a character of a line counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    /// What every client understands.
    #[default]
    Utf16,
}

impl Encoding {
    /// UTF-8 if the client offers it.
    pub(super) fn of_offer(offered: Option<&[PositionEncodingKind]>) -> Self {
        let offers = offered.is_some_and(|it| it.contains(&PositionEncodingKind::UTF8));
        if offers { Self::Utf8 } else { Self::Utf16 }
    }

    pub(super) fn kind(self) -> PositionEncodingKind {
        match self {
            Self::Utf8 => PositionEncodingKind::UTF8,
            Self::Utf16 => PositionEncodingKind::UTF16,
        }
    }

    fn length(self, text: &str) -> usize {
        match self {
            Self::Utf8 => text.len(),
            Self::Utf16 => text.chars().map(char::len_utf16).sum(),
        }
    }
}

/// The lines of a text. They end with `\n`, `\r\n` or `\r`.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    encoding: Encoding,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str, encoding: Encoding) -> Self {
        let bytes = text.as_bytes();
        let is_end = |at: &usize| match bytes[*at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let ends = (0..bytes.len()).filter(is_end).map(|it| it + 1);
        Self { text, starts: std::iter::once(0).chain(ends).collect(), encoding }
    }

    /// The place of an offset in bytes. An offset past the end is the end.
    pub(super) fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|it| *it <= offset) - 1;
        let character = self.encoding.length(&self.text[self.starts[line]..offset]);
        let clamp = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Position { line: clamp(line), character: clamp(character) }
    }

    /// The offset of a place. A place behind its line is the end of the line, one behind the text the end of the text.
    pub(super) fn offset(&self, position: Position) -> usize {
        let line = position.line as usize;
        let Some(&start) = self.starts.get(line) else { return self.text.len() };
        let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        let line = self.text[start..end].trim_end_matches(['\r', '\n']);
        let mut left = position.character as usize;
        for (at, character) in line.char_indices() {
            let length = self.encoding.length(character.encode_utf8(&mut [0; 4]));
            if left < length {
                return start + at;
            }
            left -= length;
        }
        start + line.len()
    }

    pub(super) fn range(&self, span: Span) -> Range {
        let std::ops::Range { start, end } = span.range();
        Range { start: self.position(start), end: self.position(end) }
    }
}

#[cfg(test)]
mod tests {
    use lsp_types::Position;

    use super::{Encoding, Lines};

    const TEXT: &str = "a😀é\r\nb\rc\n";

    /// The place of what stands before `what`, in both encodings, and back.
    #[track_caller]
    fn check(what: &str, line: u32, utf_8: u32, utf_16: u32) {
        let offset = TEXT.find(what).unwrap();
        for (encoding, character) in [(Encoding::Utf8, utf_8), (Encoding::Utf16, utf_16)] {
            let lines = Lines::new(TEXT, encoding);
            let position = Position { line, character };
            assert_eq!(lines.position(offset), position, "{encoding:?}");
            assert_eq!(lines.offset(position), offset, "{encoding:?}");
        }
    }

    #[test]
    fn characters_count_what_the_encoding_says() {
        check("a", 0, 0, 0);
        check("😀", 0, 1, 1);
        check("é", 0, 5, 3);
        check("\r\n", 0, 7, 4);
    }

    #[test]
    fn every_end_of_line_begins_a_line() {
        check("b", 1, 0, 0);
        check("c", 2, 0, 0);
        assert_eq!(Lines::new(TEXT, Encoding::Utf16).position(99), Position::new(3, 0));
    }

    #[test]
    fn a_place_that_does_not_exist_is_the_nearest_before() {
        let lines = Lines::new(TEXT, Encoding::Utf16);
        let end_of_line = TEXT.find('\r').unwrap();
        for (line, character, offset) in [(0, 99, end_of_line), (99, 0, TEXT.len()), (0, 2, 1)] {
            assert_eq!(lines.offset(Position { line, character }), offset, "{line}:{character}");
        }
    }
}
