use lsp_types::{TextDocumentContentChangeEvent, Uri};

use super::text::{Encoding, Lines};

/// A file that is open in the editor.
#[derive(Debug)]
pub(super) struct Document {
    /// As the editor writes it.
    pub(super) uri: Uri,
    pub(super) version: i32,
    pub(super) text: String,
}

impl Document {
    /// Makes changes, one after the other.
    pub(super) fn change(
        &mut self,
        changes: Vec<TextDocumentContentChangeEvent>,
        encoding: Encoding,
    ) {
        for change in changes {
            let Some(range) = change.range else {
                self.text = change.text;
                continue;
            };
            let lines = Lines::new(&self.text, encoding);
            let (start, end) = (lines.offset(range.start), lines.offset(range.end));
            self.text.replace_range(start..end.max(start), &change.text);
        }
    }

    /// What a file with this text would hold.
    ///
    /// The editor has decoded it. A comment in it may still name the encoding it has on disk, which a byte order mark
    /// overrules.
    pub(super) fn contents(&self) -> Vec<u8> {
        let names_encoding = self.text.lines().take(2).any(|it| it.contains("coding"));
        let mark = if names_encoding { "\u{feff}" } else { "" };
        [mark, &self.text].concat().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use lsp_types::{Position, Range, TextDocumentContentChangeEvent};

    use super::{Document, Encoding};

    /// Each change is `(start line, start, end line, end, text)`.
    #[track_caller]
    fn check(text: &str, changes: &[(u32, u32, u32, u32, &str)], expected: &str) {
        let change = |it: &(u32, u32, u32, u32, &str)| TextDocumentContentChangeEvent {
            range: Some(Range::new(Position::new(it.0, it.1), Position::new(it.2, it.3))),
            range_length: None,
            text: it.4.to_owned(),
        };
        let uri = "file:///a".parse().unwrap();
        let mut document = Document { uri, version: 1, text: text.to_owned() };
        document.change(changes.iter().map(change).collect(), Encoding::Utf16);
        assert_eq!(document.text, expected);
    }

    #[test]
    fn changes_build_on_each_other() {
        check("ab\ncd\n", &[(0, 1, 1, 1, "\n\n"), (2, 0, 2, 1, "x")], "a\n\nx\n");
    }

    #[test]
    fn a_character_of_two_units_is_replaced_whole() {
        check("x = \"😀\"  # é\n", &[(0, 5, 0, 7, "y"), (0, 7, 0, 12, "")], "x = \"y\"\n");
    }

    #[test]
    fn a_change_behind_the_text_goes_to_its_end() {
        check("a", &[(5, 0, 9, 0, "\n")], "a\n");
    }

    #[test]
    fn the_text_counts_whatever_encoding_it_names() {
        let text = "# coding: latin-1\nx = 'é'\n";
        let uri = "file:///a.py".parse().unwrap();
        let document = Document { uri, version: 1, text: text.to_owned() };
        let unit = gpupin_lint::read("a.py", &document.contents()).unwrap();
        assert_eq!(unit.source.text, text);
    }
}
