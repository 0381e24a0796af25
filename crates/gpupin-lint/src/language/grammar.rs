//! Parsing by tree-sitter grammars.

use std::ops::Range;

use tree_sitter::{Language, Node, Parser, Tree};

/// Parses a text. Byte ranges of the tree are those of the text.
///
/// The grammar sees ASCII only. Bash's scanner hands every character to C's `isdigit`, which reads outside its table
/// for large ones and crashes (<https://github.com/tree-sitter/tree-sitter-bash/issues/337>); and a NUL means the
/// end to every scanner. Letters of other scripts are as good as `x` to both grammars: they stand in words, texts
/// and comments, which are taken from the text itself. Take ranges with [`range`]: a token may end between the bytes of
/// what was one letter.
pub(super) fn parse(text: &str, language: &Language) -> Option<Tree> {
    let mut parser = Parser::new();
    parser.set_language(language).expect("the grammar is built for this version of the runtime");
    let plain = |byte: &u8| byte.is_ascii() && *byte != 0;
    if text.as_bytes().iter().all(plain) {
        return parser.parse(text, None);
    }
    let masked: Vec<u8> = text.bytes().map(|it| if plain(&it) { it } else { b'x' }).collect();
    parser.parse(&masked, None)
}

/// The range of a node, with whole characters.
pub(super) fn range(node: Node<'_>, text: &str) -> Range<usize> {
    let range = node.byte_range();
    let (mut start, mut end) = (range.start.min(text.len()), range.end.min(text.len()));
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// The offset before the last character of a node: its closing quote or brace.
pub(super) fn before_last(node: Node<'_>, text: &str) -> usize {
    let range = range(node, text);
    let last = text[range.clone()].chars().next_back().map_or(0, char::len_utf8);
    range.end - last
}
