//! Cells of notebooks as their authors know them, without the JSON around their text.

use gpupin_lint::source::{Cell, Place, Source};

/// A place in a notebook: the code cell, from 1, and the place in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CellPlace {
    pub(crate) number: u32,
    pub(crate) place: Place,
}

/// The text of a cell, and where its parts stand in the file.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) text: String,
    /// Pairs of file offset and offset in `text`, one per line and one per escape.
    pieces: Vec<(u32, usize)>,
}

/// The code cell around an offset of the file.
pub(super) fn cell(source: &Source, offset: u32) -> Option<&Cell> {
    source.cells.iter().find(|it| it.span.start <= offset && offset < it.span.end)
}

/// The place of an offset of the file for the notebook's author.
pub(crate) fn place(source: &Source, offset: u32) -> Option<CellPlace> {
    let cell = cell(source, offset)?;
    let line = cell.lines.partition_point(|it| *it <= offset).checked_sub(1)?;
    let before = source.text.get(cell.lines[line] as usize..offset as usize)?;
    let column = u32::try_from(before.chars().count()).ok()? + 1;
    let line = u32::try_from(line).ok()? + 1;
    Some(CellPlace { number: cell.number, place: Place { line, column } })
}

/// Reads the lines of a cell out of their JSON strings.
pub(super) fn decode(source: &Source, cell: &Cell) -> Decoded {
    let mut decoded = Decoded { text: String::new(), pieces: Vec::new() };
    for start in &cell.lines {
        let mut at = *start as usize;
        let mut note = true;
        while let Some(next) = source.text[at..].chars().next().filter(|it| *it != '"') {
            if note {
                decoded.pieces.push((u32::try_from(at).unwrap_or(u32::MAX), decoded.text.len()));
            }
            let (text, length) = match next {
                '\\' => unescape(&source.text[at..]),
                other => (other, other.len_utf8()),
            };
            decoded.text.push(text);
            at += length;
            note = next == '\\';
            if text == '\n' {
                break;
            }
        }
    }
    decoded
}

impl Decoded {
    /// The offset in the decoded text of an offset of the file.
    pub(super) fn offset(&self, file: u32) -> usize {
        let next = self.pieces.partition_point(|it| it.0 <= file);
        let Some((from, to)) = next.checked_sub(1).map(|it| self.pieces[it]) else { return 0 };
        // Between the strings of two lines is nothing that was decoded.
        let end = self.pieces.get(next).map_or(self.text.len(), |it| it.1);
        (to + (file - from) as usize).min(end)
    }
}

/// The character that an escape stands for, and the escape's length in bytes.
fn unescape(text: &str) -> (char, usize) {
    let unit = |at: usize| u16::from_str_radix(text.get(at..at + 4)?, 16).ok();
    match text.as_bytes().get(1) {
        Some(b'n') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'r') => ('\r', 2),
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'u') => {
            let Some(first) = unit(2) else { return (char::REPLACEMENT_CHARACTER, 2) };
            let second = text.get(6..8).filter(|it| *it == "\\u").and_then(|_| unit(8));
            // Two escapes make one character outside of the basic plane.
            let pair = second.and_then(|it| char::decode_utf16([first, it]).next()?.ok());
            match (char::from_u32(first.into()), pair) {
                (Some(character), _) => (character, 6),
                (None, Some(character)) => (character, 12),
                (None, None) => (char::REPLACEMENT_CHARACTER, 6),
            }
        }
        Some(other) if other.is_ascii() => (char::from(*other), 2),
        _ => ('\\', 1),
    }
}

#[cfg(test)]
mod tests {
    use gpupin_lint::{
        source::{Cell, Charset, Encoding, Language, Source},
        span::Span,
    };

    use super::{cell, decode};

    #[test]
    fn a_cell_is_read_out_of_its_strings() {
        let text = r#"["a = \"\u00e9\ud83d\ude00\"\n", "cuda = 1"]"#;
        let line = |what| u32::try_from(text.find(what).unwrap()).unwrap();
        let lines = vec![line("a ="), line("cuda")];
        let encoding = Encoding { byte_order_mark: false, charset: Charset::Utf8 };
        let source = Source {
            path: "a.ipynb".to_owned(),
            language: Language::Notebook,
            text: text.to_owned(),
            encoding,
            cells: vec![Cell { number: 1, span: Span::new(0, text.len()), lines }],
        };
        let decoded = decode(&source, cell(&source, line("cuda")).unwrap());
        assert_eq!(decoded.text, "a = \"é😀\"\ncuda = 1");
        assert_eq!(&decoded.text[decoded.offset(line("cuda"))..], "cuda = 1");
        assert_eq!(&decoded.text[decoded.offset(line("\\ud83d"))..][..4], "😀");
        assert_eq!(decoded.offset(line("\", \"") + 3), "a = \"é😀\"\n".len());
    }
}
